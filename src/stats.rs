//! [`Stats`]: everything that happened, counted.
//!
//! Each count is one row of [`counts!`]: its field, its sum over loops, its name in the line that a
//! server says of itself and in metrics, and what it means come from there.

mod cause;
mod named;

use std::fmt;

pub use self::cause::Cause;
pub use self::named::NamedCounts;
use crate::protocol::Fault;
use crate::proxy_protocol::Refusal;

/// What a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CountKind {
    /// It only grows.
    Counter,
    /// How many there are now.
    Gauge,
}

/// Where a count stands in the line of all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// In front of the causes, also where it is 0.
    First,
    /// Behind them, where it is not 0.
    Later,
    /// At the end, also where it is 0.
    Last,
    /// Nowhere: it is of interest while a server runs.
    Never,
}

/// One of the numbers of [`Stats`], for programs that tell all of them.
///
/// ```
/// use myriapod::{Stats, CountKind};
///
/// let stats = Stats::default();
/// for count in Stats::COUNTS {
///     assert!(!count.help().is_empty());
///     assert_eq!(count.of(&stats), 0);
/// }
/// let open = Stats::COUNTS.iter().find(|count| count.name == "open").unwrap();
/// assert_eq!((open.kind, open.metric), (CountKind::Gauge, "open_connections"));
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Count {
    /// As in the line of a server's counts: `bytes_in`.
    pub name: &'static str,
    /// As in metrics, without what stands in front of it and behind it: `received_bytes`.
    pub metric: &'static str,
    /// Whether it only grows.
    pub kind: CountKind,
    help: &'static str,
    of: fn(&Stats) -> u64,
    shown: Shown,
}

impl Count {
    /// What it counts, in words.
    #[must_use]
    pub const fn help(&self) -> &'static str {
        self.help.trim_ascii()
    }

    /// The number.
    #[must_use]
    pub fn of(&self, stats: &Stats) -> u64 {
        (self.of)(stats)
    }
}

macro_rules! counts {
    (
        loops { $($(#[doc = $doc:literal])+ $field:ident: $kind:ident $metric:literal, $shown:ident;)+ }
        links {
            $($(#[doc = $link_doc:literal])+
            $link:ident: $link_kind:ident $link_metric:literal, $link_shown:ident;)+
        }
    ) => {
        /// What one event loop has done since it was made.
        ///
        /// `accepted`, `connected` and `taken_over` together are always `open` and all of `closed`
        /// together.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[doc = $doc])+ pub $field: u64,)+
            /// Connections closed, by [`Cause`] in the order of [`Cause::ALL`].
            pub closed: [u64; Cause::ALL.len()],
            /// Faults in what peers sent, by [`Fault`] in the order of [`Fault::ALL`].
            pub faults: [u64; Fault::ALL.len()],
            /// Sockets closed before they became connections since a PROXY header was required, by
            /// [`Refusal`] in the order of [`Refusal::ALL`].
            pub refused_by_proxy: [u64; Refusal::ALL.len()],
            /// Handshakes that failed, by the name of the fault.
            pub handshake_faults: NamedCounts,
            /// Faults of secure connections, by name.
            pub link_faults: NamedCounts,
            /// Records, ciphers and keys of secure connections.
            pub link: LinkCounts,
        }

        /// What happened between sockets and messages.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct LinkCounts {
            $($(#[doc = $link_doc])+ pub $link: u64,)+
        }

        impl Stats {
            /// Every number that has no cause or kind beside its name, in the order in which they are
            /// told.
            pub const COUNTS: &'static [Count] = &[
                $(Count {
                    name: stringify!($field),
                    metric: $metric,
                    kind: CountKind::$kind,
                    help: concat!($($doc),+),
                    of: |stats| stats.$field,
                    shown: Shown::$shown,
                },)+
                $(Count {
                    name: $link_metric,
                    metric: $link_metric,
                    kind: CountKind::$link_kind,
                    help: concat!($($link_doc),+),
                    of: |stats| stats.link.$link,
                    shown: Shown::$link_shown,
                },)+
            ];

            /// Adds what another loop has done.
            pub(crate) fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)+
                $(self.link.$link += other.link.$link;)+
                for (sum, more) in self.closed.iter_mut().zip(&other.closed) {
                    *sum += more;
                }
                for (sum, more) in self.faults.iter_mut().zip(&other.faults) {
                    *sum += more;
                }
                for (sum, more) in self.refused_by_proxy.iter_mut().zip(&other.refused_by_proxy) {
                    *sum += more;
                }
                self.handshake_faults.add_all(&other.handshake_faults);
                self.link_faults.add_all(&other.link_faults);
            }
        }
    };
}

// A further count is one row here, and the places where it is counted. docs/counts.md lists them, and
// a test holds it to this.
counts! {
    loops {
        /// Connections accepted and served.
        accepted: Counter "accepted", First;
        /// Connections open now.
        open: Gauge "open_connections", First;
        /// Whole messages received.
        messages: Counter "messages", First;
        /// Replies encoded, error replies included.
        replies: Counter "replies", First;
        /// Bytes received, lingering included.
        bytes_in: Counter "received_bytes", First;
        /// Bytes handed to the system for sending.
        bytes_out: Counter "sent_bytes", First;
        /// Messages for which the handler returned an error that was not a fault of the content.
        handler_errors: Counter "handler_errors", Later;
        /// Calls of the handler, of the framing or of the log that panicked.
        panics: Counter "panics", Later;
        /// Messages cut short by the end of their connection.
        truncated: Counter "truncated", Later;
        /// Bytes received and dropped: behind a fault, cut short, or while lingering.
        discarded_in: Counter "discarded_received_bytes", Later;
        /// Bytes of replies that could not be delivered.
        discarded_out: Counter "discarded_sent_bytes", Later;
        /// Sends that the system took only a part of.
        short_writes: Counter "short_writes", Later;
        /// Times that reading paused at the high-water mark.
        paused_reads: Counter "paused_reads", Later;
        /// Events for connections that were gone.
        stale_events: Counter "stale_events", Later;
        /// Peers that were gone before they were accepted, and other passing errors of accept.
        accept_errors: Counter "accept_errors", Later;
        /// Times that accepting paused because descriptors or memory ran out.
        accept_pauses: Counter "accept_pauses", Later;
        /// Peers accepted and closed at once while no descriptors were left.
        turned_away: Counter "turned_away", Later;
        /// Peers closed at once because their address had its number of connections.
        refused_by_address: Counter "refused_by_address", Later;
        /// Messages refused with an error reply, since all buffers were full.
        refused_messages: Counter "refused_messages", Later;
        /// Connections whose buffers were taken away, since others needed room and all were full.
        gave_way: Counter "gave_way", Later;
        /// Peers accepted here and served by another event loop.
        handed_over: Counter "handed_over", Later;
        /// Contents that were received in pieces, counted when they began.
        streams_in: Counter "streams_in", Later;
        /// Contents that were read when there was room, counted when they began.
        streams_out: Counter "streams_out", Later;
        /// Contents that were not streamed since they were too long, or since too many were.
        refused_streams: Counter "refused_streams", Later;
        /// Contents of which a part had come, or gone, when they ended.
        broken_streams: Counter "broken_streams", Later;
        /// Connections that were made from here.
        connected: Counter "connected", Later;
        /// Connections taken over from a predecessor process.
        taken_over: Counter "taken_over", Later;
        /// Messages pushed to connections.
        pushes: Counter "pushes", Later;
        /// Pushed messages that were dropped, since their connections had too much to send.
        dropped_pushes: Counter "dropped_pushes", Later;
        /// What was asked of connections that were gone.
        missed: Counter "missed", Later;
        /// Handshakes of secure connections that were carried out in full.
        handshakes: Counter "handshakes", Later;
        /// Handshakes that resumed an earlier session.
        handshakes_resumed: Counter "handshakes_resumed", Later;
        /// Sockets of connections that are closed already: what their peers still send is read and
        /// dropped, for a bounded time.
        lingering: Gauge "lingering_sockets", Never;
        /// Groups that have members now.
        groups: Gauge "groups", Never;
        /// Capacity of the buffers that connections hold now, in bytes.
        pool_bytes: Gauge "pool_bytes", Never;
        /// How many buffers and queues that is.
        pool_buffers: Gauge "pool_buffers", Never;
        /// Timers that are running now: one for each connection with a deadline, and the handler's own.
        timers: Gauge "timers", Never;
        /// Waits that returned.
        wakeups: Counter "wakeups", Last;
        /// Events that they returned.
        events: Counter "events", Last;
    }
    links {
        /// Records that were taken in.
        records_in: Counter "records_in", Later;
        /// Records that were sent.
        records_out: Counter "records_out", Later;
        /// Ciphers that were woken: each direction counts.
        wakes: Counter "cipher_wakes", Later;
        /// Uses of ciphers that were awake.
        hits: Counter "cipher_hits", Later;
        /// Keys that the peer has renewed.
        updates_in: Counter "key_updates_in", Later;
        /// Keys that we have renewed.
        updates_out: Counter "key_updates_out", Later;
    }
}

impl Stats {
    /// Connections closed for `cause`.
    #[must_use]
    pub fn closed_for(&self, cause: Cause) -> u64 {
        self.closed.get(cause as usize).copied().unwrap_or(0)
    }

    /// Faults of one kind.
    #[must_use]
    pub fn faults_of(&self, fault: Fault) -> u64 {
        self.faults.get(fault as usize).copied().unwrap_or(0)
    }

    /// Sockets refused for their PROXY headers, or the lack of one, for one reason.
    #[must_use]
    pub fn refused_by_proxy_for(&self, refusal: Refusal) -> u64 {
        self.refused_by_proxy.get(refusal as usize).copied().unwrap_or(0)
    }

    pub(crate) fn count_refusal(&mut self, refusal: Refusal) {
        if let Some(count) = self.refused_by_proxy.get_mut(refusal as usize) {
            *count += 1;
        }
    }

    pub(crate) fn count_fault(&mut self, fault: Fault) {
        if let Some(count) = self.faults.get_mut(fault as usize) {
            *count += 1;
        }
    }

    pub(crate) fn count_closed(&mut self, cause: Cause) {
        if let Some(count) = self.closed.get_mut(cause as usize) {
            *count += 1;
        }
    }
}

/// One line of `name=count`, every count that is always of interest and every other that is not 0.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut gap = "";
        for count in Self::COUNTS.iter().filter(|count| count.shown == Shown::First) {
            write!(f, "{gap}{}={}", count.name, count.of(self))?;
            gap = " ";
        }
        for (cause, count) in Cause::ALL.iter().zip(self.closed) {
            if count > 0 || !cause.is_rare() {
                write!(f, " closed_{cause}={count}")?;
            }
        }
        for (fault, count) in Fault::ALL.iter().zip(self.faults) {
            if count > 0 {
                write!(f, " fault_{}={count}", fault.name())?;
            }
        }
        for (refusal, count) in Refusal::ALL.iter().zip(self.refused_by_proxy) {
            if count > 0 {
                write!(f, " refused_proxy_{}={count}", refusal.name())?;
            }
        }
        for count in Self::COUNTS.iter().filter(|count| count.shown == Shown::Later) {
            if count.of(self) > 0 {
                write!(f, " {}={}", count.name, count.of(self))?;
            }
        }
        for (name, count) in self.handshake_faults.iter() {
            write!(f, " handshake_{name}={count}")?;
        }
        for (name, count) in self.link_faults.iter() {
            write!(f, " link_{name}={count}")?;
        }
        for count in Self::COUNTS.iter().filter(|count| count.shown == Shown::Last) {
            write!(f, " {}={}", count.name, count.of(self))?;
        }
        Ok(())
    }
}
