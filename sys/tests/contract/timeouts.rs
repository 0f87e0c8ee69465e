//! How long a wait waits.

use std::io::Write;
use std::os::unix::thread::JoinHandleExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use myriapod_sys::Backend;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::support::{Fixture, READ, pair};

pub(crate) fn is_a_timeout_never_early(backend: Backend) {
    let mut fixture = Fixture::new(backend);
    let (ours, _theirs) = pair();
    fixture.add(&ours, 7, READ);
    for nanoseconds in [1, 999, 1_000, 100_001, 999_999, 1_000_001, 1_500_000, 20_000_001] {
        let timeout = Duration::from_nanos(nanoseconds);
        let start = Instant::now();
        assert_eq!(fixture.wait(64, Some(timeout)), []);
        assert!(start.elapsed() >= timeout, "{timeout:?}");
    }
}

pub(crate) fn does_a_zero_timeout_not_block(backend: Backend) {
    let mut fixture = Fixture::new(backend);
    assert_eq!(fixture.wait(64, Some(Duration::ZERO)), []);
    let (ours, mut theirs) = pair();
    fixture.add(&ours, 7, READ);
    assert_eq!(fixture.wait(64, Some(Duration::ZERO)), []);
    theirs.write_all(b"x").unwrap();
    assert_eq!(fixture.wait(64, Some(Duration::ZERO)).len(), 1);
}

fn waits_for_an_event(backend: Backend, timeout: Option<Duration>) {
    let mut fixture = Fixture::new(backend);
    let (ours, mut theirs) = pair();
    fixture.add(&ours, 7, READ);
    let (started, has_started) = mpsc::channel();
    let waiter = thread::spawn(move || {
        started.send(thread_id()).unwrap();
        fixture.wait(64, timeout).len()
    });
    until_asleep(has_started.recv().unwrap());
    assert!(!waiter.is_finished());
    theirs.write_all(b"x").unwrap();
    assert_eq!(waiter.join().unwrap(), 1);
    drop(ours);
}

pub(crate) fn does_no_timeout_wait_for_an_event(backend: Backend) {
    waits_for_an_event(backend, None);
}

pub(crate) fn does_the_longest_timeout_wait_for_an_event(backend: Backend) {
    for timeout in [Duration::MAX, Duration::from_secs(1 << 40), Duration::from_secs(1 << 32)] {
        waits_for_an_event(backend, Some(timeout));
    }
}

/// How many signals were handled.
static HANDLED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_: libc::c_int) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

/// Has SIGUSR1 counted, without restarting what it interrupts.
fn handle_signals() {
    let action = SigAction::new(SigHandler::Handler(count), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler only adds to an atomic number.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
}

fn signal<T>(thread: &thread::JoinHandle<T>) {
    // SAFETY: the thread has not been joined, so its handle is valid.
    let sent =
        unsafe { libc::pthread_kill(thread.as_pthread_t() as libc::pthread_t, libc::SIGUSR1) };
    assert!(sent == 0 || sent == libc::ESRCH);
}

pub(crate) fn does_a_signal_not_end_a_wait(backend: Backend) {
    handle_signals();
    let mut fixture = Fixture::new(backend);
    let (ours, mut theirs) = pair();
    fixture.add(&ours, 7, READ);
    let (started, has_started) = mpsc::channel();
    let waiter = thread::spawn(move || {
        started.send(thread_id()).unwrap();
        fixture.wait(64, None).len()
    });
    let id = has_started.recv().unwrap();
    for _ in 0..20 {
        let before = HANDLED.load(Ordering::Relaxed);
        until_asleep(id);
        signal(&waiter);
        while HANDLED.load(Ordering::Relaxed) == before {
            thread::yield_now();
        }
    }
    until_asleep(id);
    assert!(!waiter.is_finished());
    theirs.write_all(b"x").unwrap();
    assert_eq!(waiter.join().unwrap(), 1);
    drop(ours);
}

pub(crate) fn does_a_signal_not_shorten_a_timeout(backend: Backend) {
    handle_signals();
    let mut fixture = Fixture::new(backend);
    let (ours, _theirs) = pair();
    fixture.add(&ours, 7, READ);
    let timeout = Duration::from_millis(30);
    let waiter = thread::spawn(move || {
        let start = Instant::now();
        let count = fixture.wait(64, Some(timeout)).len();
        (count, start.elapsed() >= timeout)
    });
    while !waiter.is_finished() {
        signal(&waiter);
        thread::yield_now();
    }
    assert_eq!(waiter.join().unwrap(), (0, true));
    drop(ours);
}

#[cfg(has_epoll)]
fn thread_id() -> libc::pid_t {
    // SAFETY: takes nothing.
    unsafe { libc::gettid() }
}

/// Returns when the kernel has put the thread to sleep.
#[cfg(has_epoll)]
fn until_asleep(id: libc::pid_t) {
    loop {
        let stat = std::fs::read_to_string(format!("/proc/self/task/{id}/stat")).unwrap();
        if stat.rsplit(") ").next().unwrap().starts_with('S') {
            return;
        }
        thread::yield_now();
    }
}

#[cfg(not(has_epoll))]
fn thread_id() -> libc::pid_t {
    0
}

/// Where nobody can tell, a signal may come before the wait that it should interrupt.
#[cfg(not(has_epoll))]
fn until_asleep(_: libc::pid_t) {
    thread::yield_now();
}
