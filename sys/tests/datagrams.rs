//! Datagram sockets: what arrives, what does not, and what anybody is told of it.

#![allow(clippy::unwrap_used, reason = "tests fail by it")]

mod support;

use myriapod_sys::{
    Datagram, DatagramSocket, Descriptor, Errno, SocketAddr, SystemError, UnixAddr, recv_from,
    send_to, set_recv_buffer_size,
};
use support::{TempDir, assert_prepared, is_readable, v4, v6, wait_readable};

fn bound(address: &SocketAddr) -> (DatagramSocket, SocketAddr) {
    let socket = DatagramSocket::bind(address).unwrap();
    let address = socket.local_address().unwrap();
    (socket, address)
}

/// One address for each end, in every family that this machine has.
fn pairs(dir: &TempDir) -> Vec<(SocketAddr, SocketAddr)> {
    let mut all = vec![(v4(), v4()), (dir.unix("one"), dir.unix("other"))];
    all.extend(v6().map(|v6| (v6.clone(), v6)));
    all
}

#[test]
fn does_each_datagram_arrive_by_itself_with_its_senders_address() {
    let dir = TempDir::new();
    for (one, other) in pairs(&dir) {
        let ((one, from), (other, to)) = (bound(&one), bound(&other));
        assert_prepared(&one);
        let mut buffer = [0; 64];
        assert_eq!(other.recv_from(&mut buffer), Err(Errno::EAGAIN), "nothing is there");
        for text in ["first", "", "the third"] {
            assert_eq!(one.send_to(text.as_bytes(), &to), Ok(text.len()), "{to}");
        }
        for text in ["first", "", "the third"] {
            wait_readable(&other);
            let datagram = other.recv_from(&mut buffer).unwrap();
            let whole = Datagram { len: text.len(), is_truncated: false, from: from.clone() };
            assert_eq!(datagram, whole, "{to}");
            assert_eq!(&buffer[..datagram.len], text.as_bytes());
        }
        // And back, by descriptors as a selector has them.
        let (one, other) = (Descriptor::from(one), Descriptor::from(other));
        assert_eq!(send_to(&other, b"back", &from), Ok(4));
        wait_readable(&one);
        assert_eq!(recv_from(&one, &mut buffer).unwrap().from, to);
    }
}

#[test]
fn is_the_rest_of_a_longer_datagram_dropped_and_told() {
    let dir = TempDir::new();
    for (one, other) in pairs(&dir) {
        let ((one, _), (other, to)) = (bound(&one), bound(&other));
        for text in [&b"Hello, world"[..], b"exact", b"next"] {
            one.send_to(text, &to).unwrap();
        }
        let mut buffer = [0; 5];
        for (text, is_truncated) in [(&b"Hello"[..], true), (b"exact", false), (b"next", false)] {
            wait_readable(&other);
            let datagram = other.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..datagram.len], datagram.is_truncated), (text, is_truncated));
        }
        // A buffer without room drops the datagram.
        one.send_to(b"unwanted", &to).unwrap();
        wait_readable(&other);
        let datagram = other.recv_from(&mut []).unwrap();
        assert_eq!((datagram.len, datagram.is_truncated), (0, true));
        assert_eq!(other.recv_from(&mut buffer), Err(Errno::EAGAIN));
    }
}

#[test]
fn is_nobody_told_of_a_datagram_that_a_full_receiver_drops() {
    let ((one, _), (other, to)) = (bound(&v4()), bound(&v4()));
    set_recv_buffer_size(&other, 4096).unwrap();
    let sent = 1000_u32;
    for number in 0..sent {
        assert_eq!(one.send_to(&number.to_be_bytes().repeat(16), &to), Ok(64));
    }
    let (mut received, mut buffer) = (0, [0; 64]);
    while is_readable(&other) {
        other.recv_from(&mut buffer).unwrap();
        // The first ones are there, in order, and it is the last ones that are lost.
        assert_eq!(buffer[..4], u32::to_be_bytes(received));
        received += 1;
    }
    assert!(received > 0 && received < sent, "{received} of {sent}");
}

#[test]
fn is_a_datagram_sent_whole_or_not_at_all() {
    let ((one, _), (other, to)) = (bound(&v4()), bound(&v4()));
    assert_eq!(one.send_to(&[7; 65_508], &to), Err(Errno::EMSGSIZE));
    if cfg!(target_os = "linux") {
        let mut buffer = vec![0; 65_507];
        assert_eq!(one.send_to(&[7; 65_507], &to), Ok(65_507));
        wait_readable(&other);
        let datagram = other.recv_from(&mut buffer).unwrap();
        assert_eq!((datagram.len, datagram.is_truncated), (65_507, false));
    }
}

#[test]
fn does_only_a_connected_socket_hear_that_nobody_is_there() {
    let (gone, nobody) = bound(&v4());
    drop(gone);
    let (socket, _) = bound(&v4());
    let mut buffer = [0; 64];
    assert_eq!(socket.send_to(b"lost", &nobody), Ok(4));
    assert_eq!(socket.send_to(b"lost too", &nobody), Ok(8));
    assert_eq!(socket.recv_from(&mut buffer), Err(Errno::EAGAIN));

    socket.connect(&nobody).unwrap();
    assert_eq!(socket.send(b"lost"), Ok(4));
    wait_readable(&socket);
    assert_eq!(socket.recv_from(&mut buffer), Err(Errno::ECONNREFUSED));
    assert_eq!(socket.recv_from(&mut buffer), Err(Errno::EAGAIN), "told once");
}

#[test]
fn does_a_connected_socket_hear_its_peer_alone() {
    let ((socket, ours), (peer, theirs), (stranger, _)) =
        (bound(&v4()), bound(&v4()), bound(&v4()));
    socket.connect(&theirs).unwrap();
    stranger.send_to(b"unasked", &ours).unwrap();
    assert_eq!(socket.send(b"ping"), Ok(4));
    wait_readable(&peer);
    let mut buffer = [0; 64];
    let asked = peer.recv_from(&mut buffer).unwrap();
    assert_eq!(peer.send_to(b"pong", &asked.from), Ok(4));
    wait_readable(&socket);
    assert_eq!(socket.recv_from(&mut buffer).map(|pong| pong.from), Ok(theirs));
    assert_eq!(socket.recv(&mut buffer), Err(Errno::EAGAIN));
}

#[test]
fn has_a_unix_sender_without_a_name_none() {
    use std::os::unix::net::UnixDatagram;

    let dir = TempDir::new();
    let (socket, address) = bound(&dir.unix("named"));
    let SocketAddr::Unix(UnixAddr::Path(path)) = address else { panic!("{address}") };
    UnixDatagram::unbound().unwrap().send_to(b"hello", path).unwrap();
    wait_readable(&socket);
    let datagram = socket.recv_from(&mut [0; 64]).unwrap();
    assert_eq!(datagram.from, UnixAddr::Unnamed.into());
}

#[test]
fn does_every_error_name_its_call_and_its_address() {
    let dir = TempDir::new();
    let (socket, taken) = bound(&v4());
    let error = DatagramSocket::bind(&taken).unwrap_err();
    assert_eq!(error.to_string(), format!("bind {taken}: EADDRINUSE (Address already in use)"));
    let error = socket.connect(&dir.unix("nobody")).unwrap_err();
    assert!(error.to_string().starts_with("connect unix:"), "{error}");
    let too_long = SocketAddr::Unix(UnixAddr::Path("/".repeat(200).into()));
    assert!(matches!(DatagramSocket::bind(&too_long), Err(SystemError::InvalidAddress { .. })));
    assert_eq!(socket.send_to(b"", &too_long), Err(Errno::EINVAL));
}
