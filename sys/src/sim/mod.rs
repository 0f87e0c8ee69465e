//! A simulated kernel: the functions of this crate over a world in memory, with virtual time.
//!
//! `lib.rs` names what every world must have, and takes it from here. What the maker of a world needs
//! is in [`maker`], which is `myriapod_sys::sim` outside.

#![allow(clippy::panic, reason = "a call from outside a world has nothing to return")]

mod channel;
mod closing;
mod descriptor;
mod end;
mod faults;
mod file;
mod kernel;
mod listener;
pub mod maker;
mod net;
mod passing;
mod poller;
mod process;
mod remote;
mod rng;
mod socket;
mod system;
mod threads;
mod waker;
mod wire;

pub use channel::{Receiver, Sender, channel};
pub use descriptor::{AsFd, BorrowedFd, Descriptor};
pub use file::{read_at, send_file};
pub use listener::{Listener, REUSE_PORT_BALANCES, SocketFile, accept};
pub use passing::{MAX_PASSED, peer_user, recv_descriptors, send_descriptors, user};
pub(crate) use poller::HAS_PORTABLE;
pub use poller::Poller;
pub use process::pid;
pub use socket::{
    Connecting, Socket, local_address, peer_address, recv, recv_append, send, send_vectored,
    shutdown, take_error,
};
pub use system::{
    JoinHandle, Signals, SpareDescriptor, available_cpus, descriptor_limit, now, open_descriptors,
    pause, queue_sizes, raise_descriptor_limit, release_pages, resolve, set_linger, set_nodelay,
    set_nonblocking, set_thread_cpus, spawn, thread_cpus,
};
pub use waker::Waker;

/// The part of `poll` that a blocking client needs.
pub mod poll {
    pub use super::poller::wait_one;
}

/// The part of `select` that a server's limits are about.
pub mod select {
    /// As many descriptors as select can watch on most systems.
    pub const DESCRIPTORS: usize = 1024;
}

/// What the real world has no counterpart of.
pub(crate) mod extra {
    pub use super::maker as sim;
}
