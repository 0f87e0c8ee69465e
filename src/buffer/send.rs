//! [`SendQueue`]: what a connection has yet to send.

use std::collections::VecDeque;
use std::sync::Arc;

use super::clock::Window;
use super::{MAX_SLICES, count};
use crate::body::Body;
use crate::timer::Tick;

/// What a connection has yet to send.
#[derive(Debug)]
pub(crate) struct SendQueue {
    pub(super) segments: VecDeque<Segment>,
    /// Bytes of the first segment that are sent.
    pub(super) sent: usize,
    /// Bytes in all that are unsent.
    pub(super) len: usize,
    /// Bytes of the pushed messages in the queue, sent ones of the first included.
    pub(super) shared: usize,
    /// How many contents are in it that are read when there is room.
    pub(super) bodies: usize,
    /// The system did not take all of it at once.
    pub(crate) has_waited: bool,
    /// When the last progress was made.
    pub(crate) stalled_since: Tick,
    /// Since when it has been above the high-water mark with pushes in it.
    pub(crate) over_since: Option<Tick>,
    /// Records that go out before all else, and how many of their bytes have. Never in the queue of a
    /// plain connection.
    pub(super) sealed: Vec<u8>,
    pub(super) sealed_sent: usize,
    /// What was in it was taken away for others.
    pub(super) is_taken: bool,
    /// Bytes that the system has taken, and the window in which the peer has to take some.
    pub(super) given: i64,
    pub(super) window: Window,
    pub(super) loan: u32,
}

#[derive(Debug)]
pub(super) enum Segment {
    /// Replies.
    Own(Vec<u8>),
    /// A pushed message, whose bytes other connections may be sending too, with its tag.
    Shared(Arc<[u8]>, u64),
    /// A content that is read when there is room. It has no bytes here.
    Body(Box<Body>),
}

impl Segment {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes, _) => bytes,
            Self::Body(_) => &[],
        }
    }
}

impl SendQueue {
    /// What is unsent of records, which goes out before all else.
    pub(crate) fn sealed(&self) -> &[u8] {
        self.sealed.get(self.sealed_sent..).unwrap_or_default()
    }

    /// Bytes that are unsent.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Since when its window runs.
    pub(crate) fn window_since(&self) -> Option<Tick> {
        self.window.clock.since()
    }

    /// Whether its window is over.
    pub(crate) fn is_window_over(&self, now: Tick, ticks: u32) -> bool {
        self.window.is_over(now, ticks)
    }

    /// Its window is over, and the system holds so many bytes that the peer has not: the next one
    /// begins where the peer took `least` bytes in it. What the system held when the first one
    /// began, nobody asked.
    pub(crate) fn judge(&mut self, now: Tick, in_system: usize, least: i64) {
        self.window.judge(now, self.given - count(in_system), least);
    }

    /// Appends all unsent bytes to `out`.
    pub(crate) fn copy_to(&self, out: &mut Vec<u8>) {
        let mut skip = self.sent;
        for segment in &self.segments {
            out.extend_from_slice(
                segment.bytes().get(std::mem::take(&mut skip)..).unwrap_or_default(),
            );
        }
    }

    /// Whether nothing is left to send.
    pub(crate) fn is_done(&self) -> bool {
        self.len == 0 && self.bodies == 0
    }

    /// Whether there is a content in it that is read when there is room.
    pub(crate) fn has_body(&self) -> bool {
        self.bodies > 0
    }

    /// The unsent bytes of the first segments, in order, as far as they are here.
    pub(crate) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let mut skip = self.sent;
        let here = self.segments.iter().take_while(|one| !matches!(one, Segment::Body(_)));
        here.take(MAX_SLICES).map(move |segment| {
            let bytes = segment.bytes();
            bytes.get(std::mem::take(&mut skip)..).unwrap_or_default()
        })
    }
}
