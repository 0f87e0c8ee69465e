//! One question to each option that the kinds of load do not ask already.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::support::{Serving, TempFile, bench, bench_raw, faulty, myriapod, reply};

/// A raw server that counts the messages, and what it has counted.
fn counting() -> (u16, Arc<AtomicU32>) {
    let counted = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&counted);
    let port = faulty(move |_, message, stream| {
        count.fetch_add(1, Ordering::Relaxed);
        reply(stream, message);
    });
    (port, counted)
}

#[test]
fn is_the_warm_up_left_out_and_each_second_shown() {
    let (port, counted) = counting();
    let ran = bench_raw(port, &["-c", "2", "--warmup", "300ms", "-d", "1200ms"]);
    assert_eq!((ran.status, ran.reason()), (0, "completed"), "{ran:?}");
    let ok = ran.number("messages.ok");
    // What was sent at the end of the warm-up is answered in the run, and is not counted either.
    assert!(ok > 0.0 && f64::from(counted.load(Ordering::Relaxed)) > ok, "{ran:?}");
    assert_eq!(ran.number("latency_ns.response.count"), ok, "{ran:?}");
    assert_eq!(ran.number("settings.warmup_s"), 0.3, "{ran:?}");
    let phases = ran.json["phases"].as_array().unwrap();
    let phases: Vec<&str> = phases.iter().map(|phase| phase["name"].as_str().unwrap()).collect();
    assert_eq!(phases, ["ramp", "warmup", "run", "close"]);
    let second = |line: &str| line.contains(" s  run ") && line.contains("2 open");
    assert!(ran.stderr.lines().any(second), "{ran:?}");

    // Its faults are told, though.
    let port = faulty(|nth, message, stream| {
        reply(stream, if nth == 5 { &message[1..] } else { message });
        reply(stream, if nth == 5 { b"?" } else { b"" });
    });
    let ran = bench_raw(port, &["-c", "1", "--warmup", "100ms", "-m", "10"]);
    assert_eq!((ran.fates()[2], ran.status), (1, 1), "{ran:?}");
}

#[test]
fn do_connections_come_as_fast_as_the_ramp_says() {
    let (port, _) = counting();
    let ran = bench_raw(port, &["-c", "60", "--ramp", "200", "-m", "60"]);
    assert_eq!((ran.fates()[0], ran.status), (60, 0), "{ran:?}");
    // The first of them is not waited for long, the others are.
    let ramp = &ran.json["phases"][0];
    assert!(ramp["seconds"].as_f64().unwrap() >= 0.28, "{ran:?}");
}

#[test]
fn are_the_ports_taken_in_turn() {
    let (one, other) = (counting(), counting());
    let ports = format!("{},{}", one.0, other.0);
    let load = ["-s", "raw", "-c", "4", "-m", "400"];
    let ran = bench(&[&["127.0.0.1", "--ports", &ports], &load[..]].concat());
    assert_eq!((ran.fates()[0], ran.status), (400, 0), "{ran:?}");
    let counted = [&one, &other].map(|(_, counted)| counted.load(Ordering::Relaxed));
    assert!(counted[0] + counted[1] == 400 && counted.iter().all(|&of| of > 0), "{counted:?}");
}

#[test]
fn is_the_page_written_that_was_asked_for() {
    let page = TempFile::new("html");
    let path = page.0.to_str().unwrap();
    let ran = bench(&["-m", "100", "--html", path]);
    assert_eq!(ran.status, 0, "{ran:?}");
    let text = std::fs::read_to_string(&page.0).unwrap();
    assert!(text.starts_with("<!doctype html>") && text.contains("<svg"), "{}", text.len());
    assert!(!text.contains("https://") && !text.contains("src="), "it needs something else");
}

/// More connections than one address has ports for, opened slowly; it is ended with `Ended`.
fn many(port: u16, more: &[&str]) -> Ended {
    let mut command = myriapod();
    command.args(["bench", "127.0.0.1", &port.to_string(), "-s", "raw", "-c", "60000"]);
    command.args(["--ramp", "100"]).args(more).stdout(Stdio::null()).stderr(Stdio::piped());
    Ended(command.spawn().unwrap())
}

/// A process that ends with this.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn is_a_limit_of_this_machine_told_in_advance() {
    let mut running = many(counting().0, &["--source", "127.0.0.5"]);
    let mut line = String::new();
    BufReader::new(running.0.stderr.take().unwrap()).read_line(&mut line).unwrap();
    if cfg!(target_os = "linux") {
        assert!(line.starts_with("of 60,000 connections only "), "{line}");
        assert!(line.contains("try "), "{line}");
    }
}

#[test]
fn are_there_more_sources_where_one_has_too_few_ports() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let _running = many(listener.local_addr().unwrap().port(), &[]);
    let mut sources = BTreeSet::new();
    let mut kept = Vec::new();
    while sources.len() < 3 {
        assert!(kept.len() < 100 && Instant::now() < deadline, "{sources:?}");
        let Ok((stream, from)) = listener.accept() else {
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        kept.push(stream);
        sources.insert(from.ip().to_string());
    }
    assert!(sources.iter().all(|source| source.starts_with("127.0.1.")), "{sources:?}");
}

/// Stands between bench and a server, and lets each of the server's pieces through as `fault` has
/// it. With one message in flight a piece is a reply.
fn between(server: u16, fault: impl Fn(u32, &mut Vec<u8>) + Send + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).unwrap();
        let (mut requests, mut onward) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || {
            let _ = std::io::copy(&mut requests, &mut onward);
            onward.shutdown(Shutdown::Write)
        });
        let mut buffer = [0; 4096];
        for nth in 0.. {
            let len = server.read(&mut buffer).unwrap_or(0);
            let mut piece = buffer[..len].to_vec();
            fault(nth, &mut piece);
            if len == 0 || client.write_all(&piece).is_err() {
                return;
            }
        }
    });
    port
}

#[test]
fn is_a_fault_in_a_json_reply_called_by_its_name() {
    for service in ["search", "echo"] {
        let server = Serving::myriapod(&["--service", service]);
        let load = ["-s", service, "-c", "1", "-m", "50", "--timeout", "500ms"];
        let corrupt = between(server.port, |nth, reply| {
            let letter = reply.iter_mut().rev().find(|byte| byte.is_ascii_alphabetic());
            if let (20, Some(letter)) = (nth, letter) {
                *letter ^= 1;
            }
        });
        let ran = bench(&[&["127.0.0.1", &corrupt.to_string()], &load[..]].concat());
        assert_eq!((ran.fates(), ran.status), ([49, 0, 1, 0, 0], 1), "{service}: {ran:?}");

        let dropped = between(server.port, |nth, reply| {
            if nth == 20 {
                reply.clear();
            }
        });
        let ran = bench(&[&["127.0.0.1", &dropped.to_string()], &load[..]].concat());
        assert_eq!((ran.fates(), ran.status), ([49, 1, 0, 0, 0], 1), "{service}: {ran:?}");
    }
}
