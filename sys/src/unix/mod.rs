//! The real system: one file for each family of system calls.
//!
//! `lib.rs` names what every world must have, and takes it from here. What only this one has is in
//! [`extra`].

mod clock;
mod datagram;
mod descriptor;
#[cfg(has_epoll)]
pub mod epoll;
mod file;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(has_kqueue)]
pub mod kqueue;
mod listener;
mod memory;
mod options;
mod other_process;
mod passing;
pub mod poll;
mod poller;
#[cfg(feature = "portable")]
pub mod portable;
#[cfg(not(feature = "portable"))]
#[path = "no_portable.rs"]
mod portable;
mod process;
mod resolve;
pub mod select;
mod signal;
mod sockaddr;
mod socket;
mod socket_file;
mod spare;
mod table;
mod thread;
mod timeout;
mod waker;

pub use std::os::fd::{AsFd, BorrowedFd};
// As it is: threads that wait need nothing of us here.
pub use std::sync::mpsc::{Receiver, Sender, channel};

pub use clock::now;
pub use descriptor::Descriptor;
pub use file::{read_at, send_file};
pub use listener::{Listener, accept};
pub use memory::release_pages;
pub use options::{REUSE_PORT_BALANCES, queue_sizes, set_linger, set_nodelay, set_nonblocking};
pub use passing::{MAX_PASSED, peer_user, recv_descriptors, send_descriptors, user};
pub use poller::Poller;
pub use process::{descriptor_limit, open_descriptors, pid, raise_descriptor_limit};
pub use resolve::resolve;
pub use signal::Signals;
pub use socket::{
    Connecting, Socket, local_address, peer_address, recv, recv_append, send, send_vectored,
    shutdown, take_error,
};
pub use socket_file::SocketFile;
pub use spare::SpareDescriptor;
pub use thread::{JoinHandle, available_cpus, pause, set_thread_cpus, spawn, thread_cpus};
pub use waker::Waker;

pub(crate) use portable::IS_BUILT as HAS_PORTABLE;

/// What the simulated world has no counterpart of.
pub(crate) mod extra {
    pub use super::datagram::{Datagram, DatagramSocket, recv_from, send_to};
    #[cfg(has_epoll)]
    pub use super::epoll;
    #[cfg(fuzzing)]
    #[doc(hidden)]
    pub use super::fuzzing;
    #[cfg(has_kqueue)]
    pub use super::kqueue;
    pub use super::options::{
        Keepalive, TcpInfo, TcpState, nodelay, recv_buffer_size, reuse_address, reuse_port,
        send_buffer_size, set_keepalive, set_recv_buffer_size, set_reuse_address, set_reuse_port,
        set_send_buffer_size, set_tcp_user_timeout, set_v6_only, tcp_info, v6_only,
    };
    pub use super::other_process::{kill_group, send_signal};
    #[cfg(feature = "portable")]
    pub use super::portable;
    pub use super::process::{
        CpuTime, adopt_descriptor, cpu_time, inherited_listener_names, inherited_listeners,
        rss_bytes,
    };
    pub use super::resolve::host_name;
}
