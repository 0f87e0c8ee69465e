//! Does the dissector in `examples/wireshark` show every message, and mark what is malformed?
//!
//! It runs in a real tshark, over captures that are written here and, where that is permitted, over
//! traffic on the loopback interface.

#![cfg(feature = "json")]
#![expect(clippy::unwrap_used, reason = "tests fail by it")]
#![expect(clippy::print_stdout, reason = "what cannot be tested here is said")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use myriapod::{Client, Server};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const LUA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/wireshark/myriapod.lua");

/// Whether tshark is there; says so where it is not.
fn has_tshark() -> bool {
    let found = Command::new("tshark").arg("--version").output().is_ok();
    if !found {
        println!("SKIPPED: tshark is not installed, so the dissector has not been run");
    }
    found
}

fn vectors(text: &str) -> Vec<Value> {
    serde_json::from_str::<Value>(text).unwrap()["vectors"].as_array().unwrap().clone()
}

fn unhex(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A capture of IPv4 packets without a link layer, in pcap's format.
struct Capture {
    bytes: Vec<u8>,
    /// The next sequence number of each direction.
    next: BTreeMap<(u16, u16), u32>,
    packets: u32,
}

impl Capture {
    fn new() -> Self {
        let mut bytes = Vec::new();
        bytes.extend(0xa1b2_c3d4_u32.to_le_bytes());
        bytes.extend([2, 0, 4, 0]);
        bytes.extend([0; 8]);
        bytes.extend(0x4_0000_u32.to_le_bytes());
        // LINKTYPE_RAW: a packet begins with its IP header.
        bytes.extend(101_u32.to_le_bytes());
        Self { bytes, next: BTreeMap::new(), packets: 0 }
    }

    /// A segment from port to port, behind those that went before it.
    fn segment(&mut self, from: u16, to: u16, payload: &[u8]) {
        let sequence = *self.next.entry((from, to)).or_insert(1);
        let acknowledged = *self.next.entry((to, from)).or_insert(1);
        let payload_len = u32::try_from(payload.len()).unwrap();
        self.next.insert((from, to), sequence + payload_len);

        let mut packet = vec![0x45, 0];
        packet.extend(u16::try_from(40 + payload.len()).unwrap().to_be_bytes());
        packet.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        // Both ends are one host, as on the loopback interface.
        packet.extend([127, 0, 0, 1, 127, 0, 0, 1]);
        packet.extend(from.to_be_bytes());
        packet.extend(to.to_be_bytes());
        packet.extend(sequence.to_be_bytes());
        packet.extend(acknowledged.to_be_bytes());
        // A header of five words; PSH and ACK; a window; no checksum, which nobody asks for.
        packet.extend([0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
        packet.extend(payload);

        self.packets += 1;
        let len = u32::try_from(packet.len()).unwrap();
        for word in [self.packets / 1000, self.packets % 1000 * 1000, len, len] {
            self.bytes.extend(word.to_le_bytes());
        }
        self.bytes.extend(packet);
    }

    /// A stream from a port of its own, cut into `pieces` segments of about equal length.
    fn stream(&mut self, from: u16, to: u16, bytes: &[u8], pieces: usize) {
        for piece in bytes.chunks(bytes.len().div_ceil(pieces).max(1)) {
            self.segment(from, to, piece);
        }
    }

    /// Runs tshark over the capture and returns, for each packet, the values of each field.
    fn read(&self, name: &str, fields: &[&str], options: &[&str]) -> Vec<Vec<Vec<String>>> {
        let path = scratch(name);
        fs::write(&path, &self.bytes).unwrap();
        let mut command = Command::new("tshark");
        command.args(["-X", &format!("lua_script:{LUA}"), "-r"]).arg(&path);
        command.args(["-T", "fields", "-E", "separator=/t", "-E", "aggregator=|"]);
        fields.iter().for_each(|field| _ = command.args(["-e", field]));
        let output = command.args(options).output().unwrap();
        fs::remove_file(&path).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let complaints = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{complaints}");
        assert!(!complaints.contains("Lua"), "{complaints}");
        let values = |cell: &str| -> Vec<String> {
            cell.split('|').filter(|value| !value.is_empty()).map(str::to_owned).collect()
        };
        text.lines().map(|line| line.split('\t').map(values).collect()).collect()
    }
}

fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("myriapod-{name}-{}.pcap", std::process::id()))
}

/// The values of each field, over all packets from each port.
fn by_port(packets: &[Vec<Vec<String>>]) -> BTreeMap<u16, Vec<Vec<String>>> {
    let mut ports = BTreeMap::new();
    for packet in packets {
        let port = packet[0][0].parse().unwrap();
        let fields: &mut Vec<Vec<String>> =
            ports.entry(port).or_insert_with(|| vec![Vec::new(); packet.len() - 1]);
        for (all, more) in fields.iter_mut().zip(&packet[1..]) {
            all.extend_from_slice(more);
        }
    }
    ports
}

#[test]
fn is_every_vector_shown_as_what_it_is_however_it_is_cut() {
    if !has_tshark() {
        return;
    }
    let all = vectors(include_str!("vectors/messages.json"));
    let fields = [
        "tcp.srcport",
        "myriapod.content_length",
        "myriapod.content",
        "myriapod.error",
        "myriapod.error.header",
    ];
    let limited = ["-o", "myriapod.max_header:512", "-o", "myriapod.max_content:1000"];
    for (has_limits, options) in [(false, &[][..]), (true, &limited[..])] {
        let chosen: Vec<_> =
            all.iter().filter(|one| one["limits"].is_object() == has_limits).collect();
        for pieces in if has_limits { &[1][..] } else { &[1, 2, 7] }.iter().copied() {
            let mut capture = Capture::new();
            for (port, vector) in (10_000..).zip(&chosen) {
                capture.stream(port, 65432, &unhex(&vector["wire"]), pieces);
            }
            let seen = by_port(&capture.read("vectors", &fields, options));
            for (port, vector) in (10_000..).zip(&chosen) {
                let name = format!("{} in {pieces} pieces", vector["name"]);
                // A vector without any bytes has no packet.
                let nothing = vec![Vec::new(); 4];
                let [lengths, contents, errors, keys] = &seen.get(&port).unwrap_or(&nothing)[..]
                else {
                    panic!("{name}")
                };
                let expected: Vec<_> =
                    vector["messages"].as_array().unwrap().iter().map(content).collect();
                let expected_lengths: Vec<_> =
                    expected.iter().map(|hex| (hex.len() / 2).to_string()).collect();
                assert_eq!(*lengths, expected_lengths, "{name}");
                let not_empty: Vec<_> =
                    expected.into_iter().filter(|hex| !hex.is_empty()).collect();
                assert_eq!(*contents, not_empty, "{name}");
                let text = |value: &Value| value.as_str().map(str::to_owned);
                let kinds: Vec<_> = text(&vector["error"]["kind"]).into_iter().collect();
                let about: Vec<_> = text(&vector["error"]["header"]).into_iter().collect();
                assert_eq!((errors, keys), (&kinds, &about), "{name}");
            }
        }
    }
}

/// The content of a message, as the vectors have it, in hexadecimal.
fn content(message: &Value) -> String {
    message["content"].as_str().unwrap().to_owned()
}

#[test]
fn are_padded_texts_and_their_replies_told_apart() {
    if !has_tshark() {
        return;
    }
    let all = vectors(include_str!("vectors/padded.json"));
    let fields =
        ["tcp.srcport", "myriapod_padded.text", "myriapod_padded.error", "myriapod_padded.reply"];
    let limited = ["-o", "myriapod_padded.max_content:1000"];
    for (has_limits, options) in [(false, &[][..]), (true, &limited[..])] {
        let chosen: Vec<_> =
            all.iter().filter(|one| one["limits"].is_object() == has_limits).collect();
        for pieces in if has_limits { &[1][..] } else { &[1, 3] }.iter().copied() {
            let mut capture = Capture::new();
            for (port, vector) in (10_000..).zip(&chosen) {
                capture.stream(port, 5050, &unhex(&vector["wire"]), pieces);
            }
            let seen = by_port(&capture.read("padded", &fields, options));
            for (port, vector) in (10_000..).zip(&chosen) {
                let name = format!("{} in {pieces} pieces", vector["name"]);
                let texts: Vec<_> = vector["texts"].as_array().unwrap().iter().collect();
                let texts: Vec<_> = texts
                    .into_iter()
                    .filter_map(Value::as_str)
                    .filter(|text| !text.is_empty())
                    .map(str::to_owned)
                    .collect();
                let kinds: Vec<_> =
                    vector["error"]["kind"].as_str().map(str::to_owned).into_iter().collect();
                assert_eq!(seen[&port], [texts, kinds, vec![]], "{name}");
            }
        }
    }
    let mut capture = Capture::new();
    capture.segment(10_000, 5050, &[&[b'1'][..], &[b' '; 63], b"a"].concat());
    capture.segment(5050, 10_000, b"Msg receivedMsg received");
    let seen = by_port(&capture.read("replies", &fields, &[]));
    assert_eq!(seen[&5050][2], ["Msg received", "Msg received"]);
}

/// One message, with a further header key.
fn message(value: &Value) -> Vec<u8> {
    let content = value.to_string();
    let header = format!(
        r#"{{"byteorder": "big", "content-type": "text/json", "content-encoding": "utf-8", "content-length": {}, "id": [1, "é"], "user": "Tom"}}"#,
        content.len()
    );
    let len = u16::try_from(header.len()).unwrap().to_be_bytes();
    [&len[..], header.as_bytes(), content.as_bytes()].concat()
}

#[test]
fn are_messages_seen_on_other_ports_and_in_one_segment() {
    if !has_tshark() {
        return;
    }
    let (one, two, three) = (json!({"n": 1}), json!({"n": 2}), json!({"n": 3}));
    let joined = [message(&one), message(&two), message(&three)].concat();
    let (whole, rest) = joined.split_at(message(&one).len() * 2 + 9);
    let mut capture = Capture::new();
    capture.segment(12_345, 54_321, whole);
    capture.segment(12_345, 54_321, rest);
    let fields = [
        "tcp.srcport",
        "myriapod.text",
        "myriapod.byteorder",
        "myriapod.extra.key",
        "myriapod.extra.value",
        "_ws.col.Info",
    ];
    let packets = capture.read("joined", &fields, &["-Y", "myriapod"]);
    assert_eq!(packets.len(), 2, "two messages in the first segment, one in the second");
    assert_eq!(packets[0][1], [one.to_string(), two.to_string()]);
    assert_eq!(packets[0][2], ["big", "big"]);
    assert_eq!(packets[0][3], ["id", "user", "id", "user"]);
    assert_eq!(packets[0][4], [r#"[1, "é"]"#, "Tom", r#"[1, "é"]"#, "Tom"]);
    assert_eq!(packets[1][1], [three.to_string()]);
    assert_eq!(packets[1][5], [three.to_string()]);
}

#[test]
fn is_what_follows_a_malformed_message_not_taken_for_messages() {
    if !has_tshark() {
        return;
    }
    let good = message(&json!({"n": 1}));
    let mut capture = Capture::new();
    capture.segment(10_000, 65432, &[&good[..], b"\0\x02[]", &good].concat());
    capture.segment(10_000, 65432, &good);
    // The other direction is a stream of its own.
    capture.segment(65432, 10_000, &good);
    let fields = ["tcp.srcport", "myriapod.text", "myriapod.error", "myriapod.undecoded"];
    let packets = capture.read("behind", &fields, &[]);
    let text = || vec![r#"{"n":1}"#.to_owned()];
    assert_eq!(packets[0][1..], [text(), vec!["HeaderNotObject".to_owned()], vec![]]);
    assert_eq!(packets[1][1..], [vec![], vec![], vec![hex(&good)]]);
    assert_eq!(packets[2][1..], [text(), vec![], vec![]]);
}

#[test]
fn is_live_traffic_of_our_own_server_shown() {
    if !has_tshark() {
        return;
    }
    let (sender, started) = std::sync::mpsc::channel();
    let serving = std::thread::spawn(move || {
        let mut server = Server::builder()
            .listen("127.0.0.1", 0)
            .answer(|message, reply| Ok(reply.json(&message.json()?)?))
            .unwrap();
        sender.send((server.addresses()[0].port().unwrap(), server.handle())).unwrap();
        server.run().unwrap();
    });
    let (port, handle) = started.recv().unwrap();

    let mut tshark = Command::new("tshark")
        .args(["-X", &format!("lua_script:{LUA}"), "-i", "lo", "-l", "-a", "duration:60"])
        .args(["-f", &format!("tcp port {port}"), "-Y", "myriapod.text"])
        .args(["-T", "fields", "-e", "tcp.dstport", "-e", "myriapod.text"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let out = BufReader::new(tshark.stdout.take().unwrap());
    let (sender, lines) = std::sync::mpsc::channel();
    let reading = std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });

    // Nothing says from when on it sees all, so we ask until it has shown something.
    let mut client = Client::connect("127.0.0.1", port).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut number = 0;
    let first = loop {
        number += 1;
        client.request_json(&json!({"n": number})).unwrap();
        match lines.recv_timeout(Duration::from_millis(100)) {
            Ok(line) => break Some(line),
            Err(_) if tshark.try_wait().unwrap().is_some() || Instant::now() > deadline => {
                break None;
            }
            Err(_) => {}
        }
    };
    if first.is_some() {
        let last = json!({"n": "the last"});
        client.request_json(&last).unwrap();
        let mut to = Vec::new();
        while to.len() < 2 {
            let line = lines.recv_timeout(Duration::from_secs(30)).unwrap();
            let (port, text) = line.split_once('\t').unwrap();
            if serde_json::from_str::<Value>(text).ok().as_ref() == Some(&last) {
                to.push(port.parse::<u16>().unwrap());
            }
        }
        // The request goes to the server's port, its echo to the client's.
        assert!(to[0] == port && to[1] != port, "{to:?}");
    } else {
        println!("SKIPPED: capturing on the loopback interface is not permitted here");
    }
    // It ends the program that captures for it, which a SIGKILL would not.
    let _ = kill(Pid::from_raw(tshark.id().try_into().unwrap()), Signal::SIGTERM);
    tshark.wait().unwrap();
    reading.join().unwrap();
    drop(client);
    handle.shutdown().unwrap();
    serving.join().unwrap();
}
