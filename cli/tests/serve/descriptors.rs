//! What happens when there are fewer descriptors than peers.

use std::collections::VecDeque;
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use myriapod::sys;

use crate::program::program;
use crate::support::{Client, Serving, binary};

const PEERS: usize = 1_000;

/// How long the server is watched while it is full.
const WATCHED: Duration = Duration::from_secs(3);

/// A server with at most 256 descriptors, or `None` where it may raise that.
fn serving() -> Option<Serving> {
    sys::raise_descriptor_limit().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", r#"ulimit -n 256 && exec "$0" "$@""#, &program()]);
    command.args(["serve", "--service", "echo", "127.0.0.1", "0"]);
    let serving = Serving::spawn(&mut command);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", serving.pid())).unwrap();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    if files.split_whitespace().next() == Some("256") {
        return Some(serving);
    }
    println!("skipped: the server may raise its limit: {files}");
    None
}

fn clients(serving: &Serving, count: usize) -> Vec<Client<TcpStream>> {
    let mut clients: Vec<_> = (0..count).map(|_| serving.connect()).collect();
    for client in &mut clients {
        client.send(&binary(b"first"));
    }
    clients
}

fn exchange(client: &mut Client<TcpStream>) {
    assert_eq!(client.ask(&binary(b"next")).content, b"next");
}

/// Watches a server that is full for a while: it must neither spin nor flood its log.
fn watch(serving: &Serving) {
    serving.said();
    let (before, began) = (serving.cpu_time(), Instant::now());
    std::thread::sleep(WATCHED);
    let (used, watched) = (serving.cpu_time() - before, began.elapsed());
    let lines = serving.said();
    println!("{used:?} of processor time in {watched:?}; said {lines:?}");
    assert!(used < watched / 10, "{used:?} in {watched:?}");
    // One may be on its way when the watch begins.
    assert!(lines.len() as u64 <= watched.as_secs() + 2, "{lines:?}");
}

#[test]
fn does_a_full_server_take_others_once_some_leave() {
    let Some(serving) = serving() else { return };
    let mut clients = clients(&serving, PEERS);
    let line = serving.wait_for("max_connections (");
    let most = line.split(['(', ')']).nth(1).unwrap().parse().unwrap();
    assert!((128..256).contains(&most), "{line}");
    for client in &mut clients[..most] {
        assert_eq!(client.receive().content, b"first");
    }
    watch(&serving);
    clients[..most].iter_mut().for_each(exchange);
    // Each that leaves makes room for the one that has waited longest.
    let mut served: VecDeque<_> = clients.drain(..most).collect();
    for mut client in clients {
        served.pop_front();
        assert_eq!(client.receive().content, b"first");
        served.push_back(client);
    }
    served.iter_mut().for_each(exchange);
    drop(served);
    let ended = serving.stop();
    assert_eq!((ended.status, ended.count("accepted")), (Some(0), PEERS as u64));
}

#[test]
fn does_a_server_with_a_lowered_limit_serve_those_it_has() {
    if Command::new("prlimit").arg("--version").output().is_err() {
        println!("skipped: prlimit is not installed");
        return;
    }
    let Some(serving) = serving() else { return };
    let mut served = VecDeque::from(clients(&serving, 50));
    served.iter_mut().for_each(|client| assert_eq!(client.receive().content, b"first"));
    let pid = format!("--pid={}", serving.pid());
    let lowered = Command::new("prlimit").args([&pid, "--nofile=128:128"]).status().unwrap();
    assert!(lowered.success());

    let began = Instant::now();
    let clients = clients(&serving, PEERS);
    let line = serving.wait_for("EMFILE");
    let open = line.split(' ').find_map(|word| word.parse::<usize>().ok()).unwrap();
    assert!((100..128).contains(&open), "{line}");
    let mut waiting = clients.into_iter();
    for mut client in waiting.by_ref().take(open - served.len()) {
        assert_eq!(client.receive().content, b"first");
        served.push_back(client);
    }
    watch(&serving);
    served.iter_mut().for_each(exchange);

    // Each that leaves makes room for another; a few are turned away by the spare descriptor.
    let (mut taken, mut turned_away) = (0, 0);
    served.pop_front();
    for mut client in waiting {
        // Nothing but the end comes to those that are turned away.
        if client.0.peek(&mut [0]).is_ok_and(|len| len > 0) {
            assert_eq!(client.receive().content, b"first");
            served.push_back(client);
            served.pop_front();
            taken += 1;
        } else {
            turned_away += 1;
        }
    }
    println!("taken: {taken}, turned away: {turned_away}");
    // Ten a second, and so no more because many leave.
    let most = began.elapsed().as_millis() / 100 + 2;
    assert!(u128::from(turned_away) <= most, "{turned_away}, and not {most} at most");
    served.iter_mut().for_each(exchange);
    drop(served);
    let ended = serving.stop();
    assert_eq!((ended.status, ended.count("turned_away")), (Some(0), turned_away));
}
