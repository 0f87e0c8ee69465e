//! Several event loops: what is said of them, and what a stop under load loses.

use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use nix::sys::signal::Signal;

use crate::support::{Client, Serving, search};

const RING: &str = "In the caves beneath the Misty Mountains. 💍";

#[test]
fn do_two_loops_say_one_line_and_serve_as_one() {
    let serving = Serving::on_loopback(&["--threads", "2", "--pin"]);
    let mut clients: Vec<_> = (0..64).map(|_| serving.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.ask(&search("ring")).result(), RING);
    }
    serving.signal(Signal::SIGUSR1);
    let report = serving.wait_for("accepted=");
    assert!(report.starts_with("accepted=64 open=64 messages=64 "), "{report}");
    assert!(report.contains(" loops=2 imbalance=1."), "{report}");
    drop(clients);
    let ended = serving.stop();
    assert_eq!(ended.status, Some(0));
    assert_eq!((ended.count("messages"), ended.count("loops")), (64, 2));
}

#[test]
fn does_one_loop_report_when_asked_too() {
    let serving = Serving::on_loopback(&[]);
    serving.connect().ask(&search("ring"));
    serving.signal(Signal::SIGUSR1);
    let report = serving.wait_for("accepted=");
    assert!(report.starts_with("accepted=1 "), "{report}");
    assert!(!report.contains("imbalance"), "{report}");
    assert_eq!(serving.connect().ask(&search("ring")).result(), RING, "it goes on");
    assert_eq!(serving.stop().status, Some(0));
}

/// Peers wait in the backlogs of both listeners, with their requests, when the signal comes.
#[test]
fn are_peers_in_the_backlog_of_each_listener_still_answered() {
    let serving = Serving::on_loopback(&["--threads", "2"]);
    serving.signal(Signal::SIGSTOP);
    let mut clients: Vec<_> = (0..64).map(|_| serving.connect()).collect();
    for client in &mut clients {
        client.send(&search("ring"));
    }
    serving.signal(Signal::SIGTERM);
    serving.signal(Signal::SIGCONT);
    for client in &mut clients {
        assert_eq!(client.receive().result(), RING);
        client.expect_end();
    }
    drop(clients);
    let ended = serving.wait();
    assert_eq!((ended.status, ended.count("messages")), (Some(0), 64));
}

/// While others keep both loops busy, the whole server is halted; what these have sent by then is
/// received before the signal, and must be answered. Whatever they send afterwards may be.
#[test]
fn does_a_stop_under_load_lose_no_request() {
    let serving = Serving::on_loopback(&["--threads", "2", "--service", "echo"]);
    let port = serving.port();
    let answered = AtomicU64::new(0);
    let request = search("ring");
    let mut watched: Vec<_> = (0..32).map(|_| serving.connect()).collect();
    for client in &mut watched {
        client.ask(&request);
    }
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
                let mut client = Client::new(stream);
                // Three at a time, each of which is answered until the stream ends between two.
                while client.try_send(&request.repeat(3)) {
                    for _ in 0..3 {
                        let Some(answer) = client.try_receive() else { return };
                        assert_eq!(answer.content.len(), 37);
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        while answered.load(Ordering::Relaxed) < 2000 {
            thread::yield_now();
        }
        serving.signal(Signal::SIGSTOP);
        let mut late: Vec<_> = (0..32).map(|_| serving.connect()).collect();
        for client in watched.iter_mut().chain(&mut late) {
            client.send(&request.repeat(3));
        }
        serving.signal(Signal::SIGTERM);
        serving.signal(Signal::SIGCONT);
        for client in watched.iter_mut().chain(&mut late) {
            for _ in 0..3 {
                assert_eq!(client.receive().content.len(), 37);
            }
            client.expect_end();
        }
    });
    drop(watched);
    let ended = serving.wait();
    assert_eq!(ended.status, Some(0));
    assert!(ended.count("messages") >= answered.into_inner() + 32 + 64 * 3);
    assert_eq!((ended.count("open"), ended.count("discarded_out")), (0, 0));
}

#[test]
fn does_a_server_that_spins_serve_and_stop_as_any_other() {
    let serving = Serving::on_loopback(&["--threads", "2", "--spin", "50"]);
    let mut clients: Vec<_> = (0..8).map(|_| serving.connect()).collect();
    for _ in 0..50 {
        for client in &mut clients {
            assert_eq!(client.ask(&search("ring")).result(), RING);
        }
    }
    serving.signal(Signal::SIGTERM);
    for client in &mut clients {
        client.expect_end();
    }
    drop(clients);
    let ended = serving.wait();
    assert_eq!((ended.status, ended.count("messages")), (Some(0), 400));
}
