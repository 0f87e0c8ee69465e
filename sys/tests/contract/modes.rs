//! How events repeat.

use std::io::Write;
use std::os::fd::AsFd;

use myriapod_sys::{Backend, Errno, Mode, SystemError, Token};

use crate::support::{BOTH, Fixture, READ, WRITE, covers, drain, has_edge, has_one_shot, is, pair};

pub(crate) fn does_a_level_event_come_back(backend: Backend) {
    let mut fixture = Fixture::new(backend);
    let (mut ours, mut theirs) = pair();
    fixture.add(&ours, 7, READ);
    theirs.write_all(b"xyz").unwrap();
    for _ in 0..5 {
        assert!(fixture.only().is_readable());
    }
    drain(&mut ours);
    assert_eq!(fixture.now(), []);
}

pub(crate) fn does_an_edge_event_come_once(backend: Backend) {
    if !has_edge(backend) {
        return;
    }
    let mut fixture = Fixture::new(backend);
    let (ours, mut theirs) = pair();
    fixture.poller.add(ours.as_fd(), Token(7), READ, Mode::EDGE).unwrap();
    assert_eq!(fixture.now(), []);
    for _ in 0..3 {
        theirs.write_all(b"x").unwrap();
        assert!(fixture.only().is_readable());
        assert_eq!(fixture.now(), []);
    }
}

pub(crate) fn does_modify_make_an_edge_of_what_is_there(backend: Backend) {
    if !has_edge(backend) {
        return;
    }
    let mut fixture = Fixture::new(backend);
    let (ours, mut theirs) = pair();
    theirs.write_all(b"x").unwrap();
    fixture.poller.add(ours.as_fd(), Token(7), READ, Mode::EDGE).unwrap();
    assert!(fixture.only().is_readable());
    assert_eq!(fixture.now(), []);
    fixture.poller.modify(ours.as_fd(), Token(8), READ, Mode::EDGE).unwrap();
    assert_eq!(fixture.only().token().0, 8);
    assert_eq!(fixture.now(), []);
}

pub(crate) fn does_a_one_shot_event_come_once(backend: Backend) {
    if !has_one_shot(backend) {
        return;
    }
    let mut fixture = Fixture::new(backend);
    let (ours, mut theirs) = pair();
    fixture.poller.add(ours.as_fd(), Token(7), READ, Mode::ONE_SHOT).unwrap();
    assert_eq!(fixture.now(), []);
    for _ in 0..3 {
        theirs.write_all(b"x").unwrap();
        assert!(fixture.only().is_readable());
        theirs.write_all(b"x").unwrap();
        assert_eq!(fixture.now(), []);
        fixture.poller.modify(ours.as_fd(), Token(7), READ, Mode::ONE_SHOT).unwrap();
        assert!(fixture.only().is_readable());
        assert_eq!(fixture.now(), []);
        fixture.poller.modify(ours.as_fd(), Token(7), READ, Mode::ONE_SHOT).unwrap();
    }
}

pub(crate) fn does_one_shot_disarm_both_directions(backend: Backend) {
    if !has_one_shot(backend) {
        return;
    }
    let mut fixture = Fixture::new(backend);
    let (ours, mut theirs) = pair();
    fixture.poller.add(ours.as_fd(), Token(7), BOTH, Mode::ONE_SHOT).unwrap();
    let event = fixture.only();
    assert!(event.is_writable() && !event.is_readable());
    theirs.write_all(b"x").unwrap();
    assert_eq!(fixture.now(), []);
    fixture.poller.modify(ours.as_fd(), Token(7), BOTH, Mode::ONE_SHOT).unwrap();
    assert!(covers(&fixture.only(), BOTH));
    assert_eq!(fixture.now(), []);
}

pub(crate) fn does_one_shot_take_what_both_directions_have(backend: Backend) {
    if !has_one_shot(backend) {
        return;
    }
    let mut fixture = Fixture::new(backend);
    let (ours, mut theirs) = pair();
    theirs.write_all(b"x").unwrap();
    fixture.poller.add(ours.as_fd(), Token(7), BOTH, Mode::ONE_SHOT).unwrap();
    // Were there room for one filter only, the other must not follow.
    assert_eq!(fixture.wait(1, None).len(), 1);
    assert_eq!(fixture.now(), []);
}

pub(crate) fn can_the_mode_be_changed(backend: Backend) {
    if !has_edge(backend) {
        return;
    }
    let mut fixture = Fixture::new(backend);
    let (ours, mut theirs) = pair();
    theirs.write_all(b"x").unwrap();
    fixture.add(&ours, 7, BOTH);
    for _ in 0..2 {
        for mode in [Mode::EDGE, Mode::ONE_SHOT, Mode::EDGE | Mode::ONE_SHOT] {
            fixture.poller.modify(ours.as_fd(), Token(7), READ, mode).unwrap();
            assert!(fixture.only().is_readable(), "{mode:?}");
            assert_eq!(fixture.now(), [], "{mode:?}");
        }
        fixture.modify(&ours, 7, BOTH);
        for _ in 0..3 {
            assert!(covers(&fixture.only(), BOTH));
        }
    }
}

pub(crate) fn is_exclusive_mode_honoured_or_refused(backend: Backend) {
    let mut fixture = Fixture::new(backend);
    let (ours, mut theirs) = pair();
    let added = fixture.poller.add(ours.as_fd(), Token(7), READ, Mode::EXCLUSIVE);
    if backend == Backend::Epoll {
        added.unwrap();
        theirs.write_all(b"x").unwrap();
        assert!(fixture.only().is_readable());
        for mode in [Mode::EXCLUSIVE, Mode::LEVEL] {
            let modified = fixture.poller.modify(ours.as_fd(), Token(7), READ, mode);
            assert!(is(modified, Errno::EINVAL));
        }
        fixture.poller.delete(ours.as_fd()).unwrap();
        let both = Mode::EXCLUSIVE | Mode::ONE_SHOT;
        assert!(is(fixture.poller.add(ours.as_fd(), Token(7), READ, both), Errno::EINVAL));
    } else {
        assert_eq!(
            added,
            Err(SystemError::Unsupported { what: "exclusive mode", by: backend.name() })
        );
    }
}

pub(crate) fn does_a_refused_mode_change_nothing(backend: Backend) {
    let refused: &[(Mode, &str)] = match backend {
        Backend::Epoll => &[],
        Backend::Poll | Backend::Select => &[
            (Mode::EDGE, "edge-triggered mode"),
            (Mode::ONE_SHOT, "one-shot mode"),
            (Mode::EXCLUSIVE, "exclusive mode"),
        ],
        _ => &[(Mode::EXCLUSIVE, "exclusive mode")],
    };
    for (mode, what) in refused {
        let unsupported = SystemError::Unsupported { what, by: backend.name() };
        let mut fixture = Fixture::new(backend);
        let (ours, mut theirs) = pair();
        theirs.write_all(b"x").unwrap();
        let added = fixture.poller.add(ours.as_fd(), Token(7), READ, *mode);
        assert_eq!(added, Err(unsupported.clone()));
        assert!(is(fixture.poller.delete(ours.as_fd()), Errno::ENOENT));
        fixture.add(&ours, 7, READ);
        let modified = fixture.poller.modify(ours.as_fd(), Token(8), WRITE, *mode);
        assert_eq!(modified, Err(unsupported));
        let event = fixture.only();
        assert!(event.token().0 == 7 && event.is_readable() && !event.is_writable());
    }
}
