//! [`RecvBuffer`]: an unfinished message, and the time that its peer has taken.

use super::clock::{Stopwatch, Window};
use super::count;
use crate::body::Incoming;
use crate::protocol::Missing;
use crate::timer::Tick;

/// The unfinished message of one connection, and whatever whole messages stand before it.
#[derive(Debug)]
pub(crate) struct RecvBuffer {
    pub(crate) bytes: Vec<u8>,
    /// Bytes at the front that are done with.
    pub(crate) start: usize,
    /// What the first unread message waits for.
    pub(crate) missing: Missing,
    /// Bytes at the end that are no plain ones: part of a record.
    pub(crate) sealed: usize,
    /// So many of them there must be until the record is whole.
    pub(crate) record: usize,
    /// How much of the present deadline is used up.
    pub(crate) clock: Stopwatch,
    /// In which content has to come at a least rate.
    pub(super) window: Window,
    /// The content that comes and is not held: what of it stands in `bytes` is not in it yet.
    pub(crate) stream: Option<Box<Incoming>>,
    pub(super) loan: u32,
}

impl RecvBuffer {
    /// What has been received and not yet decoded.
    pub(crate) fn unread(&self) -> &[u8] {
        self.bytes.get(self.start..self.plain_len()).unwrap_or_default()
    }

    /// Bytes in front of those of an unfinished record.
    pub(crate) fn plain_len(&self) -> usize {
        self.bytes.len() - self.sealed.min(self.bytes.len())
    }

    /// How much of its time is used up.
    pub(crate) fn used(&self, now: Tick) -> Tick {
        self.clock.used(now)
    }

    /// So much of its time is used up.
    pub(crate) fn set_used(&mut self, now: Tick, runs: bool, used: Tick) {
        self.clock = Stopwatch::with(now, runs, used);
    }

    /// Bytes that have come of what is unfinished.
    fn come(&self) -> i64 {
        let streamed = self.stream.as_ref().map_or(0, |stream| stream.came);
        count(self.unread().len()).saturating_add(i64::try_from(streamed).unwrap_or(i64::MAX))
    }

    /// Whether what comes next is a piece of a content that is not held, and nothing stands before it.
    pub(crate) fn passes_on(&self) -> bool {
        self.stream.is_some() && self.bytes.is_empty()
    }

    /// A message, or its content, begins now: its time runs from here on, or stands still.
    pub(crate) fn begin(&mut self, now: Tick, runs: bool) {
        self.clock = Stopwatch::new(now, runs);
        self.window = Window::new(now, runs, Some(self.come()));
    }

    /// Its time runs or stands still from now on. The peer has `timeout` for it.
    pub(crate) fn run_clocks(&mut self, now: Tick, runs: bool, timeout: u32, window: u32) {
        self.clock.run(now, runs, timeout);
        self.window.clock.run(now, runs, window);
    }

    /// Begins the next window where this one is over and `least` bytes came in it.
    pub(crate) fn judge(&mut self, now: Tick, ticks: u32, least: i64) {
        if self.missing.in_content && self.window.is_over(now, ticks) {
            let come = self.come();
            self.window.judge(now, come, least);
        }
    }

    /// Since when the window of its content runs; `None` while it stands still.
    pub(crate) fn window_since(&self) -> Option<Tick> {
        self.window.clock.since().filter(|_| self.missing.in_content)
    }
}
