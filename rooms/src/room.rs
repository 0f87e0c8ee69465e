//! [`Room`]: who is in it, and what was said last.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::args::Bounds;

/// A room of one server. It goes with its last member, and its history goes with it.
#[derive(Debug)]
pub(super) struct Room<Id> {
    pub(super) members: BTreeMap<Box<str>, Id>,
    /// Messages that were said so far.
    pub(super) last_n: u64,
    history: VecDeque<Arc<str>>,
    /// Bytes in it.
    bytes: usize,
}

impl<Id> Default for Room<Id> {
    fn default() -> Self {
        Self { members: BTreeMap::new(), last_n: 0, history: VecDeque::new(), bytes: 0 }
    }
}

impl<Id> Room<Id> {
    /// Names of members, no more than `most` of them; `first` is one in any case.
    pub(super) fn names(&self, first: Option<&str>, most: usize) -> Vec<Box<str>> {
        let others = self.members.keys().filter(|name| Some(&***name) != first);
        let room_for_others = most.saturating_sub(usize::from(first.is_some()));
        let mut names: Vec<Box<str>> = others.take(room_for_others).cloned().collect();
        names.extend(first.map(Box::from));
        names.sort_unstable();
        names
    }

    /// Keeps a message, and drops the oldest ones for it. `total` is what all rooms keep.
    pub(super) fn keep(&mut self, message: Arc<str>, bounds: &Bounds, total: &AtomicUsize) {
        self.bytes += message.len();
        total.fetch_add(message.len(), Relaxed);
        self.history.push_back(message);
        while self.history.len() > bounds.history
            || self.bytes > bounds.history_bytes
            || (total.load(Relaxed) > bounds.history_total && !self.history.is_empty())
        {
            let Some(oldest) = self.history.pop_front() else { break };
            self.bytes -= oldest.len();
            total.fetch_sub(oldest.len(), Relaxed);
        }
    }

    /// The last messages, the oldest first.
    pub(super) fn last(&self, count: usize) -> Vec<Arc<str>> {
        let skipped = self.history.len().saturating_sub(count);
        self.history.iter().skip(skipped).cloned().collect()
    }

    /// Forgets what was said.
    pub(super) fn clear(&mut self, total: &AtomicUsize) {
        total.fetch_sub(std::mem::take(&mut self.bytes), Relaxed);
        self.history.clear();
    }
}
