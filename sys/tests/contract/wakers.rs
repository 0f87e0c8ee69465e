//! Ending a wait from another thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use myriapod_sys::{Backend, Errno, Token, Waker};

use crate::support::{Fixture, is};

fn with_waker(backend: Backend) -> (Fixture, Arc<Waker>) {
    let mut fixture = Fixture::new(backend);
    let waker = Waker::new(&mut fixture.poller, Token(7)).unwrap();
    assert_eq!(fixture.now(), []);
    (fixture, Arc::new(waker))
}

pub(crate) fn does_a_wake_from_another_thread_end_a_wait(backend: Backend) {
    let (mut fixture, waker) = with_waker(backend);
    let thread = thread::spawn({
        let waker = Arc::clone(&waker);
        move || waker.wake()
    });
    let event = fixture.only();
    assert!(event.token().0 == 7 && event.is_readable());
    waker.reset();
    thread.join().unwrap().unwrap();
}

pub(crate) fn do_many_wakes_make_one_event(backend: Backend) {
    let (mut fixture, waker) = with_waker(backend);
    for _ in 0..1_000 {
        waker.wake().unwrap();
    }
    fixture.only();
    waker.reset();
    assert_eq!(fixture.now(), []);
}

pub(crate) fn is_it_silent_after_a_reset(backend: Backend) {
    let (mut fixture, waker) = with_waker(backend);
    waker.wake().unwrap();
    fixture.only();
    waker.reset();
    assert_eq!(fixture.now(), []);
    // With nothing to take back it does nothing.
    waker.reset();
    assert_eq!(fixture.now(), []);
}

pub(crate) fn can_it_wake_again_after_a_reset(backend: Backend) {
    let (mut fixture, waker) = with_waker(backend);
    for _ in 0..100 {
        waker.wake().unwrap();
        assert_eq!(fixture.only().token().0, 7);
        waker.reset();
    }
    assert_eq!(fixture.now(), []);
}

pub(crate) fn does_a_wake_before_the_wait_count(backend: Backend) {
    let (mut fixture, waker) = with_waker(backend);
    waker.wake().unwrap();
    assert_eq!(fixture.only().token().0, 7);
}

pub(crate) fn do_two_wakers_have_their_own_tokens(backend: Backend) {
    let (mut fixture, one) = with_waker(backend);
    let other = Waker::new(&mut fixture.poller, Token(8)).unwrap();
    other.wake().unwrap();
    assert_eq!(fixture.only().token().0, 8);
    other.reset();
    one.wake().unwrap();
    assert_eq!(fixture.only().token().0, 7);
    one.reset();
    assert_eq!(fixture.now(), []);
}

pub(crate) fn is_a_closed_waker_gone(backend: Backend) {
    let mut fixture = Fixture::new(backend);
    let waker = Waker::new(&mut fixture.poller, Token(7)).unwrap();
    waker.wake().unwrap();
    waker.close(&mut fixture.poller).unwrap();
    assert_eq!(fixture.now(), []);
    let waker = Waker::new(&mut fixture.poller, Token(8)).unwrap();
    assert_eq!(fixture.now(), []);
    waker.wake().unwrap();
    assert_eq!(fixture.only().token().0, 8);
}

pub(crate) fn is_closing_with_another_poller_refused(backend: Backend) {
    let mut fixture = Fixture::new(backend);
    let mut other = Fixture::new(backend);
    let waker = Waker::new(&mut fixture.poller, Token(7)).unwrap();
    assert!(is(waker.close(&mut other.poller), Errno::ENOENT));
}

pub(crate) fn is_no_wake_lost_among_threads(backend: Backend) {
    const THREADS: usize = 4;
    const EACH: usize = 2_000;
    let (mut fixture, waker) = with_waker(backend);
    let left_for_us = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (waker, left_for_us) = (Arc::clone(&waker), Arc::clone(&left_for_us));
            thread::spawn(move || {
                for _ in 0..EACH {
                    left_for_us.fetch_add(1, Ordering::Relaxed);
                    waker.wake().unwrap();
                }
            })
        })
        .collect();
    let mut taken = 0;
    while taken < THREADS * EACH {
        // Were a wake lost, nothing would come.
        fixture.only();
        waker.reset();
        taken += left_for_us.swap(0, Ordering::Relaxed);
    }
    for thread in threads {
        thread.join().unwrap();
    }
}
