//! Do the lessons print what they are there to show?

use crate::programs::{Running, example};

/// What a program prints, with the ports in it replaced by `PORT`.
fn printed(name: &str, arguments: &[&str]) -> String {
    let mut command = example(name);
    command.args(arguments);
    let lines = Running::start(command).succeed();
    let mut shown = String::new();
    for line in lines {
        let mut rest = line.as_str();
        // Only ports have five digits here, or four.
        while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
            let (before, from) = rest.split_at(start);
            let end = from.find(|c: char| !c.is_ascii_digit()).unwrap_or(from.len());
            let (number, behind) = from.split_at(end);
            let is_port = before.ends_with(':') && number.len() >= 4;
            shown += &format!("{before}{}", if is_port { "PORT" } else { number });
            rest = behind;
        }
        shown += &format!("{rest}\n");
    }
    shown
}

#[test]
fn what_does_each_side_see_of_a_half_close() {
    let shown = printed("half_close", &[]);
    let state = if cfg!(target_os = "linux") { "server: its state is CLOSE-WAIT\n" } else { "" };
    assert_eq!(
        shown,
        format!(
            "client: sends b'request' and shuts down its sending side\n\
             server: receives b'request'\n\
             server: recv returns 0 bytes, the end\n\
             {state}\
             server: can still send b'reply', and closes\n\
             client: receives b'reply'\n\
             client: recv returns 0 bytes, the end\n\
             client: send: EPIPE (Broken pipe)\n\
             server: is gone without a goodbye (a reset, as after a crash)\n\
             client: recv: ECONNRESET (Connection reset by peer)\n\
             client: sends two messages to an engine and shuts down its sending side\n\
             client: receives b'one'\n\
             client: receives b'two'\n"
        ),
    );
}

#[test]
#[cfg(target_os = "linux")]
fn does_every_wait_end_in_time() {
    let shown = printed("timeouts", &[]);
    let lines: Vec<_> = shown.lines().collect();
    assert!(lines[0].starts_with("recv, non-blocking: EAGAIN ("), "{shown}");
    assert_eq!(
        lines[1..],
        [
            "recv, with a timeout: nothing within 200ms",
            "recv, blocking: would still be waiting; set_nonblocking(false) is that mode",
            "client, no answer: recv 127.0.0.1:PORT: nothing within 200ms",
            "client, full backlog: connect 127.0.0.1:PORT: nothing within 200ms",
            "server: 1 connection closed, the cause is header_timeout",
            "server: 1 connection closed, the cause is idle",
            "server: all its limits of time are in Limits, and on by default",
        ],
    );
}

#[test]
fn who_is_who_on_a_socket_for_both_families() {
    let shown = printed("dual_stack", &[]);
    if shown.contains("this machine has no IPv6") {
        println!("skipped: {shown}");
        return;
    }
    for expected in [
        "listening on [::]:PORT\n",
        "server: accepted connection from ('::ffff:127.0.0.1', ",
        "client: connected to 127.0.0.1, the server calls it IPv4, mapped into IPv6\n",
        "server: accepted connection from ('::1', ",
        "client: connected to ::1, the server calls it IPv6\n",
        "server: accepted connection from ''\n",
        "the server calls it Unix\n",
    ] {
        assert!(shown.contains(expected), "{expected}{shown}");
    }
    let socket = shown.lines().find_map(|line| line.strip_prefix("listening on unix:")).unwrap();
    assert!(!std::path::Path::new(socket).exists(), "{socket} is left behind");
}

#[test]
fn are_numbers_and_text_read_as_they_were_meant() {
    let shown = printed("byteorder", &[]);
    for (expected, count) in [
        ("256 in network order is b'\\x01\\x00'\n", 1),
        ("read in network order that is 256\n", 1),
        ("read in the other order it is 1\n", 1),
        ("b'\\x00\\x00\\x00\\x01\\xbf\\xe0\\x00\\x00\\x00\\x00\\x00\\x00'\n", 1),
        ("b'\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\xe0\\xbf'\n", 1),
        ("    read as the header says: 1 and -0.5\n", 2),
        ("    is 'né 🐶'\n", 4),
    ] {
        assert_eq!(shown.matches(expected).count(), count, "{expected}{shown}");
    }
}

#[test]
fn whose_problem_is_a_lost_datagram() {
    assert_eq!(
        printed("datagram_echo", &[]),
        "client: sends 1 2 3 4 5 6\n\
         network: drops 3, and 5 overtakes 4; the client is told of neither\n\
         client: receives 1 2 5 4 6\n\
         client: 3 is missing, and may be lost or late\n\
         client: sends 3\n\
         client: has 1 2 3 4 5 6 in order\n",
    );
}

#[test]
fn are_datagrams_echoed_to_whoever_sent_them() {
    let mut command = example("datagram_echo");
    command.args(["127.0.0.1", "0"]);
    let mut server = Running::start(command);
    let port = server.port();
    let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    let mut buffer = [0; 65_536];
    for content in [&b"Hello, world"[..], b"", &[7; 60_000]] {
        client.send_to(content, ("127.0.0.1", port)).unwrap();
        let (count, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..count], from.port()), (content, port));
    }
    let ours = client.local_addr().unwrap().port();
    assert_eq!(server.line(), format!("echoing b'Hello, world' to ('127.0.0.1', {ours})"));
}

#[test]
#[cfg(target_os = "linux")]
fn does_the_granddaddy_end_where_its_set_does() {
    let shown = printed("granddaddy", &["5"]);
    let row = |name: &str| -> Vec<&str> {
        let line = shown.lines().find(|line| line.split_whitespace().next() == Some(name));
        line.unwrap_or_else(|| panic!("{name}: {shown}")).split_whitespace().skip(1).collect()
    };
    assert_eq!(row("idle"), ["10", "100", "1,000", "10,000"]);
    let is_time = |cell: &&str| cell.parse::<f64>().is_ok_and(|time| time >= 0.0);
    assert!(row("select")[..3].iter().all(is_time), "{shown}");
    assert_eq!(row("select")[3], "-");
    assert!(shown.contains("select cannot watch descriptor 1024"), "{shown}");
    if shown.contains("EMFILE") {
        println!("10,000 descriptors are more than this machine allows: {shown}");
        return;
    }
    for name in ["poll", "epoll", "portable"] {
        assert!(row(name).len() == 4 && row(name).iter().all(is_time), "{shown}");
    }
}
