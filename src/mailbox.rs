//! [`Mailbox`]: what other threads ask of an event loop waits here until it looks.
//!
//! Each loop has one. Posting takes a lock for as long as one push to a vector takes, and wakes the
//! loop once for as many items as come before it looks. A loop that nobody posts to never touches
//! the lock.

use std::any::Any;
use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use myriapod_sys::{self as sys, Descriptor, SocketAddr, Time};

use crate::config::Limits;
use crate::connection_id::ConnectionId;
use crate::group_watch::GroupWatch;
use crate::handle_error::HandleError;
use crate::handler_error::HandlerError;
use crate::handover::Step;
use crate::outgoing::Outgoing;
use crate::slab::Key;
use crate::stats::Stats;
use crate::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use crate::sync::{Mutex, Waker};

/// Items that may wait in one mailbox, besides answers and a stop, and bytes of the messages in them.
#[cfg(not(all(test, myriapod_loom)))]
const MAX_ITEMS: usize = 1 << 16;
/// Full after a few, so that a model can fill it.
#[cfg(all(test, myriapod_loom))]
pub(crate) const MAX_ITEMS: usize = 4;
const MAX_BYTES: usize = 64 << 20;

/// How often a loop is tried to be woken for one item.
const WAKE_TRIES: usize = 3;

/// What a loop is asked to do.
#[derive(Debug)]
pub(crate) enum Item {
    Shutdown,
    /// Ends at once, whatever is in flight.
    CutOff,
    /// There may be places for connections again. Said often, and done once.
    Resume,
    Answer {
        key: Key,
        sequence: u32,
        outgoing: Outgoing,
        close: bool,
    },
    Abandon {
        key: Key,
        sequence: u32,
        id: Box<[u8]>,
    },
    Fail {
        key: Key,
        sequence: u32,
        error: HandlerError,
        close: bool,
        id: Box<[u8]>,
    },
    Send {
        key: Key,
        outgoing: Outgoing,
    },
    /// The same, behind the broadcasts that were asked for before.
    SendBehind {
        key: Key,
        outgoing: Outgoing,
    },
    /// Goes on with what is streamed.
    Stream {
        key: Key,
    },
    Broadcast {
        group: Option<Box<str>>,
        except: Option<Key>,
        outgoing: Arc<Outgoing>,
    },
    Join {
        key: Key,
        group: Box<str>,
    },
    Leave {
        key: Key,
        group: Box<str>,
    },
    Close {
        key: Key,
    },
    CloseNow {
        key: Key,
    },
    /// Who is told of groups.
    Watch(Arc<dyn GroupWatch>),
    /// Other limits.
    Limits(Box<Limits>),
    /// Whether the log is told of every message.
    LogMessages(bool),
    /// Whether peers are to be accepted.
    Accept(bool),
    Members {
        group: Box<str>,
        to: Sender<Vec<ConnectionId>>,
    },
    /// A connected socket that the user gives.
    Adopt {
        socket: Descriptor,
        peer: SocketAddr,
    },
    Connect {
        address: SocketAddr,
        tag: u64,
        timeout: Duration,
        /// What the handshake begins with, of the type that the loop's link has; none for a plain
        /// connection.
        caller: Option<Box<dyn Any + Send>>,
    },
    Timer {
        due: Time,
        tag: u64,
    },
    /// A socket that another loop accepted by the listener with this number, or adopted.
    HandOver {
        socket: Descriptor,
        peer: SocketAddr,
        listener: Option<u16>,
    },
    Stats {
        to: Sender<Stats>,
    },
    /// A step of a hand-over to another process.
    Step(Box<Step>),
}

impl Item {
    /// Whether it is taken however much waits already: a connection waits for an answer, and each
    /// [`Deferred`] posts one; a stop and a watch are asked for once; a loop that accepts nobody for
    /// now may hear of a free place from nobody else; a hand-over takes one step after the other.
    fn is_owed(&self) -> bool {
        matches!(
            self,
            Self::Answer { .. }
                | Self::Fail { .. }
                | Self::Abandon { .. }
                | Self::Shutdown
                | Self::CutOff
                | Self::Watch(_)
                | Self::Resume
                | Self::Step(_)
        )
    }

    /// Bytes of the message that is to be pushed.
    fn len(&self) -> usize {
        match self {
            Self::Send { outgoing, .. } | Self::SendBehind { outgoing, .. } => {
                outgoing.content().len()
            }
            Self::Broadcast { outgoing, .. } => outgoing.content().len(),
            _ => 0,
        }
    }
}

/// Where a loop's items wait until it looks.
#[derive(Debug)]
pub(crate) struct Mailbox {
    waker: Waker,
    /// Something was posted and the loop could not be woken.
    unheard: AtomicBool,
    /// The thread that last ran the loop.
    owner: AtomicUsize,
    /// What the loop had done when it last said so, for its own handler.
    published: Mutex<Stats>,
    /// The handler has asked for it, and wants it fresh.
    wants_stats: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    items: Vec<Item>,
    /// Bytes of the messages in them.
    bytes: usize,
    /// A stop was asked for; once is enough.
    stopping: bool,
    /// There may be places for connections again: an [`Item::Resume`] that takes no room.
    resumes: bool,
    closed: bool,
}

impl Mailbox {
    pub(crate) fn new(waker: impl Into<Waker>) -> Self {
        let inner = Mutex::new(Inner::default());
        Self {
            waker: waker.into(),
            unheard: AtomicBool::new(false),
            owner: AtomicUsize::new(0),
            published: Mutex::new(Stats::default()),
            wants_stats: AtomicBool::new(false),
            inner,
        }
    }

    /// The loop runs on this thread now.
    #[inline]
    pub(crate) fn set_owner(&self, thread: usize) {
        self.owner.store(thread, Relaxed);
    }

    /// Whether the loop was last run by the thread that asks, which must not wait for it then.
    pub(crate) fn is_ours(&self) -> bool {
        self.owner.load(Relaxed) == sys::this_thread()
    }

    /// Leaves the loop's counts where its own handler can read them.
    pub(crate) fn publish(&self, stats: Stats) {
        self.wants_stats.store(false, Relaxed);
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = stats;
    }

    /// Whether the handler wants them at the end of this turn.
    #[inline]
    pub(crate) fn wants_stats(&self) -> bool {
        self.wants_stats.load(Relaxed)
    }

    pub(crate) fn published(&self) -> Result<Stats, HandleError> {
        if self.inner.lock().unwrap_or_else(PoisonError::into_inner).closed {
            return Err(HandleError::Gone);
        }
        self.wants_stats.store(true, Relaxed);
        Ok(self.published.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    pub(crate) fn post(&self, item: Item) -> Result<(), HandleError> {
        {
            // A panic while the lock was held can only have been one of allocation.
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            // A stop is asked for once; a second request wakes the loop, if it is there.
            let again = matches!(item, Item::Shutdown) && inner.stopping;
            if inner.closed {
                return if again { Ok(()) } else { Err(HandleError::Gone) };
            }
            let len = item.len();
            // One message may be of any size.
            let too_much = inner.bytes > 0 && len > MAX_BYTES.saturating_sub(inner.bytes);
            if (too_much || inner.items.len() >= MAX_ITEMS) && !item.is_owed() {
                return Err(HandleError::Full);
            }
            inner.stopping |= matches!(item, Item::Shutdown);
            if matches!(item, Item::Resume) {
                inner.resumes = true;
            } else if !again {
                inner.bytes += len;
                inner.items.push(item);
            }
        }
        // Most of those who post wait for nothing else to wake the loop: a socket that is handed
        // over, a stop.
        self.wake()
    }

    /// Wakes the loop; where that fails, it looks in its next turn, whatever that is for.
    pub(crate) fn wake(&self) -> Result<(), HandleError> {
        if (0..WAKE_TRIES).any(|_| self.waker.wake().is_ok()) {
            return Ok(());
        }
        self.unheard.store(true, SeqCst);
        Err(HandleError::NotWoken)
    }

    /// Whether there is something to take for which the loop could not be woken.
    pub(crate) fn is_unheard(&self) -> bool {
        self.unheard.load(SeqCst)
    }

    /// The same; the loop is about to take it.
    pub(crate) fn take_unheard(&self) -> bool {
        // Hardly ever, so it is read first: that leaves the cache line where it is.
        self.is_unheard() && self.unheard.swap(false, SeqCst)
    }

    /// Takes all items. Called by the loop when it was woken.
    pub(crate) fn take(&self) -> Vec<Item> {
        // In this order: what is posted from now on wakes again, and what was is taken.
        self.waker.reset();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.bytes = 0;
        let mut items = std::mem::take(&mut inner.items);
        if std::mem::take(&mut inner.resumes) {
            items.push(Item::Resume);
        }
        items
    }

    /// How many items wait.
    pub(crate) fn len(&self) -> usize {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.items.len() + usize::from(inner.resumes)
    }

    /// Waits as the poller of the loop does.
    #[cfg(all(test, myriapod_loom))]
    pub(crate) fn wait(&self) {
        self.waker.wait();
    }

    /// Refuses items from now on. Returns those that nobody will see any more.
    pub(crate) fn close(&self) -> Vec<Item> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.closed = true;
        inner.resumes = false;
        inner.bytes = 0;
        std::mem::take(&mut inner.items)
    }
}
