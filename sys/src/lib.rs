//! The operating system under myriapod, and nothing else.
//!
//! # The backend contract
//!
//! The modules `epoll`, `kqueue`, [`mod@poll`], [`select`] and [`portable`] each
//! hold one type with the same functions; [`Poller`] chooses one of them at run
//! time, out of those that the system has ([`Backend`]).
//! [`portable`] is there with the feature of that name, which is on unless it is
//! turned off, and brings the crate `polling`.
//! There is no trait: this text is the contract, and one test suite
//! (`tests/contract/`) runs over every backend.
//!
//! - **`new()`** creates the poller. Its own descriptors are close-on-exec.
//! - **`add(fd, token, interest, mode)`** starts watching `fd`. The token comes
//!   back in every event and means nothing to the backend. A descriptor that is
//!   already watched is `EEXIST`.
//! - **`modify(fd, token, interest, mode)`** replaces token, interest and mode.
//!   A descriptor that is not watched is `ENOENT`.
//! - **`delete(fd)`** stops watching. A descriptor that is not watched is
//!   `ENOENT`.
//! - **`forget(fd)`** must come before a watched descriptor is closed, and cannot
//!   fail. Without it, poll and select would watch the number's next owner; and
//!   epoll would go on to report the socket while a duplicate of it is open
//!   anywhere, after `try_clone` or in a forked process. It costs a system call
//!   on epoll, and none on kqueue, which forgets with the close.
//! - **`wait(events, timeout)`** appends at most `events`' free capacity of
//!   events, at least one descriptor's, and returns how many. `None` waits for
//!   ever, a zero timeout does not block, and any other timeout is rounded *up*
//!   to what the system can express, so that a timer is never early. A signal
//!   (`EINTR`) restarts the wait with the time that is left.
//!
//! What the events say:
//!
//! - **Level-triggered** unless asked otherwise: an event comes back on every
//!   wait for as long as its condition holds.
//! - One event for a descriptor and wait, whatever became ready.
//! - **An empty interest is refused** (`EINVAL`): a descriptor that nobody wants
//!   to hear of leaves the poller with `delete`, so that a hang-up cannot spin.
//! - While any interest is held, **a hang-up or an error is reported**, as ready
//!   for all of that interest, so that a program that acts on it finds out from `recv`
//!   or `send`. Where the system says that it is one ([`Event::is_hangup`],
//!   [`Event::is_error`]), the event is readable *and* writable, whatever the
//!   interest. These and [`Event::is_read_closed`] are hints: epoll and poll give
//!   all of them, kqueue takes a hang-up for a half-close where only reading is
//!   asked for, and select gives none.
//! - So an event may be ready for more than was asked for, never for nothing of it.
//! - Modes that a backend cannot honour are refused with
//!   [`SystemError::Unsupported`], never silently weakened.
//!
//! # Where things are
//!
//! Two worlds have the same functions: the real system (`unix/`: one file for each family of system
//! calls; a function that is one system call opens with its C signature, and a method of the same name
//! leads to it), and a simulated one (`sim/`), under `--cfg myriapod_sim`. What is not a call stands beside them and is shared: addresses, error
//! numbers, events, times.
//!
//! All unsafe code of myriapod is in this crate.

mod address;
mod awake;
mod backend;
mod descriptor_limit;
mod errno;
mod error;
mod event;
mod listen_options;
mod signal_kind;
mod this_thread;
mod time;

// The one place that chooses the world. Nothing else in this crate, and nothing that is built on it,
// asks which one it is.
#[cfg(not(myriapod_sim))]
#[path = "unix/mod.rs"]
mod world;
#[cfg(myriapod_sim)]
#[path = "sim/mod.rs"]
mod world;

pub use std::net::Shutdown;
// For `awake`, which a model checker compiles with atomics of its own.
use std::sync::atomic;

pub use address::{SocketAddr, UnixAddr};
pub use backend::{Backend, UnknownBackend};
pub use descriptor_limit::DescriptorLimit;
pub use errno::{Errno, Explanation};
pub use error::{Result, SystemError};
pub use event::{Event, Events, Interest, Mode, Token};
pub use listen_options::ListenOptions;
pub use signal_kind::Signal;
pub use this_thread::this_thread;
pub use time::Time;

// What both worlds have.
pub use world::{
    AsFd, BorrowedFd, Connecting, Descriptor, JoinHandle, Listener, MAX_PASSED, Poller,
    REUSE_PORT_BALANCES, Receiver, Sender, Signals, Socket, SocketFile, SpareDescriptor, Waker,
    accept, available_cpus, channel, descriptor_limit, local_address, now, open_descriptors, pause,
    peer_address, peer_user, pid, poll, queue_sizes, raise_descriptor_limit, read_at, recv,
    recv_append, recv_descriptors, release_pages, resolve, select, send, send_descriptors,
    send_file, send_vectored, set_linger, set_nodelay, set_nonblocking, set_thread_cpus, shutdown,
    spawn, take_error, thread_cpus, user,
};
// What this one has besides.
pub use world::extra::*;
