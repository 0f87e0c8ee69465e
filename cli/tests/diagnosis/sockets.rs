//! `myriapod sockets`, against what ss and the sockets themselves say.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use myriapod::sys::{TcpState, queue_sizes, tcp_info};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::{myriapod, seen};

/// Connections over one listener: the ends that connected, and those that were accepted, each with
/// unread bytes.
struct Connections {
    port: u16,
    /// The listener's address. Other addresses may have the same port, for others' connections.
    address: String,
    _listener: TcpListener,
    clients: Vec<TcpStream>,
    accepted: Vec<TcpStream>,
}

/// Connection number `n` has `37 * n` unread bytes, and every tenth has been shut down by its client.
fn connect(host: &str, count: usize) -> Connections {
    let listener = TcpListener::bind((host, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (mut clients, mut accepted) = (Vec::new(), Vec::new());
    for number in 0..count {
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(&vec![b'x'; 37 * number]).unwrap();
        if number % 10 == 9 {
            client.shutdown(Shutdown::Write).unwrap();
        }
        clients.push(client);
        accepted.push(listener.accept().unwrap().0);
    }
    for (number, (client, accepted)) in clients.iter().zip(&accepted).enumerate() {
        // An end counts as unread until it is, and what is not acknowledged counts as unsent.
        let ended = usize::from(number % 10 == 9);
        let state = if ended == 1 { TcpState::FinWait2 } else { TcpState::Established };
        wait_until("everything has arrived and is acknowledged", || {
            queue_sizes(accepted).unwrap().0 >= 37 * number
                && queue_sizes(client).unwrap().1 == 0
                && tcp_info(client).unwrap().state == state
        });
    }
    let (port, address) = (address.port(), address.to_string());
    Connections { port, address, _listener: listener, clients, accepted }
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

/// Whether a line is about one of these connections, and not about one that had the port before.
fn is_ours(line: &Value, address: &str) -> bool {
    line["state"] != "TIME-WAIT" && (line["local"] == address || line["peer"] == address)
}

fn json(args: &[&str]) -> Vec<Value> {
    let output = myriapod(&[&["sockets", "--json"], args].concat());
    let (stdout, stderr, status) = seen(&output);
    assert_eq!((stderr, status), ("", 0));
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// State, Recv-Q, Send-Q, local and peer address, as `ss -tn` has them; sorted.
fn ss(connections: &Connections) -> Option<Vec<[String; 5]>> {
    let Connections { port, address, .. } = connections;
    let filter = format!("sport = :{port} or dport = :{port}");
    let output = Command::new("ss").args(["-tnH", &filter]).output().ok()?;
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut rows: Vec<_> = text
        .lines()
        .map(|line| {
            let mut words = line.split_whitespace().map(str::to_owned);
            std::array::from_fn(|_| words.next().unwrap())
        })
        .filter(|row: &[String; 5]| row[3..].contains(address))
        .collect();
    rows.sort();
    Some(rows)
}

/// The same from us. ss shortens a name, and shows neither listeners nor TIME-WAIT unless asked.
fn ours(connections: &Connections) -> Vec<[String; 5]> {
    let lines = json(&["--port", &connections.port.to_string()]);
    let connections = lines
        .iter()
        .filter(|line| line["state"] != "LISTEN" && is_ours(line, &connections.address));
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut rows: Vec<[String; 5]> = connections
        .map(|line| {
            let keys = ["state", "recv_queue", "send_queue", "local", "peer"];
            let mut row = keys.map(|key| text(&line[key]));
            if row[0] == "ESTABLISHED" {
                row[0] = "ESTAB".into();
            }
            row
        })
        .collect();
    rows.sort();
    rows
}

#[test]
fn do_we_agree_with_ss_about_200_connections_with_unread_bytes() {
    for host in ["127.0.0.1", "::1"] {
        let connections = connect(host, 100);
        let ours = ours(&connections);
        assert_eq!(ours.len(), 200, "both ends of each");
        let Some(theirs) = ss(&connections) else {
            println!("SKIPPED: ss is not installed, so nobody can be compared with");
            return;
        };
        assert_eq!(ours, theirs);
        for state in ["ESTAB", "CLOSE-WAIT", "FIN-WAIT-2"] {
            assert!(ours.iter().any(|row| row[0] == state), "{state}");
        }
    }
}

#[test]
fn is_what_is_shown_what_the_socket_itself_says() {
    let connections = connect("127.0.0.1", 12);
    let mut lines = json(&["-p", &connections.port.to_string()]);
    lines.retain(|line| is_ours(line, &connections.address));
    let listener = lines.first().unwrap();
    assert_eq!((&listener["state"], &listener["rtt_us"]), (&"LISTEN".into(), &Value::Null));
    for stream in connections.clients.iter().chain(&connections.accepted) {
        let local = stream.local_addr().unwrap().to_string();
        let peer = stream.peer_addr().unwrap().to_string();
        let line =
            lines.iter().find(|line| line["local"] == local && line["peer"] == peer).unwrap();
        let (received, sent) = queue_sizes(stream).unwrap();
        // The ioctl leaves out the peer's end, which the kernel counts as one byte.
        let shown = line["recv_queue"].as_u64().unwrap();
        let ended = u64::from(line["state"] == "CLOSE-WAIT");
        assert_eq!(shown - ended, received as u64, "{line}");
        assert_eq!(line["send_queue"], sent as u64);
        let info = tcp_info(stream).unwrap();
        assert_eq!(line["state"], info.state.to_string());
        assert_eq!(line["rtt_us"].as_u64().map(u128::from), Some(info.rtt.as_micros()));
        assert_eq!(line["retransmits"], info.retransmits);
        let holders = line["processes"].as_array().unwrap();
        let (pid, fd) = (std::process::id(), stream.as_raw_fd());
        assert!(holders.iter().any(|one| one["pid"] == pid && one["fd"] == fd), "{line}");
    }
}

#[test]
fn does_a_pipe_get_a_table_that_is_not_cut() {
    let connections = connect("::1", 2);
    let output = myriapod(&["sockets", "--port", &connections.port.to_string()]);
    let (stdout, stderr, status) = seen(&output);
    let mut lines = stdout
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        // The heads, and ours: not those that had the port before, or have it elsewhere.
        .filter(|words| words[0] == "Proto" || words[3..5].contains(&&*connections.address))
        .filter(|words| words[5] != "TIME-WAIT");
    let heads = ["Proto", "Recv-Q", "Send-Q", "Local", "Peer", "State", "Rtt", "Retr", "Process"];
    assert_eq!(lines.next().unwrap(), heads);
    let listener = lines.next().unwrap();
    assert_eq!(listener[..2], ["tcp6", "0"]);
    assert_eq!(listener[3..6], [connections.address.as_str(), "*:*", "LISTEN"]);
    assert!(listener[6].starts_with(&format!("{}/", std::process::id())), "{listener:?}");
    assert_eq!((lines.count(), stderr, status), (4, "", 0));
}

#[test]
fn are_unix_sockets_shown_when_asked_for() {
    let path = std::env::temp_dir().join(format!("myriapod-sockets-{}", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let lines = json(&["--unix", "--listening"]);
    std::fs::remove_file(&path).unwrap();
    let local = format!("unix:{}", path.display());
    let line = lines.iter().find(|line| line["local"] == local).unwrap();
    assert_eq!((&line["protocol"], &line["state"]), (&"unix".into(), &"LISTEN".into()));
    assert_eq!(line["processes"][0]["fd"], listener.as_raw_fd());
}

#[test]
fn does_watching_look_again_until_it_is_told_to_end() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut child = Command::new(env!("CARGO_BIN_EXE_myriapod"))
        .args(["sockets", "-w", "-i", "1ms", "-p", &port.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut next = |wanted: &str| {
        let mut line = String::new();
        while !line.contains(wanted) {
            line.clear();
            assert_ne!(out.read_line(&mut line).unwrap(), 0);
        }
    };
    next(" LISTEN ");
    let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    next(&client.local_addr().unwrap().to_string());
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    out.read_to_string(&mut String::new()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn is_a_watch_for_machines_refused() {
    let output = myriapod(&["sockets", "--watch", "--json"]);
    assert_eq!((output.stdout.len(), output.status.code()), (0, Some(2)));
}
