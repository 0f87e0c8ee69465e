//! Do groups reach over servers, with a real Redis and a real NATS between them?

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by them")]
#![expect(clippy::print_stdout, reason = "what cannot be tested here is said")]

mod secure;
mod support;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use myriapod::protocol::Delimited;
use myriapod::{Handle, HandlerResult, Message, Outgoing, Reply, Server};
use myriapod_cluster::{Cluster, JoinError, Remote};
use myriapod_tls::Trust;

use self::support::{Broker, Kind, wait_until};

/// `join GROUP`, `leave GROUP`, `say GROUP TEXT`, as lines.
fn answer(message: Message<'_>, reply: &mut Reply<'_>) -> HandlerResult {
    let text = message.text()?;
    let (word, rest) = text.split_once(' ').ok_or("a word and a group")?;
    let view = reply.view();
    let (handle, id) = (view.handle().clone(), view.id());
    match word {
        "join" => handle.join(id, rest)?,
        "leave" => handle.leave(id, rest)?,
        _ => {
            let (group, text) = rest.split_once(' ').ok_or("a text")?;
            handle.broadcast(group, Outgoing::binary("text/plain", text.as_bytes().to_vec()))?;
        }
    }
    // Behind what was asked for, so that it is done when the answer comes.
    reply.defer()?.send(Outgoing::binary("text/plain", b"done".to_vec()))?;
    Ok(())
}

fn nothing(_: Message<'_>, _: &mut Reply<'_>) -> HandlerResult {
    Ok(())
}

/// A server of two event loops in this process, joined to the others.
struct Joined {
    port: u16,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
    cluster: Option<Cluster>,
}

impl Joined {
    fn start(broker: &Broker) -> Self {
        let mut servers = Server::builder()
            .listen("127.0.0.1", 0)
            .threads(2)
            .build_each_with(Delimited::lines, || answer)
            .unwrap();
        let (port, handle) = (servers.addresses()[0].port().unwrap(), servers.handle());
        let thread = std::thread::spawn(move || {
            servers.run().unwrap();
        });
        let cluster = Cluster::join(handle.clone(), remote(broker)).unwrap();
        let joined = Self { port, handle, thread: Some(thread), cluster: Some(cluster) };
        wait_until("the broker is up", || joined.cluster().stats().broker.is_up);
        joined
    }

    fn cluster(&self) -> &Cluster {
        self.cluster.as_ref().unwrap()
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.handle.stop_now().unwrap();
        self.thread.take().unwrap().join().unwrap();
        self.cluster.take();
    }
}

/// The way to a broker, whose certificate is taken where it has one.
fn remote(broker: &Broker) -> Remote {
    match &broker.certificate {
        None => broker.url().parse().unwrap(),
        Some(certificate) => {
            let trust = Trust::Certificates(vec![certificate.clone().into()]);
            secure::remote(broker, trust, None)
        }
    }
}

struct Peer {
    out: TcpStream,
    lines: BufReader<TcpStream>,
    heard: Vec<String>,
}

impl Peer {
    fn connect(port: u16) -> Self {
        let out = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        out.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let lines = BufReader::new(out.try_clone().unwrap());
        Self { out, lines, heard: Vec::new() }
    }

    fn member(port: u16, group: &str) -> Self {
        let mut peer = Self::connect(port);
        peer.ask(&format!("join {group}"));
        peer
    }

    /// Asks, and waits until it is done.
    fn ask(&mut self, line: &str) {
        self.out.write_all(format!("{line}\n").as_bytes()).unwrap();
        loop {
            match self.line() {
                line if line == "done" => return,
                line => self.heard.push(line),
            }
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.strip_suffix('\n').unwrap().to_owned()
    }

    /// The next message to its groups.
    fn hear(&mut self) -> String {
        if self.heard.is_empty() { self.line() } else { self.heard.remove(0) }
    }
}

fn with_each(more: impl Fn(Broker)) {
    for kind in [Kind::Redis, Kind::Nats] {
        if let Some(broker) = Broker::start(kind, &[]) {
            more(broker);
        }
    }
}

#[test]
fn does_a_broadcast_reach_the_members_on_every_node_once() {
    // What would be a pattern for either broker, if it were not escaped.
    const GROUP: &str = "a.*>[x]?";
    with_each(|broker| {
        let nodes: Vec<Joined> = (0..3).map(|_| Joined::start(&broker)).collect();
        let ports = nodes.iter().flat_map(|node| [node.port; 2]);
        let mut members: Vec<Peer> = ports.map(|port| Peer::member(port, GROUP)).collect();
        // One channel is a pattern of the other.
        let mut strangers: Vec<Peer> =
            nodes.iter().map(|node| Peer::member(node.port, "a.b")).collect();
        wait_until("all are subscribed", || broker.channels().len() == 6);
        for round in 0..50 {
            for (nth, member) in members.iter_mut().enumerate() {
                member.ask(&format!("say {GROUP} {nth} {round}"));
            }
        }
        for member in &mut members {
            let mut heard = BTreeMap::<String, Vec<String>>::new();
            for _ in 0..300 {
                let line = member.hear();
                let (from, round) = line.split_once(' ').unwrap();
                heard.entry(from.to_owned()).or_default().push(round.to_owned());
            }
            let all: Vec<String> = (0..50).map(|round| round.to_string()).collect();
            assert!(heard.len() == 6 && heard.values().all(|rounds| *rounds == all), "{heard:?}");
        }
        // Nothing more comes, and nothing came to the others.
        strangers[0].ask("say a.b end");
        members[0].ask(&format!("say {GROUP} end"));
        assert!(strangers.iter_mut().chain(&mut members).all(|peer| peer.hear() == "end"));
        for node in &nodes {
            wait_until("all is confirmed", || node.cluster().stats().broker.waiting == 0);
            let stats = node.cluster().stats();
            assert_eq!((stats.lost, stats.undelivered, stats.foreign), (0, 0, 0), "{stats}");
            assert!(stats.own == 0 || broker.kind == Kind::Redis, "{stats:?}");
        }
    });
}

#[test]
fn is_there_one_subscription_for_each_group_of_a_node() {
    with_each(|broker| {
        let nodes: Vec<Joined> = (0..2).map(|_| Joined::start(&broker)).collect();
        let mut peers: Vec<Peer> = (0..8).map(|_| Peer::connect(nodes[0].port)).collect();
        for peer in &mut peers {
            peer.ask("join g");
            peer.ask("join h");
        }
        let mut other = Peer::member(nodes[1].port, "g");
        let all = ["myriapod.g", "myriapod.g", "myriapod.h"];
        wait_until("exactly these", || broker.channels() == all);
        for peer in &mut peers[1..] {
            peer.ask("leave g");
            peer.ask("leave h");
        }
        assert_eq!(nodes[0].cluster().stats().broker.channels, 2);
        assert_eq!(broker.channels(), all);
        // The last one goes without a word.
        peers.truncate(1);
        peers.clear();
        wait_until("one is left", || broker.channels() == ["myriapod.g"]);
        other.ask("leave g");
        wait_until("none is left", || broker.channels().is_empty());
        // There and back again.
        let mut back = Peer::member(nodes[0].port, "g");
        wait_until("one is back", || broker.channels() == ["myriapod.g"]);
        other.ask("say g x");
        assert_eq!(back.hear(), "x");
    });
}

#[test]
fn does_a_broker_that_dies_cost_what_is_counted_and_no_more() {
    with_each(|mut broker| {
        let nodes: Vec<Joined> = (0..2).map(|_| Joined::start(&broker)).collect();
        let mut speaker = Peer::member(nodes[0].port, "g");
        let mut listener = Peer::member(nodes[1].port, "g");
        let _more: Vec<Peer> =
            (0..20).map(|nth| Peer::member(nodes[1].port, &format!("more{nth}"))).collect();
        wait_until("all are subscribed", || broker.channels().len() == 22);
        let mut sent = 0;
        let mut say = |speaker: &mut Peer| {
            sent += 1;
            speaker.ask(&format!("say g {sent}"));
            sent
        };
        for _ in 0..20 {
            say(&mut speaker);
        }
        // What a broker has taken and not handed on when it dies, nobody can count.
        let mut heard: Vec<i32> = (0..20).map(|_| listener.hear().parse().unwrap()).collect();
        broker.kill();
        wait_until("it is missed", || {
            nodes.iter().all(|node| !node.cluster().stats().broker.is_up)
        });
        for _ in 0..20 {
            say(&mut speaker);
        }
        assert!(nodes[0].cluster().stats().lost >= 20);
        broker.start_again();
        wait_until("all are subscribed again", || broker.channels().len() == 22);
        wait_until("it is up", || nodes.iter().all(|node| node.cluster().stats().broker.is_up));
        let mut last = 0;
        for _ in 0..20 {
            last = say(&mut speaker);
        }
        // The speaker's own node misses nothing.
        assert!((1..=last).all(|n| speaker.hear() == n.to_string()));
        while heard.last() != Some(&last) {
            heard.push(listener.hear().parse().unwrap());
        }
        assert!(heard.windows(2).all(|pair| pair[0] < pair[1]), "in order and once: {heard:?}");
        let missing = u64::try_from(last).unwrap() - heard.len() as u64;
        let stats = nodes[0].cluster().stats();
        // What was sent and not confirmed may have been heard.
        assert!((20..=stats.lost).contains(&missing), "{missing} of {stats}");
        assert!(stats.broker.failures > 0);
    });
}

#[test]
fn is_a_login_used_and_a_wrong_one_told() {
    let redis = Broker::start(Kind::Redis, &["--requirepass", "se:cret"]);
    let nats = Broker::start(Kind::Nats, &["--user", "u", "--pass", "p"]);
    let token = Broker::start(Kind::Nats, &["--auth", "t0"]);
    for (broker, right, wrong) in
        [(redis, ":se%3Acret@", ":x@"), (nats, "u:p@", "u:x@"), (token, "t0@", "x@")]
    {
        let Some(broker) = broker else { continue };
        let join = |server: &Server<_>, login: &str| {
            let url = broker.url().replace("://", &format!("://{login}"));
            let (to, notes) = std::sync::mpsc::channel();
            let log = move |text: &str| drop(to.send(text.to_owned()));
            let remote: Remote = url.parse().unwrap();
            let prefix = "test.".parse().unwrap();
            (Cluster::join_with(server.handle(), remote, prefix, log), notes)
        };
        let servers = [(); 2].map(|()| Server::builder().build(nothing).unwrap());
        let (_first, notes) = join(&servers[0], wrong);
        let note = notes.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(note.starts_with(&format!("{} is away: ", broker.url())), "{note}");
        let lower = note.to_lowercase();
        assert!(["wrongpass", "authorization"].iter().any(|word| lower.contains(word)), "{note}");
        assert!(matches!(join(&servers[0], right).0, Err(JoinError::Already)));
        let (_second, notes) = join(&servers[1], right);
        let note = notes.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(note, format!("{} is there", broker.url()));
    }
}

#[test]
fn is_the_next_broker_tried_where_one_is_away() {
    let Some(broker) = Broker::start(Kind::Redis, &[]) else { return };
    let server = Server::builder().build(nothing).unwrap();
    // Nobody listens on port 1.
    let remote: Remote = format!("redis://127.0.0.1:1,{}", broker.url()).parse().unwrap();
    let cluster = Cluster::join(server.handle(), remote).unwrap();
    wait_until("the second is used", || cluster.stats().broker.is_up);
    assert_eq!(cluster.stats().broker.failures, 1);
}
