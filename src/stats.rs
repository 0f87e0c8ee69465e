//! [`Stats`]: everything that happened, counted; and [`Cause`]: why a connection ended.

use std::fmt;

use crate::link::LinkCounts;
use crate::protocol::Fault;
use crate::proxy_protocol::Refusal;

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Cause {
    /// The peer shut down its sending side and has all its replies.
    Peer,
    /// The connection failed: reset, timed out in the kernel, unreachable.
    Error,
    /// The peer broke the framing; it got one error reply.
    Fault,
    /// A handler asked for it, or every connection is closed after its first reply.
    Handler,
    /// A handler panicked.
    Panic,
    /// It stayed above its high-water mark for too long while messages were pushed to it.
    Overflow,
    /// It made room for a new one, having long been idle, when the limit of connections was reached.
    Shed,
    /// The header of a message did not arrive in time.
    HeaderTimeout,
    /// The content of a message did not arrive in time.
    ContentTimeout,
    /// The content of a message came too slowly.
    ContentRate,
    /// Nothing happened for too long.
    Idle,
    /// The peer did not read its replies.
    WriteTimeout,
    /// The peer read its replies too slowly.
    ReadRate,
    /// The connection needed a buffer, and all buffers together hold as much as they may.
    BufferLimit,
    /// The server stopped; what was in flight was finished.
    Drained,
    /// The server stopped, and what was in flight was cut off.
    CutOff,
    /// The server was dropped.
    Dropped,
    /// What came cannot be decrypted, or breaks the rules of the secure protocol.
    LinkFault,
    /// The stream of a secure connection ended, and the peer had not said that it would: something may
    /// be missing.
    Truncated,
    /// Another process has taken it over, and serves it on.
    HandedOver,
    /// The content of a reply could not be sent whole: its file was shorter than was said, or its
    /// source ended or failed.
    StreamBroken,
}

impl Cause {
    /// All causes, in the order of their counts in [`Stats`].
    pub const ALL: [Self; 21] = [
        Self::Peer,
        Self::Error,
        Self::Fault,
        Self::Handler,
        Self::Panic,
        Self::Overflow,
        Self::Shed,
        Self::HeaderTimeout,
        Self::ContentTimeout,
        Self::ContentRate,
        Self::Idle,
        Self::WriteTimeout,
        Self::ReadRate,
        Self::BufferLimit,
        Self::Drained,
        Self::CutOff,
        Self::Dropped,
        Self::LinkFault,
        Self::Truncated,
        Self::HandedOver,
        Self::StreamBroken,
    ];

    /// The name in counters: `peer`, `header_timeout`, …
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Error => "error",
            Self::Fault => "fault",
            Self::Handler => "handler",
            Self::Panic => "panic",
            Self::Overflow => "overflow",
            Self::Shed => "shed",
            Self::HeaderTimeout => "header_timeout",
            Self::ContentTimeout => "content_timeout",
            Self::ContentRate => "content_rate",
            Self::Idle => "idle",
            Self::WriteTimeout => "write_timeout",
            Self::ReadRate => "read_rate",
            Self::BufferLimit => "buffer_limit",
            Self::Drained => "drained",
            Self::CutOff => "cut_off",
            Self::Dropped => "dropped",
            Self::LinkFault => "link_fault",
            Self::Truncated => "truncated",
            Self::HandedOver => "handed_over",
            Self::StreamBroken => "stream_broken",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What one event loop has done since it was made.
///
/// `accepted`, `connected` and `taken_over` together are always `open` and all of `closed` together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections accepted and served.
    pub accepted: u64,
    /// Connections that were made from here.
    pub connected: u64,
    /// Connections taken over from a predecessor process.
    pub taken_over: u64,
    /// Connections open now.
    pub open: u64,
    /// Sockets of connections that are closed already: what their peers still send is read and
    /// dropped, for a bounded time.
    pub lingering: u64,
    /// Connections closed, by [`Cause`] in the order of [`Cause::ALL`].
    pub closed: [u64; Cause::ALL.len()],
    /// Whole messages received.
    pub messages: u64,
    /// Replies encoded, error replies included.
    pub replies: u64,
    /// Bytes received, lingering included.
    pub bytes_in: u64,
    /// Bytes handed to the system for sending.
    pub bytes_out: u64,
    /// Faults in what peers sent, by [`Fault`] in the order of [`Fault::ALL`].
    pub faults: [u64; Fault::ALL.len()],
    /// Messages for which the handler returned an error that was not a fault of the content.
    pub handler_errors: u64,
    /// Calls of the handler, of the framing or of the log that panicked.
    pub panics: u64,
    /// Messages cut short by the end of their connection.
    pub truncated: u64,
    /// Bytes received and dropped: behind a fault, cut short, or while lingering.
    pub discarded_in: u64,
    /// Bytes of replies that could not be delivered.
    pub discarded_out: u64,
    /// Sends that the system took only a part of.
    pub short_writes: u64,
    /// Times that reading paused at the high-water mark.
    pub paused_reads: u64,
    /// Events for connections that were gone.
    pub stale_events: u64,
    /// Waits that returned.
    pub wakeups: u64,
    /// Events that they returned.
    pub events: u64,
    /// Peers that were gone before they were accepted, and other passing errors of accept.
    pub accept_errors: u64,
    /// Times that accepting paused because descriptors or memory ran out.
    pub accept_pauses: u64,
    /// Peers accepted and closed at once while no descriptors were left.
    pub turned_away: u64,
    /// Peers closed at once because their address had its number of connections.
    pub refused_by_address: u64,
    /// Sockets closed before they became connections since a PROXY header was required, by
    /// [`Refusal`] in the order of [`Refusal::ALL`].
    pub refused_by_proxy: [u64; Refusal::ALL.len()],
    /// Messages refused with an error reply, since all buffers were full.
    pub refused_messages: u64,
    /// Contents that were received in pieces, counted when they began.
    pub streams_in: u64,
    /// Contents that were read when there was room, counted when they began.
    pub streams_out: u64,
    /// Contents that were not streamed since they were too long, or since too many were.
    pub refused_streams: u64,
    /// Contents of which a part had come, or gone, when they ended.
    pub broken_streams: u64,
    /// Connections whose buffers were taken away, since others needed room and all were full.
    pub gave_way: u64,
    /// Peers accepted here and served by another event loop.
    pub handed_over: u64,
    /// Messages pushed to connections.
    pub pushes: u64,
    /// Pushed messages that were dropped, since their connections had too much to send.
    pub dropped_pushes: u64,
    /// What was asked of connections that were gone.
    pub missed: u64,
    /// Groups that have members now.
    pub groups: u64,
    /// Capacity of the buffers that connections hold now, in bytes.
    pub pool_bytes: u64,
    /// How many buffers and queues that is.
    pub pool_buffers: u64,
    /// Timers that are running now: one for each connection with a deadline, and the handler's own.
    pub timers: u64,
    /// Handshakes of secure connections that were carried out in full.
    pub handshakes: u64,
    /// Handshakes that resumed an earlier session.
    pub handshakes_resumed: u64,
    /// Handshakes that failed, by the name of the fault.
    pub handshake_faults: NamedCounts,
    /// Faults of secure connections, by name.
    pub link_faults: NamedCounts,
    /// Records, ciphers and keys of secure connections.
    pub link: LinkCounts,
}

/// Counts by names, of which there are few.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedCounts(Vec<(&'static str, u64)>);

impl NamedCounts {
    /// The names that have a count, each with its count.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.iter().copied()
    }

    /// The count of this name.
    #[must_use]
    pub fn of(&self, name: &str) -> u64 {
        self.iter().find(|(known, _)| *known == name).map_or(0, |(_, count)| count)
    }

    /// All counts together.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.iter().map(|(_, count)| count).sum()
    }

    pub(crate) fn add(&mut self, name: &'static str, more: u64) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += more,
            None => self.0.push((name, more)),
        }
    }
}

impl Stats {
    /// Adds what another loop has done.
    pub(crate) fn add(&mut self, other: &Self) {
        // No `..`: a new count has to be added too.
        let Self {
            accepted,
            connected,
            taken_over,
            open,
            lingering,
            closed,
            messages,
            replies,
            bytes_in,
            bytes_out,
            faults,
            handler_errors,
            panics,
            truncated,
            discarded_in,
            discarded_out,
            short_writes,
            paused_reads,
            stale_events,
            wakeups,
            events,
            accept_errors,
            accept_pauses,
            turned_away,
            refused_by_address,
            refused_by_proxy,
            refused_messages,
            gave_way,
            streams_in,
            streams_out,
            refused_streams,
            broken_streams,
            handed_over,
            pushes,
            dropped_pushes,
            missed,
            groups,
            pool_bytes,
            pool_buffers,
            timers,
            handshakes,
            handshakes_resumed,
            handshake_faults,
            link_faults,
            link,
        } = other;
        for (sum, more) in self.closed.iter_mut().zip(closed) {
            *sum += more;
        }
        for (sum, more) in self.faults.iter_mut().zip(faults) {
            *sum += more;
        }
        for (sum, more) in self.refused_by_proxy.iter_mut().zip(refused_by_proxy) {
            *sum += more;
        }
        self.accepted += accepted;
        self.connected += connected;
        self.taken_over += taken_over;
        self.open += open;
        self.lingering += lingering;
        self.messages += messages;
        self.replies += replies;
        self.bytes_in += bytes_in;
        self.bytes_out += bytes_out;
        self.handler_errors += handler_errors;
        self.panics += panics;
        self.truncated += truncated;
        self.discarded_in += discarded_in;
        self.discarded_out += discarded_out;
        self.short_writes += short_writes;
        self.paused_reads += paused_reads;
        self.stale_events += stale_events;
        self.wakeups += wakeups;
        self.events += events;
        self.accept_errors += accept_errors;
        self.accept_pauses += accept_pauses;
        self.turned_away += turned_away;
        self.refused_by_address += refused_by_address;
        self.refused_messages += refused_messages;
        self.gave_way += gave_way;
        self.streams_in += streams_in;
        self.streams_out += streams_out;
        self.refused_streams += refused_streams;
        self.broken_streams += broken_streams;
        self.handed_over += handed_over;
        self.pushes += pushes;
        self.dropped_pushes += dropped_pushes;
        self.missed += missed;
        self.groups += groups;
        self.pool_bytes += pool_bytes;
        self.pool_buffers += pool_buffers;
        self.timers += timers;
        self.handshakes += handshakes;
        self.handshakes_resumed += handshakes_resumed;
        handshake_faults.iter().for_each(|(name, more)| self.handshake_faults.add(name, more));
        link_faults.iter().for_each(|(name, more)| self.link_faults.add(name, more));
        self.link.add(link);
    }

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
        write!(
            f,
            "accepted={} open={} messages={} replies={} bytes_in={} bytes_out={}",
            self.accepted, self.open, self.messages, self.replies, self.bytes_in, self.bytes_out
        )?;
        for (cause, count) in Cause::ALL.iter().zip(self.closed) {
            // Few servers have secure connections, stream contents or are replaced.
            let is_rare = matches!(
                cause,
                Cause::LinkFault | Cause::Truncated | Cause::HandedOver | Cause::StreamBroken
            );
            if count > 0 || !is_rare {
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
        let others = [
            ("handler_errors", self.handler_errors),
            ("panics", self.panics),
            ("truncated", self.truncated),
            ("discarded_in", self.discarded_in),
            ("discarded_out", self.discarded_out),
            ("short_writes", self.short_writes),
            ("paused_reads", self.paused_reads),
            ("stale_events", self.stale_events),
            ("accept_errors", self.accept_errors),
            ("accept_pauses", self.accept_pauses),
            ("turned_away", self.turned_away),
            ("refused_by_address", self.refused_by_address),
            ("refused_messages", self.refused_messages),
            ("gave_way", self.gave_way),
            ("handed_over", self.handed_over),
            ("streams_in", self.streams_in),
            ("streams_out", self.streams_out),
            ("refused_streams", self.refused_streams),
            ("broken_streams", self.broken_streams),
            ("connected", self.connected),
            ("taken_over", self.taken_over),
            ("pushes", self.pushes),
            ("dropped_pushes", self.dropped_pushes),
            ("missed", self.missed),
            ("handshakes", self.handshakes),
            ("handshakes_resumed", self.handshakes_resumed),
            ("records_in", self.link.records_in),
            ("records_out", self.link.records_out),
            ("cipher_wakes", self.link.wakes),
            ("cipher_hits", self.link.hits),
            ("key_updates_in", self.link.updates_in),
            ("key_updates_out", self.link.updates_out),
        ];
        for (name, count) in others {
            if count > 0 {
                write!(f, " {name}={count}")?;
            }
        }
        for (name, count) in self.handshake_faults.iter() {
            write!(f, " handshake_{name}={count}")?;
        }
        for (name, count) in self.link_faults.iter() {
            write!(f, " link_{name}={count}")?;
        }
        write!(f, " wakeups={} events={}", self.wakeups, self.events)
    }
}
