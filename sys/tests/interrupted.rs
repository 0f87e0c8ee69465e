//! Signals that interrupt a blocking call. Their handler is installed without `SA_RESTART`.

#![expect(clippy::unwrap_used, reason = "tests fail by it")]

mod support;

use std::os::unix::thread::JoinHandleExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use myriapod_sys::{Listener, Socket, accept, recv, send};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use support::{connect, listen, v4};

static SEEN: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_: i32) {
    SEEN.fetch_add(1, Ordering::Relaxed);
}

/// Interrupts the thread that runs `blocking` many times, then lets it finish through `finish`.
fn interrupt<T: Send + 'static>(
    blocking: impl FnOnce() -> T + Send + 'static,
    finish: impl FnOnce(),
) -> T {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let action = SigAction::new(SigHandler::Handler(count), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler touches one atomic and nothing else.
    unsafe { sigaction(Signal::SIGUSR2, &action) }.unwrap();
    let thread = thread::spawn(blocking);
    let before = SEEN.load(Ordering::Relaxed);
    // One handler after the other, so that each finds the thread at work or in the call.
    for seen in 1..=200 {
        if thread.is_finished() {
            break;
        }
        // SAFETY: no memory is involved, and a thread that was not joined yet may be signalled.
        let sent = unsafe { libc::pthread_kill(thread.as_pthread_t(), libc::SIGUSR2) };
        assert_eq!(sent, 0);
        while SEEN.load(Ordering::Relaxed) < before + seen && !thread.is_finished() {
            thread::yield_now();
        }
    }
    finish();
    thread.join().unwrap()
}

#[test]
fn does_recv_go_on_after_a_signal() {
    let (ours, theirs) = Socket::pair().unwrap();
    theirs.set_nonblocking(false).unwrap();
    let received =
        interrupt(move || recv(&theirs, &mut [0; 8]), || assert_eq!(send(&ours, b"hello"), Ok(5)));
    assert_eq!(received, Ok(5));
}

#[test]
fn does_send_go_on_after_a_signal() {
    let (ours, theirs) = Socket::pair().unwrap();
    while ours.send(&[0; 1 << 12]).is_ok() {}
    ours.set_nonblocking(false).unwrap();
    let mut room = vec![0; 1 << 20];
    let sent = interrupt(
        move || send(&ours, b"hello"),
        // The reading end stays open until the thread is done.
        || while theirs.recv(&mut room).is_ok_and(|received| received > 0) {},
    );
    assert_eq!(sent, Ok(5));
}

#[test]
fn does_accept_go_on_after_a_signal() {
    let listener: Listener = {
        let descriptor: myriapod_sys::Descriptor = listen(&v4()).into();
        let socket = Socket::from(descriptor);
        socket.set_nonblocking(false).unwrap();
        Listener::from(myriapod_sys::Descriptor::from(socket))
    };
    let address = listener.local_address().unwrap();
    let mut client = None;
    let accepted = interrupt(
        move || accept(&listener).map(|(_, peer)| peer),
        || client = Some(connect(&address).unwrap()),
    );
    assert_eq!(accepted, Ok(client.unwrap().local_address().unwrap()));
}
