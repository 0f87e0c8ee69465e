//! [`Usages`]: what the peers of each address have in all event loops of a server together.
//!
//! The lock is taken where an address gets its first connection in a loop, and where it loses the
//! last one there. All else is an atomic operation; a message of the ordinary kind needs none.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// What one address has.
#[derive(Debug)]
pub(crate) struct Usage {
    connections: AtomicUsize,
    /// Of buffers.
    bytes: AtomicUsize,
}

impl Usage {
    fn new() -> Self {
        Self { connections: AtomicUsize::new(0), bytes: AtomicUsize::new(0) }
    }

    /// Counts one more connection, unless there are `limit` already. Only for an address that has a
    /// connection in the caller's loop: another may be forgotten just now.
    pub(crate) fn enter(&self, limit: usize) -> bool {
        let next = |count: usize| (count < limit).then_some(count + 1);
        self.connections.fetch_update(SeqCst, SeqCst, next).is_ok()
    }

    /// Counts one connection less, of at least two in the caller's loop.
    pub(crate) fn leave(&self) {
        self.connections.fetch_sub(1, SeqCst);
    }

    pub(crate) fn lend(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, SeqCst);
    }

    pub(crate) fn take_back(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, SeqCst);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(SeqCst)
    }
}

/// All addresses that have connections in any loop.
#[derive(Debug)]
pub(crate) struct Usages(Mutex<BTreeMap<IpAddr, Arc<Usage>>>);

impl Usages {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// Counts the first connection of an address in a loop; `None` where all loops together have
    /// `limit` of them.
    pub(crate) fn enter(&self, network: IpAddr, limit: usize) -> Option<Arc<Usage>> {
        let mut usages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let usage = usages.entry(network).or_insert_with(|| Arc::new(Usage::new()));
        usage.enter(limit).then(|| Arc::clone(usage))
    }

    /// Counts out the last connection of an address in a loop.
    pub(crate) fn leave(&self, network: IpAddr, usage: &Usage) {
        let mut usages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: nobody finds it meanwhile.
        if usage.connections.fetch_sub(1, SeqCst) == 1 {
            usages.remove(&network);
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
