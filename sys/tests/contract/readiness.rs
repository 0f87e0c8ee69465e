//! What is readable and writable, and under which token.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;

use myriapod_sys::Backend;

use crate::support::{BOTH, Fixture, READ, WRITE, covers, drain, fill, pair, tcp_pair};

pub(crate) fn is_a_socket_readable_once_something_came(backend: Backend) {
    let mut fixture = Fixture::new(backend);
    let (mut ours, mut theirs) = tcp_pair();
    fixture.add(&ours, 7, READ);
    assert_eq!(fixture.now(), []);
    theirs.write_all(b"x").unwrap();
    let event = fixture.only();
    assert_eq!(event.token().0, 7);
    assert!(event.is_readable() && !event.is_writable());
    assert!(!event.is_read_closed() && !event.is_hangup() && !event.is_error());
    assert_eq!(drain(&mut ours), 1);
    assert_eq!(fixture.now(), []);
}

pub(crate) fn is_a_socket_writable_while_there_is_room(backend: Backend) {
    let mut fixture = Fixture::new(backend);
    let (mut ours, mut theirs) = pair();
    fixture.add(&ours, 7, BOTH);
    let event = fixture.only();
    assert!(event.is_writable() && !event.is_readable());
    fill(&mut ours);
    assert_eq!(fixture.now(), []);
    drain(&mut theirs);
    let event = fixture.only();
    assert!(event.is_writable() && !event.is_readable());
}

pub(crate) fn is_there_one_event_when_both_are_ready(backend: Backend) {
    let mut fixture = Fixture::new(backend);
    let mut pairs: Vec<_> = (0..5).map(|_| tcp_pair()).collect();
    for (token, (ours, _)) in (0..).zip(&pairs) {
        fixture.add(ours, token, BOTH);
    }
    for (_, theirs) in &mut pairs {
        theirs.write_all(b"x").unwrap();
    }
    // A byte may be on its way for a moment.
    for _ in 0..1_000_000 {
        let events = fixture.now();
        let mut tokens: Vec<_> = events.iter().map(|event| event.token().0).collect();
        tokens.sort_unstable();
        assert_eq!(tokens, [0, 1, 2, 3, 4]);
        if events.iter().all(|event| covers(event, BOTH)) {
            return;
        }
    }
    panic!("the bytes never came");
}

pub(crate) fn is_a_listener_readable_when_a_peer_waits(backend: Backend) {
    let mut fixture = Fixture::new(backend);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    fixture.add(&listener, 7, READ);
    assert_eq!(fixture.now(), []);
    let _peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert!(fixture.only().is_readable());
    listener.accept().unwrap();
    assert_eq!(fixture.now(), []);
}

pub(crate) fn is_a_finished_connect_writable(backend: Backend) {
    let mut fixture = Fixture::new(backend);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = crate::hangups::connecting(&listener.local_addr().unwrap());
    fixture.add(&socket, 7, WRITE);
    let event = fixture.only();
    assert!(event.is_writable() && !event.is_readable() && !event.is_error());
}

pub(crate) fn are_pipes_watched(backend: Backend) {
    let mut fixture = Fixture::new(backend);
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    fixture.add(&reader, 1, READ);
    fixture.add(&writer, 2, WRITE);
    let event = fixture.only();
    assert!(event.token().0 == 2 && event.is_writable());
    writer.write_all(b"x").unwrap();
    fixture.poller.delete(writer.as_fd()).unwrap();
    let event = fixture.only();
    assert!(event.token().0 == 1 && event.is_readable() && !event.is_writable());
    reader.read_exact(&mut [0]).unwrap();
    assert_eq!(fixture.now(), []);
}

/// Anything that is a descriptor.
#[cfg(has_epoll)]
pub(crate) fn are_timers_watched(backend: Backend) {
    use std::os::fd::{FromRawFd, OwnedFd};
    let mut fixture = Fixture::new(backend);
    // SAFETY: takes numbers only.
    let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC) };
    // SAFETY: the call has just created the descriptor, and nobody else knows it.
    let timer = unsafe { OwnedFd::from_raw_fd(fd) };
    fixture.add(&timer, 7, READ);
    assert_eq!(fixture.now(), []);
    let soon = libc::itimerspec {
        it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
        it_value: libc::timespec { tv_sec: 0, tv_nsec: 1 },
    };
    // SAFETY: `soon` outlives the call, and the old value is not wanted.
    let set = unsafe { libc::timerfd_settime(fd, 0, &raw const soon, std::ptr::null_mut()) };
    assert_eq!(set, 0);
    assert!(fixture.only().is_readable());
}

#[cfg(not(has_epoll))]
pub(crate) fn are_timers_watched(_: Backend) {
    println!("this system has no timerfd");
}

pub(crate) fn are_all_bits_of_a_token_kept(backend: Backend) {
    let mut fixture = Fixture::new(backend);
    let (mut ours, mut theirs) = pair();
    theirs.write_all(b"x").unwrap();
    fixture.add(&ours, 0, READ);
    for token in [0, 1, u64::from(u32::MAX) + 1, 1 << 63, u64::MAX - 1, u64::MAX] {
        fixture.modify(&ours, token, READ);
        assert_eq!(fixture.only().token().0, token);
    }
    drain(&mut ours);
}

pub(crate) fn does_modify_replace_the_token(backend: Backend) {
    let mut fixture = Fixture::new(backend);
    let (ours, mut theirs) = pair();
    fixture.add(&ours, 1, READ);
    theirs.write_all(b"x").unwrap();
    assert_eq!(fixture.only().token().0, 1);
    fixture.modify(&ours, 2, READ);
    assert_eq!(fixture.only().token().0, 2);
}

pub(crate) fn does_modify_replace_the_interest(backend: Backend) {
    let mut fixture = Fixture::new(backend);
    let (mut ours, mut theirs) = pair();
    fixture.add(&ours, 7, READ);
    assert_eq!(fixture.now(), []);
    fixture.modify(&ours, 7, WRITE);
    let event = fixture.only();
    assert!(event.is_writable() && !event.is_readable());
    theirs.write_all(b"x").unwrap();
    assert!(!fixture.only().is_readable());
    fixture.modify(&ours, 7, BOTH);
    assert!(covers(&fixture.only(), BOTH));
    fixture.modify(&ours, 7, READ);
    let event = fixture.only();
    assert!(event.is_readable() && !event.is_writable());
    drain(&mut ours);
    assert_eq!(fixture.now(), []);
}
