//! Is a selector over any backend what it promises?

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use super::*;

const NOW: Option<Duration> = Some(Duration::ZERO);

fn on_every_backend(question: impl Fn(Selector<&'static str>)) {
    for backend in Backend::available() {
        question(Selector::with_backend(*backend).unwrap());
    }
}

fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

/// All that is ready at this moment.
fn ready<T>(selector: &mut Selector<T>) -> Vec<Ready> {
    selector.select(NOW).unwrap();
    std::iter::from_fn(|| selector.next_ready()).collect()
}

#[test]
fn does_a_registered_socket_tell_what_it_is_ready_for() {
    on_every_backend(|mut selector| {
        let (mut ours, theirs) = pair();
        let key = selector.register(theirs, Interest::READABLE, "data").unwrap();
        assert_eq!(ready(&mut selector), []);
        ours.write_all(b"x").unwrap();
        for _ in 0..2 {
            let [ready] = ready(&mut selector)[..] else { panic!("one event") };
            assert_eq!((ready.key, ready.readiness), (key, Interest::READABLE));
        }
        selector.modify(key, Interest::READABLE | Interest::WRITABLE).unwrap();
        let [both] = ready(&mut selector)[..] else { panic!("one event") };
        assert!(both.is_readable() && both.is_writable());
        selector.modify(key, Interest::WRITABLE).unwrap();
        let [ready] = ready(&mut selector)[..] else { panic!("one event") };
        assert_eq!(ready.readiness, Interest::WRITABLE);
        assert_eq!(selector.interest(key), Some(Interest::WRITABLE));
    });
}

#[test]
fn is_a_parked_socket_silent_even_when_its_peer_hangs_up() {
    on_every_backend(|mut selector| {
        let (mut ours, theirs) = pair();
        let key = selector.register(theirs, Interest::READABLE, "data").unwrap();
        selector.modify(key, Interest::NONE).unwrap();
        ours.write_all(b"x").unwrap();
        drop(ours);
        assert_eq!(ready(&mut selector), []);
        assert_eq!(selector.get(key), Some(&"data"));
        // What came meanwhile is told once it is watched again.
        selector.modify(key, Interest::READABLE).unwrap();
        assert!(ready(&mut selector)[0].is_readable());
        selector.modify(key, Interest::NONE).unwrap();
        assert_eq!(selector.close(key), Some("data"));
    });
}

#[test]
fn can_a_socket_be_registered_parked() {
    on_every_backend(|mut selector| {
        let (mut ours, theirs) = pair();
        let key = selector.register(theirs, Interest::NONE, "data").unwrap();
        ours.write_all(b"x").unwrap();
        assert_eq!(ready(&mut selector), []);
        selector.modify(key, Interest::READABLE).unwrap();
        assert_eq!(ready(&mut selector).len(), 1);
    });
}

#[test]
fn does_unregister_give_the_socket_back_unharmed() {
    on_every_backend(|mut selector| {
        let (mut ours, theirs) = pair();
        let key = selector.register(theirs, Interest::READABLE, "data").unwrap();
        ours.write_all(b"x").unwrap();
        let (socket, data) = selector.unregister(key).unwrap();
        assert_eq!((data, selector.len()), ("data", 0));
        assert_eq!(ready(&mut selector), []);
        let mut byte = [0];
        UnixStream::from(socket).read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
        assert!(selector.unregister(key).is_none());
    });
}

#[test]
fn does_close_close_the_socket() {
    on_every_backend(|mut selector| {
        let (mut ours, theirs) = pair();
        let key = selector.register(theirs, Interest::READABLE, "data").unwrap();
        assert_eq!(selector.close(key), Some("data"));
        assert_eq!(ours.read(&mut [0]).unwrap(), 0);
        assert_eq!(selector.close(key), None);
        assert_eq!(ready(&mut selector), []);
    });
}

/// As after `try_clone`, or a fork without exec: the kernel's own end of it comes later.
#[test]
fn is_a_closed_socket_with_a_living_duplicate_no_event() {
    on_every_backend(|mut selector| {
        let (mut ours, theirs) = pair();
        let duplicate = theirs.try_clone().unwrap();
        let key = selector.register(theirs, Interest::BOTH, "data").unwrap();
        ours.write_all(b"x").unwrap();
        assert_eq!(ready(&mut selector).len(), 1);
        assert_eq!(selector.close(key), Some("data"));
        assert_eq!(selector.select(NOW).unwrap(), 0, "on {}", selector.backend());
        assert_eq!((selector.next_ready(), selector.stale_events()), (None, 0));
        // The duplicate may be watched again.
        let again = selector.register(duplicate, Interest::READABLE, "again").unwrap();
        let [ready] = ready(&mut selector)[..] else { panic!("one event") };
        assert_eq!((ready.key, selector.get(again)), (again, Some(&"again")));
    });
}

#[test]
fn is_an_event_for_a_closed_socket_counted_and_dropped() {
    on_every_backend(|mut selector| {
        let pairs: Vec<_> = (0..4).map(|_| pair()).collect();
        let (mut ours, mut keys) = (Vec::new(), Vec::new());
        for (mut one, other) in pairs {
            one.write_all(b"x").unwrap();
            ours.push(one);
            keys.push(selector.register(other, Interest::READABLE, "old").unwrap());
        }
        assert_eq!(selector.select(NOW).unwrap(), 4);
        let first = selector.next_ready().unwrap().key;
        // The handler of the first closes all others, and a new one takes their place.
        for key in keys.iter().filter(|key| **key != first) {
            selector.close(*key);
        }
        let (_new_ours, new) = pair();
        let reused = selector.register(new, Interest::READABLE, "new").unwrap();
        assert!(keys.iter().any(|key| key.index() == reused.index() && *key != reused));
        assert_eq!(selector.next_ready(), None);
        assert_eq!(selector.stale_events(), 3);
        assert_eq!(selector.get(reused), Some(&"new"));
        let [still] = ready(&mut selector)[..] else { panic!("one event") };
        assert_eq!(still.key, first);
    });
}

#[test]
fn is_an_event_for_what_is_no_longer_watched_left_out() {
    on_every_backend(|mut selector| {
        let (mut ours, theirs) = pair();
        ours.write_all(b"x").unwrap();
        let key = selector.register(theirs, Interest::READABLE, "data").unwrap();
        assert_eq!(selector.select(NOW).unwrap(), 1);
        selector.modify(key, Interest::NONE).unwrap();
        assert_eq!(selector.next_ready(), None);
        assert_eq!(selector.stale_events(), 0, "the socket is there");
    });
}

#[test]
fn does_a_stale_key_do_nothing() {
    on_every_backend(|mut selector| {
        let (_ours, theirs) = pair();
        let old = selector.register(theirs, Interest::READABLE, "old").unwrap();
        selector.close(old);
        let (mut ours, theirs) = pair();
        let new = selector.register(theirs, Interest::READABLE, "new").unwrap();
        assert_eq!(old.index(), new.index());
        selector.modify(old, Interest::NONE).unwrap();
        assert_eq!(selector.close(old), None);
        assert!(selector.unregister(old).is_none());
        assert!(selector.get(old).is_none() && selector.source(old).is_none());
        ours.write_all(b"x").unwrap();
        assert_eq!(ready(&mut selector)[0].key, new);
    });
}

#[test]
fn are_all_told_where_more_are_ready_than_one_wait_takes() {
    on_every_backend(|mut selector| {
        selector.events = Events::with_capacity(8);
        let mut ours = Vec::new();
        for _ in 0..50 {
            let (mut one, other) = pair();
            one.write_all(b"x").unwrap();
            ours.push(one);
            selector.register(other, Interest::READABLE, "data").unwrap();
        }
        for _ in 0..7 {
            for ready in ready(&mut selector) {
                assert_eq!(selector.close(ready.key), Some("data"), "each is told once");
            }
        }
        assert!(selector.is_empty());
    });
}

#[test]
fn does_a_descriptor_of_its_own_tell_of_events() {
    on_every_backend(|mut selector| {
        let watched = match selector.descriptor() {
            Ok(watched) => watched,
            Err(error) => {
                assert!(matches!(error, SystemError::Unsupported { .. }), "{error}");
                return assert!(selector.as_fd().is_none());
            }
        };
        let mut outer = Selector::new().unwrap();
        outer.register(watched, Interest::READABLE, "inner").unwrap();
        assert_eq!(outer.select(NOW).unwrap(), 0);
        let (mut ours, theirs) = pair();
        let key = selector.register(theirs, Interest::READABLE, "data").unwrap();
        ours.write_all(b"x").unwrap();
        assert_eq!(outer.select(None).unwrap(), 1);
        assert_eq!(ready(&mut selector).len(), 1);
        // Whatever becomes of the selector, what is left of it is silent.
        selector.close(key);
        drop(selector);
        assert_eq!(outer.select(NOW).unwrap(), 0);
    });
}

#[test]
fn are_two_sockets_found_at_once() {
    on_every_backend(|mut selector| {
        let (mut ours, theirs) = pair();
        let left = selector.register(ours.try_clone().unwrap(), Interest::NONE, "left").unwrap();
        let right = selector.register(theirs, Interest::READABLE, "right").unwrap();
        ours.write_all(b"x").unwrap();
        let [(_, one), (socket, other)] = selector.two_entries_mut(left, right).unwrap();
        assert_eq!((*one, *other), ("left", "right"));
        assert_eq!(myriapod_sys::recv(socket, &mut [0; 8]), Ok(1));
        assert!(selector.two_entries_mut(left, left).is_none());
        selector.close(left);
        assert!(selector.two_entries_mut(left, right).is_none());
    });
}

#[test]
fn does_the_waker_end_a_wait_and_be_no_event() {
    on_every_backend(|mut selector| {
        let waker = selector.waker().unwrap();
        waker.wake().unwrap();
        selector.select(None).unwrap();
        assert!(!selector.take_woken(), "not before it is seen");
        assert_eq!(selector.next_ready(), None);
        assert!(selector.take_woken());
        assert!(!selector.take_woken());
        waker.reset();
        assert_eq!(ready(&mut selector), []);
        assert!(!selector.take_woken());
    });
}

#[test]
fn does_dropping_the_selector_close_its_sockets() {
    on_every_backend(|mut selector| {
        let (mut ours, theirs) = pair();
        selector.register(theirs, Interest::READABLE, "data").unwrap();
        drop(selector);
        assert_eq!(ours.read(&mut [0]).unwrap(), 0);
    });
}
