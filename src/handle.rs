//! [`Handle`]: what other threads may ask of the event loops of a server.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use myriapod_sys::{self as sys, Descriptor, SocketAddr};

use crate::config::Limits;
use crate::connection_id::ConnectionId;
use crate::error::Error;
use crate::group_watch::{GroupWatch, Watched};
use crate::handle_error::HandleError;
use crate::link::Caller;
use crate::mailbox::{Item, Mailbox};
use crate::outgoing::Outgoing;
use crate::stats::Stats;

/// How long [`Handle::stats`] waits for a loop to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Asks things of the event loops of a server, from any thread. Clones are the same handle.
///
/// Nothing here waits for the loop but [`stats`](Self::stats). What is asked of a connection that
/// is gone by then is counted (`Stats::missed`), and nothing else.
///
/// What one thread asks is done in that order, but for broadcasts: they keep their order among
/// themselves, and what is asked later may come before one has reached its last connection. So a
/// broadcast and then `close` may close a connection that it has not reached. A message to one
/// connection waits its turn with [`send_in_turn`](Self::send_in_turn).
#[derive(Clone)]
pub struct Handle {
    loops: Arc<[Arc<Mailbox>]>,
    watched: Watched,
}

impl Handle {
    pub(crate) fn new(loops: Arc<[Arc<Mailbox>]>, watched: Watched) -> Self {
        Self { loops, watched }
    }

    /// Sends a message to one connection.
    ///
    /// # Errors
    ///
    /// Where the loop is gone or too much waits for it already.
    pub fn send(&self, to: ConnectionId, outgoing: Outgoing) -> Result<(), HandleError> {
        self.post(to, Item::Send { key: to.key, outgoing })
    }

    /// The same, but it does not overtake the broadcasts that this thread asked for before.
    ///
    /// # Errors
    ///
    /// Where the loop is gone or too much waits for it already.
    pub fn send_in_turn(&self, to: ConnectionId, outgoing: Outgoing) -> Result<(), HandleError> {
        self.post(to, Item::SendBehind { key: to.key, outgoing })
    }

    /// Sends a message to all connections of a group, on all loops; each loop encodes it once.
    ///
    /// # Errors
    ///
    /// Where a loop is gone or too much waits for it already.
    pub fn broadcast(&self, group: &str, outgoing: Outgoing) -> Result<(), HandleError> {
        self.tell_watch(group, &outgoing);
        self.broadcast_to(Some(group), None, outgoing)
    }

    /// As [`broadcast`](Self::broadcast), but who [watches](Self::watch_groups) the groups is not
    /// told: the message stays in this server.
    ///
    /// # Errors
    ///
    /// Where a loop is gone or too much waits for it already.
    pub fn broadcast_here(&self, group: &str, outgoing: Outgoing) -> Result<(), HandleError> {
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
        self.tell_watch(group, &outgoing);
        self.broadcast_to(Some(group), Some(except), outgoing)
    }

    fn tell_watch(&self, group: &str, outgoing: &Outgoing) {
        if let Some(watch) = self.watched.get() {
            watch.broadcast(group, outgoing);
        }
    }

    /// Has `watch` told from now on which groups have members, beginning with those that have some
    /// already, and what is broadcast to them. There is one watch for a server, for as long as it
    /// runs; returns whether this is the one.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use myriapod::{GroupWatch, Outgoing, Server};
    ///
    /// #[derive(Debug)]
    /// struct Telling;
    ///
    /// impl GroupWatch for Telling {
    ///     fn first_in(&self, group: &str) {
    ///         println!("{group} has a member");
    ///     }
    ///
    ///     fn last_out(&self, group: &str) {
    ///         println!("{group} has none");
    ///     }
    ///
    ///     fn broadcast(&self, group: &str, outgoing: &Outgoing) {
    ///         println!("{} bytes for {group}", outgoing.content().len());
    ///     }
    /// }
    ///
    /// let server = Server::builder().answer(|message, reply| Ok(reply.echo(&message)?))?;
    /// assert!(server.handle().watch_groups(Arc::new(Telling))?);
    /// assert!(!server.handle().watch_groups(Arc::new(Telling))?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Where a loop is gone.
    pub fn watch_groups(&self, watch: Arc<impl GroupWatch + 'static>) -> Result<bool, HandleError> {
        let watch: Arc<dyn GroupWatch> = watch;
        if !self.watched.set(Arc::clone(&watch)) {
            return Ok(false);
        }
        self.for_each(|| Item::Watch(Arc::clone(&watch))).map(|()| true)
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

    /// Goes on with what is streamed on a connection, as [`View::resume`](crate::View::resume) does.
    /// Resuming once too often does no harm.
    ///
    /// # Errors
    ///
    /// Where the loop is gone or too much waits for it already.
    pub fn resume(&self, id: ConnectionId) -> Result<(), HandleError> {
        self.post(id, Item::Stream { key: id.key })
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

    /// Whether the log is told of every single message from now on; see
    /// [`ServerBuilder::log_messages`](crate::ServerBuilder::log_messages). Without a log, nothing
    /// changes.
    ///
    /// # Errors
    ///
    /// Where a loop is gone or too much waits for it already.
    pub fn set_log_messages(&self, log_messages: bool) -> Result<(), HandleError> {
        self.for_each(|| Item::LogMessages(log_messages))
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
    /// `timeout`, which may not be zero, it is given up. In a server that is stopping, every connect
    /// fails with `ECONNABORTED`.
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
        self.first(Item::Connect { address, tag, timeout, caller: None })
    }

    /// As [`connect`](Self::connect), with a handshake before the handler hears of the connection;
    /// `timeout` is for both. The server must be built over the caller's
    /// [link](crate::ServerBuilder::link): where it is not, the connect fails as unsupported. A
    /// handshake that fails is told with [`on_handshake_error`](crate::Handler::on_handshake_error).
    ///
    /// The crate `myriapod-tls` has a caller for TLS 1.3.
    ///
    /// # Errors
    ///
    /// Where the loop is gone or too much waits for it already.
    pub fn connect_secure(
        &self,
        address: SocketAddr,
        tag: u64,
        timeout: Duration,
        caller: impl Caller,
    ) -> Result<(), HandleError> {
        self.first(Item::Connect { address, tag, timeout, caller: Some(Box::new(caller)) })
    }

    /// Has the handler's `on_timer` called with `tag`, not before `after` has passed. Timers that
    /// are due within the same 10 ms fire in any order. They fire during a graceful stop too, but do
    /// not hold it up: those that are due later never fire.
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
            return self.loops.iter().map(|mailbox| mailbox.published()).collect();
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
    /// changes nothing, even when it is over. Connections that were made with
    /// [`connect`](Self::connect) end last, since deferred replies may wait for them.
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
