//! More that is ready than there is room for.

use std::collections::HashSet;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use myriapod_sys::{Backend, Errno, Events, Interest};

use crate::support::{BOTH, Fixture, READ, is, pair};

/// Descriptors that are all readable and writable, with their places as tokens.
fn ready(backend: Backend, count: usize, interest: Interest) -> (Fixture, Vec<[UnixStream; 2]>) {
    let mut fixture = Fixture::new(backend);
    let mut pairs = Vec::new();
    for token in (0..).take(count) {
        let (ours, mut theirs) = pair();
        theirs.write_all(b"x").unwrap();
        fixture.add(&ours, token, interest);
        pairs.push([ours, theirs]);
    }
    (fixture, pairs)
}

/// Waits so often, and returns the tokens seen.
fn seen(fixture: &mut Fixture, room: usize, waits: usize) -> HashSet<u64> {
    let mut seen = HashSet::new();
    for _ in 0..waits {
        let events = fixture.wait(room, Some(Duration::ZERO));
        assert_eq!(events.len(), room, "a wait left room unused");
        seen.extend(events.iter().map(|event| event.token().0));
    }
    seen
}

pub(crate) fn does_everything_ready_get_its_turn(backend: Backend) {
    for (count, room) in [(10, 3), (10, 1), (64, 7), (3, 2)] {
        let (mut fixture, _pairs) = ready(backend, count, READ);
        for round in 0..3 {
            let seen = seen(&mut fixture, room, count.div_ceil(room));
            assert_eq!(seen.len(), count, "{count} ready, room for {room}, round {round}");
        }
    }
}

pub(crate) fn does_everything_get_its_turn_when_ready_for_both(backend: Backend) {
    let (mut fixture, _pairs) = ready(backend, 10, BOTH);
    for _ in 0..3 {
        let mut seen = HashSet::new();
        // A kqueue has two things to say of each, which need not come together.
        let waits = if backend == Backend::Kqueue { 7 } else { 4 };
        for _ in 0..waits {
            let events = fixture.wait(3, Some(Duration::ZERO));
            let tokens: HashSet<_> = events.iter().map(|event| event.token().0).collect();
            assert_eq!(tokens.len(), events.len(), "two events of one descriptor");
            seen.extend(tokens);
        }
        assert_eq!(seen.len(), 10);
    }
}

pub(crate) fn does_a_wait_report_no_more_than_there_is_room(backend: Backend) {
    let (mut fixture, _pairs) = ready(backend, 10, BOTH);
    for room in [1, 2, 9] {
        let events = fixture.wait(room, None);
        assert!((1..=room).contains(&events.len()));
    }
    assert_eq!(fixture.wait(10, None).len().min(5), 5);
}

pub(crate) fn does_a_wait_append(backend: Backend) {
    let (mut fixture, _pairs) = ready(backend, 3, READ);
    let mut events = Events::with_capacity(4);
    assert_eq!(fixture.poller.wait(&mut events, None), Ok(3));
    let first = events.as_slice().to_vec();
    assert_eq!(fixture.poller.wait(&mut events, None), Ok(1));
    assert_eq!(events.as_slice()[..3], first);
    assert_eq!(events.free(), 0);
    events.clear();
    assert_eq!(fixture.poller.wait(&mut events, None), Ok(3));
}

pub(crate) fn is_a_wait_without_room_refused(backend: Backend) {
    let (mut fixture, _pairs) = ready(backend, 1, READ);
    let mut events = Events::with_capacity(1);
    assert_eq!(fixture.poller.wait(&mut events, None), Ok(1));
    for timeout in [None, Some(Duration::ZERO)] {
        assert!(is(fixture.poller.wait(&mut events, timeout), Errno::EINVAL));
    }
}

pub(crate) fn does_a_busy_descriptor_leave_others_their_turn(backend: Backend) {
    let (mut fixture, pairs) = ready(backend, 12, READ);
    seen(&mut fixture, 5, 1);
    for gone in [0, 11, 5, 6] {
        fixture.poller.delete(pairs[gone][0].as_fd()).unwrap();
    }
    // Those that were moved into a gap may have lost one turn.
    assert_eq!(seen(&mut fixture, 5, 4).len(), 8);
}
