//! [`Handle`] and [`Deferred`]: what other threads may ask of an event loop.
//!
//! Each loop has a mailbox. Posting takes a lock for as long as one push to a vector takes, and
//! wakes the loop once for as many items as come before it looks. A loop that nobody posts to
//! never touches the lock.

use std::fmt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use myriapod_sys::{self as sys, Descriptor, SocketAddr, Time};
use serde::Serialize;

use crate::handler::ConnectionId;
use crate::outgoing::Outgoing;
use crate::protocol::EncodeError;
use crate::slab::Key;
use crate::stats::Stats;
use crate::sync::atomic::{AtomicBool, Ordering::SeqCst};
use crate::sync::{Mutex, Waker};

/// Items that may wait in one mailbox, besides answers and a stop, and bytes of the messages in them.
const MAX_ITEMS: usize = 1 << 16;
const MAX_BYTES: usize = 64 << 20;

/// How often a loop is tried to be woken for one item.
const WAKE_TRIES: usize = 3;

/// How long [`Handle::stats`] waits for a loop to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a loop is asked to do.
#[derive(Debug)]
pub(crate) enum Item {
    Shutdown,
    /// Ends at once, whatever is in flight.
    CutOff,
    /// There may be places for connections again.
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
    },
    Send {
        key: Key,
        outgoing: Outgoing,
    },
    Broadcast {
        group: Option<Box<str>>,
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
    Connect {
        address: SocketAddr,
        tag: u64,
        timeout: Duration,
    },
    Timer {
        due: Time,
        tag: u64,
    },
    Adopt {
        socket: Descriptor,
        peer: SocketAddr,
    },
    Stats {
        to: Sender<Stats>,
    },
}

impl Item {
    /// Whether it is taken however much waits already: a connection waits for an answer, and each
    /// [`Deferred`] posts one; a stop is asked for once.
    fn is_owed(&self) -> bool {
        matches!(self, Self::Answer { .. } | Self::Abandon { .. } | Self::Shutdown | Self::CutOff)
    }

    /// Bytes of the message that is to be pushed.
    fn len(&self) -> usize {
        match self {
            Self::Send { outgoing, .. } => outgoing.content().len(),
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
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    items: Vec<Item>,
    /// Bytes of the messages in them.
    bytes: usize,
    /// A stop was asked for; once is enough.
    stopping: bool,
    closed: bool,
}

/// Why a loop was not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandleError {
    /// The event loop is gone.
    Gone,
    /// 65,536 items or 64 MiB of messages wait for it already.
    Full,
    /// It could not be woken, which was tried again; the item waits until it wakes for another
    /// reason.
    NotWoken,
}

impl fmt::Display for HandleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => "the event loop is gone",
            Self::Full => "65536 items or 64 MiB wait for the event loop already",
            Self::NotWoken => "the event loop could not be woken",
        })
    }
}

impl std::error::Error for HandleError {}

impl Mailbox {
    pub(crate) fn new(waker: impl Into<Waker>) -> Self {
        let inner = Mutex::new(Inner::default());
        Self { waker: waker.into(), unheard: AtomicBool::new(false), inner }
    }

    pub(crate) fn post(&self, item: Item) -> Result<(), HandleError> {
        {
            // A panic while the lock was held can only have been one of allocation.
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            // A stop is asked for once; whoever asks again wakes the loop, if it is there.
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
            if !again {
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
        std::mem::take(&mut inner.items)
    }

    /// How many items wait.
    #[cfg(myriapod_sim)]
    pub(crate) fn len(&self) -> usize {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).items.len()
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
        inner.bytes = 0;
        std::mem::take(&mut inner.items)
    }
}

/// Asks things of the event loops of a server, from any thread. Clones are the same handle.
///
/// Nothing here waits for the loop but [`stats`](Self::stats). What is asked of a connection that
/// is gone by then is counted (`Stats::missed`), and nothing else.
///
/// What one thread asks is done in that order, but for broadcasts: they keep their order among
/// themselves, and what is asked later may come before one has reached its last connection. So a
/// broadcast and then `close` may close a connection that it has not reached.
#[derive(Clone)]
pub struct Handle {
    loops: Arc<[Arc<Mailbox>]>,
}

impl Handle {
    pub(crate) fn new(loops: Arc<[Arc<Mailbox>]>) -> Self {
        Self { loops }
    }

    /// Sends a message to one connection.
    ///
    /// # Errors
    ///
    /// Where the loop is gone or too much waits for it already.
    pub fn send(&self, to: ConnectionId, outgoing: Outgoing) -> Result<(), HandleError> {
        self.post(to, Item::Send { key: to.key, outgoing })
    }

    /// Sends a message to all connections of a group, on all loops; each loop encodes it once.
    ///
    /// # Errors
    ///
    /// Where a loop is gone or too much waits for it already.
    pub fn broadcast(&self, group: &str, outgoing: Outgoing) -> Result<(), HandleError> {
        self.broadcast_to(Some(group), outgoing)
    }

    /// Sends a message to all connections.
    ///
    /// # Errors
    ///
    /// Where a loop is gone or too much waits for it already.
    pub fn broadcast_all(&self, outgoing: Outgoing) -> Result<(), HandleError> {
        self.broadcast_to(None, outgoing)
    }

    fn broadcast_to(&self, group: Option<&str>, outgoing: Outgoing) -> Result<(), HandleError> {
        let outgoing = Arc::new(outgoing);
        self.for_each(|| Item::Broadcast {
            group: group.map(Into::into),
            outgoing: Arc::clone(&outgoing),
        })
    }

    /// Puts a connection into a group, which exists for as long as it has members.
    ///
    /// # Errors
    ///
    /// Where the loop is gone or too much waits for it already.
    pub fn join(&self, id: ConnectionId, group: &str) -> Result<(), HandleError> {
        self.post(id, Item::Join { key: id.key, group: group.into() })
    }

    /// Takes a connection out of a group. Closing does that too.
    ///
    /// # Errors
    ///
    /// Where the loop is gone or too much waits for it already.
    pub fn leave(&self, id: ConnectionId, group: &str) -> Result<(), HandleError> {
        self.post(id, Item::Leave { key: id.key, group: group.into() })
    }

    /// Closes a connection once what it has to send is sent.
    ///
    /// # Errors
    ///
    /// Where the loop is gone or too much waits for it already.
    pub fn close(&self, id: ConnectionId) -> Result<(), HandleError> {
        self.post(id, Item::Close { key: id.key })
    }

    /// Connects to a server. The connection is like one that was accepted: the handler is told
    /// with `on_connect`, or `on_connect_error`, and `tag` says which connect it was. After
    /// `timeout`, which may not be zero, it is given up.
    ///
    /// # Errors
    ///
    /// Where the loop is gone or too much waits for it already.
    pub fn connect(
        &self,
        address: SocketAddr,
        tag: u64,
        timeout: Duration,
    ) -> Result<(), HandleError> {
        self.first(Item::Connect { address, tag, timeout })
    }

    /// Has the handler's `on_timer` called with `tag`, not before `after` has passed. Timers that
    /// are due within the same 10 ms fire in any order; those of a loop that stops do not fire.
    ///
    /// # Errors
    ///
    /// Where the loop is gone or too much waits for it already.
    pub fn timer(&self, after: Duration, tag: u64) -> Result<(), HandleError> {
        self.first(Item::Timer { due: sys::now() + after, tag })
    }

    /// What each loop has done so far, asked of the loops themselves.
    ///
    /// # Errors
    ///
    /// Where a loop is gone, or has not answered within a second.
    pub fn stats(&self) -> Result<Vec<Stats>, HandleError> {
        let asked: Vec<Receiver<Stats>> = self
            .loops
            .iter()
            .map(|mailbox| {
                let (to, from) = channel();
                mailbox.post(Item::Stats { to }).map(|()| from)
            })
            .collect::<Result<_, _>>()?;
        asked
            .iter()
            .map(|from| from.recv_timeout(PATIENCE).map_err(|_| HandleError::Gone))
            .collect()
    }

    /// Begins a graceful stop: what is in flight is finished, within `drain_timeout`. Asking again
    /// changes nothing, even when it is over.
    ///
    /// # Errors
    ///
    /// Where a loop is gone that nobody had asked to stop.
    pub fn shutdown(&self) -> Result<(), HandleError> {
        self.for_each(|| Item::Shutdown)
    }

    fn for_each(&self, item: impl Fn() -> Item) -> Result<(), HandleError> {
        let results: Vec<_> = self.loops.iter().map(|mailbox| mailbox.post(item())).collect();
        results.into_iter().collect()
    }

    fn first(&self, item: Item) -> Result<(), HandleError> {
        self.loops.first().ok_or(HandleError::Gone)?.post(item)
    }

    fn post(&self, id: ConnectionId, item: Item) -> Result<(), HandleError> {
        self.loops.get(usize::from(id.event_loop)).ok_or(HandleError::Gone)?.post(item)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("loops", &self.loops.len()).finish()
    }
}

/// The duty to answer one message later, from any thread.
///
/// The connection's next message waits for it, so replies keep their order; other connections do
/// not. Dropped without an answer, it closes the connection with an error reply of the kind
/// `Abandoned`. An answer is taken however much waits for the loop already; one to a connection
/// that is gone by then is counted (`Stats::missed`). Once the loop is gone, or has finished, it is
/// an error.
///
/// ```no_run
/// use myriapod::{HandlerResult, Message, Reply};
///
/// fn answer(message: Message<'_>, reply: &mut Reply<'_>) -> HandlerResult {
///     let request = message.to_owned();
///     let deferred = reply.defer()?;
///     std::thread::spawn(move || {
///         let result = request.as_message().content().iter().map(|byte| u64::from(*byte)).sum::<u64>();
///         let _ = deferred.json(&serde_json::json!({ "result": result }));
///     });
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Deferred {
    mailbox: Option<Arc<Mailbox>>,
    id: ConnectionId,
    sequence: u32,
    close: bool,
}

impl Deferred {
    pub(crate) fn new(mailbox: Arc<Mailbox>, id: ConnectionId, sequence: u32) -> Self {
        Self { mailbox: Some(mailbox), id, sequence, close: false }
    }

    /// The connection that waits for the answer.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        self.id
    }

    /// Closes the connection once the answer is sent.
    pub fn close(&mut self) {
        self.close = true;
    }

    /// Answers with JSON content.
    ///
    /// # Errors
    ///
    /// A value that cannot be encoded (the peer then gets the error reply of a dropped answer), or
    /// a loop that is gone.
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Result<(), DeferredError> {
        let outgoing = Outgoing::json(value)?;
        self.send(outgoing)
    }

    /// Answers with JSON text in UTF-8 that is there already. It is sent as it is, unchecked, as
    /// [`Outgoing::json_bytes`] says.
    ///
    /// # Errors
    ///
    /// A loop that is gone.
    pub fn json_bytes(self, json: Vec<u8>) -> Result<(), DeferredError> {
        self.send(Outgoing::json_bytes(json))
    }

    /// Answers with bytes.
    ///
    /// # Errors
    ///
    /// A loop that is gone.
    pub fn binary(self, content_type: &str, content: Vec<u8>) -> Result<(), DeferredError> {
        self.send(Outgoing::binary(content_type, content))
    }

    /// Answers with any message.
    ///
    /// # Errors
    ///
    /// A loop that is gone.
    pub fn send(mut self, outgoing: Outgoing) -> Result<(), DeferredError> {
        let (key, sequence, close) = (self.id.key, self.sequence, self.close);
        match self.mailbox.take() {
            Some(mailbox) => Ok(mailbox.post(Item::Answer { key, sequence, outgoing, close })?),
            None => Ok(()),
        }
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        if let Some(mailbox) = self.mailbox.take() {
            // A loop that is gone has closed the connection.
            let _ = mailbox.post(Item::Abandon { key: self.id.key, sequence: self.sequence });
        }
    }
}

/// Why a deferred answer was not handed over.
#[derive(Debug)]
#[non_exhaustive]
pub enum DeferredError {
    /// It could not be encoded.
    Encode(EncodeError),
    /// The loop could not be asked to send it.
    Handle(HandleError),
}

impl fmt::Display for DeferredError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encode(error) => error.fmt(f),
            Self::Handle(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DeferredError {}

impl From<EncodeError> for DeferredError {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

impl From<HandleError> for DeferredError {
    fn from(error: HandleError) -> Self {
        Self::Handle(error)
    }
}
