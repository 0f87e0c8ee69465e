//! A server with each fault, and the name that it is counted under.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::support::{LEN, Ran, TempFile, bench, bench_raw, faulty, reply};

/// 100 messages on two connections with two in flight; what is not answered in half a second is
/// late.
const LOAD: [&str; 8] = ["-m", "100", "-c", "2", "-i", "2", "--timeout", "500ms"];

/// The exit status is 1, and the reason is named in the table too.
fn assert_told(ran: &Ran, reason: &str) {
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.reason().contains(reason), "{ran:?}");
    let words: Vec<&str> = ran.stdout.split_whitespace().collect();
    assert!(words.join(" ").contains(ran.reason()), "{ran:?}");
}

#[test]
fn is_a_good_server_without_fault() {
    let port = faulty(|_, message, stream| reply(stream, message));
    let ran = bench_raw(port, &LOAD);
    assert_eq!((ran.fates(), ran.status), ([100, 0, 0, 0, 0], 0), "{ran:?}");
    assert_eq!(ran.reason(), "completed");
}

#[test]
fn is_a_dropped_message_lost() {
    let port = faulty(|nth, message, stream| {
        if nth != 30 && nth != 60 {
            reply(stream, message);
        }
    });
    let ran = bench_raw(port, &LOAD);
    assert_eq!(ran.fates(), [98, 2, 0, 0, 0], "{ran:?}");
    assert_told(&ran, "bad replies: 2 lost");
    // They were waited for, and longer than any that came.
    assert_eq!(ran.number("latency_ns.response.count"), 100.0, "{ran:?}");
    assert_eq!(ran.number("latency_ns.service.count"), 98.0, "{ran:?}");
    assert!(ran.number("latency_ns.response.p99") >= 500e6, "{ran:?}");
}

#[test]
fn is_a_reordered_reply_wrong() {
    // The 20th and whatever follows it on its connection change places.
    let kept = Mutex::new(None);
    let port = faulty(move |nth, message, stream| {
        let from = stream.peer_addr().unwrap();
        let mut kept = kept.lock().unwrap();
        if nth == 20 {
            *kept = Some((from, *message));
            return;
        }
        reply(stream, message);
        if kept.is_some_and(|(whose, _)| whose == from) {
            reply(stream, &kept.take().unwrap().1);
        }
    });
    let ran = bench_raw(port, &LOAD);
    assert_eq!(ran.fates(), [99, 0, 1, 0, 0], "{ran:?}");
    assert_told(&ran, "bad replies: 1 wrong");
}

#[test]
fn is_a_corrupt_reply_wrong() {
    let port = faulty(|nth, message, stream| {
        let mut bytes = *message;
        if nth == 50 {
            bytes[7] ^= 1;
        }
        reply(stream, &bytes);
    });
    let ran = bench_raw(port, &LOAD);
    assert_eq!(ran.fates(), [99, 0, 1, 0, 0], "{ran:?}");
    assert_told(&ran, "bad replies: 1 wrong");
    assert!(ran.warned_of("the first wrong reply was: xxxxxxxyxx"), "{ran:?}");
}

#[test]
fn is_a_reply_to_another_connection_wrong() {
    // Of the first 40 messages, what the other connection sent last is kept; its reply comes on
    // this one then, once.
    let kept = Mutex::new((HashMap::<_, [u8; LEN]>::new(), false));
    let port = faulty(move |nth, message, stream| {
        let from = stream.peer_addr().unwrap();
        let (last, done) = &mut *kept.lock().unwrap();
        let other = last.iter().find(|(whose, _)| **whose != from).map(|(_, message)| *message);
        match other {
            Some(other) if nth >= 40 && !*done => {
                *done = true;
                reply(stream, &other);
            }
            _ => reply(stream, message),
        }
        last.insert(from, *message);
    });
    let ran = bench_raw(port, &LOAD);
    assert_eq!(ran.fates(), [99, 0, 1, 0, 0], "{ran:?}");
    assert_told(&ran, "bad replies: 1 wrong");
}

#[test]
fn is_a_repeated_reply_a_duplicate() {
    // The last one too, which comes when everything has been answered.
    let port = faulty(|nth, message, stream| {
        reply(stream, message);
        if nth == 10 || nth == 99 {
            reply(stream, message);
        }
    });
    let ran = bench_raw(port, &LOAD);
    assert_eq!(ran.fates(), [100, 0, 0, 0, 2], "{ran:?}");
    assert_told(&ran, "bad replies: 2 duplicated");
}

#[test]
fn is_a_slow_reply_late() {
    let port = faulty(|nth, message, stream| {
        if nth == 40 {
            thread::sleep(Duration::from_millis(800));
        }
        reply(stream, message);
    });
    let ran = bench_raw(port, &["-m", "100", "-c", "1", "--timeout", "500ms"]);
    let [ok, lost, wrong, late, duplicate] = ran.fates();
    // What was sent while the server slept may be late too.
    assert!(late >= 1 && ok + late == 100, "{ran:?}");
    assert_eq!((lost, wrong, duplicate), (0, 0, 0), "{ran:?}");
    assert_told(&ran, "late");
}

#[test]
fn is_known_before_a_short_run_who_closes() {
    // The first connection, and how many others asked while that was open.
    let first = Arc::new(Mutex::new((None::<TcpStream>, 0)));
    let seen = first.clone();
    let port = faulty(move |nth, message, stream| {
        let mut first = first.lock().unwrap();
        if nth == 0 {
            first.0 = Some(stream.try_clone().unwrap());
        } else if let Some(probe) = &first.0 {
            probe.set_nonblocking(true).unwrap();
            let open = probe.peek(&mut [0]).is_err_and(|e| e.kind() == ErrorKind::WouldBlock);
            first.1 += u32::from(open);
        }
        reply(stream, message);
    });
    let ran = bench_raw(port, &["--short", "-c", "4", "-m", "40"]);
    assert_eq!((ran.fates(), ran.status), ([40, 0, 0, 0, 0], 0), "{ran:?}");
    assert_eq!(seen.lock().unwrap().1, 0, "{ran:?}");
    // It is no part of the figures.
    assert_eq!(ran.number("connections.opened"), 40.0, "{ran:?}");
    assert_eq!(ran.number("short.closed_first_by_client"), 40.0, "{ran:?}");
}

#[test]
fn is_a_reply_that_is_cut_short_lost() {
    let port = faulty(|nth, message, stream| {
        if nth == 25 {
            reply(stream, &message[..LEN / 2]);
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
        reply(stream, message);
    });
    let ran = bench_raw(port, &["-m", "100", "-c", "1"]);
    assert_eq!(ran.fates(), [25, 1, 0, 0, 0], "{ran:?}");
    assert_eq!(ran.number("connections.lost"), 1.0, "{ran:?}");
    assert_told(&ran, "every connection was closed by the server");
    let error = &ran.json["errors"][0];
    assert_eq!((&error["phase"], &error["call"]), (&"run".into(), &"recv".into()), "{ran:?}");
    // A reset may come before the end, and the next message may not find it yet.
    let errno = error["errno"].as_str().unwrap();
    assert!(["EOF", "ECONNRESET"].contains(&errno), "{ran:?}");
}

#[test]
fn does_an_open_loop_see_a_stall_that_a_closed_loop_hides() {
    let stalling = || {
        faulty(|nth, message, stream| {
            if nth == 100 {
                thread::sleep(Duration::from_millis(200));
            }
            reply(stream, message);
        })
    };
    let open = bench_raw(stalling(), &["-c", "1", "-r", "500", "-d", "1s"]);
    assert_eq!((open.fates()[1..].iter().sum::<u64>(), open.status), (0, 0), "{open:?}");
    // A fifth of the messages was due during the stall, and waited.
    let at = |latency: &str, quantile: &str| {
        open.number(&format!("latency_ns.{latency}.{quantile}")) / 1e6
    };
    assert!(at("response", "p999") >= 190.0, "{open:?}");
    assert!(at("response", "p90") >= 50.0, "{open:?}");
    assert!(at("service", "p90") < at("response", "p90"), "{open:?}");
    // Where the machine held bench up as well, it says so instead.
    let told = open.warned_of("a closed loop sends nothing during a stall");
    assert!(told || open.warned_of("bench itself was up to"), "{open:?}");

    let closed = bench_raw(stalling(), &["-c", "1", "-m", "2000"]);
    assert_eq!(closed.status, 0, "{closed:?}");
    assert!(closed.number("latency_ns.response.p999") < 190e6, "{closed:?}");
}

#[test]
fn is_what_was_due_and_never_sent_part_of_the_response_times() {
    // It answers ten messages and then nothing more until the end.
    let port = faulty(|nth, message, stream| {
        if nth >= 10 {
            thread::sleep(Duration::from_millis(600));
        }
        reply(stream, message);
    });
    let ran = bench_raw(port, &["-c", "1", "-r", "1k", "-d", "500ms", "--timeout", "2s"]);
    assert!(ran.number("messages.unsent") > 300.0, "{ran:?}");
    assert!(ran.number("latency_ns.response.p50") >= 100e6, "{ran:?}");
    assert!(ran.warned_of("were due and never sent"), "{ran:?}");
    // The 100 ms and more until the last reply are no time in which anything was due.
    assert!((900.0..1200.0).contains(&ran.number("rate.offered")), "{ran:?}");
}

#[cfg(unix)]
#[test]
fn does_a_short_message_wait_for_its_connection() {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;

    use myriapod::sys::{self, AsFd as _, ListenOptions, Listener};

    // One connection after the other, and two in the backlog: the next meets EAGAIN.
    let path = TempFile::new("sock");
    let host = format!("unix:{}", path.0.display());
    let options = ListenOptions { backlog: 1, ..ListenOptions::default() };
    let listener = Listener::bind(&sys::resolve(&host, 0).unwrap()[0], &options).unwrap();
    let listener = UnixListener::from(listener.as_fd().try_clone_to_owned().unwrap());
    listener.set_nonblocking(false).unwrap();
    thread::spawn(move || {
        for (nth, stream) in listener.incoming().enumerate() {
            // The first asks who closes; the load begins with the second.
            if nth == 1 {
                thread::sleep(Duration::from_millis(500));
            }
            let mut stream = stream.unwrap();
            let mut message = [0; LEN];
            if stream.read_exact(&mut message).is_ok() {
                let _ = stream.write_all(&message);
            }
        }
    });
    let load = ["--short", "-s", "raw", "-c", "100", "-r", "200", "-d", "1s"];
    let ran = bench(&[&[host.as_str()], &load[..]].concat());
    assert_eq!((ran.fates()[1..].iter().sum::<u64>(), ran.status), (0, 0), "{ran:?}");
    // Of the 200, a hundred became due during the stall, and waited for up to its length. Where the
    // machine held bench up, the run took longer, and more became due.
    assert!((195.0..220.0).contains(&ran.number("rate.offered")), "{ran:?}");
    let due = ran.number("messages.sent") + ran.number("messages.unsent");
    assert_eq!(due, ran.number("latency_ns.response.count"), "{ran:?}");
    assert!(ran.number("latency_ns.response.p90") >= 200e6, "{ran:?}");
}
