//! Loads over TLS.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use super::support::{Serving, bench, myriapod};

/// A server with a certificate made now: its port, and the SHA-256 that it prints.
struct Secured(Child, String, String);

impl Secured {
    fn start() -> Self {
        let mut command = myriapod();
        command.args(["serve", "127.0.0.1", "0", "--tls-self-signed"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let listening = lines.next().unwrap().unwrap();
        let port = listening.rsplit_once(", ").unwrap().1.trim_end_matches(')').to_owned();
        let made = lines.next().unwrap().unwrap();
        let pin = made.strip_prefix("certificate sha256 ").unwrap().to_owned();
        Self(child, port, pin)
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn does_bench_alone_measure_a_server_with_tls() {
    let ran = bench(&["--tls", "-m", "400", "-c", "8", "-i", "4", "--idle", "5", "-s", "echo"]);
    assert_eq!((ran.fates(), ran.status), ([400, 0, 0, 0, 0], 0), "{ran:?}");
    assert_eq!((ran.number("tls.full"), ran.number("tls.resumed")), (13.0, 0.0), "{ran:?}");
    assert_eq!(ran.json["tls"]["suite"], "TLS_AES_128_GCM_SHA256", "{ran:?}");
    assert_eq!(ran.number("tls.handshake_ns.count"), 13.0, "{ran:?}");
    assert!(ran.stdout.contains("handshakes    13 full, 0 resumed"), "{ran:?}");
}

#[test]
fn do_large_messages_and_slow_peers_go_through_tls() {
    let args = ["--tls", "-m", "20", "-c", "2", "-i", "2", "--slow", "4", "-s", "echo"];
    let ran = bench(&[&args[..], &["--content", "3MiB"]].concat());
    assert_eq!((ran.fates(), ran.status), ([20, 0, 0, 0, 0], 0), "{ran:?}");
}

#[test]
fn is_a_short_connection_a_handshake() {
    let ran = bench(&["--tls", "--short", "-m", "40", "-c", "4"]);
    assert_eq!((ran.fates(), ran.status), ([40, 0, 0, 0, 0], 0), "{ran:?}");
    // Each thread tries one before.
    assert_eq!((ran.number("tls.full"), ran.number("tls.resumed")), (41.0, 0.0), "{ran:?}");
}

#[test]
fn are_sessions_resumed_where_that_is_asked_for() {
    let ran = bench(&["--tls", "--short", "--tls-resume", "-m", "40", "-c", "2"]);
    assert_eq!((ran.fates(), ran.status), ([40, 0, 0, 0, 0], 0), "{ran:?}");
    assert_eq!(ran.number("tls.full") + ran.number("tls.resumed"), 41.0, "{ran:?}");
    assert!(ran.number("tls.resumed") > 30.0, "{ran:?}");
    assert_eq!(ran.json["tls"]["suite"], "TLS_AES_128_GCM_SHA256", "{ran:?}");
}

#[test]
fn do_all_come_back_over_tls_after_a_storm() {
    let ran = bench(&["--tls", "-m", "100", "-c", "20", "--reconnect", "1", "--processes", "2"]);
    assert_eq!((ran.fates(), ran.status), ([100, 0, 0, 0, 0], 0), "{ran:?}");
    assert_eq!(ran.json["storms"][0]["served"], 20, "{ran:?}");
    assert_eq!(ran.number("tls.full"), 40.0, "{ran:?}");
}

#[test]
fn is_a_certificate_taken_by_its_pin_alone() {
    let server = Secured::start();
    let Secured(_, port, pin) = &server;
    let args = ["127.0.0.1", port, "-m", "20", "-c", "2"];
    let ran = bench(&[&args[..], &["--tls", "--tls-pin", pin]].concat());
    assert_eq!((ran.fates(), ran.status), ([20, 0, 0, 0, 0], 0), "{ran:?}");
    let other = pin.chars().rev().collect::<String>();
    let ran = bench(&[&args[..], &["--tls", "--tls-pin", &other]].concat());
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.reason().contains("the certificate is not the pinned one"), "{ran:?}");
    // The way without TLS is named too.
    let ran = bench(&args);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.reason().contains("the server speaks TLS, and search was asked for"), "{ran:?}");
}

#[test]
fn is_a_server_without_tls_named() {
    let server = Serving::start(myriapod().args(["serve", "127.0.0.1", "0"]));
    let port = server.port.to_string();
    let ran = bench(&["127.0.0.1", &port, "--tls", "--tls-insecure", "-c", "2", "-m", "10"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.reason().contains("the server does not speak TLS"), "{ran:?}");
    assert_eq!(ran.json["errors"][0]["call"], "handshake", "{ran:?}");
}
