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

use crate::config::Limits;
use crate::error::Error;
use crate::handler::{ConnectionId, HandlerError};
use crate::outgoing::Outgoing;
use crate::protocol::EncodeError;
use crate::slab::Key;
use crate::stats::Stats;
use crate::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
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
    Fail {
        key: Key,
        sequence: u32,
        error: HandlerError,
        close: bool,
    },
    Send {
        key: Key,
        outgoing: Outgoing,
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
    /// Other limits.
    Limits(Box<Limits>),
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
}

impl Item {
    /// Whether it is taken however much waits already: a connection waits for an answer, and each
    /// [`Deferred`] posts one; a stop is asked for once.
    fn is_owed(&self) -> bool {
        matches!(
            self,
            Self::Answer { .. }
                | Self::Fail { .. }
                | Self::Abandon { .. }
                | Self::Shutdown
                | Self::CutOff
        )
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
    /// It is the event loop's own thread that asks, which would wait for itself.
    OwnLoop,
}

impl fmt::Display for HandleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => "the event loop is gone",
            Self::Full => "65536 items or 64 MiB wait for the event loop already",
            Self::NotWoken => "the event loop could not be woken",
            Self::OwnLoop => "the event loop would have to wait for itself",
        })
    }
}

impl std::error::Error for HandleError {}

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
    fn is_ours(&self) -> bool {
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

    fn published(&self) -> Stats {
        self.wants_stats.store(true, Relaxed);
        self.published.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
        self.broadcast_to(Some(group), None, outgoing)
    }

    /// Sends a message to all connections of a group but one: the one that it came from, for
    /// example.
    ///
    /// # Errors
    ///
    /// Where a loop is gone or too much waits for it already.
    pub fn broadcast_except(
        &self,
        group: &str,
        except: ConnectionId,
        outgoing: Outgoing,
    ) -> Result<(), HandleError> {
        self.broadcast_to(Some(group), Some(except), outgoing)
    }

    /// Sends a message to all connections.
    ///
    /// # Errors
    ///
    /// Where a loop is gone or too much waits for it already.
    pub fn broadcast_all(&self, outgoing: Outgoing) -> Result<(), HandleError> {
        self.broadcast_to(None, None, outgoing)
    }

    fn broadcast_to(
        &self,
        group: Option<&str>,
        except: Option<ConnectionId>,
        outgoing: Outgoing,
    ) -> Result<(), HandleError> {
        let outgoing = Arc::new(outgoing);
        let mut number = 0;
        self.for_each(|| {
            let here = except.filter(|except| except.event_loop == number).map(|id| id.key);
            number = number.wrapping_add(1);
            let (group, outgoing) = (group.map(Into::into), Arc::clone(&outgoing));
            Item::Broadcast { group, except: here, outgoing }
        })
    }

    /// The connections that are members of a group at this moment, asked of the loops themselves.
    ///
    /// # Errors
    ///
    /// [`HandleError::OwnLoop`] in a callback of a handler, where a loop is gone, or has not answered
    /// within a second.
    pub fn members(&self, group: &str) -> Result<Vec<ConnectionId>, HandleError> {
        if self.loops.iter().any(|mailbox| mailbox.is_ours()) {
            return Err(HandleError::OwnLoop);
        }
        let members = self.ask(|to| Item::Members { group: group.into(), to })?;
        Ok(members.into_iter().flatten().collect())
    }

    /// How many connections are members of a group at this moment.
    ///
    /// # Errors
    ///
    /// As [`members`](Self::members).
    pub fn group_size(&self, group: &str) -> Result<usize, HandleError> {
        self.members(group).map(|members| members.len())
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

    /// Closes a connection at once; what it has to send is dropped, and counted
    /// (`Stats::discarded_out`).
    ///
    /// # Errors
    ///
    /// Where the loop is gone or too much waits for it already.
    pub fn close_now(&self, id: ConnectionId) -> Result<(), HandleError> {
        self.post(id, Item::CloseNow { key: id.key })
    }

    /// Gives the server a connected stream socket, made elsewhere: it becomes a connection like one
    /// that was accepted, of the loop with the fewest. It is made non-blocking. Where
    /// `max_connections` are open, or its address has as many as it may, it is closed and counted
    /// (`Stats::turned_away`, `Stats::refused_by_address`).
    ///
    /// ```
    /// use std::os::unix::net::UnixStream;
    /// use myriapod::{Client, Server};
    ///
    /// let mut server = Server::builder().answer(|message, reply| Ok(reply.echo(&message)?))?;
    /// let (ours, theirs) = UnixStream::pair()?;
    /// server.handle().adopt(theirs)?;
    /// server.event_loop().run_once(None)?;
    /// assert_eq!(server.stats().open, 1);
    /// # drop(ours);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::System`] with `getpeername` where it is not connected (`ENOTCONN`) or no socket, or
    /// with `fcntl`; [`Error::Handle`] where the loop is gone or too much waits for it already.
    pub fn adopt(&self, socket: impl Into<Descriptor>) -> Result<(), Error> {
        let socket = socket.into();
        let peer = sys::peer_address(&socket)?;
        sys::set_nonblocking(&socket, true)?;
        Ok(self.first(Item::Adopt { socket, peer })?)
    }

    /// Has the server work within other limits from now on. What is open stays, also above a lower
    /// limit; deadlines that run are counted anew from their beginnings. `None` in
    /// `max_connections` leaves that limit as it is.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for limits that cannot work, and nothing changes then; [`Error::Handle`]
    /// where a loop is gone or too much waits for it already.
    pub fn set_limits(&self, limits: &Limits) -> Result<(), Error> {
        limits.validate()?;
        let share = limits.share_of(self.loops.len().max(1))?;
        Ok(self.for_each(|| Item::Limits(Box::new(share.clone())))?)
    }

    /// Leaves new peers in the backlog of the listeners until
    /// [`resume_accepting`](Self::resume_accepting). A graceful stop serves those that wait there.
    ///
    /// # Errors
    ///
    /// Where a loop is gone or too much waits for it already.
    pub fn stop_accepting(&self) -> Result<(), HandleError> {
        self.for_each(|| Item::Accept(false))
    }

    /// Accepts peers again.
    ///
    /// # Errors
    ///
    /// Where a loop is gone or too much waits for it already.
    pub fn resume_accepting(&self) -> Result<(), HandleError> {
        self.for_each(|| Item::Accept(true))
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

    /// What each loop has done so far, asked of the loops themselves. A callback of a handler, which
    /// they would have to wait for, is answered at once, with what was at the end of the last turn
    /// (when it asks for the first time in a while: at most a second before).
    ///
    /// # Errors
    ///
    /// Where a loop is gone, or has not answered within a second.
    pub fn stats(&self) -> Result<Vec<Stats>, HandleError> {
        if self.loops.iter().any(|mailbox| mailbox.is_ours()) {
            return Ok(self.loops.iter().map(|mailbox| mailbox.published()).collect());
        }
        self.ask(|to| Item::Stats { to })
    }

    /// Asks each loop, and waits for its answer.
    fn ask<T>(&self, question: impl Fn(Sender<T>) -> Item) -> Result<Vec<T>, HandleError> {
        let asked: Vec<Receiver<T>> = self
            .loops
            .iter()
            .map(|mailbox| {
                let (to, from) = channel();
                mailbox.post(question(to)).map(|()| from)
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

    /// Stops at once: what is in flight is cut off.
    ///
    /// # Errors
    ///
    /// Where a loop is gone.
    pub fn stop_now(&self) -> Result<(), HandleError> {
        self.for_each(|| Item::CutOff)
    }

    fn for_each(&self, mut item: impl FnMut() -> Item) -> Result<(), HandleError> {
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

    /// Answers with bytes.
    ///
    /// # Errors
    ///
    /// A loop that is gone.
    pub fn binary(self, content_type: &str, content: Vec<u8>) -> Result<(), DeferredError> {
        self.send(Outgoing::binary(content_type, content))
    }

    /// Answers with an error, as a handler does that returns one.
    ///
    /// # Errors
    ///
    /// A loop that is gone.
    pub fn error(mut self, error: impl Into<HandlerError>) -> Result<(), DeferredError> {
        let (key, sequence, close) = (self.id.key, self.sequence, self.close);
        let error = error.into();
        match self.mailbox.take() {
            Some(mailbox) => Ok(mailbox.post(Item::Fail { key, sequence, error, close })?),
            None => Ok(()),
        }
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
