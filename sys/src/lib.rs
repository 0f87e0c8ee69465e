//! The operating system under myriapod, and nothing else.
//!
//! # The backend contract
//!
//! The modules `epoll`, `kqueue`, [`mod@poll`], [`select`] and [`portable`] each
//! hold one type with the same functions; [`Poller`] chooses one of them at run
//! time, out of those that the system has ([`Backend`]).
//! There is no trait: this text is the contract, and one test suite
//! (`tests/contract.rs`) runs over every backend.
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
//!   fail. It costs nothing where the kernel forgets by itself (epoll, kqueue);
//!   elsewhere the number's next owner would be watched.
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
//!   for all of that interest, so that whoever acts on it finds out from `recv`
//!   or `send`. Where the system says that it is one ([`Event::is_hangup`],
//!   [`Event::is_error`]), the event is readable *and* writable, whatever the
//!   interest. These and [`Event::is_read_closed`] are hints: epoll and poll give
//!   all of them, kqueue takes a hang-up for a half-close where only reading is
//!   asked for, and select gives none.
//! - So an event may be ready for more than was asked for, never for nothing of it.
//! - Modes that a backend cannot honour are refused with
//!   [`Error::Unsupported`], never silently weakened.
//!
//! # Where things are
//!
//! One file for each family of system calls; each wrapper opens with the C
//! signature. All unsafe code of myriapod is in this crate.

mod address;
mod clock;
mod datagram;
mod descriptor;
#[cfg(has_epoll)]
pub mod epoll;
mod errno;
mod error;
mod event;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(has_kqueue)]
pub mod kqueue;
mod listener;
mod options;
pub mod poll;
mod poller;
pub mod portable;
mod process;
mod resolve;
pub mod select;
mod signal;
mod sockaddr;
mod socket;
mod spare;
mod table;
mod thread;
mod timeout;
mod waker;

pub use std::net::Shutdown;
pub use std::os::fd::{AsFd, BorrowedFd};

pub use address::{SocketAddr, UnixAddr};
pub use clock::{Time, now};
pub use datagram::{Datagram, DatagramSocket, recv_from, send_to};
pub use errno::{Errno, Explanation};
pub use error::{Error, Result};
pub use event::{Event, Events, Interest, Mode, Token};
pub use listener::{ListenOptions, Listener, accept, unlink_unix};
pub use options::{
    Keepalive, REUSE_PORT_BALANCES, TcpInfo, TcpState, nodelay, queue_sizes, recv_buffer_size,
    reuse_address, reuse_port, send_buffer_size, set_keepalive, set_linger, set_nodelay,
    set_recv_buffer_size, set_reuse_address, set_reuse_port, set_send_buffer_size,
    set_tcp_user_timeout, set_v6_only, tcp_info, v6_only,
};
pub use poller::{Backend, Poller, UnknownBackend};
pub use process::{
    CpuTime, DescriptorLimit, adopt_descriptor, cpu_time, descriptor_limit, inherited_listeners,
    open_descriptors, pid, raise_descriptor_limit, rss_bytes,
};
pub use resolve::{host_name, resolve};
pub use signal::{Signal, Signals};
pub use socket::{
    Connecting, Socket, local_address, peer_address, recv, recv_append, send, send_vectored,
    shutdown, take_error,
};
pub use spare::SpareDescriptor;
pub use thread::{JoinHandle, available_cpus, set_thread_cpus, spawn, thread_cpus};
pub use waker::Waker;

/// An open descriptor and the duty to close it. The rest of the project says this name, so that
/// a simulated system can stand in for the real one.
pub type Descriptor = std::os::fd::OwnedFd;
