//! Does the proxy pass on bytes, ends, pressure and failures, as if there were none in between?

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use crate::programs::{Running, example, patiently};

const PATIENCE: Option<Duration> = Some(Duration::from_secs(60));

/// A proxy before this port.
fn proxy(port: u16) -> (Running, u16) {
    let mut command = example("tcp_proxy");
    command.args(["127.0.0.1", "0", "127.0.0.1", &port.to_string()]);
    let mut proxy = Running::start(command);
    let line = proxy.line();
    let rest = line.strip_prefix("listening on 127.0.0.1:").unwrap();
    let (own, to) = rest.split_once(" for ").unwrap();
    assert_eq!(to, format!("127.0.0.1:{port}"));
    let own = own.parse().unwrap();
    (proxy, own)
}

fn connect(port: u16) -> TcpStream {
    patient(TcpStream::connect(("127.0.0.1", port)).unwrap())
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(PATIENCE).unwrap();
    stream.set_write_timeout(PATIENCE).unwrap();
    stream
}

/// A proxy, and both ends of a connection through it.
fn pair() -> (Running, TcpStream, TcpStream) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let (proxy, port) = proxy(server.local_addr().unwrap().port());
    let client = connect(port);
    (proxy, client, patient(server.accept().unwrap().0))
}

/// Bytes in which none can be lost or change places unnoticed.
fn pattern(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|at| (at % 251 + (at >> 16)).to_le_bytes()[0]).collect()
}

fn to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn do_bytes_go_through_a_proxy_both_ways_at_once() {
    const LEN: usize = 8 << 20;
    let (proxy, client, server) = pair();
    let senders = [(&client, 0), (&server, 77)];
    std::thread::scope(|scope| {
        for (mut stream, from) in senders {
            scope.spawn(move || {
                stream.write_all(&pattern(from, LEN)).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
            });
        }
        for (stream, from) in [(&server, 0), (&client, 77)] {
            let mut stream = stream.try_clone().unwrap();
            scope.spawn(move || assert!(to_end(&mut stream) == pattern(from, LEN)));
        }
    });
    assert_eq!(proxy.end(), "");
}

#[test]
fn does_a_half_close_leave_the_other_direction_open() {
    let (proxy, mut client, mut server) = pair();
    client.write_all(b"request").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(to_end(&mut server), b"request");
    for part in [&b"re"[..], b"ply"] {
        server.write_all(part).unwrap();
        let mut got = vec![0; part.len()];
        client.read_exact(&mut got).unwrap();
        assert_eq!(got, part);
    }
    drop(server);
    assert_eq!(to_end(&mut client), b"");
    assert_eq!(proxy.end(), "");
}

#[test]
fn does_a_reader_that_stops_reading_stop_the_sender() {
    const PIECE: usize = 64 << 10;
    // Far more than four sockets hold.
    const ENOUGH: usize = 1 << 30;
    let (proxy, mut client, mut server) = pair();
    client.set_nonblocking(true).unwrap();
    let (mut sent, mut refused) = (0, 0);
    let piece = pattern(0, PIECE + 1);
    patiently("the sender to stand still", || {
        match client.write(&piece[..PIECE]) {
            Ok(count) => {
                (sent, refused) = (sent + count, 0);
                assert!(sent < ENOUGH, "nothing stops it");
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                refused += 1;
            }
        }
        (refused == 2_000).then_some(())
    });
    #[cfg(target_os = "linux")]
    {
        // proc_pid_status(5)
        let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
        let held = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let held: u64 = held.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(held < 32 << 10, "the proxy holds {held} KiB, {sent} bytes were sent");
    }
    // All of it arrives when it is read at last.
    client.shutdown(Shutdown::Write).unwrap();
    let mut received = 0;
    let mut buffer = vec![0; PIECE];
    loop {
        match server.read(&mut buffer).unwrap() {
            0 => break,
            count => received += count,
        }
    }
    assert_eq!(received, sent);
    assert_eq!(proxy.end(), "");
}

#[test]
fn is_a_reset_passed_on_as_a_reset() {
    let (proxy, mut client, mut server) = pair();
    // What has come through shows that it is connected.
    client.write_all(b"x").unwrap();
    server.read_exact(&mut [0]).unwrap();
    myriapod::sys::set_linger(&server, Some(Duration::ZERO)).unwrap();
    let gone = server.local_addr().unwrap();
    drop(server);
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(proxy.end(), format!("recv {gone}: ECONNRESET (Connection reset by peer)\n"));
}

#[test]
fn is_a_failed_connect_one_line_and_a_reset() {
    // The port of a client refuses others.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let held = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let refusing = held.local_addr().unwrap();
    let (proxy, port) = proxy(refusing.port());
    for _ in 0..2 {
        let error = connect(port).read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    let line = format!("connect {refusing}: ECONNREFUSED (Connection refused)\n");
    assert_eq!(proxy.end(), line.repeat(2));
}

#[test]
fn is_every_address_of_a_name_tried() {
    // On most systems localhost is ::1 first, where nobody listens.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = example("tcp_proxy");
    command.args(["127.0.0.1", "0", "localhost", &server.local_addr().unwrap().port().to_string()]);
    let mut proxy = Running::start(command);
    let line = proxy.line();
    let (own, _) = line.strip_prefix("listening on 127.0.0.1:").unwrap().split_once(' ').unwrap();
    let mut client = connect(own.parse().unwrap());
    client.write_all(b"x").unwrap();
    let mut server = patient(server.accept().unwrap().0);
    server.read_exact(&mut [0]).unwrap();
}
