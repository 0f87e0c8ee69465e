//! How many system calls does a request cost? Asked of the kernel, through strace.
//!
//! ```text
//! $ cargo test --release -p myriapod-cli --test system_calls -- --nocapture
//! ```
//!
//! prints strace's table, which docs/figures.md quotes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "the figures are for the reader")]
#![expect(clippy::zombie_processes, reason = "a test that fails has no use for its server")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use program::program;

#[path = "common/program.rs"]
mod program;

const CONNECTIONS: usize = 50;
const REQUESTS: usize = 20_000;

fn request() -> Vec<u8> {
    let content = br#"{"action": "search", "value": "morpheus"}"#;
    let header = format!(
        r#"{{"byteorder": "little", "content-type": "text/json", "content-encoding": "utf-8", "content-length": {}}}"#,
        content.len()
    );
    let len = u16::try_from(header.len()).unwrap().to_be_bytes();
    [&len, header.as_bytes(), content].concat()
}

/// The counts of `strace -c`: the last column is the call, the fourth is how often.
fn counts(table: &str) -> BTreeMap<String, u64> {
    let rows = table.lines().filter_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let calls = columns.get(3)?.parse().ok()?;
        Some(((*columns.last()?).to_owned(), calls))
    });
    rows.collect()
}

/// The system calls of a server during `work`, which gets its port; `None` where strace is missing.
fn traced(work: impl FnOnce(u16)) -> Option<BTreeMap<String, u64>> {
    if !Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok_and(|s| s.success()) {
        println!("skipped: strace is not installed");
        return None;
    }
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let table = format!("myriapod-strace-{}-{number}", std::process::id());
    let table = std::env::temp_dir().join(table);
    // -D: the server is our child, and strace its.
    let mut server = Command::new("strace")
        .args(["-D", "-f", "-c", "-o"])
        .arg(&table)
        .arg(program())
        .args(["serve", "--service", "echo", "127.0.0.1", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let Some(port) = line.trim().rsplit(", ").next().and_then(|end| end.strip_suffix(')')) else {
        let mut reason = String::new();
        server.stderr.take().unwrap().read_to_string(&mut reason).unwrap();
        assert!(reason.contains("ptrace"), "{line}{reason}");
        println!("skipped: strace may not trace here");
        return None;
    };

    work(port.parse().unwrap());
    let pid = server.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(server.wait().unwrap().success());

    let deadline = Instant::now() + Duration::from_secs(30);
    let counts = loop {
        let text = std::fs::read_to_string(&table).unwrap_or_default();
        if text.contains("total") {
            println!("{text}");
            break counts(&text);
        }
        assert!(Instant::now() < deadline, "strace has written no table: {text}");
        std::thread::yield_now();
    };
    std::fs::remove_file(&table).unwrap();

    Some(counts)
}

#[test]
fn does_a_request_cost_one_recv_and_one_send_and_no_epoll_ctl() {
    let counts = traced(|port| {
        let request = request();
        let mut reply = vec![0; request.len()];
        let connect = |_| TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut peers: Vec<TcpStream> = (0..CONNECTIONS).map(connect).collect();
        for _ in 0..REQUESTS / CONNECTIONS {
            for peer in &mut peers {
                peer.write_all(&request).unwrap();
            }
            for peer in &mut peers {
                peer.read_exact(&mut reply).unwrap();
                assert_eq!(reply, request);
            }
        }
    });
    let Some(counts) = counts else { return };
    let count = |call: &str| counts.get(call).copied().unwrap_or(0);
    let (requests, connections) = (REQUESTS as u64, CONNECTIONS as u64);
    let ends = connections + 1;
    println!(
        "per request: {:.4} recv, {:.4} send; epoll_ctl beside two for each connection: {}",
        count("recvfrom") as f64 / requests as f64,
        count("sendto") as f64 / requests as f64,
        count("epoll_ctl").saturating_sub(2 * connections)
    );
    // Each connection's end is one more recv.
    assert!(count("recvfrom") >= requests);
    assert!(count("recvfrom") <= requests + requests / 100, "{counts:?}");
    assert_eq!(count("sendto"), requests, "{counts:?}");
    // Each connection is added once and taken out before its close; the waker, the signals and the
    // listener are the others, added and, but for the waker, taken out.
    assert!(count("epoll_ctl") <= 2 * connections + 8, "{counts:?}");
    assert!(count("accept4") <= connections + ends, "{counts:?}");
}

#[test]
fn does_a_short_connection_cost_no_more_than_its_own_calls() {
    const SHORT: u64 = 2_000;
    let counts = traced(|port| {
        let request = request();
        let mut reply = vec![0; request.len()];
        for _ in 0..SHORT {
            let mut peer = TcpStream::connect(("127.0.0.1", port)).unwrap();
            peer.write_all(&request).unwrap();
            peer.read_exact(&mut reply).unwrap();
            assert_eq!(reply, request);
        }
    });
    let Some(counts) = counts else { return };
    let count = |call: &str| counts.get(call).copied().unwrap_or(0);
    let each = |call: &str| count(call) as f64 / SHORT as f64;
    let wanted = ["accept4", "epoll_ctl", "recvfrom", "sendto", "close"];
    for call in wanted {
        println!("per short connection: {:.3} {call}", each(call));
    }
    let waits = count("epoll_wait") + count("epoll_pwait") + count("epoll_pwait2");
    let further = count("total") - waits - wanted.into_iter().map(count).sum::<u64>();
    println!("further calls, start and end of the process included: {further}");
    // What starts and ends the process, and the look at the machine's limits, is some hundred calls.
    let start = 600;
    assert!(count("accept4") >= SHORT && count("epoll_ctl") <= 2 * SHORT + 8, "{counts:?}");
    assert!(count("recvfrom") <= 2 * SHORT + 4 && count("sendto") == SHORT, "{counts:?}");
    let further = further + count("accept4") - SHORT;
    assert!(further <= SHORT + start, "no more than one further call: {counts:?}");
}
