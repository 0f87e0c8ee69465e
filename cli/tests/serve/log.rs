//! A log that nobody reads: does it keep anybody waiting?

use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Write};
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::time::{Duration, Instant};

use myriapod::sys;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use crate::support::{Client, Serving, TempDir, myriapod, search};

/// Nothing that works comes near it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server on a Unix socket, ended with the test.
struct Unheard {
    child: Child,
    dir: TempDir,
}

impl Drop for Unheard {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Unheard {
    /// Its standard error is `stderr`, and so is its standard output.
    fn start(args: &[&str], stderr: &PipeWriter) -> Self {
        let dir = TempDir::new();
        let child = myriapod()
            .args(["serve", &format!("unix:{}", dir.path().join("s").display())])
            .args(args)
            .stdout(stderr.try_clone().unwrap())
            .stderr(stderr.try_clone().unwrap())
            .spawn()
            .unwrap();
        Self { child, dir }
    }

    fn connect(&mut self) -> Client<UnixStream> {
        loop {
            // Between bind and listen it refuses.
            if let Ok(stream) = UnixStream::connect(self.dir.path().join("s")) {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_write_timeout(Some(PATIENCE)).unwrap();
                return Client(stream);
            }
            assert_eq!(self.child.try_wait().unwrap(), None, "it ended");
            std::thread::yield_now();
        }
    }

    fn signal(&self, signal: Signal) {
        signal::kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    fn status(&mut self) -> Option<i32> {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::yield_now();
        }
        panic!("it does not end");
    }
}

/// A pipe that takes nothing more, and its reader.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    sys::set_nonblocking(&writer, true).unwrap();
    let filler = [b'.'; 4096];
    while writer.write(&filler).is_ok() {}
    while writer.write(b".").is_ok() {}
    sys::set_nonblocking(&writer, false).unwrap();
    (reader, writer)
}

#[test]
fn are_peers_served_and_a_stop_heard_while_nobody_reads() {
    let (_reader, writer) = full_pipe();
    for threads in ["1", "2"] {
        let mut server = Unheard::start(&["-v", "--threads", threads], &writer);
        let mut client = server.connect();
        for _ in 0..100 {
            assert_eq!(client.ask(&search("x")).result(), "No match for 'x'.");
        }
        server.signal(Signal::SIGUSR1);
        client.ask(&search("x"));
        server.signal(Signal::SIGTERM);
        client.expect_end();
        drop(client);
        assert_eq!(server.status(), Some(0));
    }
}

#[test]
fn is_all_of_standard_error_json_for_machines() {
    let serving = Serving::on_loopback(&["-v", "--log", "json", "--threads", "2"]);
    let mut client = serving.connect();
    client.ask(&search("x"));
    client.send(b"\0\x01{");
    client.receive();
    client.expect_end();
    drop(client);
    serving.wait_for("closed");
    serving.signal(Signal::SIGUSR1);
    serving.wait_for("summary");
    let mut client = serving.connect();
    client.ask(&search("x"));
    drop(client);
    let ended = serving.stop();
    assert_eq!(ended.status, Some(0));
    let mut events = Vec::new();
    for line in &ended.stderr {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let time = line["time"].as_str().unwrap();
        assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
        let event = line["event"].as_str().unwrap().to_owned();
        match event.as_str() {
            "opened" => assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:")),
            "closed" => assert_eq!(line["cause"], "peer"),
            "message" => assert_eq!(line["content_type"], "text/json"),
            "summary" => assert_eq!(line["counts"]["accepted"], 2),
            _ => {}
        }
        let is_about_one = ["opened", "message", "closed"].contains(&event.as_str());
        assert_eq!(line["connection"].is_string(), is_about_one, "{line}");
        events.push(event);
    }
    for event in ["opened", "message", "closed", "stopping", "summary"] {
        assert!(events.iter().any(|found| found == event), "{event}: {events:?}");
    }
    // Why it cannot serve is said in the same form.
    let output = myriapod().args(["serve", "192.0.2.1", "1", "--log", "json"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let last: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!((output.status.code(), &last["event"]), (Some(1), &"failure".into()));
}

#[test]
fn does_a_second_signal_end_it_while_nobody_reads() {
    let (_reader, writer) = full_pipe();
    let mut server = Unheard::start(&["-v", "--drain-timeout", "0"], &writer);
    let mut client = server.connect();
    let request = search("x");
    client.send(&[&request, &request[..50]].concat());
    client.receive();
    server.signal(Signal::SIGTERM);
    // It has heard the first when it takes no more connections.
    let path = server.dir.path().join("s");
    while UnixStream::connect(&path).is_ok() {
        std::thread::yield_now();
    }
    server.signal(Signal::SIGINT);
    client.expect_close();
    assert_eq!(server.status(), Some(1));
}

#[test]
fn is_every_line_that_was_dropped_counted() {
    const MESSAGES: usize = 30_000;
    let (reader, writer) = full_pipe();
    let mut server = Unheard::start(&["-v"], &writer);
    let mut client = server.connect();
    let batch = search("x").repeat(100);
    for _ in 0..MESSAGES / 100 {
        client.send(&batch);
        for _ in 0..100 {
            client.receive();
        }
    }
    drop(writer);
    // Now somebody reads.
    let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
    let (mut messages, mut others, mut dropped) = (0, Vec::new(), 0);
    let mut client = Some(client);
    let mut is_first = true;
    for line in &mut lines {
        let line = if is_first { line.trim_start_matches('.').to_owned() } else { line };
        is_first = false;
        if line.contains(": message of ") {
            messages += 1;
        } else if let Some(rest) = line.strip_prefix("dropped ") {
            dropped += rest.strip_suffix(" log lines").unwrap().parse::<usize>().unwrap();
            if client.take().is_some() {
                server.signal(Signal::SIGTERM);
            }
        } else {
            others.push(line);
        }
    }
    assert_eq!(server.status(), Some(0));
    assert!(dropped > 0 && messages > 0);
    let is_line = |line: &&String| !line.starts_with("listening on");
    let said = others.iter().filter(is_line).count();
    // Opened, closed, stopping and the summary, if none of them was dropped.
    assert_eq!(messages + dropped + said, MESSAGES + 4, "{others:?}");
}
