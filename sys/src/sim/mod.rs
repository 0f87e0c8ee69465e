//! A simulated kernel: the functions of this crate over a world in memory, with virtual time.
//!
//! Under `--cfg myriapod_sim` this stands in for everything else that touches the system, and what
//! is built on this crate runs on it unchanged. A [`World`] follows from one 64-bit seed: the same
//! seed and the same program make the same calls with the same results, on any machine.
//!
//! - **Time** passes only by calls (a microsecond or so each) and by waiting: when every thread
//!   waits, the clock goes to the moment at which something happens next.
//! - **The network** delivers bytes in their order, in pieces, after a while; buffers are finite. A
//!   close with unread input, or bytes for a closed socket, make a reset.
//! - **Descriptors** are the smallest free number from 3 on, so the next one opened has the number
//!   of the last one closed.
//! - **[`Faults`]** say what goes wrong how often; what did is counted by [`FaultKind`].
//! - **Threads** started with [`spawn`](crate::spawn) are real ones of which one runs at a time; who
//!   is next after a call, the seed decides.
//! - **[`Remote`]** is a peer far away, played by the test itself: it needs no descriptor, and no
//!   fault befalls its calls.
//!
//! What reads the machine itself (memory, processor time, `TCP_INFO`) has no counterpart here.

#![allow(clippy::panic, reason = "a call from outside a world has nothing to return")]

mod closing;
mod descriptor;
mod end;
mod faults;
mod kernel;
mod listener;
mod net;
mod planted;
mod poller;
mod remote;
mod rng;
mod socket;
mod system;
mod threads;
mod waker;
mod world;

pub use self::closing::Closing;
pub use self::faults::{FaultKind, Faults, Injected};
pub use self::planted::{Planted, is_planted};
pub use self::remote::{Remote, RemoteListener};
pub use self::rng::{Rng, Trace, mix};
pub use self::world::{Calls, World, set_faults};

pub use self::descriptor::{AsFd, BorrowedFd, Descriptor};
pub use self::listener::{Listener, REUSE_PORT_BALANCES, accept, unlink_unix};
pub use self::poller::{Poller, wait_one};
pub use self::socket::{
    Connecting, Socket, local_address, peer_address, recv, recv_append, send, send_vectored,
    shutdown, take_error,
};
pub use self::system::{
    DescriptorLimit, JoinHandle, Signal, Signals, SpareDescriptor, available_cpus,
    descriptor_limit, now, open_descriptors, queue_sizes, raise_descriptor_limit, resolve,
    set_linger, set_nodelay, set_nonblocking, set_thread_cpus, spawn, thread_cpus,
};
pub use self::waker::Waker;
