//! Connecting, receiving, sending, shutting down: over real sockets of every family.

mod support;

use std::io::IoSlice;
use std::time::Duration;

use myriapod_sys::{
    Connecting, Descriptor, Errno, ListenOptions, Listener, Shutdown, Socket, SocketAddr,
    SystemError, UnixAddr, accept, read_at, recv, recv_append, send, send_file, send_vectored,
    set_linger, shutdown, take_error,
};
use support::{
    TempDir, accept_one, assert_prepared, connect, families, listen, own_loopback, silent_port,
    tcp_pair, v4, v6, wait_readable, wait_writable,
};

#[test]
fn does_a_message_go_through_and_back_in_every_family() {
    let dir = TempDir::new();
    for address in families(&dir) {
        let listener = listen(&address);
        let client = connect(&listener.local_address().unwrap()).unwrap();
        let (server, _) = accept_one(&listener);

        assert_eq!(client.send(b"ping"), Ok(4), "{address}");
        wait_readable(&server);
        let mut buffer = [0; 64];
        assert_eq!(server.recv(&mut buffer), Ok(4));
        assert_eq!(&buffer[..4], b"ping");
        assert_eq!(server.recv(&mut buffer), Err(Errno::EAGAIN));

        assert_eq!(server.send_vectored(&[IoSlice::new(b"po"), IoSlice::new(b"ng")]), Ok(4));
        wait_readable(&client);
        assert_eq!(recv(&client, &mut buffer), Ok(4));
        assert_eq!(&buffer[..4], b"pong");

        client.shutdown(Shutdown::Write).unwrap();
        wait_readable(&server);
        assert_eq!(server.recv(&mut buffer), Ok(0), "the end");
        assert_eq!(send(&server, b"still"), Ok(5), "the other direction stays open");
    }
}

#[test]
fn is_every_socket_non_blocking_and_close_on_exec() {
    let dir = TempDir::new();
    for address in families(&dir) {
        let listener = listen(&address);
        let client = connect(&listener.local_address().unwrap()).unwrap();
        let (server, _) = accept_one(&listener);
        assert_prepared(&listener);
        assert_prepared(&client);
        assert_prepared(&server);
    }
    let (one, other) = Socket::pair().unwrap();
    assert_prepared(&one);
    assert_prepared(&other);
}

#[test]
fn is_the_accepted_address_the_clients_own() {
    let dir = TempDir::new();
    for address in families(&dir) {
        let listener = listen(&address);
        let bound = listener.local_address().unwrap();
        let client = connect(&bound).unwrap();
        let (server, peer) = accept_one(&listener);
        assert_eq!(peer, client.local_address().unwrap());
        assert_eq!(peer, server.peer_address().unwrap());
        assert_eq!(bound, client.peer_address().unwrap());
        assert_eq!(bound, server.local_address().unwrap());
        if address.is_unix() {
            assert_eq!(bound, address);
            assert_eq!(peer, SocketAddr::Unix(UnixAddr::Unnamed));
        } else {
            assert_ne!(bound.port(), Some(0));
            assert_eq!(bound.ip(), address.ip());
        }
    }
}

#[test]
fn is_a_unix_peer_with_a_name_told_by_it() {
    let dir = TempDir::new();
    let listener = listen(&dir.unix("listener"));
    let source = dir.unix("client");
    let connecting =
        Socket::connect_start(&listener.local_address().unwrap(), Some(&source)).unwrap();
    assert!(connecting.is_done());
    let (_server, peer) = accept_one(&listener);
    assert_eq!(peer, source);
}

#[test]
fn does_a_refused_connect_say_so_through_take_error() {
    let (_holder, address) = silent_port();
    match Socket::connect_start(&address, None) {
        Ok(connecting) => {
            let socket = connecting.into_socket();
            wait_writable(&socket);
            assert_eq!(take_error(&socket), Err(Errno::ECONNREFUSED));
            assert_eq!(socket.take_error(), Ok(()), "taking it clears it");
        }
        // Some systems know at once.
        Err(error) => assert_eq!(error.errno(), Some(Errno::ECONNREFUSED)),
    }
}

#[test]
fn does_a_refused_unix_connect_name_the_path() {
    let dir = TempDir::new();
    let address = dir.unix("nobody");
    let error = Socket::connect_start(&address, None).unwrap_err();
    assert_eq!(error.to_string(), format!("connect {address}: ENOENT (No such file or directory)"));
    drop(listen(&address));
    let error = Socket::connect_start(&address, None).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ECONNREFUSED));
}

#[cfg(target_os = "linux")]
#[test]
fn is_a_full_unix_backlog_an_error_rather_than_in_progress() {
    let dir = TempDir::new();
    let address = dir.unix("full");
    let options = ListenOptions { backlog: 0, ..ListenOptions::default() };
    let _listener = Listener::bind(&address, &options).unwrap();
    let mut waiting = Vec::new();
    let error = loop {
        match Socket::connect_start(&address, None) {
            Ok(Connecting::Done(socket)) => waiting.push(socket),
            Ok(Connecting::InProgress(_)) => panic!("a Unix socket is never in progress"),
            Err(error) => break error,
        }
        assert!(waiting.len() < 10, "a backlog of 0 takes one");
    };
    assert_eq!(error.errno(), Some(Errno::EAGAIN));
    assert!(error.to_string().starts_with(&format!("connect {address}: EAGAIN")), "{error}");
}

#[test]
fn does_a_connection_leave_from_the_source_that_was_asked_for() {
    let listener = listen(&v4());
    let bound = listener.local_address().unwrap();
    // Without a port: the kernel chooses one while it connects.
    let any = SocketAddr::from(([127, 0, 0, 2], 0));
    if cfg!(target_os = "linux") {
        let socket = Socket::connect_start(&bound, Some(&any)).unwrap().into_socket();
        let (_, peer) = accept_one(&listener);
        assert_eq!(peer.ip(), any.ip());
        assert_ne!(peer.port(), Some(0));
        assert_eq!(peer, socket.local_address().unwrap());
    }
    // With a port, which a listener that is gone has shown to be free.
    let fixed = listen(&own_loopback(3)).local_address().unwrap();
    let _socket = Socket::connect_start(&bound, Some(&fixed)).unwrap();
    assert_eq!(accept_one(&listener).1, fixed);
}

#[cfg(target_os = "linux")]
#[test]
fn is_the_choice_of_a_source_port_left_to_connect() {
    use nix::sys::socket::{getsockopt, sockopt};

    for address in [Some(v4()), v6()].into_iter().flatten() {
        let listener = listen(&address);
        let bound = listener.local_address().unwrap();
        let socket = Socket::connect_start(&bound, Some(&address)).unwrap().into_socket();
        assert!(getsockopt(&socket, sockopt::IpBindAddressNoPort).unwrap(), "{address}");
    }
}

#[test]
fn is_a_source_that_is_not_ours_named_in_the_error() {
    let listener = listen(&v4());
    // 192.0.2.0/24 is nobody's, RFC 5737.
    let source = SocketAddr::from(([192, 0, 2, 1], 0));
    let error =
        Socket::connect_start(&listener.local_address().unwrap(), Some(&source)).unwrap_err();
    assert_eq!(error, SystemError::call("bind", Errno::EADDRNOTAVAIL, "192.0.2.1:0"),);
}

#[test]
fn does_recv_append_fill_the_spare_capacity_and_no_more() {
    let (ours, theirs) = Socket::pair().unwrap();
    ours.send(&[b'x'; 100]).unwrap();
    // A view of ten bytes in a larger allocation, so that writing too far would show.
    let mut buffer = Vec::with_capacity(10);
    buffer.extend_from_slice(b"abc");
    let capacity = buffer.capacity();
    let place = buffer.as_ptr();
    assert_eq!(theirs.recv_append(&mut buffer), Ok(capacity - 3));
    assert_eq!(buffer.len(), capacity);
    assert_eq!((buffer.capacity(), buffer.as_ptr()), (capacity, place), "it never grows");
    assert_eq!(&buffer[..3], b"abc");
    assert!(buffer[3..].iter().all(|&byte| byte == b'x'));
    // Full: refused, and nothing is lost.
    assert_eq!(theirs.recv_append(&mut buffer), Err(Errno::EINVAL));
    let mut rest = Vec::with_capacity(1000);
    assert_eq!(recv_append(&theirs, &mut rest), Ok(100 - (capacity - 3)));
}

#[test]
fn does_recv_append_count_only_what_was_received() {
    let (ours, theirs) = Socket::pair().unwrap();
    let mut buffer = Vec::with_capacity(4096);
    assert_eq!(theirs.recv_append(&mut buffer), Err(Errno::EAGAIN));
    assert!(buffer.is_empty());
    ours.send(b"one").unwrap();
    assert_eq!(theirs.recv_append(&mut buffer), Ok(3));
    ours.send(b"two").unwrap();
    assert_eq!(theirs.recv_append(&mut buffer), Ok(3));
    assert_eq!(buffer, b"onetwo");
    drop(ours);
    assert_eq!(theirs.recv_append(&mut buffer), Ok(0));
    assert_eq!(buffer, b"onetwo");
}

#[test]
fn is_an_empty_buffer_told_from_the_end() {
    let (ours, theirs) = Socket::pair().unwrap();
    assert_eq!(recv(&theirs, &mut []), Err(Errno::EINVAL));
    drop(ours);
    assert_eq!(recv(&theirs, &mut []), Err(Errno::EINVAL));
    assert_eq!(recv(&theirs, &mut [0]), Ok(0));
}

#[test]
fn does_a_full_socket_say_eagain_and_lose_nothing() {
    let (ours, theirs) = tcp_pair();
    let chunk = vec![7_u8; 64 * 1024];
    let mut sent = 0;
    let errno = loop {
        match send(&ours, &chunk) {
            Ok(n) => sent += n,
            Err(errno) => break errno,
        }
        assert!(sent < 1 << 30, "a socket that nobody reads takes a gigabyte");
    };
    assert!(errno.would_block());
    assert!(send_vectored(&ours, &[IoSlice::new(&chunk)]).unwrap_err().would_block());
    shutdown(&ours, Shutdown::Write).unwrap();
    let mut received = 0;
    let mut buffer = Vec::with_capacity(1 << 16);
    loop {
        buffer.clear();
        wait_readable(&theirs);
        match recv_append(&theirs, &mut buffer).unwrap() {
            0 => break,
            n => received += n,
        }
    }
    assert_eq!(received, sent);
}

#[test]
fn are_more_slices_than_the_system_takes_sent_in_part() {
    let (ours, theirs) = Socket::pair().unwrap();
    let slices: Vec<_> = (0..5000).map(|_| IoSlice::new(b"x")).collect();
    let sent = send_vectored(&ours, &slices).unwrap();
    assert!((1..5000).contains(&sent), "{sent}");
    assert_eq!(recv(&theirs, &mut [0; 8192]), Ok(sent));
    assert_eq!(send_vectored(&ours, &[]), Ok(0));
}

#[test]
fn is_a_reset_reported_by_recv_and_send() {
    let (ours, theirs) = tcp_pair();
    // Linger of zero: closing resets.
    set_linger(&theirs, Some(Duration::ZERO)).unwrap();
    drop(theirs);
    wait_readable(&ours);
    assert_eq!(recv(&ours, &mut [0; 8]), Err(Errno::ECONNRESET));
    assert_eq!(send(&ours, b"x"), Err(Errno::EPIPE));
    assert_eq!(shutdown(&ours, Shutdown::Both), Err(Errno::ENOTCONN));
    assert_eq!(
        ours.peer_address().unwrap_err().to_string(),
        "getpeername: ENOTCONN (Transport endpoint is not connected)"
            .replace("Transport endpoint is not connected", Errno::ENOTCONN.description())
    );
}

#[test]
fn do_calls_on_what_is_no_socket_say_enotsock() {
    let file: Descriptor = std::fs::File::open("/dev/null").unwrap().into();
    assert_eq!(recv(&file, &mut [0]), Err(Errno::ENOTSOCK));
    assert_eq!(send(&file, b"x"), Err(Errno::ENOTSOCK));
    assert_eq!(accept(&file).unwrap_err(), Errno::ENOTSOCK);
    assert_eq!(take_error(&file), Err(Errno::ENOTSOCK));
    let error = myriapod_sys::local_address(&file).unwrap_err();
    assert_eq!(error, SystemError::call("getsockname", Errno::ENOTSOCK, ""));
}

#[test]
fn does_set_nonblocking_switch_one_flag() {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};

    let (ours, _theirs) = Socket::pair().unwrap();
    let flags = || OFlag::from_bits_retain(fcntl(&ours, FcntlArg::F_GETFL).unwrap());
    let before = flags();
    ours.set_nonblocking(false).unwrap();
    assert_eq!(flags(), before - OFlag::O_NONBLOCK);
    ours.set_nonblocking(true).unwrap();
    assert_eq!(flags(), before);
}

#[test]
fn does_a_blocking_pair_wait_for_each_other() {
    let listener = listen(&v4());
    listener.set_nonblocking(false).unwrap();
    let address = listener.local_address().unwrap();
    let client = std::thread::spawn(move || {
        let client = Socket::connect(&address).unwrap();
        let mut buffer = [0; 16];
        // Nothing is there yet, so it waits.
        let count = client.recv(&mut buffer).unwrap();
        buffer[..count].to_vec()
    });
    // Nobody may be there yet, so it waits.
    let (descriptor, _) = listener.accept().unwrap();
    let server = Socket::from(descriptor);
    assert_prepared(&server);
    server.set_nonblocking(false).unwrap();
    assert_eq!(server.send(b"hello"), Ok(5));
    assert_eq!(client.join().unwrap(), b"hello");
    assert_eq!(server.recv(&mut [0; 16]), Ok(0), "the end, waited for");
}

#[test]
fn does_a_blocking_connect_name_who_refused() {
    let (_holder, address) = silent_port();
    assert_eq!(
        Socket::connect(&address).unwrap_err().to_string(),
        format!("connect {address}: ECONNREFUSED (Connection refused)"),
    );
}

#[test]
fn is_a_piece_of_a_file_sent_and_read_from_its_place() {
    let dir = TempDir::new();
    let path = dir.path().join("file");
    std::fs::write(&path, b"0123456789").unwrap();
    let file = std::fs::File::open(&path).unwrap();
    let (ours, theirs) = tcp_pair();
    assert_eq!(send_file(&ours, &file, 3, 4), Ok(4));
    wait_readable(&theirs);
    let mut buffer = [0; 64];
    assert_eq!(theirs.recv(&mut buffer), Ok(4));
    assert_eq!(&buffer[..4], b"3456");
    assert_eq!(send_file(&ours, &file, 8, 100), Ok(2), "as much as there is");
    assert_eq!(send_file(&ours, &file, 10, 1), Ok(0), "the end");

    let mut bytes = Vec::with_capacity(64);
    bytes.push(b'>');
    assert_eq!(read_at(&file, 4, 3, &mut bytes), Ok(3));
    assert_eq!(bytes, b">456");
    assert_eq!(read_at(&file, 10, 1, &mut bytes), Ok(0));
    assert_eq!(read_at(&file, 0, 0, &mut bytes), Err(Errno::EINVAL));
    assert_eq!(read_at(&file, u64::MAX, 1, &mut bytes), Err(Errno::EINVAL));
    assert_eq!(read_at(&file, 0, 9, &mut Vec::new()), Err(Errno::EINVAL));
}
