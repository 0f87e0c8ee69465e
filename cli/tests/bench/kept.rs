//! Is a result ever lost? Signals, files that cannot be written, standard output that is closed, full
//! or not blocking, and servers of another protocol.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::support::{Ran, TempFile, bench, bench_raw, faulty, myriapod, reply};

/// A run against a raw server on this port that would last an hour.
fn long_run(port: u16, json: &TempFile, more: &[&str]) -> Child {
    let mut command = myriapod();
    command.args(["bench", "127.0.0.1", &port.to_string(), "-s", "raw", "-d", "1h"]);
    command.args(more).arg("--json").arg(&json.0);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

/// Waits until it is so.
fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..6000 {
        if is_so() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("waited in vain: {what}");
}

fn read(json: &TempFile) -> Value {
    serde_json::from_slice(&std::fs::read(&json.0).unwrap()).unwrap()
}

#[test]
fn does_a_signal_end_a_run_with_what_was_measured() {
    for (signal, status) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let answered = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&answered);
        let port = faulty(move |_, message, stream| {
            reply(stream, message);
            count.fetch_add(1, Ordering::Relaxed);
        });
        let json = TempFile::new("json");
        let running = long_run(port, &json, &["-c", "2"]);
        wait_for("answers", || answered.load(Ordering::Relaxed) > 100);
        send(&running, signal);
        let Output { status: ended, stdout, .. } = running.wait_with_output().unwrap();
        let table = String::from_utf8(stdout).unwrap();
        assert_eq!(ended.code(), Some(status), "{table}");
        assert!(table.contains("ended         interrupted\n"), "{table}");
        let report = read(&json);
        assert_eq!(
            (&report["exit_reason"], &report["exit_status"]),
            (&"interrupted".into(), &status.into())
        );
        let messages = &report["messages"];
        assert!(messages["ok"].as_u64().unwrap() > 10, "{messages}");
        assert_eq!(messages["ok"], messages["sent"]);
    }
}

#[test]
fn does_a_signal_end_a_ramp_and_a_run_of_processes() {
    let (connected, json) = (Arc::new(AtomicU32::new(0)), TempFile::new("json"));
    let count = Arc::clone(&connected);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            kept.push(stream.unwrap());
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    // A ramp of a thousand seconds.
    let ramp = ["-c", "1000", "--ramp", "1", "--processes", "2"];
    let running = long_run(port, &json, &ramp);
    wait_for("a connection", || connected.load(Ordering::Relaxed) > 0);
    send(&running, Signal::SIGTERM);
    let output = running.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(143), "{output:?}");
    let report = read(&json);
    assert_eq!(report["exit_reason"], "interrupted");
    assert_eq!(report["messages"]["sent"], 0);
}

#[test]
fn does_a_second_signal_end_a_run_at_once() {
    // It never answers, and that may take an hour.
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let port = faulty(move |_, _, _| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let json = TempFile::new("json");
    let mut running = long_run(port, &json, &["--timeout", "1h"]);
    wait_for("a request", || asked.load(Ordering::Relaxed) > 0);
    // How soon the first is heard cannot be told, so there are as many as it takes.
    for _ in 0..2000 {
        if let Some(ended) = running.try_wait().unwrap() {
            assert_eq!(ended.code(), Some(130));
            assert!(!json.0.exists(), "nothing was written, so nothing is left");
            return;
        }
        send(&running, Signal::SIGINT);
        thread::sleep(Duration::from_millis(10));
    }
    let _ = running.kill();
    panic!("it did not end");
}

/// `bench` of a server of its own with this standard output.
fn short_run(json: &TempFile, stdout: Stdio) -> Child {
    let mut command = myriapod();
    command.args(["bench", "-m", "100", "-c", "2", "--json"]).arg(&json.0);
    command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn is_a_file_written_whatever_standard_output_does() {
    // Nobody reads.
    let json = TempFile::new("json");
    let mut running = short_run(&json, Stdio::piped());
    drop(running.stdout.take());
    let output = running.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(read(&json)["messages"]["ok"], 100);

    if let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") {
        let json = TempFile::new("json");
        let output = short_run(&json, full.into()).wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("write standard output: ENOSPC"), "{said}");
        assert_eq!(read(&json)["messages"]["ok"], 100);
    }
}

#[test]
fn is_the_table_whole_where_standard_output_does_not_block() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    // No room at all.
    let mut filled = 0;
    loop {
        match (&theirs).write(&[b'x'; 4096]) {
            Ok(written) => filled += written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    let json = TempFile::new("json");
    let running = short_run(&json, OwnedFd::from(theirs).into());
    wait_for("the result", || std::fs::read(&json.0).is_ok_and(|json| json.ends_with(b"}\n")));
    let reading = thread::spawn(move || {
        let mut all = Vec::new();
        (&ours).read_to_end(&mut all).map(|_| all)
    });
    let output = running.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let all = reading.join().unwrap().unwrap();
    let table = String::from_utf8(all[filled..].to_vec()).unwrap();
    assert!(table.ends_with("ended         completed\n"), "{table}");
}

#[test]
fn is_a_file_that_cannot_be_written_told_before_the_load() {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let port = faulty(move |_, message, stream| {
        count.fetch_add(1, Ordering::Relaxed);
        reply(stream, message);
    });
    let html = TempFile::new("html");
    for option in ["--json", "--html"] {
        let mut command = myriapod();
        command.args(["bench", "127.0.0.1", &port.to_string(), "-s", "raw", "-m", "10"]);
        command.args([option, "/nowhere/at/all"]);
        if option == "--json" {
            command.arg("--html").arg(&html.0);
        }
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with("myriapod: open /nowhere/at/all: ENOENT"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    assert!(!html.0.exists(), "what was made in vain is gone");
}

#[test]
fn is_a_longer_file_of_before_replaced_whole() {
    let json = TempFile::new("json");
    std::fs::write(&json.0, vec![b' '; 1 << 20]).unwrap();
    let output = short_run(&json, Stdio::null()).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(read(&json)["messages"]["ok"], 100);
}

#[test]
fn does_a_dash_put_the_json_on_standard_output() {
    let mut command = myriapod();
    let output = command.args(["bench", "-m", "50", "-c", "2", "--json", "-"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["messages"]["ok"], 50);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("ended         completed\n"), "{said}");
}

/// A server that says `hello` to each peer that connects, and `answer` to whatever is asked.
fn stranger(hello: &'static [u8], answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let talk = move |mut stream: TcpStream| {
        let mut bytes = [0; 4096];
        let _ = stream.write_all(hello);
        while stream.read(&mut bytes).is_ok_and(|len| len > 0) {
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    };
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            thread::spawn(move || talk(stream));
        }
    });
    port
}

/// Nothing is called lost or duplicate, and the first bytes are shown.
fn assert_named(ran: &Ran, name: &str, bytes: &str) {
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.reason().starts_with(name), "{ran:?}");
    assert!(ran.reason().contains("is it the right port? --"), "{ran:?}");
    let [ok, lost, _, late, duplicate] = ran.fates();
    assert_eq!([ok, lost, late, duplicate], [0; 4], "{ran:?}");
    assert!(ran.warned_of(&format!("the first wrong reply was: {bytes}")), "{ran:?}");
}

/// What a server says first and to everything, the service that is asked, what is said of the server,
/// and how its first bytes are shown.
type Stranger = (&'static [u8], &'static [u8], &'static str, &'static str, &'static str);

#[test]
fn is_a_server_of_another_protocol_named_at_once() {
    let ssh = b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n";
    let redis = b"-ERR unknown command '{'\r\n";
    let http = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    let odd = b"\xff\xfe\xfd\xfc\xfb\xfa";
    let table: [Stranger; 8] = [
        (ssh, b"", "search", "the server speaks SSH", "SSH-2.0-"),
        (ssh, b"", "padded", "the server speaks SSH", "SSH-2.0-"),
        (b"", redis, "search", "the server speaks Redis", "-ERR unk"),
        (b"", redis, "padded", "the server speaks Redis", "-ERR unk"),
        (b"", http, "echo", "the server speaks HTTP", "HTTP/1.1 400"),
        (b"", b"\x15\x03\x01\0\x02\x02F", "echo", "the server speaks TLS", r"\x15\x03"),
        (odd, b"", "echo", "what the server sends is no message of this protocol", r"\xff\xfe"),
        (b"", odd, "search", "what the server sends is no message of this protocol", r"\xff\xfe"),
    ];
    for (hello, answer, service, name, bytes) in table {
        let port = stranger(hello, answer).to_string();
        // It does not last as long as it was asked to.
        let run = ["-s", service, "-d", "1h", "-c", "3", "-i", "2"];
        let ran = bench(&[&["127.0.0.1", port.as_str()], &run[..]].concat());
        assert_named(&ran, name, bytes);
    }
}

#[test]
fn are_bytes_that_are_no_start_of_a_reply_wrong_and_not_lost() {
    // Fewer bytes than a raw reply has, and not those of one.
    let port = stranger(b"", b"odd");
    let ran = bench_raw(port, &["-m", "1", "-c", "1", "--timeout", "300ms"]);
    assert_eq!(ran.fates(), [0, 0, 1, 0, 0], "{ran:?}");
    assert!(ran.warned_of("the first wrong reply was: odd"), "{ran:?}");
}
