//! What happens with 64 descriptors and 200 clients?

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::peers::message;

const PATIENCE: Duration = Duration::from_secs(60);
const CLIENTS: usize = 200;
/// For so long the server is watched while it is full.
const WATCHED: Duration = Duration::from_secs(3);

/// Processor time of a process so far, of all its threads.
fn cpu_time(pid: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let nanoseconds = threads.map(|thread| {
        let text = std::fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap();
        text.split(' ').next().unwrap().parse::<u64>().unwrap()
    });
    Duration::from_nanos(nanoseconds.sum())
}

#[test]
fn do_two_hundred_clients_of_64_descriptors_get_their_turn() {
    // The limit is lowered once the server runs: it would not promise more than it has at the
    // start, and so never ask too much of the system.
    if Command::new("prlimit").arg("--version").output().is_err() {
        println!("SKIPPED: prlimit is not installed");
        return;
    }
    let mut server = Command::new(env!("CARGO_BIN_EXE_myriapod"))
        .args(["serve", "--service", "echo", "127.0.0.1", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut listening = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut listening).unwrap();
    let port: u16 =
        listening.trim().rsplit(", ").next().unwrap().trim_end_matches(')').parse().unwrap();
    let (to, lines) = mpsc::channel();
    let stderr = BufReader::new(server.stderr.take().unwrap());
    std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            let _ = to.send((Instant::now(), line));
        }
    });
    let pid = format!("--pid={}", server.id());
    let lowered = Command::new("prlimit").args([&pid, "--nofile=64:64"]).status().unwrap();
    assert!(lowered.success());

    let mut clients = VecDeque::new();
    for number in 0..CLIENTS {
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(&message(number.to_string().as_bytes())).unwrap();
        clients.push_back((number, client));
    }
    // It has said that it lacks descriptors; then it neither spins nor floods its log.
    let (first, line) = lines.recv_timeout(PATIENCE).unwrap();
    assert!(line.contains("EMFILE (Too many open files)"), "{line}");
    let before = cpu_time(server.id());
    std::thread::sleep(WATCHED);
    let used = cpu_time(server.id()) - before;
    println!("{used:?} of processor time in {WATCHED:?} without a descriptor");
    assert!(used < WATCHED / 10, "{used:?}");

    // Each is answered and leaves, which makes room for the next; a few are turned away.
    let (mut answered, mut turned_away) = (0_u64, 0_u64);
    while let Some((number, mut client)) = clients.pop_front() {
        let expected = message(number.to_string().as_bytes());
        let mut reply = Vec::new();
        // Nothing but its own answer, whole, or nothing at all.
        let mut room = vec![0; expected.len()];
        while reply.len() < expected.len() {
            match client.read(&mut room) {
                Ok(0) => break,
                Ok(len) => reply.extend_from_slice(&room[..len]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
                Err(error) => panic!("client {number}: {error}"),
            }
        }
        if reply.is_empty() {
            turned_away += 1;
        } else {
            assert_eq!(reply, expected, "client {number}");
            answered += 1;
        }
    }
    println!("answered: {answered}, turned away: {turned_away}");
    let most = first.elapsed().as_millis() / 100 + 2;
    assert!(u128::from(turned_away) <= most, "{turned_away}, and not {most} at most");

    assert!(Command::new("kill").arg(server.id().to_string()).status().unwrap().success());
    assert_eq!(server.wait().unwrap().code(), Some(0));
    let mut said: Vec<(Instant, String)> = vec![(first, line)];
    said.extend(lines.iter());
    let times: Vec<Instant> =
        said.iter().filter(|(_, line)| line.contains("EMFILE")).map(|(at, _)| *at).collect();
    println!("lines about EMFILE: {}", times.len());
    // A second between them, less what a loaded machine needs to read them.
    let whole = times.last().unwrap().duration_since(times[0]);
    assert!(times.len() as u64 <= whole.as_secs() + 2, "{} in {whole:?}", times.len());
    let summary = &said.last().unwrap().1;
    assert!(summary.contains(" open=0 "), "{summary}");
    assert!(summary.contains(&format!(" turned_away={turned_away} ")), "{summary}");
}
