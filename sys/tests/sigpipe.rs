//! Alone in its process: it gives SIGPIPE back the action that ends a process.

mod support;

use std::io::IoSlice;

use myriapod_sys::{Errno, Socket, send, send_file, send_vectored};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use support::{accept_one, connect, listen, tcp_pair, v4};

#[test]
fn does_sending_to_a_closed_peer_raise_no_sigpipe() {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action is no handler.
    unsafe { sigaction(Signal::SIGPIPE, &default) }.unwrap();

    // A pair, a connecting socket and an accepted one: each way a socket comes to be.
    let (pair, gone) = Socket::pair().unwrap();
    drop(gone);
    let (connected, gone) = tcp_pair();
    drop(gone);
    let listener = listen(&v4());
    let gone = connect(&listener.local_address().unwrap()).unwrap();
    let (accepted, _) = accept_one(&listener);
    drop(gone);
    for socket in [&pair, &connected, &accepted] {
        // The first may still be taken; the peer's reset answers it.
        let errno = loop {
            if let Err(errno) = send(socket, b"x") {
                break errno;
            }
        };
        assert!(matches!(errno, Errno::EPIPE | Errno::ECONNRESET), "{errno}");
        assert_eq!(send(socket, b"x"), Err(Errno::EPIPE));
        assert_eq!(send_vectored(socket, &[IoSlice::new(b"x")]), Err(Errno::EPIPE));
        let file = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(send_file(socket, &file, 0, 10), Err(Errno::EPIPE));
    }
}
