//! Signals as something to wait for. They belong to the process, so the tests take turns.

#![expect(clippy::unwrap_used, reason = "tests fail by it")]

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use myriapod_sys::{Signal, Signals, SystemError};
use nix::sys::signal::{self, SaFlags, SigAction, SigHandler, SigSet, kill, raise, sigaction};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use support::{assert_prepared, is_readable, wait_readable};

fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn do_signals_come_in_order_and_none_is_merged() {
    let _turn = turn();
    let all = [Signal::Interrupt, Signal::Terminate, Signal::Hangup, Signal::User1];
    let mut signals = Signals::install(&all).unwrap();
    assert!(!is_readable(&signals));
    assert_eq!(signals.take(), None);
    let order = [
        (signal::SIGTERM, Signal::Terminate),
        (signal::SIGTERM, Signal::Terminate),
        (signal::SIGINT, Signal::Interrupt),
        (signal::SIGUSR1, Signal::User1),
        (signal::SIGHUP, Signal::Hangup),
        (signal::SIGTERM, Signal::Terminate),
    ];
    for (raised, _) in order {
        // To this thread: it returns when the handler has run.
        raise(raised).unwrap();
    }
    for (_, expected) in order {
        assert!(is_readable(&signals));
        assert_eq!(signals.take(), Some(expected));
    }
    assert_eq!(signals.take(), None);
    assert!(!is_readable(&signals));
    assert_eq!(signals.lost(), 0);
}

#[test]
fn does_a_signal_from_outside_wake_a_waiting_thread() {
    let _turn = turn();
    let mut signals = Signals::install(&[Signal::User1]).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| kill(Pid::this(), signal::SIGUSR1).unwrap());
        wait_readable(&signals);
    });
    assert_eq!(signals.take(), Some(Signal::User1));
}

#[test]
fn is_a_second_install_refused_until_the_first_is_gone() {
    let _turn = turn();
    let first = Signals::install(&[Signal::User1]).unwrap();
    assert_eq!(Signals::install(&[Signal::Hangup]).unwrap_err(), SystemError::SignalsInstalled);
    drop(first);
    let mut second = Signals::install(&[Signal::User1]).unwrap();
    raise(signal::SIGUSR1).unwrap();
    assert_eq!(second.take(), Some(Signal::User1));
}

static BEFORE: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_: i32) {
    BEFORE.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn does_dropping_restore_what_the_signals_did_before() {
    let _turn = turn();
    let action = SigAction::new(SigHandler::Handler(count), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler touches one atomic and nothing else.
    let original = unsafe { sigaction(signal::SIGUSR1, &action) }.unwrap();

    // Named twice, it still ends as it began.
    let signals = Signals::install(&[Signal::User1, Signal::User1]).unwrap();
    raise(signal::SIGUSR1).unwrap();
    assert_eq!(BEFORE.load(Ordering::Relaxed), 0, "ours is in force");
    drop(signals);
    raise(signal::SIGUSR1).unwrap();
    assert_eq!(BEFORE.load(Ordering::Relaxed), 1, "theirs is again");

    // What was not taken does not come up later.
    let mut signals = Signals::install(&[Signal::User1]).unwrap();
    assert_eq!(signals.take(), None);
    drop(signals);
    // SAFETY: this action was in force before.
    unsafe { sigaction(signal::SIGUSR1, &original) }.unwrap();
}

/// Raises until one finds no room; returns how often.
fn fill(signals: &Signals) -> u64 {
    let mut raised = 0;
    while signals.lost() == 0 {
        raise(signal::SIGUSR1).unwrap();
        raised += 1;
        assert!(raised < 1 << 18, "a pipe holds 64 KiB");
    }
    raised
}

#[test]
fn is_a_signal_that_finds_no_room_counted() {
    let _turn = turn();
    let mut signals = Signals::install(&[Signal::User1]).unwrap();
    let raised = fill(&signals);
    let mut taken = 0;
    while signals.take() == Some(Signal::User1) {
        taken += 1;
    }
    assert_eq!(taken + signals.lost(), raised);
    assert!(taken > 500, "{taken}");
}

#[test]
fn does_the_handler_leave_errno_alone() {
    let _turn = turn();
    let mut signals = Signals::install(&[Signal::User1]).unwrap();
    // Full, so that the handler's own write fails and sets errno.
    fill(&signals);
    nix::errno::Errno::EDOM.set();
    raise(signal::SIGUSR1).unwrap();
    assert_eq!(nix::errno::Errno::last(), nix::errno::Errno::EDOM);
    while signals.take().is_some() {}
}

#[test]
fn is_a_childs_signal_no_signal_of_ours() {
    let _turn = turn();
    let mut signals = Signals::install(&[Signal::User1]).unwrap();
    // SAFETY: the child calls nothing but raise and _exit, which are safe after a fork.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            let status = i32::from(raise(signal::SIGUSR1).is_err());
            // SAFETY: no memory is involved.
            unsafe { libc::_exit(status) }
        }
        nix::unistd::ForkResult::Parent { child } => {
            let ended = loop {
                match nix::sys::wait::waitpid(child, None) {
                    Err(nix::Error::EINTR) => {}
                    ended => break ended.unwrap(),
                }
            };
            assert_eq!(ended, nix::sys::wait::WaitStatus::Exited(child, 0), "it survives");
        }
    }
    assert_eq!(signals.take(), None);
}

#[test]
fn is_the_pipe_non_blocking_and_close_on_exec() {
    let _turn = turn();
    assert_prepared(Signals::install(&[]).unwrap());
}

#[test]
fn are_signals_named_as_the_system_names_them() {
    let names = [Signal::Interrupt, Signal::Terminate, Signal::Hangup, Signal::User1]
        .map(|signal| signal.to_string());
    assert_eq!(names, ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"]);
}

/// Runs `child` in a forked child, which has this thread alone, and waits for its end.
fn in_forked_child(child: impl FnOnce() -> i32) -> WaitStatus {
    // SAFETY: the child does what `child` says, and ends without the exit handlers of this process.
    // It waits for nothing, takes no lock that another thread may hold, and glibc's allocator is
    // made for forks.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let status = child();
            // SAFETY: does not return.
            unsafe { libc::_exit(status) }
        }
        ForkResult::Parent { child } => waitpid(child, None).unwrap(),
    }
}

#[test]
fn do_signals_after_a_fork_go_to_who_takes_them_over() {
    let _turn = turn();
    let mut signals = Signals::install(&[Signal::User1, Signal::Terminate]).unwrap();
    let ended = in_forked_child(|| {
        // Before it takes over: it is kept.
        raise(signal::SIGTERM).unwrap();
        if signals.take_over() != Ok(true) || signals.take() != Some(Signal::Terminate) {
            return 1;
        }
        raise(signal::SIGUSR1).unwrap();
        if !is_readable(&signals) || signals.take() != Some(Signal::User1) {
            return 2;
        }
        assert_prepared(&signals);
        if signals.take_over() != Ok(false) || signals.take().is_some() { 3 } else { 0 }
    });
    assert!(matches!(ended, WaitStatus::Exited(_, 0)), "{ended:?}");
    assert_eq!(signals.take(), None, "the child's signals are not ours");
    raise(signal::SIGUSR1).unwrap();
    assert_eq!(signals.take(), Some(Signal::User1));
    assert_eq!(signals.take_over(), Ok(false));
}

#[test]
fn does_a_child_that_installs_its_own_leave_ours_alone() {
    let _turn = turn();
    let mut ours = Some(Signals::install(&[Signal::User1]).unwrap());
    raise(signal::SIGUSR1).unwrap();
    let ended = in_forked_child(|| {
        // The child's copy.
        drop(ours.take());
        let Ok(mut own) = Signals::install(&[Signal::Terminate]) else { return 1 };
        raise(signal::SIGTERM).unwrap();
        if own.take() == Some(Signal::Terminate) && own.take().is_none() { 0 } else { 2 }
    });
    assert!(matches!(ended, WaitStatus::Exited(_, 0)), "{ended:?}");
    let mut ours = ours.unwrap();
    assert_eq!(ours.take(), Some(Signal::User1), "it came before the fork");
    assert_eq!(ours.take(), None);
}
