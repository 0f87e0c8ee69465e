//! [`Step`] and [`Order`]: what a thread that hands over asks of the event loops.

use std::sync::Arc;
use std::time::Duration;

use myriapod_sys::{Descriptor, Receiver, Sender};

use super::channel::Failure;
use super::parcel::Parcel;

/// What is asked of a loop while it serves.
#[derive(Debug)]
pub(crate) enum Step {
    /// Duplicates of its listeners, with their numbers.
    Listeners { to: Sender<Result<Vec<(Descriptor, u16)>, Failure>> },
    /// To pass a batch of its connections ahead.
    Ahead { batch: Batch },
    /// To accept nobody until the next step.
    Hold { to: Sender<()> },
    /// To stop at the end of this turn, and do what is ordered until it may go on.
    Freeze { orders: Receiver<Order>, to: Sender<Result<(), Failure>> },
    /// To accept again: nothing came of it.
    Release,
    /// Nothing came of the hand-over, and the log is to be told.
    Failed { process: Option<u32>, why: String },
    /// One that went later has arrived there, or is back here.
    Arrived { is_back: bool },
    /// Connections of a predecessor, which have their places in this loop.
    Take { connections: Vec<(Parcel, Descriptor)> },
}

impl Step {
    /// How many connections come with it.
    pub(crate) fn connections(&self) -> usize {
        if let Self::Take { connections } = self { connections.len() } else { 0 }
    }

    /// Whether it takes a while.
    pub(crate) fn is_large(&self) -> bool {
        matches!(self, Self::Take { .. } | Self::Freeze { .. })
    }
}

/// What is ordered of a loop that has stopped. Where nobody can order any more, it goes on.
#[derive(Debug)]
pub(crate) enum Order {
    /// To pass another batch of the connections that are not passed yet.
    Pass { batch: Batch },
    /// To write down what is to be known of each connection that can go.
    Describe { to: Sender<Described> },
    /// They belong to the successor: to forget them, and to end with what is left.
    /// Those that go later are sent to `late`.
    Go { late: Sender<Late> },
    /// To tell the log that all is handed over.
    Tell { summary: Summary, to: Sender<()> },
}

/// A connection that goes later than the others, and the loop that it comes from.
#[derive(Debug)]
pub(crate) struct Late {
    pub(crate) parcel: Parcel,
    pub(crate) socket: Descriptor,
}

/// A batch that is to be passed.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The first place in the slab to look at.
    pub(crate) from: u32,
    pub(crate) socket: Arc<Descriptor>,
    pub(crate) to: Sender<Result<Passed, Failure>>,
}

/// A batch that was passed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passed {
    /// So many descriptors.
    pub(crate) count: usize,
    /// The first place that was not looked at; `None` where all were.
    pub(crate) next: Option<u32>,
}

/// All parcels of a loop.
#[derive(Debug, Default)]
pub(crate) struct Described {
    pub(crate) bytes: Vec<u8>,
    pub(crate) connections: u32,
    /// So many go later.
    pub(crate) late: u32,
}

/// What is told of a hand-over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Summary {
    pub(crate) connections: u64,
    pub(crate) process: u32,
    pub(crate) took: Duration,
}
