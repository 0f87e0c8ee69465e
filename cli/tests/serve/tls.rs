//! `serve` with TLS, and what its clients are told.

use std::fs;
use std::io::Write as _;
use std::process::Output;

use nix::sys::signal::Signal;

use crate::pem::pem;
use crate::support::{Serving, TempDir, myriapod};

/// A server of `localhost` with the certificate in a folder of its own.
struct Secured {
    dir: TempDir,
    serving: Serving,
}

/// Writes a certificate for this name, and its key.
fn write_certificate(dir: &TempDir, name: &str) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    fs::write(dir.path().join("cert.pem"), pem("CERTIFICATE", made.cert.der())).unwrap();
    fs::write(dir.path().join("key.pem"), pem("PRIVATE KEY", made.signing_key.serialized_der()))
        .unwrap();
}

impl Secured {
    fn start(name: &str) -> Self {
        let dir = TempDir::new();
        write_certificate(&dir, name);
        let mut command = myriapod();
        command.args(["serve", "-v", "127.0.0.1", "0"]);
        command.arg("--tls-cert").arg(dir.path().join("cert.pem"));
        command.arg("--tls-key").arg(dir.path().join("key.pem"));
        let serving = Serving::spawn(&mut command);
        Self { dir, serving }
    }

    /// Asks it, and takes its certificate for an authority's.
    fn ask(&self, args: &[&str]) -> Output {
        let port = self.serving.port().to_string();
        let mut command = myriapod();
        command.args(["send", "127.0.0.1", &port, "search", "ring"]).args(args);
        command.arg("--tls-ca").arg(self.dir.path().join("cert.pem")).output().unwrap()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[test]
fn does_a_client_take_a_certificate_that_it_knows() {
    let server = Secured::start("localhost");
    let output = server.ask(&["--tls", "--tls-name", "localhost"]);
    assert!(output.status.success() && said(&output).contains("Misty"), "{output:?}");
    let output = server.ask(&["--tls", "--tls-name", "example.org"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(&output).contains("--tls-name NAME"), "{output:?}");
    server.serving.wait_for("bad_certificate");
    let ended = server.serving.stop();
    assert_eq!((ended.count("handshakes"), ended.count("handshake_PeerAlert")), (1, 1));
}

#[test]
fn is_the_digest_of_a_certificate_for_trying_told() {
    let mut serving = Serving::on_loopback(&["--tls-self-signed"]);
    let line = serving.next_line();
    let pin = line.trim().strip_prefix("certificate sha256 ").unwrap();
    assert!(pin.len() == 64 && !pin.contains(|digit: char| digit.is_ascii_uppercase()), "{pin}");
    let port = serving.port().to_string();
    let mut ping = myriapod();
    ping.args(["ping", "127.0.0.1", &port, "-c", "1", "--tls", "--tls-pin", pin]);
    let output = ping.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn are_those_told_who_speak_something_else() {
    // Plain text at a port for TLS.
    let server = Secured::start("localhost");
    let mut plain = server.serving.connect();
    plain.0.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    server.serving.wait_for("NotARecord");
    let port = server.serving.port().to_string();
    let output = myriapod().args(["send", "127.0.0.1", &port, "search", "ring"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = said(&output);
    assert!(told.contains("speaks TLS") && told.contains("add --tls"), "{told}");
    // TLS at a port without it.
    let serving = Serving::on_loopback(&["-v"]);
    let port = serving.port().to_string();
    let mut send = myriapod();
    send.args(["send", "127.0.0.1", &port, "search", "ring", "--tls", "--tls-insecure"]);
    let output = send.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(&output).contains("the server does not speak TLS"), "{output:?}");
    serving.wait_for("these bytes begin a handshake of TLS");
}

#[test]
fn does_sighup_take_a_renewed_certificate_and_keep_a_good_one() {
    let server = Secured::start("localhost");
    // Of somebody else: clients that know the new one alone are refused until it is read.
    write_certificate(&server.dir, "renewed");
    assert_eq!(server.ask(&["--tls", "--tls-name", "renewed"]).status.code(), Some(1));
    server.serving.signal(Signal::SIGHUP);
    while !server.ask(&["--tls", "--tls-name", "renewed"]).status.success() {}
    let good = fs::read(server.dir.path().join("cert.pem")).unwrap();
    fs::write(server.dir.path().join("cert.pem"), "no certificate").unwrap();
    server.serving.signal(Signal::SIGHUP);
    server.serving.wait_for("the old certificate stays in force");
    fs::write(server.dir.path().join("cert.pem"), good).unwrap();
    assert!(server.ask(&["--tls", "--tls-name", "renewed"]).status.success());
}

#[test]
fn is_a_start_that_cannot_work_refused_with_its_reason() {
    let dir = TempDir::new();
    write_certificate(&dir, "localhost");
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("other.pem"));
    let other = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap();
    fs::write(&key, pem("PRIVATE KEY", other.signing_key.serialized_der())).unwrap();
    let serve = |cert: &std::path::Path, key: &std::path::Path| {
        let mut command = myriapod();
        command.args(["serve", "127.0.0.1", "0"]).arg("--tls-cert").arg(cert);
        command.arg("--tls-key").arg(key).output().unwrap()
    };
    for (output, reason) in [
        (serve(&cert, &key), "does not fit"),
        (serve(&dir.path().join("nowhere"), &key), "ENOENT"),
        (serve(&key, &key), "BEGIN CERTIFICATE"),
        (serve(&cert, &cert), "BEGIN PRIVATE KEY"),
    ] {
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(reason) && said.lines().count() == 1, "{reason}: {said}");
    }
    let output =
        myriapod().args(["serve", "127.0.0.1", "0", "--tls-cert"]).arg(&cert).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
