//! Is what was recorded sent again, each request on its own connection?

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc;
use std::thread;

use super::support::{Ran, TempFile, bench};

/// `bench --replay` of lines of JSON against a server that sends lines back; what that received, a
/// text for each connection.
fn replayed(recording: &str, args: &[&str]) -> (Ran, Vec<String>) {
    let file = TempFile::new("jsonl");
    std::fs::write(&file.0, recording).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, tell) = (stream.unwrap(), tell.clone());
            thread::spawn(move || {
                let (mut received, mut buffer) = (Vec::new(), [0; 1024]);
                while let Ok(len @ 1..) = stream.read(&mut buffer) {
                    received.extend_from_slice(&buffer[..len]);
                    let _ = stream.write_all(&buffer[..len]);
                }
                let _ = tell.send(String::from_utf8(received).unwrap());
            });
        }
    });
    let path = file.0.to_str().unwrap();
    let common = ["127.0.0.1", &port, "--framing", "lines", "--replay", path];
    let ran = bench(&[&common[..], args].concat());
    let connections = ran.json["connections"]["opened"].as_u64().unwrap();
    let mut received: Vec<String> = (0..connections).map(|_| told.recv().unwrap()).collect();
    received.sort();
    (ran, received)
}

/// Three connections that take turns, a hundredth of a second apart.
fn in_turn() -> String {
    (0..30_u32)
        .map(|nth| {
            let (at, connection) = (f64::from(nth) / 100.0, ["a", "b", "c"][nth as usize % 3]);
            let number = 17 + nth % 3;
            format!(
                "{{\"at\": {at}, \"connection\": {number}, \"text\": \"{connection}{nth}\\n\"}}\n"
            )
        })
        .collect()
}

#[test]
fn is_each_request_sent_on_its_own_connection_in_order() {
    let expected: Vec<String> = (0..3)
        .map(|first| {
            (0..10).map(|nth| format!("{}{}\n", ["a", "b", "c"][first], 3 * nth + first)).collect()
        })
        .collect();
    for args in [&["--speed", "4"][..], &["--threads", "2"], &["--processes", "3"]] {
        let (ran, received) = replayed(&in_turn(), args);
        assert_eq!((ran.fates(), ran.status), ([30, 0, 0, 0, 0], 0), "{args:?}: {ran:?}");
        assert_eq!(received, expected, "{args:?}: {ran:?}");
        assert_eq!(ran.json["settings"]["arrivals"], "recorded");
        assert_eq!(ran.json["settings"]["connections"], 3);
        assert!(ran.stdout.contains("30 requests of "), "{ran:?}");
    }
}

#[test]
fn is_a_request_of_a_lost_connection_counted_as_not_sent() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    // This server leaves two of three clients after their first request.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut buffer = [0; 1024];
                while let Ok(len @ 1..) = stream.read(&mut buffer) {
                    let _ = stream.write_all(&buffer[..len]);
                    if !buffer.starts_with(b"a") {
                        return;
                    }
                }
            });
        }
    });
    let file = TempFile::new("jsonl");
    std::fs::write(&file.0, in_turn()).unwrap();
    let path = file.0.to_str().unwrap();
    let ran = bench(&["127.0.0.1", &port, "--framing", "lines", "--replay", path]);
    assert_eq!(ran.status, 1, "{ran:?}");
    let of = |what: &str| ran.number(&format!("messages.{what}"));
    assert_eq!(of("sent") + of("unsent"), 30.0, "{ran:?}");
    assert!(of("ok") >= 12.0 && of("unsent") > 0.0, "{ran:?}");
    assert_eq!(of("sent"), of("ok") + of("lost"), "{ran:?}");
}

#[test]
fn is_what_cannot_be_replayed_refused_before_the_load() {
    let file = TempFile::new("jsonl");
    let path = file.0.to_str().unwrap();
    for (recording, args, said) in [
        ("", &[][..], "has no request in the framing json-header"),
        ("{\"at\": 1}\n", &[], "line 1: a line has either text or hex"),
        ("", &["--speed", "0"], "--speed must be above 0"),
        ("", &["--service", "echo"], "a replay is checked as service any"),
        ("", &["--rate", "5"], "cannot be used with"),
        ("\u{a}\u{d}\u{d}\u{a}", &[], "is a damaged capture"),
    ] {
        std::fs::write(&file.0, recording).unwrap();
        let ran = bench(&[&["--replay", path], args].concat());
        assert_eq!(ran.status, 2, "{said}: {ran:?}");
        assert!(ran.stderr.contains(said), "{said}: {ran:?}");
    }
    std::fs::remove_file(&file.0).unwrap();
    let ran = bench(&["--replay", path]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.stderr.contains("ENOENT") && ran.stderr.contains(path), "{ran:?}");
}
