//! Starting and ceasing to watch, and what is refused.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use myriapod_sys::poll::wait_one;
use myriapod_sys::{Backend, Errno, Interest, Mode, Poller, SystemError, Token};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::support::{
    BOTH, Fixture, LONG, READ, WRITE, close_behind_its_back, duplicate, is, is_libkqueue, pair,
    replace,
};

pub(crate) fn is_adding_twice_refused(backend: Backend) {
    let mut fixture = Fixture::new(backend);
    let (ours, _theirs) = pair();
    fixture.add(&ours, 1, WRITE);
    let again = fixture.poller.add(ours.as_fd(), Token(2), READ, Mode::LEVEL);
    assert!(is(again, Errno::EEXIST));
    let event = fixture.only();
    assert!(event.token().0 == 1 && event.is_writable());
}

pub(crate) fn is_modifying_the_unknown_refused(backend: Backend) {
    let mut fixture = Fixture::new(backend);
    let (ours, theirs) = pair();
    fixture.add(&ours, 1, READ);
    let unknown = fixture.poller.modify(theirs.as_fd(), Token(2), WRITE, Mode::LEVEL);
    assert!(is(unknown, Errno::ENOENT));
    assert_eq!(fixture.now(), []);
}

pub(crate) fn is_deleting_the_unknown_refused(backend: Backend) {
    let mut fixture = Fixture::new(backend);
    let (ours, theirs) = pair();
    fixture.add(&ours, 1, WRITE);
    assert!(is(fixture.poller.delete(theirs.as_fd()), Errno::ENOENT));
    fixture.poller.delete(ours.as_fd()).unwrap();
    assert!(is(fixture.poller.delete(ours.as_fd()), Errno::ENOENT));
    // Forgetting cannot fail.
    fixture.poller.forget(ours.as_fd());
    assert_eq!(fixture.now(), []);
}

pub(crate) fn is_an_empty_interest_refused(backend: Backend) {
    let mut fixture = Fixture::new(backend);
    let (ours, _theirs) = pair();
    let none = fixture.poller.add(ours.as_fd(), Token(1), Interest::NONE, Mode::LEVEL);
    assert!(is(none, Errno::EINVAL));
    fixture.add(&ours, 1, WRITE);
    let none = fixture.poller.modify(ours.as_fd(), Token(2), Interest::NONE, Mode::LEVEL);
    assert!(is(none, Errno::EINVAL));
    assert_eq!(fixture.only().token().0, 1);
}

pub(crate) fn does_delete_stop_events(backend: Backend) {
    let mut fixture = Fixture::new(backend);
    let pairs: Vec<_> = (0..5).map(|_| pair()).collect();
    for (token, (ours, _)) in (0..).zip(&pairs) {
        fixture.add(ours, token, BOTH);
    }
    for (gone, left) in [(2, vec![0, 1, 3, 4]), (0, vec![1, 3, 4]), (4, vec![1, 3])] {
        fixture.poller.delete(pairs[gone].0.as_fd()).unwrap();
        let mut tokens: Vec<_> = fixture.now().iter().map(|event| event.token().0).collect();
        tokens.sort_unstable();
        assert_eq!(tokens, left);
    }
}

pub(crate) fn can_it_be_added_again_after_delete(backend: Backend) {
    let mut fixture = Fixture::new(backend);
    let (ours, mut theirs) = pair();
    theirs.write_all(b"x").unwrap();
    for token in 0..3 {
        fixture.add(&ours, token, READ);
        assert_eq!(fixture.only().token().0, token);
        fixture.poller.delete(ours.as_fd()).unwrap();
        assert_eq!(fixture.now(), []);
    }
}

pub(crate) fn does_forget_before_a_close_leave_nothing_stale(backend: Backend) {
    let mut fixture = Fixture::new(backend);
    let (old, mut its_peer) = pair();
    let (new, mut new_peer) = pair();
    fixture.add(&old, 1, BOTH);
    its_peer.write_all(b"x").unwrap();
    assert_eq!(fixture.only().token().0, 1);
    fixture.poller.forget(old.as_fd());
    replace(&old, &new);
    new_peer.write_all(b"x").unwrap();
    assert_eq!(fixture.now(), []);
    fixture.add(&old, 2, READ);
    assert_eq!(fixture.only().token().0, 2);
}

pub(crate) fn does_forget_alone_stop_events(backend: Backend) {
    let mut fixture = Fixture::new(backend);
    let (ours, mut theirs) = pair();
    fixture.add(&ours, 1, BOTH);
    theirs.write_all(b"x").unwrap();
    fixture.poller.forget(ours.as_fd());
    assert_eq!(fixture.now(), []);
    assert!(is(fixture.poller.delete(ours.as_fd()), Errno::ENOENT));
    fixture.add(&ours, 2, READ);
    assert_eq!(fixture.only().token().0, 2);
}

/// Against the contract, but it must not make a loop spin.
pub(crate) fn does_a_close_behind_its_back_end_a_wait_at_most_once(backend: Backend) {
    // A number of its own, that no test which runs beside this one is given in between.
    let number = 800 + 10 * RawFd::try_from(backend.name().len()).unwrap();
    let mut fixture = Fixture::new(backend);
    let (ours, _theirs) = pair();
    let (other, mut its_peer) = pair();
    its_peer.write_all(b"x").unwrap();
    let watched = duplicate(ours.as_fd(), number);
    drop(ours);
    fixture.add(&watched, 1, READ);
    fixture.add(&other, 2, READ);
    let closed = close_behind_its_back(watched);
    let events: Vec<_> = (0..4).flat_map(|_| fixture.now()).collect();
    let of_closed: Vec<_> = events.iter().filter(|event| event.token().0 == 1).collect();
    if matches!(backend, Backend::Poll | Backend::Select) {
        assert!(of_closed.len() == 1 && of_closed[0].is_error(), "{of_closed:?}");
        assert!(is(fixture.poller.delete(closed), Errno::ENOENT));
    } else {
        assert_eq!(of_closed.len(), 0);
    }
    assert!(fixture.only().token().0 == 2);
}

pub(crate) fn is_a_large_descriptor_watched_or_refused(backend: Backend) {
    let mut fixture = Fixture::new(backend);
    let (ours, _theirs) = pair();
    let large = duplicate(ours.as_fd(), 1_024);
    let added = fixture.poller.add(large.as_fd(), Token(1), WRITE, Mode::LEVEL);
    if backend == Backend::Select {
        let descriptor = large.as_raw_fd();
        assert_eq!(added, Err(SystemError::DescriptorTooLarge { descriptor, limit: 1_024 }));
        let said = added.unwrap_err().to_string();
        assert!(said.contains("FD_SETSIZE (1024)") && said.contains(&descriptor.to_string()));
        for refused in [
            fixture.poller.modify(large.as_fd(), Token(1), WRITE, Mode::LEVEL),
            fixture.poller.delete(large.as_fd()),
        ] {
            assert!(is(refused, Errno::ENOENT));
        }
        fixture.poller.forget(large.as_fd());
        assert_eq!(fixture.now(), []);
    } else {
        added.unwrap();
        assert!(fixture.only().is_writable());
    }
}

pub(crate) fn are_its_descriptors_closed_on_exec(backend: Backend) {
    let poller = Poller::new(backend).unwrap();
    let has_one = !matches!(backend, Backend::Poll | Backend::Select);
    assert_eq!(poller.as_fd().is_some(), has_one);
    if let Some(fd) = poller.as_fd() {
        let flags = FdFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFD).unwrap());
        assert!(flags.contains(FdFlag::FD_CLOEXEC));
    }
}

pub(crate) fn is_its_descriptor_readable_while_there_are_events(backend: Backend) {
    let mut fixture = Fixture::new(backend);
    if fixture.poller.as_fd().is_none()
        || is_libkqueue(backend, "its descriptor: it is the end of a pipe, and never readable")
    {
        return;
    }
    let (ours, mut theirs) = pair();
    fixture.add(&ours, 1, READ);
    assert_eq!(fixture.now(), []);
    let is_readable = |fixture: &Fixture, timeout| {
        wait_one(fixture.poller.as_fd().unwrap(), READ, timeout).unwrap() == Some(READ)
    };
    assert!(!is_readable(&fixture, Some(std::time::Duration::ZERO)));
    theirs.write_all(b"x").unwrap();
    assert!(is_readable(&fixture, LONG));
    assert!(fixture.only().is_readable());
}

pub(crate) fn does_an_error_name_the_descriptor(backend: Backend) {
    let mut fixture = Fixture::new(backend);
    let (ours, theirs) = pair();
    fixture.add(&ours, 1, READ);
    let (ours_number, theirs_number) = (ours.as_raw_fd(), theirs.as_raw_fd());
    let errors = [
        fixture.poller.add(ours.as_fd(), Token(1), READ, Mode::LEVEL),
        fixture.poller.modify(theirs.as_fd(), Token(1), READ, Mode::LEVEL),
        fixture.poller.delete(theirs.as_fd()),
    ];
    let endings = [
        format!("add descriptor {ours_number}: EEXIST (File exists)"),
        format!("modify descriptor {theirs_number}: ENOENT (No such file or directory)"),
        format!("delete descriptor {theirs_number}: ENOENT (No such file or directory)"),
    ];
    for (error, ending) in errors.into_iter().zip(endings) {
        let said = error.unwrap_err().to_string();
        assert!(said.ends_with(&ending), "{said}");
    }
}

pub(crate) fn does_it_know_its_own_name(backend: Backend) {
    let poller = Poller::new(backend).unwrap();
    assert_eq!(poller.backend(), backend);
    assert_eq!(backend.to_string().parse(), Ok(backend));
    assert!(Backend::available().contains(&backend));
    let unknown = "epol".parse::<Backend>().unwrap_err().to_string();
    assert!(unknown.starts_with("unknown backend \"epol\""), "{unknown}");
    assert!(unknown.contains(backend.name()), "{unknown}");
}
