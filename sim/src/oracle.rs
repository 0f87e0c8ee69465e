//! What must hold: after every step, whenever a connection closes, and when the world is quiet.

use std::collections::BTreeMap;
use std::time::Duration;

use myriapod::sys::Time;
use myriapod::sys::sim::{Closing, World};
use myriapod::{Audit, Cause, Limits, Overflow, Stats};

use crate::peer::{End, Peer};
use crate::request::Verb;
use crate::service::{Book, peer_at};

/// A deadline's moments are ticks, and a turn begins a little before its calls.
const SLACK: Duration = Duration::from_millis(20);

/// How much later than its deadline a connection may be closed when nothing goes wrong.
const LATE: Duration = Duration::from_millis(100);

/// The most that one receive brings.
const RECEIVE: u64 = 64 << 10;

/// Replies that wait are gathered in buffers of this size at least.
const SEGMENT: usize = 16 << 10;

/// Bytes that have not been read for as long as this, when nothing goes wrong, were overlooked.
const OVERLOOKED: Duration = Duration::from_millis(30);

/// The same while things go wrong: a turn that is late by less than this reads no more than any other
/// does before deadlines fire.
const OVERLOOKED_IN_TROUBLE: Duration = Duration::from_millis(300);

/// What the driver of a world has done that the server may act upon.
#[derive(Debug, Default)]
pub(crate) struct Deeds {
    pub(crate) drain_began: Option<Time>,
    pub(crate) hurried: bool,
    /// Peers that the driver had closed.
    pub(crate) closed: Vec<u32>,
    /// Those among them that were to be closed at once.
    pub(crate) cut: Vec<u32>,
    /// When the first of them was made.
    pub(crate) first_push: Option<Time>,
    /// Since when nothing goes wrong any more.
    pub(crate) calm_since: Option<Time>,
    /// Whether each wait reports all that is ready.
    pub(crate) hears_all: bool,
}

/// Everything that is known of one moment.
#[derive(Debug)]
pub(crate) struct Moment<'a> {
    /// The newest limits of the server.
    pub(crate) limits: &'a Limits,
    /// All that it has had, the newest last.
    pub(crate) ever: &'a [Limits],
    /// Those among them that it may have worked within in its last turn.
    pub(crate) in_force: &'a [Limits],
    /// Sockets that were given to it in its last turn, and those that it has not looked at.
    pub(crate) adopted: usize,
    pub(crate) given: usize,
    /// Whether it was told to let nobody in, and has heard that.
    pub(crate) is_shut: bool,
    /// Timers and connects that it was asked for.
    pub(crate) asked_for: usize,
    pub(crate) longest_answer: usize,
    pub(crate) stats: &'a Stats,
    pub(crate) audit: &'a Audit,
    pub(crate) book: &'a Book,
    pub(crate) peers: &'a [Peer],
    pub(crate) world: &'a World,
    /// Descriptors that the server's poller watches.
    pub(crate) watched: usize,
    /// Entries of the slab that are neither listeners nor connections.
    pub(crate) others: usize,
    /// Descriptors that the server has besides the entries of its slab.
    pub(crate) base: usize,
}

impl Moment<'_> {
    fn max_connections(&self) -> impl Iterator<Item = u64> {
        self.in_force.iter().map(|limits| limits.max_connections.unwrap_or(usize::MAX) as u64)
    }

    /// As much as may wait for one connection, but for what is pushed without regard to the mark.
    fn longest_queue(&self) -> usize {
        let high_water = self.ever.iter().map(|limits| limits.high_water).max().unwrap_or(0);
        high_water + self.longest_answer + 1000
    }
}

macro_rules! hold {
    ($holds:expr, $($what:tt)*) => {
        if !$holds {
            return Err(format!($($what)*));
        }
    };
}

/// What holds after every step.
pub(crate) fn at_every_step(moment: &Moment<'_>) -> Result<(), String> {
    let Moment { limits, stats, audit, book, world, .. } = moment;
    if let Some(wrong) = &book.wrong {
        return Err(wrong.clone());
    }
    for peer in &book.impatient {
        // Where sending has failed, an answer would come for nobody, and what was received is read.
        let gone = moment.peers.get(*peer as usize).is_some_and(|peer| peer.left);
        hold!(gone, "peer {peer}: a message before the deferred answer");
    }
    // The counters add up.
    let closed: u64 = stats.closed.iter().sum();
    hold!(
        stats.accepted + stats.connected == stats.open + closed,
        "accepted {} and connected {} are not open {} and closed {closed}",
        stats.accepted,
        stats.connected,
        stats.open
    );
    for cause in Cause::ALL {
        let seats = book.seats.values().filter(|seat| seat.cause == Some(cause));
        let (seats, closed) = (seats.count() as u64, stats.closed_for(cause));
        hold!(closed == seats, "{closed} closed as {cause}, and the handler was told of {seats}");
    }
    let open = book.seats.values().filter(|seat| seat.cause.is_none());
    hold!(
        stats.lingering == audit.lingering as u64,
        "lingering {}, and {} sockets do",
        stats.lingering,
        audit.lingering
    );
    hold!(
        stats.open == audit.connections as u64 && stats.open == open.count() as u64,
        "open {}, and there are {} connections",
        stats.open,
        audit.connections
    );
    let accounted = book.bytes + stats.discarded_in + audit.buffered;
    hold!(
        stats.bytes_in == accounted,
        "bytes in {} are not decoded {}, discarded {} and buffered {}",
        stats.bytes_in,
        book.bytes,
        stats.discarded_in,
        audit.buffered
    );
    let (received, sent) = world.traffic();
    hold!(
        (received, sent) == (stats.bytes_in, stats.bytes_out),
        "the kernel has seen {received} bytes in and {sent} out, the server {} and {}",
        stats.bytes_in,
        stats.bytes_out
    );
    hold!(
        stats.messages == book.messages,
        "messages {}, and the handler has seen {}",
        stats.messages,
        book.messages
    );
    pushes(moment)?;
    // Limits hold.
    hold!(
        stats.pool_bytes <= most_lent(limits),
        "{} bytes in buffers, and {} are allowed",
        stats.pool_bytes,
        limits.max_buffer_bytes
    );
    let message = 2 + limits.max_header_len + limits.max_content_len;
    let largest = message.max(64 << 10) * 2;
    hold!(audit.largest_buffer <= largest, "a buffer of {} bytes", audit.largest_buffer);
    let exceeds = |limits: &Limits| matches!(limits.overflow, Overflow::CloseAfter(_));
    if !moment.ever.iter().any(exceeds) {
        let longest = moment.longest_queue();
        hold!(audit.longest_queue <= longest, "{} bytes in a queue", audit.longest_queue);
    }
    per_address(moment)?;
    // Nothing leaks.
    hold!(audit.overdue == 0, "{} connections have a timer behind their deadline", audit.overdue);
    hold!(
        audit.timers == audit.armed,
        "the wheel has {} timers, and the connections {}",
        audit.timers,
        audit.armed
    );
    // The waker is watched too.
    hold!(
        moment.watched == audit.watched + 1,
        "{} descriptors are watched, where {} entries are to be",
        moment.watched,
        audit.watched
    );
    let descriptors = moment.world.open_descriptors();
    let expected = moment.base + audit.entries + moment.given;
    // The spare may be given up for a while.
    hold!(
        descriptors == expected || descriptors + 1 == expected,
        "{descriptors} descriptors, where {expected} are accounted for"
    );
    // A loop that stops does not look at its timers any more.
    let wound = book.seats.values().filter(|seat| seat.timer_due.is_some() && seat.cause.is_none());
    let alarms = moment.asked_for + wound.count();
    hold!(
        audit.listeners == 0 || audit.alarms <= alarms,
        "{} timers and connects, where {alarms} were asked for",
        audit.alarms
    );
    Ok(())
}

/// As much as may be in buffers: a little for each is lent beyond the limit, up to a second one.
fn most_lent(limits: &Limits) -> u64 {
    (limits.max_buffer_bytes + limits.max_buffer_bytes / 8) as u64
}

/// What is pushed with an answer comes before it, or the service knows that it was dropped; and so
/// does the service know of all others.
fn pushes(moment: &Moment<'_>) -> Result<(), String> {
    let (book, dropped) = (moment.book, moment.stats.dropped_pushes);
    let told = book.dropped + book.refused.len() as u64;
    hold!(dropped == told, "{dropped} pushes were dropped, and the handler was told of {told}");
    for peer in moment.peers {
        for asked in &peer.without_push {
            hold!(
                book.refused.contains(&(peer.number, *asked)),
                "peer {}: answer {asked} came before what was pushed with it",
                peer.number
            );
        }
    }
    Ok(())
}

/// Accepting never takes the server above its limit; connects, which its owner asks for, may. One
/// turn accepts a batch at most, unless the server stops, and makes room only when it is full.
pub(crate) fn at_growth(
    before: &Stats,
    connecting: usize,
    moment: &Moment<'_>,
    deeds: &Deeds,
) -> Result<(), String> {
    let stats = moment.stats;
    let limit = moment.max_connections().max().unwrap_or(u64::MAX);
    let most = before.open + stats.connected - before.connected;
    hold!(stats.open <= limit.max(most), "{} connections, and {limit} are allowed", stats.open);
    let taken = stats.accepted + stats.refused_by_address;
    let taken = taken - before.accepted - before.refused_by_address;
    let batches = moment.in_force.iter().map(|limits| limits.accept_batch);
    let batch = if moment.is_shut { 0 } else { batches.max().unwrap_or(0) } + moment.adopted;
    hold!(
        deeds.drain_began.is_some() || taken <= batch as u64,
        "{taken} peers were accepted in a turn, and {batch} are allowed"
    );
    let of = |stats: &Stats| stats.closed_for(Cause::Shed);
    let shed = of(stats) - of(before);
    // A socket that lingers has its place still.
    let places = most + connecting as u64 + taken + before.lingering;
    let limit = moment.max_connections().min().unwrap_or(0);
    hold!(
        shed == 0 || places > limit,
        "{shed} made room, and there were {places} connections of {limit}"
    );
    Ok(())
}

fn per_address(moment: &Moment<'_>) -> Result<(), String> {
    // Who is there when a limit comes down, stays.
    let limits = moment.ever.iter().map(|limits| limits.max_connections_per_address);
    let limits: Option<Vec<usize>> = limits.collect();
    let Some(limit) = limits.and_then(|limits| limits.into_iter().max()) else { return Ok(()) };
    let mut counts = BTreeMap::new();
    for (peer, seat) in &moment.book.seats {
        if seat.accepted && seat.cause.is_none() {
            *counts.entry(crate::serve::host_of(*peer)).or_insert(0) += 1;
        }
    }
    let most = counts.values().copied().max().unwrap_or(0);
    hold!(most <= limit, "{most} connections of one address, and {limit} are allowed");
    Ok(())
}

/// What holds when the program has closed a connection: it had a reason.
pub(crate) fn at_close(
    moment: &Moment<'_>,
    closing: &Closing,
    deeds: &Deeds,
) -> Result<(), String> {
    let number = peer_at(&closing.peer);
    let Some(peer) = moment.peers.get(number as usize) else { return Ok(()) };
    // A peer that was turned away has no seat.
    let Some(seat) = moment.book.seats.get(&number) else { return Ok(()) };
    let Some(cause) = seat.cause else {
        return Err(format!("peer {number}: its descriptor was closed, and nobody was told"));
    };
    let limits = moment.limits;
    let used = |verb: Verb| peer.verbs.contains(&verb);
    let since = |start: Time| closing.at.saturating_since(start) + SLACK;
    let quiet_since = closing.received_at.max(closing.sent_at).max(seat.opened_at);
    // Of the message that was unfinished: when its first byte was received, and when its header was.
    let unfinished = peer.unfinished(closing.received);
    let begun = unfinished.and_then(|(begin, _)| closing.byte_received_at(begin));
    let has_header = unfinished.and_then(|(_, end)| closing.byte_received_at(end - 1));
    let stalled = closing.unsent > 0;
    // Once the connection is broken, what is unsent is given up.
    let waits_to_send = stalled && !closing.was_broken;
    let late = |began| since(began) >= limits.drain_timeout;
    let cut_off = deeds.hurried || deeds.drain_began.is_some_and(late);
    let gone = peer.left || peer.vanished || closing.was_broken;
    let may_by = |limits: &Limits| match cause {
        Cause::Peer => peer.finished || gone,
        Cause::Error => gone || closing.unwatched,
        Cause::Fault => peer.garbled,
        Cause::Handler => {
            used(Verb::Close)
                || used(Verb::CloseLater)
                || used(Verb::Abandon)
                || seat.cut
                || !seat.accepted && (used(Verb::Error) || used(Verb::BadJson))
                || deeds.closed.contains(&number)
        }
        Cause::Panic => used(Verb::Panic),
        Cause::Overflow => match limits.overflow {
            Overflow::CloseAfter(patience) => deeds
                .first_push
                .is_some_and(|first| stalled && since(closing.stalled_from.max(first)) >= patience),
            Overflow::DropNewest | Overflow::DropOldest => false,
        },
        Cause::Shed => {
            !waits_to_send
                && unfinished.is_none()
                && limits.shed_idle.is_some_and(|idle| since(quiet_since) >= idle)
        }
        Cause::HeaderTimeout => begun.is_some_and(|at| since(at) >= limits.header_timeout),
        Cause::ContentTimeout => has_header.is_some_and(|at| since(at) >= limits.content_timeout),
        Cause::Idle => {
            !waits_to_send && unfinished.is_none() && since(quiet_since) >= limits.idle_timeout
        }
        Cause::ContentRate => {
            has_header.is_some_and(|at| since(at) >= limits.rate_window)
                && limits.min_content_rate > 0
        }
        Cause::ReadRate => {
            // The first window, which is not judged, may have been that of earlier limits.
            let first = moment.ever.iter().map(|limits| limits.rate_window).min();
            stalled
                && limits.min_read_rate > 0
                && since(closing.stalled_from) >= first.unwrap_or_default() + limits.rate_window
        }
        Cause::WriteTimeout => stalled && since(closing.progress_at) >= limits.write_timeout,
        Cause::BufferLimit => {
            let received = closing.received - closing.received_after;
            let incoming = peer.buffer_needed(seat.handled, received);
            let outgoing = stalled.then_some(moment.longest_queue().max(SEGMENT) as u64);
            let most_lent = moment.audit.most_lent as u64;
            // Who gives way does so for what another needs.
            let message = 2 + limits.max_header_len.max(64) + limits.max_content_len;
            let others = 2 * message.max(moment.longest_queue()).max(SEGMENT);
            let others = (moment.stats.gave_way > 0).then_some(others as u64);
            // Nobody here is on the server's own machine.
            let default = (limits.max_buffer_bytes / 8).max(2 * message);
            let limit = limits.max_buffer_bytes_per_address.unwrap_or(default);
            let limit = limit.min(limits.max_buffer_bytes) as u64;
            incoming.max(outgoing).max(others).is_some_and(|needed| most_lent + needed > limit)
        }
        Cause::Drained => deeds.drain_began.is_some(),
        Cause::CutOff => cut_off,
        _ => false,
    };
    let may = moment.in_force.iter().any(may_by);
    let is_cut = seat.cut || deeds.cut.contains(&number);
    hold!(
        !seat.cut || closing.finished_at.is_none() || closing.was_broken,
        "peer {number}: was to be closed at once: {closing:?}"
    );
    // Its last replies were given the time to arrive.
    let lingers = matches!(cause, Cause::Fault | Cause::Handler | Cause::Panic | Cause::Drained);
    let lingered = closing.finished_at.is_some_and(|finished_at| {
        since(finished_at) >= limits.linger_timeout
            || closing.received_after >= u64::from(limits.linger_bytes)
    });
    hold!(
        !lingers
            || lingered
            || closing.end_seen
            || closing.was_broken
            || closing.unwatched
            || is_cut
            || cut_off,
        "peer {number}: closed as {cause} without lingering: {closing:?}"
    );
    // When nothing delays events, a reader is not late for those that are there.
    let waits = matches!(
        cause,
        Cause::Idle | Cause::HeaderTimeout | Cause::ContentTimeout | Cause::ContentRate
    );
    let patience = if deeds.calm_since.is_some() { OVERLOOKED } else { OVERLOOKED_IN_TROUBLE };
    let overlooked = (deeds.hears_all || deeds.calm_since.is_some())
        && closing.unread > 0
        && closing.at.saturating_since(closing.arrived_at.max(closing.received_at)) > patience;
    hold!(
        !waits || !overlooked,
        "peer {number}: closed as {cause}, and {} bytes wait to be read: {closing:?}",
        closing.unread
    );
    hold!(may, "peer {number} ({:?}): closed for no reason as {cause}: {closing:?}", peer.temper);
    // A stop finishes what had arrived when it began. A receive that comes short has emptied the
    // socket, as far as the contract of `sys` goes.
    if let Some(due) = peer.asked_at_stop
        && cause == Cause::Drained
        && !(closing.came_short || closing.was_broken)
    {
        hold!(
            seat.handled >= due,
            "peer {number} ({:?}): {due} requests were there when the stop began, {} were handled",
            peer.temper,
            seat.handled
        );
    }
    // Nor is any deadline late, as far as it ran when nothing went wrong.
    let resumed = closing.sent_at.max(closing.progress_at).max(seat.handled_at);
    let drain_due = deeds.drain_began.map(|began| began + limits.drain_timeout);
    let lingers = lingers && !is_cut;
    let due = match cause {
        _ if lingers => closing.finished_at.map(|finished_at| finished_at + limits.linger_timeout),
        Cause::Idle => Some(quiet_since.max(seat.handled_at) + limits.idle_timeout),
        // Its clock stands still while reading is paused, which ends with progress in sending.
        Cause::HeaderTimeout => begun.map(|at| at.max(resumed) + limits.header_timeout),
        Cause::ContentTimeout => has_header.map(|at| at.max(resumed) + limits.content_timeout),
        Cause::WriteTimeout => Some(closing.progress_at + limits.write_timeout),
        Cause::CutOff => drain_due,
        _ => None,
    };
    let timeout = match cause {
        _ if lingers => limits.linger_timeout,
        Cause::Idle => limits.idle_timeout,
        Cause::HeaderTimeout => limits.header_timeout,
        Cause::ContentTimeout => limits.content_timeout,
        Cause::WriteTimeout => limits.write_timeout,
        _ => limits.drain_timeout,
    };
    if let (Some(due), Some(calm_since)) = (due, deeds.calm_since) {
        let latest = due.max(calm_since + timeout) + LATE;
        hold!(
            closing.at <= latest,
            "peer {number} ({:?}): closed as {cause} later than {latest:?}: {closing:?}",
            peer.temper
        );
    }
    if let (Some(due), Some(closed_at), Some(calm_since)) =
        (seat.timer_due, seat.closed_at, deeds.calm_since)
    {
        // In the turn after a stop, the peer's end is seen before timers fire.
        let latest = due.max(calm_since) + OVERLOOKED_IN_TROUBLE;
        hold!(closed_at <= latest, "peer {number}: its timer, due at {due:?}, has not fired");
    }
    // Every connection is gone when the time for a stop is over.
    if let (Some(due), Some(calm_since)) = (drain_due, deeds.calm_since) {
        let latest = due.max(calm_since + limits.drain_timeout) + LATE;
        hold!(closing.at <= latest, "peer {number}: closed long after the stop: {closing:?}");
    }
    // What is dropped while lingering is bounded, but for what one receive brings.
    let most = u64::from(limits.linger_bytes) + RECEIVE;
    hold!(
        closing.received_after <= most,
        "peer {number}: {} bytes received while lingering",
        closing.received_after
    );
    Ok(())
}

/// What holds for a peer when everything is over.
pub(crate) fn at_end(
    peer: &Peer,
    book: &Book,
    closings: &[Closing],
    deeds: &Deeds,
) -> Result<(), String> {
    let number = peer.number;
    let Some(seat) = book.seats.get(&number) else {
        hold!(peer.received == 0, "peer {number} was never opened, and got {}", peer.received);
        return Ok(());
    };
    let Some(cause) = seat.cause else {
        return Err(format!("peer {number} is still open"));
    };
    if !peer.is_faithful() {
        return Ok(());
    }
    let closing = closings.iter().find(|closing| peer_at(&closing.peer) == number);
    let received = closing.map_or(0, |closing| closing.received);
    // A reset is what a close with unread input is, and what bytes for a closed socket bring.
    hold!(
        peer.end == Some(End::Finished) || received < peer.sent() || seat.reset,
        "peer {number} ({:?}): {:?} after a close as {cause}, with nothing unread",
        peer.temper,
        peer.end
    );
    let orderly = matches!(cause, Cause::Peer | Cause::Fault | Cause::Handler | Cause::Panic);
    // An error is never sent to a server that we connected to: the close tells it.
    let untold = !seat.accepted && matches!(cause, Cause::Fault | Cause::Handler);
    let driven = deeds.closed.contains(&number) || untold || seat.cut;
    hold!(
        !seat.reset || peer.end != Some(End::Finished),
        "peer {number} ({:?}): was to be reset, and saw the end",
        peer.temper
    );
    if orderly && !driven && peer.end == Some(End::Finished) {
        hold!(
            peer.owed() as u64 <= seat.lost,
            "peer {number} ({:?}): closed as {cause}, and {} answers are missing: {closing:?}",
            peer.temper,
            peer.owed()
        );
        hold!(
            !peer.has_half_a_message(),
            "peer {number} ({:?}): closed as {cause} within a reply",
            peer.temper
        );
    }
    // Whatever a connection is closed for in good order, it does not excuse a request that was
    // received whole, unless its answer found no room in the socket.
    let in_order = matches!(
        cause,
        Cause::Idle
            | Cause::HeaderTimeout
            | Cause::ContentTimeout
            | Cause::ContentRate
            | Cause::Shed
            | Cause::Drained
            | Cause::Peer
    );
    if let Some(closing) = closing
        && in_order
        && !driven
        && peer.end == Some(End::Finished)
        && !(closing.unsent > 0 || closing.was_broken)
    {
        let due = peer.answers_due(closing.received - closing.received_after);
        hold!(
            peer.answered + seat.lost >= due,
            "peer {number} ({:?}): closed as {cause}, {due} requests were received and {} are \
             answered: {closing:?}",
            peer.temper,
            peer.answered
        );
    }
    Ok(())
}

/// What holds when nobody is there any more.
pub(crate) fn at_rest(moment: &Moment<'_>) -> Result<(), String> {
    let Moment { stats, audit, .. } = moment;
    hold!(audit.connections == 0, "{} connections are left", audit.connections);
    hold!(
        audit.entries == audit.listeners + moment.others,
        "{} entries for {} listeners",
        audit.entries,
        audit.listeners
    );
    hold!(audit.timers == 0, "{} timers are left", audit.timers);
    // Alarms of a loop that stops do not fire, and its list is not looked at any more.
    let stopped = audit.listeners == 0;
    hold!(stopped || audit.alarms == 0, "{} alarms are left", audit.alarms);
    hold!(stopped || audit.ready == 0, "{} connections are on the ready list", audit.ready);
    hold!(audit.addresses == 0, "{} addresses are counted", audit.addresses);
    hold!(
        (stats.pool_bytes, stats.pool_buffers) == (0, 0),
        "{} buffers of {} bytes are left",
        stats.pool_buffers,
        stats.pool_bytes
    );
    hold!(stats.groups == 0, "{} groups are left", stats.groups);
    Ok(())
}
