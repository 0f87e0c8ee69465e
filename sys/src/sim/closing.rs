//! [`Closing`]: what was known of a stream when the program closed its descriptor.

use std::fmt;

use super::end::{End, State};
use crate::{SocketAddr, Time};

/// When bytes were received: up to which number, when.
#[derive(Clone, Default)]
pub(super) struct Receipts(Vec<(u64, u64)>);

impl Receipts {
    /// Bytes were received `now`, so many by now.
    pub(super) fn note(&mut self, received: u64, now: u64) {
        self.0.push((received, now));
    }
}

impl fmt::Debug for Receipts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} receipts", self.0.len())
    }
}

/// What was known of a stream when the program closed its descriptor.
#[derive(Clone, Debug)]
pub struct Closing {
    /// Whom it was connected to.
    pub peer: SocketAddr,
    /// When it was closed.
    pub at: Time,
    /// When the program last received bytes from it; when it was made where it never did.
    pub received_at: Time,
    /// When the program last sent bytes.
    pub sent_at: Time,
    /// Whether it had been reset.
    pub was_broken: bool,
    /// Bytes that the program had received from the peer.
    pub received: u64,
    /// Whether the peer's end of the stream had arrived.
    pub end_seen: bool,
    /// When the program had shut down its side, if it had, or had tried to.
    pub finished_at: Option<Time>,
    /// Bytes that it had received since.
    pub received_after: u64,
    /// Bytes that had arrived and were not received, and when the last of them arrived.
    pub unread: usize,
    /// See `unread`.
    pub arrived_at: Time,
    /// Whether a poller has ever had no room for it.
    pub unwatched: bool,
    /// Whether a receive brought less than was there since the program was told to stop.
    pub came_short: bool,
    /// Bytes of the last send that found no room.
    pub unsent: usize,
    /// Since when there has always been something that found no room.
    pub stalled_from: Time,
    /// When something of it last found room.
    pub progress_at: Time,
    receipts: Receipts,
}

impl Closing {
    pub(super) fn of(end: &mut End, now: u64) -> Self {
        Self {
            peer: end.peer.clone(),
            at: Time::from_nanos(now),
            received_at: Time::from_nanos(end.received_at),
            sent_at: Time::from_nanos(end.sent_at),
            was_broken: end.state == State::Broken,
            received: end.received,
            unread: end.inbox.len(),
            end_seen: end.end_seen,
            finished_at: end.finished_at.map(|(at, _)| Time::from_nanos(at)),
            received_after: end.finished_at.map_or(0, |(_, before)| end.received - before),
            arrived_at: Time::from_nanos(end.arrived_at),
            unwatched: end.unwatched,
            came_short: end.came_short,
            unsent: end.unsent,
            stalled_from: Time::from_nanos(end.stalled_from),
            progress_at: Time::from_nanos(end.progress_at),
            receipts: std::mem::take(&mut end.receipts),
        }
    }

    /// When the program received the byte with this number, counted from 0.
    #[must_use]
    pub fn byte_received_at(&self, number: u64) -> Option<Time> {
        let at = self.receipts.0.partition_point(|(end, _)| *end <= number);
        self.receipts.0.get(at).map(|(_, at)| Time::from_nanos(*at))
    }
}
