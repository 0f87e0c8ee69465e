//! Brokers behind TLS, with certificates made for the test.

use std::sync::mpsc::channel;
use std::time::Duration;

use myriapod::Server;
use myriapod_cluster::{Cluster, Remote};
use myriapod_tls::rustls::pki_types::pem::PemObject as _;
use myriapod_tls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use myriapod_tls::{Connector, Identity, Trust, client_config};

use crate::support::{Broker, Kind, wait_until};
use crate::{Joined, Peer, nothing};

pub(crate) fn remote(broker: &Broker, trust: Trust, identity: Option<Identity>) -> Remote {
    let connector = Connector::new(client_config(trust, identity).unwrap()).unwrap();
    Remote::secure(&broker.url(), &connector, Some(Broker::NAME)).unwrap()
}

#[test]
fn do_nodes_meet_over_tls_and_come_back() {
    for kind in [Kind::Redis, Kind::Nats] {
        let Some(mut broker) = Broker::secure(kind, &[]) else { continue };
        let nodes: Vec<Joined> = (0..2).map(|_| Joined::start(&broker)).collect();
        let mut peers: Vec<Peer> = nodes.iter().map(|node| Peer::member(node.port, "g")).collect();
        for round in 0..2 {
            wait_until("both are subscribed", || broker.channels() == ["myriapod.g"; 2]);
            // More than one record holds.
            let long = format!("{round} {}", "x".repeat(40_000));
            peers[0].ask(&format!("say g {long}"));
            assert!(peers.iter_mut().all(|peer| peer.hear() == long));
            if round == 0 {
                broker.kill();
                let is_up = |node: &Joined| node.cluster().stats().broker.is_up;
                wait_until("it is missed", || !nodes.iter().any(is_up));
                broker.start_again();
                wait_until("it is there again", || nodes.iter().all(is_up));
            }
        }
        for node in &nodes {
            assert_eq!(node.cluster().stats().lost, 0, "{kind:?}");
        }
    }
}

/// What a node says of a broker when it meets it.
fn first_note(remote: Remote) -> String {
    let server = Server::builder().build(nothing).unwrap();
    let (to, notes) = channel();
    let log = move |text: &str| drop(to.send(text.to_owned()));
    let prefix = "test.".parse().unwrap();
    let _cluster = Cluster::join_with(server.handle(), remote, prefix, log).unwrap();
    notes.recv_timeout(Duration::from_secs(60)).unwrap()
}

#[test]
fn is_a_broker_that_is_not_trusted_told_with_the_reason() {
    let known = |broker: &Broker| {
        let certificate = broker.certificate.clone().unwrap();
        Trust::Certificates(vec![certificate.into()])
    };
    for kind in [Kind::Redis, Kind::Nats] {
        let Some(broker) = Broker::secure(kind, &[]) else { continue };
        let Some(other) = Broker::secure(kind, &[]) else { continue };
        let url = broker.url();
        let is_away = |note: &str, why: &str| {
            assert!(note.starts_with(&format!("{url} is away: ")) && note.contains(why), "{note}");
        };
        is_away(&first_note(remote(&broker, known(&other), None)), "invalid peer certificate");
        is_away(&first_note(remote(&broker, Trust::Pin("0".repeat(64)), None)), "Verification");
        assert_eq!(first_note(remote(&broker, known(&broker), None)), format!("{url} is there"));
        // One that speaks no TLS, and one that wants it.
        let Some(mut plain) = Broker::start(kind, &[]) else { continue };
        plain.certificate = Some(Vec::new());
        let note = first_note(remote(&plain, Trust::Any, None));
        assert!(note.starts_with(&format!("{} is away: ", plain.url())), "{note}");
        if kind == Kind::Nats {
            let plain: Remote = url.replace("tls://", "nats://").parse().unwrap();
            assert!(first_note(plain).ends_with("it requires TLS: name it with tls://"));
        }
    }
}

#[test]
fn does_a_broker_see_the_certificate_of_a_node() {
    let Some(broker) = Broker::secure(Kind::Redis, &["--tls-auth-clients", "yes"]) else { return };
    let (chain, key) = (broker.file("cert.pem"), broker.file("key.pem"));
    let chain = CertificateDer::pem_file_iter(chain).unwrap().collect::<Result<_, _>>().unwrap();
    let identity = (chain, PrivateKeyDer::from_pem_file(key).unwrap());
    let note = first_note(remote(&broker, Trust::Any, None));
    assert!(note.starts_with(&format!("{} is away: ", broker.url())), "{note}");
    let note = first_note(remote(&broker, Trust::Any, Some(identity)));
    assert_eq!(note, format!("{} is there", broker.url()));
}
