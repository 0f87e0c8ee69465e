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
mod backend;
#[cfg(not(myriapod_sim))]
mod cgroup;
mod clock;
#[cfg(not(myriapod_sim))]
mod datagram;
#[cfg(not(myriapod_sim))]
mod descriptor;
#[cfg(all(has_epoll, not(myriapod_sim)))]
pub mod epoll;
mod errno;
mod error;
mod event;
#[cfg(all(fuzzing, not(myriapod_sim)))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(all(has_kqueue, not(myriapod_sim)))]
pub mod kqueue;
mod listen_options;
#[cfg(not(myriapod_sim))]
mod listener;
#[cfg(not(myriapod_sim))]
mod machine;
mod memory;
#[cfg(not(myriapod_sim))]
mod options;
#[cfg(not(myriapod_sim))]
mod other_process;
#[cfg(not(myriapod_sim))]
pub mod poll;
#[cfg(not(myriapod_sim))]
mod poller;
#[cfg(not(myriapod_sim))]
pub mod portable;
#[cfg(not(myriapod_sim))]
mod process;
#[cfg(not(myriapod_sim))]
mod resolve;
#[cfg(not(myriapod_sim))]
pub mod select;
#[cfg(not(myriapod_sim))]
mod signal;
#[cfg(myriapod_sim)]
pub mod sim;
#[cfg(not(myriapod_sim))]
mod sockaddr;
#[cfg(not(myriapod_sim))]
mod socket;
#[cfg(not(myriapod_sim))]
mod spare;
#[cfg(not(myriapod_sim))]
mod table;
#[cfg(not(myriapod_sim))]
mod thread;
#[cfg(not(myriapod_sim))]
mod timeout;
#[cfg(not(myriapod_sim))]
mod usage;
#[cfg(not(myriapod_sim))]
mod waker;

pub use std::net::Shutdown;
#[cfg(not(myriapod_sim))]
pub use std::os::fd::{AsFd, BorrowedFd};

pub use address::{SocketAddr, UnixAddr};
pub use backend::{Backend, UnknownBackend};
#[cfg(not(myriapod_sim))]
pub use cgroup::CgroupMemory;
pub use clock::Time;
#[cfg(not(myriapod_sim))]
pub use clock::now;
#[cfg(not(myriapod_sim))]
pub use datagram::{Datagram, DatagramSocket, recv_from, send_to};
pub use errno::{Errno, Explanation};
pub use error::{Error, Result};
pub use event::{Event, Events, Interest, Mode, Token};
pub use listen_options::ListenOptions;
#[cfg(not(myriapod_sim))]
pub use listener::{Listener, accept, unlink_unix};
#[cfg(not(myriapod_sim))]
pub use machine::{
    Conntrack, LocalPorts, Machine, Memory, OpenFiles, Overcommit, Privileges, ProcessorTime,
    TcpMemory,
};
pub use memory::release_pages;
#[cfg(not(myriapod_sim))]
pub use options::{
    Keepalive, REUSE_PORT_BALANCES, TcpInfo, TcpState, nodelay, queue_sizes, recv_buffer_size,
    reuse_address, reuse_port, send_buffer_size, set_keepalive, set_linger, set_nodelay,
    set_recv_buffer_size, set_reuse_address, set_reuse_port, set_send_buffer_size,
    set_tcp_user_timeout, set_v6_only, tcp_info, v6_only,
};
#[cfg(not(myriapod_sim))]
pub use other_process::{kill_group, send_signal};
#[cfg(not(myriapod_sim))]
pub use poller::Poller;
#[cfg(not(myriapod_sim))]
pub use process::{
    CpuTime, DescriptorLimit, adopt_descriptor, cpu_time, descriptor_limit, inherited_listeners,
    open_descriptors, pid, raise_descriptor_limit, rss_bytes,
};
#[cfg(not(myriapod_sim))]
pub use resolve::{host_name, resolve};
#[cfg(not(myriapod_sim))]
pub use signal::{Signal, Signals};
#[cfg(not(myriapod_sim))]
pub use socket::{
    Connecting, Socket, local_address, peer_address, recv, recv_append, send, send_vectored,
    shutdown, take_error,
};
#[cfg(not(myriapod_sim))]
pub use spare::SpareDescriptor;
#[cfg(not(myriapod_sim))]
pub use thread::{JoinHandle, available_cpus, set_thread_cpus, spawn, thread_cpus};
#[cfg(not(myriapod_sim))]
pub use usage::{
    ProcessUsage, busy_time, end_with_parent, process_cpus, process_rss_bytes, process_usage,
    set_timer_slack, thread_cpu_time, time_wait_sockets,
};
#[cfg(not(myriapod_sim))]
pub use waker::Waker;

#[cfg(myriapod_sim)]
pub use sim::{
    AsFd, BorrowedFd, Connecting, Descriptor, DescriptorLimit, JoinHandle, Listener, Poller,
    REUSE_PORT_BALANCES, Signal, Signals, Socket, SpareDescriptor, Waker, accept, available_cpus,
    descriptor_limit, local_address, now, open_descriptors, peer_address, queue_sizes,
    raise_descriptor_limit, recv, recv_append, resolve, send, send_vectored, set_nodelay,
    set_thread_cpus, shutdown, spawn, take_error, thread_cpus, unlink_unix,
};

/// The part of `poll` that a blocking client needs.
#[cfg(myriapod_sim)]
pub mod poll {
    pub use crate::sim::wait_one;
}

/// The part of `select` that a server's limits are about.
#[cfg(myriapod_sim)]
pub mod select {
    /// As many descriptors as select can watch on most systems.
    pub const DESCRIPTORS: usize = 1024;
}

/// An open descriptor and the duty to close it. The rest of the project says this name, so that
/// a simulated system can stand in for the real one.
#[cfg(not(myriapod_sim))]
pub type Descriptor = std::os::fd::OwnedFd;
