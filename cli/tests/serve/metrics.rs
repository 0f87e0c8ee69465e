//! Metrics: is what `--metrics` serves what Prometheus reads, and is it true?

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use myriapod::{CountKind, Stats};

use crate::support::{Serving, myriapod, search};

/// A server, and where its metrics are.
fn with_metrics(args: &[&str]) -> (Serving, String) {
    let serving = Serving::on_loopback(&[args, &["--metrics", "127.0.0.1:0"]].concat());
    let line = serving.wait_for("metrics at http://");
    let url = line.strip_prefix("metrics at http://").unwrap();
    let address = url.strip_suffix("/metrics").unwrap().to_owned();
    (serving, address)
}

/// Sends a request in these pieces, and returns the status line, the headers and the body.
fn http(address: &str, pieces: &[&str]) -> (String, BTreeMap<String, String>, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    for piece in pieces {
        stream.write_all(piece.as_bytes()).unwrap();
    }
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let (status, headers) = head.split_once("\r\n").unwrap();
    let headers = headers.split("\r\n").map(|line| line.split_once(": ").unwrap());
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    (status.to_owned(), headers, body.to_owned())
}

fn is_name(text: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    text.starts_with(first) && text.chars().all(|c| first(c) || c.is_ascii_digit())
}

/// Reads the text format by its rules; every sample by its name and labels.
fn parse(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with('\n'));
    let mut samples = BTreeMap::new();
    let (mut helped, mut family, mut families) = (String::new(), String::new(), Vec::new());
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(is_name(name) && !help.contains('\\'), "{line}");
            helped = name.to_owned();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(name, helped, "HELP stands before TYPE");
            assert!(!families.contains(&name.to_owned()), "{name} twice");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(kind == "counter" || kind == "gauge", "{line}");
            families.push(name.to_owned());
            family = name.to_owned();
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            assert_eq!(name, family, "samples stand below their TYPE");
            let labels = labels.strip_suffix('}').unwrap();
            for label in labels.split(',').filter(|label| !label.is_empty()) {
                let (name, value) = label.split_once('=').unwrap();
                let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap();
                assert!(is_name(name) && !value.contains(['"', '\\', '\n']), "{line}");
            }
            let value: f64 = value.parse().unwrap();
            assert!(samples.insert(series.to_owned(), value).is_none(), "{series} twice");
        }
    }
    samples
}

#[test]
fn do_metrics_say_what_has_happened() {
    let (serving, address) = with_metrics(&["--threads", "2"]);
    let mut clients: Vec<_> = (0..64).map(|_| serving.connect()).collect();
    for client in &mut clients {
        client.ask(&search("ring"));
        client.ask(&search("ring"));
    }
    let get = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    let (status, headers, body) = http(&address, &[get]);
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert_eq!(headers["content-length"], body.len().to_string());
    assert_eq!(headers["connection"], "close");
    assert_eq!(headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let samples = parse(&body);
    let sum = |name: &str| -> f64 {
        let loops = [0, 1].map(|nth| samples[&format!("{name}{{loop=\"{nth}\"}}")]);
        loops.iter().sum()
    };
    assert_eq!(sum("myriapod_messages_total"), 128.0);
    for count in Stats::COUNTS {
        let ending = if count.kind == CountKind::Counter { "_total" } else { "" };
        // Also what few servers count, such as handshakes.
        sum(&format!("myriapod_{}{ending}", count.metric));
    }
    assert_eq!(sum("myriapod_open_connections"), 64.0);
    assert!((1.0..=2.0).contains(&samples["myriapod_imbalance_ratio"]));
    assert_eq!(samples["myriapod_closed_total{loop=\"0\",cause=\"idle\"}"], 0.0);
    assert!(samples.contains_key("myriapod_faults_total{loop=\"1\",fault=\"HeaderTooLong\"}"));
    drop(clients);
    let ended = serving.stop();
    assert_eq!((ended.status, ended.count("accepted")), (Some(0), 64), "metrics are not counted");
}

#[test]
fn is_any_other_request_refused_as_http_has_it() {
    let (serving, address) = with_metrics(&[]);
    let status = |pieces: &[&str]| http(&address, pieces).0;
    assert_eq!(status(&["GET /met", "rics?x=1 HTTP/1.0\r", "\n\r", "\n"]), "HTTP/1.1 200 OK");
    assert_eq!(status(&["GET / HTTP/1.1\r\n\r\n"]), "HTTP/1.1 404 Not Found");
    assert_eq!(status(&["POST /metrics HTTP/1.1\r\n\r\n"]), "HTTP/1.1 405 Method Not Allowed");
    assert_eq!(status(&["nonsense\r\n\r\n"]), "HTTP/1.1 400 Bad Request");
    let long = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(9000));
    assert_eq!(status(&[&long]), "HTTP/1.1 431 Request Header Fields Too Large");
    let (status, headers, body) = http(&address, &["HEAD /metrics HTTP/1.1\r\n\r\n"]);
    assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.1 200 OK", ""));
    assert_ne!(headers["content-length"], "0");
    assert_eq!(serving.stop().status, Some(0));
}

#[test]
fn does_a_silent_peer_of_the_metrics_not_delay_a_stop() {
    let (serving, address) = with_metrics(&[]);
    let mut silent = TcpStream::connect(&address).unwrap();
    silent.write_all(b"GET /metrics").unwrap();
    // Accepted, since another that came later was.
    http(&address, &["GET / HTTP/1.1\r\n\r\n"]);
    assert_eq!(serving.stop().status, Some(0));
}

#[test]
fn are_metrics_there_while_peers_say_nothing() {
    let (serving, address) = with_metrics(&[]);
    // As many as there is room for, and more that wait; one of them has begun.
    let mut silent: Vec<_> = (0..40).map(|_| TcpStream::connect(&address).unwrap()).collect();
    silent[0].write_all(b"GET /metrics").unwrap();
    let (status, _, _) = http(&address, &["GET /metrics HTTP/1.1\r\n\r\n"]);
    assert_eq!(status, "HTTP/1.1 200 OK");
    // And nobody stays for long.
    for stream in &mut silent {
        stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
        assert!(matches!(stream.read(&mut [0; 64]), Ok(0) | Err(_)));
    }
    assert_eq!(serving.stop().status, Some(0));
}

#[test]
fn is_a_place_for_metrics_that_cannot_be_an_error() {
    for place in ["9100", "127.0.0.1", "127.0.0.1:99999"] {
        let output = myriapod().args(["serve", "127.0.0.1", "0", "--metrics", place]).output();
        assert_eq!(output.unwrap().status.code(), Some(2), "{place}");
    }
    let args = ["serve", "127.0.0.1", "0", "--metrics", "192.0.2.1:0"];
    let output = myriapod().args(args).output().unwrap();
    assert_eq!((output.status.code(), output.stdout), (Some(1), Vec::new()));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("myriapod: bind 192.0.2.1:0: EADDRNOTAVAIL"), "{text}");
}
