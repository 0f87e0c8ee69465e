//! Hang-ups and errors: reported while any interest is held.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;

use myriapod_sys::{Backend, Event, Interest};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket, sockopt,
};

use crate::support::{
    BOTH, Fixture, READ, WRITE, covers, drain, fill, gives_hints, is_libkqueue, pair, tcp_pair,
    tells_half_close,
};

/// A socket that is being connected.
pub(crate) fn connecting(address: &SocketAddr) -> TcpStream {
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).unwrap();
    fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let started = connect(std::os::fd::AsRawFd::as_raw_fd(&fd), &SockaddrStorage::from(*address));
    assert!(matches!(started, Ok(()) | Err(nix::errno::Errno::EINPROGRESS)));
    fd.into()
}

/// Watches `fd` for `interest` alone, and expects the end of both directions to be reported, again
/// and again.
fn expect_the_end(backend: Backend, fd: &impl AsFd, interest: Interest) {
    let mut fixture = Fixture::new(backend);
    fixture.add(fd, 7, interest);
    for _ in 0..3 {
        is_the_end(backend, &fixture.until(|event| covers(event, interest)), interest);
    }
}

fn is_the_end(backend: Backend, event: &Event, interest: Interest) {
    assert_eq!(event.token().0, 7);
    assert!(covers(event, interest), "{interest:?} {event:?}");
    if gives_hints(backend) {
        assert!(event.is_hangup() || event.is_error(), "{interest:?} {event:?}");
        assert!(covers(event, BOTH), "{interest:?} {event:?}");
    }
}

pub(crate) fn is_a_reset_reported(backend: Backend) {
    for interest in [READ, WRITE, BOTH] {
        let (mut ours, theirs) = tcp_pair();
        // Writable it would be anyway, else.
        fill(&mut ours);
        let mut fixture = Fixture::new(backend);
        fixture.add(&ours, 7, interest);
        assert_eq!(fixture.now(), []);
        let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&theirs, sockopt::Linger, &at_once).unwrap();
        drop(theirs);
        for _ in 0..3 {
            is_the_end(backend, &fixture.only(), interest);
        }
        if !is_libkqueue(backend, "who gets the error: it collects SO_ERROR itself") {
            let end = ours.read(&mut [0]).unwrap_err();
            assert_eq!(end.kind(), ErrorKind::ConnectionReset);
        }
        // The error is collected; the hang-up stays.
        is_the_end(backend, &fixture.only(), interest);
    }
}

pub(crate) fn is_a_closed_unix_peer_reported(backend: Backend) {
    for interest in [READ, WRITE, BOTH] {
        let (mut ours, theirs) = pair();
        fill(&mut ours);
        let mut fixture = Fixture::new(backend);
        fixture.add(&ours, 7, interest);
        assert_eq!(fixture.now(), []);
        drop(theirs);
        for _ in 0..3 {
            is_the_end(backend, &fixture.only(), interest);
        }
    }
}

pub(crate) fn is_a_pipe_without_writer_reported(backend: Backend) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"x").unwrap();
    drop(writer);
    expect_the_end(backend, &reader, READ);
}

pub(crate) fn is_a_pipe_without_reader_reported(backend: Backend) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    fill(&mut writer);
    let mut fixture = Fixture::new(backend);
    fixture.add(&writer, 7, WRITE);
    assert_eq!(fixture.now(), []);
    drop(reader);
    for _ in 0..3 {
        is_the_end(backend, &fixture.only(), WRITE);
    }
}

pub(crate) fn is_a_pipe_that_never_had_a_reader_reported(backend: Backend) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    expect_the_end(backend, &writer, WRITE);
}

pub(crate) fn is_a_refused_connect_reported(backend: Backend) {
    for interest in [READ, WRITE, BOTH] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let socket = connecting(&address);
        expect_the_end(backend, &socket, interest);
        if !is_libkqueue(backend, "who gets the error: it collects SO_ERROR itself") {
            assert_eq!(socket.take_error().unwrap().unwrap().kind(), ErrorKind::ConnectionRefused);
        }
    }
}

pub(crate) fn is_an_orderly_close_readable(backend: Backend) {
    for interest in [READ, BOTH] {
        let (mut ours, mut theirs) = tcp_pair();
        let mut fixture = Fixture::new(backend);
        fixture.add(&ours, 7, interest);
        theirs.write_all(b"last words").unwrap();
        drop(theirs);
        fixture.until(Event::is_readable);
        // What came before the end can still be read.
        let mut said = Vec::new();
        while said.len() < 10 {
            fixture.until(Event::is_readable);
            let mut bytes = [0; 10];
            let count = ours.read(&mut bytes).unwrap();
            said.extend_from_slice(&bytes[..count]);
        }
        assert_eq!(said, b"last words");
        let event = fixture.until(Event::is_readable);
        assert_eq!(ours.read(&mut [0]).unwrap(), 0);
        assert_eq!(event.is_read_closed(), tells_half_close(backend));
    }
}

pub(crate) fn is_a_half_close_readable_and_nothing_more(backend: Backend) {
    let (mut ours, mut theirs) = tcp_pair();
    let mut fixture = Fixture::new(backend);
    fixture.add(&ours, 7, READ);
    assert_eq!(fixture.now(), []);
    theirs.shutdown(Shutdown::Write).unwrap();
    for _ in 0..3 {
        let event = fixture.only();
        assert!(event.is_readable() && !event.is_writable());
        assert!(!event.is_hangup() && !event.is_error());
        assert_eq!(event.is_read_closed(), tells_half_close(backend));
    }
    assert_eq!(ours.read(&mut [0]).unwrap(), 0);
    ours.write_all(b"answer").unwrap();
    let mut fixture = Fixture::new(backend);
    fixture.add(&theirs, 7, READ);
    fixture.only();
    assert_eq!(drain(&mut theirs), 6);
}

pub(crate) fn does_a_hang_up_leave_with_its_descriptor(backend: Backend) {
    let (ours, theirs) = pair();
    let mut fixture = Fixture::new(backend);
    fixture.add(&ours, 7, READ);
    drop(theirs);
    fixture.only();
    fixture.poller.delete(ours.as_fd()).unwrap();
    assert_eq!(fixture.now(), []);
}
