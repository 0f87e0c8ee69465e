//! What the limits do when they are reached.

use std::io::Write as _;

use crate::support::{Serving, binary, json, search};

#[test]
fn do_header_and_content_have_their_longest() {
    let serving = Serving::on_loopback(&["--max-header-len", "200", "--max-content-len", "100"]);
    for (request, kind) in [
        (vec![0, 201], "HeaderTooLong"),
        (json(&"x".repeat(101))[..150].to_vec(), "ContentTooLong"),
    ] {
        let mut client = serving.connect();
        let answer = client.ask(&request);
        assert_eq!(answer.header["error"], kind);
        client.expect_end();
    }
    assert_eq!(serving.connect().ask(&binary(&[0; 100])).content.len(), 37);
    let ended = serving.stop();
    assert_eq!((ended.count("fault_HeaderTooLong"), ended.count("fault_ContentTooLong")), (1, 1));
}

#[test]
fn does_a_peer_beyond_max_connections_wait() {
    let serving = Serving::on_loopback(&["--max-connections", "1", "--accept-batch", "1"]);
    let mut first = serving.connect();
    first.ask(&search("ring"));
    let mut second = serving.connect();
    second.send(&search("morpheus"));
    serving.wait_for("max_connections (1) reached");
    drop(first);
    assert_eq!(second.receive().result(), "Follow the white rabbit. 🐰");
}

#[test]
fn is_a_peer_beyond_its_addresss_share_refused() {
    let serving = Serving::on_loopback(&["--max-connections-per-address", "1"]);
    let mut first = serving.connect();
    first.ask(&search("ring"));
    serving.connect().expect_close();
    serving.wait_for("max_connections_per_address (1)");
    drop(first);
    assert_eq!(serving.stop().count("refused_by_address"), 1);
}

#[test]
fn is_a_slow_or_idle_peer_closed() {
    for (flag, sent, count) in [
        ("--idle-timeout", &b""[..], "closed_idle"),
        ("--header-timeout", &binary(b"abc")[..9], "closed_header_timeout"),
        ("--content-timeout", &binary(b"abc")[..], "closed_content_timeout"),
    ] {
        let sent = if flag == "--content-timeout" { &sent[..sent.len() - 1] } else { sent };
        let serving = Serving::on_loopback(&[flag, "30ms"]);
        let mut client = serving.connect();
        client.send(sent);
        client.expect_close();
        assert_eq!(serving.stop().count(count), 1, "{flag}");
    }
}

#[test]
fn is_a_peer_that_does_not_read_paused_and_then_closed() {
    let args = ["--service=echo", "--write-timeout=100ms", "--high-water=8KiB", "--low-water=4KiB"];
    let serving = Serving::on_loopback(&args);
    let mut client = serving.connect();
    let request = binary(&[0; 100_000]);
    // More than any socket buffers hold; the close ends it.
    while client.0.write_all(&request).is_ok() {}
    let ended = serving.stop();
    assert_eq!(ended.count("closed_write_timeout"), 1);
    assert!(ended.count("paused_reads") >= 1);
}

#[test]
fn do_all_buffers_together_have_a_limit() {
    let args = ["--max-header-len=200", "--max-content-len=50KiB", "--max-buffer-bytes=60KiB"];
    let serving = Serving::on_loopback(&args);
    let request = binary(&[7; 50 << 10]);
    let mut clients = [serving.connect(), serving.connect()];
    for client in &mut clients {
        // The reply to the first shows that the start of the second has arrived.
        client.send(&[&search("ring"), &request[..40 << 10]].concat());
        client.receive();
    }
    // The older of the two gives way, and is told so.
    let [first, second] = &mut clients;
    let told = first.receive();
    assert_eq!(told.header["error"], "BufferLimit");
    first.expect_close();
    second.send(&request[40 << 10..]);
    assert_eq!(
        second.receive().content,
        b"First 10 bytes of request: \x07\x07\x07\x07\x07\x07\x07\x07\x07\x07"
    );
    drop(clients);
    assert_eq!(serving.stop().count("closed_buffer_limit"), 1);
}

#[test]
fn does_lingering_end_by_time_or_by_bytes() {
    let serving = Serving::on_loopback(&["-v", "--one-shot", "--linger-timeout", "30ms"]);
    let mut client = serving.connect();
    client.ask(&search("ring"));
    serving.wait_for("closed: handler");

    let args = ["-v", "--one-shot", "--linger-timeout", "0", "--linger-bytes", "10"];
    let serving = Serving::on_loopback(&args);
    let mut client = serving.connect();
    client.ask(&search("ring"));
    client.expect_end();
    client.send(&[0; 11]);
    serving.wait_for("closed: handler");
}

#[test]
fn is_more_than_the_system_allows_lowered_and_told() {
    let serving = Serving::on_loopback(&["--backend", "select", "--max-connections", "5000"]);
    let line = serving.wait_for("lowered");
    assert!(line.starts_with("max_connections lowered from 5000 to "), "{line}");
}
