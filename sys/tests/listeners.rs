//! Binding, listening and taking listeners over.

#![expect(clippy::panic, reason = "tests fail by it")]

mod support;

use std::os::unix::fs::{FileTypeExt, PermissionsExt};

use myriapod_sys::{
    Descriptor, Errno, ListenOptions, Listener, Socket, SocketAddr, SocketFile, SystemError,
    UnixAddr, accept, nodelay, reuse_address, reuse_port, set_nodelay, v6_only,
};
use support::{TempDir, accept_one, assert_prepared, connect, listen, own_loopback, v4, v6};

fn path_of(address: &SocketAddr) -> &std::path::Path {
    match address {
        SocketAddr::Unix(UnixAddr::Path(path)) => path,
        other => panic!("{other} is no path"),
    }
}

#[test]
fn does_an_address_in_use_name_the_call_and_the_address() {
    let listener = listen(&v4());
    let taken = listener.local_address().unwrap();
    let error = Listener::bind(&taken, &ListenOptions::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("bind 127.0.0.1:{}: EADDRINUSE (Address already in use)", taken.port().unwrap())
    );
    assert_eq!(error.errno(), Some(Errno::EADDRINUSE));
}

#[test]
fn can_a_port_be_bound_anew_while_its_connections_linger() {
    let listener = listen(&own_loopback(4));
    let address = listener.local_address().unwrap();
    let client = connect(&address).unwrap();
    let (server, _) = accept_one(&listener);
    // The side that closes first is left in TIME-WAIT: the server's side.
    drop(server);
    drop(listener);
    support::wait_readable(&client);
    assert_eq!(client.recv(&mut [0]), Ok(0));
    drop(client);
    let strict = ListenOptions { reuse_address: false, ..ListenOptions::default() };
    let error = Listener::bind(&address, &strict).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EADDRINUSE), "without SO_REUSEADDR it cannot");
    listen(&address);
}

#[test]
fn is_each_listen_option_read_back_as_it_was_set() {
    let listener = listen(&v4());
    assert!(reuse_address(&listener).unwrap());
    assert!(!reuse_port(&listener).unwrap());
    assert!(nodelay(&listener).unwrap());

    let options = ListenOptions {
        reuse_address: false,
        reuse_port: true,
        nodelay: false,
        ..ListenOptions::default()
    };
    let listener = Listener::bind(&v4(), &options).unwrap();
    assert!(!reuse_address(&listener).unwrap());
    assert!(reuse_port(&listener).unwrap());
    assert!(!nodelay(&listener).unwrap());
    // And two may share the port.
    let twin = Listener::bind(&listener.local_address().unwrap(), &options).unwrap();
    assert_eq!(twin.local_address(), listener.local_address());
}

#[test]
fn does_an_ipv6_listener_take_or_leave_ipv4_as_asked() {
    if v6().is_none() {
        return;
    }
    let any = myriapod_sys::resolve("::", 0).unwrap().remove(0);
    for only in [true, false] {
        let options = ListenOptions { v6_only: Some(only), ..ListenOptions::default() };
        let listener = Listener::bind(&any, &options).unwrap();
        assert_eq!(v6_only(&listener), Ok(only));
        let port = listener.local_address().unwrap().port().unwrap();
        let connected = connect(&SocketAddr::from(([127, 0, 0, 1], port)));
        if only {
            assert_eq!(connected.unwrap_err(), Errno::ECONNREFUSED);
        } else {
            connected.unwrap();
            let (_, peer) = accept_one(&listener);
            assert!(peer.to_string().starts_with("[::ffff:127.0.0.1]:"), "{peer}");
            assert!(peer.is_loopback());
        }
    }
}

#[test]
fn do_accepted_sockets_inherit_nodelay() {
    let (_listener, server) = {
        let listener = listen(&v4());
        let _client = connect(&listener.local_address().unwrap()).unwrap();
        let (server, _) = accept_one(&listener);
        (listener, server)
    };
    if cfg!(target_os = "linux") {
        assert!(nodelay(&server).unwrap());
    }
    set_nodelay(&server, false).unwrap();
    assert!(!nodelay(&server).unwrap());
}

#[test]
fn does_accept_say_eagain_where_nobody_waits() {
    let listener = listen(&v4());
    assert_eq!(listener.accept().unwrap_err(), Errno::EAGAIN);
}

#[test]
fn does_the_default_backlog_hold_what_the_system_allows() {
    // Only connections beyond the backlog of 4 would show; a hundred wait without one accept.
    let listener = listen(&v4());
    let address = listener.local_address().unwrap();
    let clients: Vec<_> = (0..100).map(|_| connect(&address).unwrap()).collect();
    for _ in &clients {
        accept_one(&listener);
    }
}

#[test]
fn is_a_stale_unix_socket_replaced() {
    let dir = TempDir::new();
    let address = dir.unix("stale");
    drop(listen(&address));
    assert!(path_of(&address).exists(), "closing leaves the file");

    let keep = ListenOptions { remove_stale_unix: false, ..ListenOptions::default() };
    let error = Listener::bind(&address, &keep).unwrap_err();
    assert_eq!(error.to_string(), format!("bind {address}: EADDRINUSE (Address already in use)"));

    let listener = listen(&address);
    connect(&address).unwrap();
    accept_one(&listener);
}

#[test]
fn does_the_file_of_a_unix_socket_have_the_mode_asked_for() {
    let dir = TempDir::new();
    for mode in [0o660, 0o777, 0o600, 0o000] {
        let address = dir.unix(&format!("{mode:o}"));
        let options = ListenOptions { unix_mode: Some(mode), ..ListenOptions::default() };
        let listener = Listener::bind(&address, &options).unwrap();
        let found = path_of(&address).metadata().unwrap();
        assert!(found.file_type().is_socket());
        assert_eq!(found.permissions().mode() & 0o7777, mode);
        drop(listener);
    }
    // Bits beyond permissions do not count, and TCP has no file.
    let address = dir.unix("beyond");
    let options = ListenOptions { unix_mode: Some(0o7640), ..ListenOptions::default() };
    let _listener = Listener::bind(&address, &options).unwrap();
    assert_eq!(path_of(&address).metadata().unwrap().permissions().mode() & 0o7777, 0o640);
    Listener::bind(&v4(), &options).unwrap();
}

/// The widest that a process sees which looks all the time while others bind.
#[test]
fn is_the_file_of_a_unix_socket_never_wider_than_asked() {
    let dir = TempDir::new();
    let address = dir.unix("narrow");
    let path = path_of(&address);
    let is_done = std::sync::atomic::AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut seen = std::collections::BTreeSet::new();
            while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
                if let Ok(found) = path.metadata() {
                    seen.insert(found.permissions().mode() & 0o777);
                }
            }
            seen
        });
        let options = ListenOptions { unix_mode: Some(0o600), ..ListenOptions::default() };
        for _ in 0..2000 {
            let listener = Listener::bind(&address, &options).unwrap();
            std::fs::remove_file(path).unwrap();
            drop(listener);
        }
        is_done.store(true, std::sync::atomic::Ordering::Relaxed);
        looking.join().unwrap()
    });
    // Other systems than Linux have a moment before the change, in which nobody can connect.
    assert!(cfg!(not(target_os = "linux")) || seen.iter().all(|mode| *mode == 0o600), "{seen:?}");
}

#[test]
fn is_a_live_unix_socket_left_alone() {
    let dir = TempDir::new();
    let address = dir.unix("live");
    let listener = listen(&address);
    let error = Listener::bind(&address, &ListenOptions::default()).unwrap_err();
    assert_eq!(error, SystemError::call("bind", Errno::EADDRINUSE, &address));
    // It still answers; the first to be accepted is the one that asked whether it is alive.
    accept_one(&listener);
    let client = connect(&address).unwrap();
    let (server, _) = accept_one(&listener);
    client.send(b"x").unwrap();
    assert_eq!(server.recv(&mut [0; 8]), Ok(1));
}

#[cfg(target_os = "linux")]
#[test]
fn is_a_live_unix_socket_with_a_full_backlog_left_alone() {
    let dir = TempDir::new();
    let address = dir.unix("busy");
    let options = ListenOptions { backlog: 0, ..ListenOptions::default() };
    let listener = Listener::bind(&address, &options).unwrap();
    let mut waiting = Vec::new();
    while let Ok(connecting) = Socket::connect_start(&address, None) {
        waiting.push(connecting);
    }
    let error = Listener::bind(&address, &ListenOptions::default()).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EADDRINUSE));
    assert_eq!(listener.local_address(), Ok(address.clone()));
    assert!(path_of(&address).exists());
}

#[test]
fn is_a_file_that_is_no_socket_never_removed() {
    let dir = TempDir::new();
    let address = dir.unix("file");
    let path = path_of(&address);
    std::fs::write(path, b"precious").unwrap();
    let in_use = SystemError::call("bind", Errno::EADDRINUSE, &address);
    assert_eq!(Listener::bind(&address, &ListenOptions::default()).unwrap_err(), in_use);
    assert_eq!(std::fs::read(path).unwrap(), b"precious");

    // Nor is a link, even to a socket that is stale.
    let stale = dir.unix("stale");
    drop(listen(&stale));
    std::fs::remove_file(path).unwrap();
    std::os::unix::fs::symlink(path_of(&stale), path).unwrap();
    assert_eq!(Listener::bind(&address, &ListenOptions::default()).unwrap_err(), in_use);
    assert!(std::fs::symlink_metadata(path).unwrap().is_symlink());
    assert!(std::fs::metadata(path).unwrap().file_type().is_socket());
}

#[test]
fn does_a_socket_file_leave_with_its_owner() {
    let dir = TempDir::new();
    let address = dir.unix("ours");
    let listener = listen(&address);
    let file = SocketFile::of(&address).unwrap().unwrap();
    assert_eq!(file.path(), path_of(&address));
    assert!(file.is_ours());
    drop(file);
    assert!(!path_of(&address).exists());
    drop(listener);
    let error = SocketFile::of(&address).unwrap_err();
    assert_eq!(error, SystemError::call("stat", Errno::ENOENT, &address));
}

#[test]
fn is_the_socket_file_of_a_successor_left_alone() {
    let dir = TempDir::new();
    let address = dir.unix("taken");
    let _first = listen(&address);
    let file = SocketFile::of(&address).unwrap().unwrap();
    std::fs::remove_file(path_of(&address)).unwrap();
    let _second = listen(&address);
    assert!(!file.is_ours());
    drop(file);
    assert!(path_of(&address).exists(), "it is the second one's");
    connect(&address).unwrap();
}

#[test]
fn has_an_address_without_a_file_no_socket_file() {
    assert!(SocketFile::of(&v4()).unwrap().is_none());
    let name = SocketAddr::Unix(UnixAddr::Abstract(b"name".to_vec()));
    assert!(SocketFile::of(&name).unwrap().is_none());
    // Another file's place is not to be taken for a socket's.
    let dir = TempDir::new();
    let address = dir.unix("file");
    std::fs::write(path_of(&address), "text").unwrap();
    let error = SocketFile::of(&address).unwrap_err();
    assert_eq!(error, SystemError::call("stat", Errno::ENOTSOCK, &address));
}

#[test]
fn is_a_unix_path_that_cannot_be_bound_named_in_the_error() {
    let dir = TempDir::new();
    let address = dir.unix("no/such/dir");
    let error = Listener::bind(&address, &ListenOptions::default()).unwrap_err();
    assert_eq!(error, SystemError::call("bind", Errno::ENOENT, &address));

    let long = dir.unix(&"x".repeat(200));
    let error = Listener::bind(&long, &ListenOptions::default()).unwrap_err();
    assert!(matches!(error, SystemError::InvalidAddress { .. }), "{error}");
    assert!(error.to_string().ends_with("too long for the kernel"), "{error}");
}

#[test]
fn is_a_listener_from_outside_made_ready() {
    // The standard library's blocks.
    let outside = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = outside.local_addr().unwrap();
    let listener = Listener::adopt(outside.into()).unwrap();
    assert_prepared(&listener);
    assert_eq!(listener.local_address(), Ok(address.into()));
    assert_eq!(accept(&listener).unwrap_err(), Errno::EAGAIN);
    let descriptor: Descriptor = listener.into();
    let listener = Listener::from(descriptor);
    let client = connect(&address.into()).unwrap();
    assert_eq!(accept_one(&listener).1, client.local_address().unwrap());
}

#[test]
fn is_what_does_not_listen_refused_as_a_listener() {
    let file = std::fs::File::open("/dev/null").unwrap();
    let error = Listener::adopt(file.into()).unwrap_err();
    assert_eq!(error, SystemError::call("getsockopt SO_TYPE", Errno::ENOTSOCK, ""));

    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let error = Listener::adopt(datagrams.into()).unwrap_err();
    assert_eq!(error, SystemError::call("getsockopt SO_TYPE", Errno::EINVAL, "no stream socket"));

    let (connected, _peer) = Socket::pair().unwrap();
    let error = Listener::adopt(connected.into()).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EINVAL));
}
