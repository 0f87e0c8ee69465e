//! Clients that do not read, and clients that end their side before they read.

use std::time::Duration;

use myriapod::sys::{self, Time};

use super::evidence;
use super::ground::{Ground, Stop, Verdict, fail};
use super::peer::{End, Peer, until};
use super::service::Service;
use super::words::{bytes, number, size, time};

/// A window that makes it hard: what a server sends stays in its own queue.
const NARROW: usize = 4 << 10;

/// One that makes reading fast again. With the narrow one, each few KiB wait for the sender's timer.
const WIDE: usize = 4 << 20;

/// Sent to a client that does not read at most: all queues of the kernel together hold less.
const MOST_UNREAD: usize = 24 << 20;

/// Sent before the end of a half-closed client.
const HALF_CLOSE: usize = 4 << 20;

/// Sent with one call.
const PIECE: usize = 64 << 10;

/// A sender that is stuck for so long is taken for stuck.
const STUCK: Duration = Duration::from_secs(1);

/// How often queues are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// How long a server is flooded at most, and how long it may read what it was sent.
const FLOOD: Duration = Duration::from_secs(30);

/// Bytes that say where they stand.
fn pattern(from: usize, len: usize) -> Vec<u8> {
    let byte = |at: usize| (at.wrapping_mul(2_654_435_761) >> 11).to_le_bytes()[0];
    (from..from + len).map(byte).collect()
}

/// Says whether anything moves, also where a kernel takes nothing more: a full queue must be a third
/// empty before it does.
#[derive(Debug)]
struct Movement {
    waits: Option<u64>,
    moved: Time,
}

impl Movement {
    fn new() -> Self {
        Self { waits: None, moved: sys::now() }
    }

    /// Whether so long nothing moved that nothing will.
    fn stuck(&mut self, peer: &Peer) -> bool {
        let now = sys::now();
        let unacknowledged = peer.queues().map_or(0, |(_, sent)| sent);
        let unread = peer.their_end().map_or(0, |end| end.unread);
        let waits = Some(unacknowledged + unread);
        if waits != self.waits {
            *self = Self { waits, moved: now };
        }
        now.saturating_since(self.moved) >= STUCK
    }

    /// Whether the server has read all of it.
    fn is_over(&self) -> bool {
        self.waits == Some(0)
    }
}

/// Sends without reading until nothing moves, `most` is sent, or `enough` says so.
fn flood(
    peer: &mut Peer,
    most: usize,
    mut piece: impl FnMut(usize) -> Vec<u8>,
    mut enough: impl FnMut(&Peer) -> bool,
) -> usize {
    let start = sys::now();
    let (mut movement, mut looked) = (Movement::new(), start);
    let (mut sent, mut rest) = (0, Vec::new());
    while sent < most && peer.ended.is_none() {
        if rest.is_empty() {
            rest = piece(sent);
            rest.truncate(most - sent);
        }
        if peer.wait_writable(LOOK) {
            let count = peer.send_some(&rest);
            rest.drain(..count);
            sent += count;
        }
        let now = sys::now();
        if now.saturating_since(looked) >= LOOK {
            looked = now;
            let over = now.saturating_since(start) >= FLOOD;
            if enough(peer) || movement.stuck(peer) || over {
                break;
            }
        }
    }
    sent
}

/// Bytes that the server's program has for this client: replies due to what it has read, less those
/// that left it. What moves meanwhile makes it less, never more.
fn held(peer: &Peer, due: impl Fn(u64) -> u64) -> Option<u64> {
    let (_, unacknowledged) = peer.queues()?;
    let theirs = peer.their_end()?;
    let (unread_here, _) = peer.queues()?;
    let read = peer.sent.saturating_sub(unacknowledged).saturating_sub(theirs.unread);
    Some(due(read).saturating_sub(theirs.unsent).saturating_sub(unread_here + peer.received))
}

/// A client asks and asks, and reads nothing.
pub(super) fn unread(ground: &mut Ground<'_>) -> Verdict {
    let echo = ground.service() == Service::Echo;
    let pids = ground.pids().unwrap_or_default();
    let message = ground.message();
    let asked = message.bytes.len() as u64;
    let mut replied = asked;
    if !echo {
        // One reply is as long as the next.
        let mut other = ground.connect("B")?;
        other.exchange(&message)?;
        replied = other.received;
        other.close();
    }

    let mut peer = ground.connect_narrow("A", NARROW)?;
    let before = evidence::memory(&pids);
    let due = |read: u64| if echo { read } else { read / asked.max(1) * replied };
    let buffer = ground.settings.buffer;
    let most = if ground.one_shot() { message.bytes.len() } else { MOST_UNREAD };
    let block = message.bytes.repeat(PIECE / message.bytes.len().max(1) + 1);
    let piece = |sent: usize| match echo {
        true => pattern(sent, PIECE),
        // Whole messages, begun where the last piece was cut.
        false => block[sent % message.bytes.len()..].to_vec(),
    };
    let mut over = 0;
    let sent = flood(&mut peer, most, piece, |peer| {
        over = if held(peer, due).is_some_and(|held| held > buffer) { over + 1 } else { 0 };
        over >= 4
    });
    if let Some(how) = peer.ended {
        return fail(format!("a client sent {} and read nothing: {how}", size(sent as u64)));
    }
    let holds = held(&peer, due);
    let now = evidence::memory(&pids);
    if let Err(what) = ground.others_served("C") {
        return fail(format!(
            "while one client reads nothing, another asks: {what}. Your server waits in send for \
             the one"
        ));
    }
    if ground.one_shot() {
        return Ok(None);
    }
    let Some(holds) = holds else {
        return Err(Stop::Skip(
            "others are served; what is held needs the server on this machine".into(),
        ));
    };
    if holds > buffer {
        let grown = now.zip(before).map_or(0, |(now, then)| now.saturating_sub(then));
        if grown >= holds / 2 {
            let growing = if over > 0 { " and growing" } else { "" };
            return fail(format!(
                "you keep {}{growing} for a client that reads nothing",
                size(holds)
            ));
        }
    }
    if !echo {
        return if holds > buffer { lost(holds, sent) } else { Ok(Some(size(holds))) };
    }
    // Now it reads after all: everything must be there.
    peer.set_window(WIDE);
    let whole = usize::try_from(peer.sent).unwrap_or(usize::MAX);
    peer.pump(&[], ground.patience, |inbox| inbox.len() >= whole);
    let right =
        peer.inbox.iter().zip(pattern(0, peer.inbox.len())).all(|(one, other)| *one == other);
    let missing = held(&peer, due).unwrap_or(whole as u64 - peer.received.min(whole as u64));
    if !right || missing > 0 {
        return lost(missing, sent);
    }
    Ok(Some(format!("held {}", size(holds))))
}

fn lost(missing: u64, sent: usize) -> Verdict {
    fail(format!(
        "a client did not read for a while: of {} bytes {} are lost, thrown away where send took less \
         than all",
        number(sent as u64),
        number(missing)
    ))
}

/// A client sends all that it has, ends its side, and reads only then.
pub(super) fn half_close(ground: &mut Ground<'_>) -> Verdict {
    if ground.service() == Service::Echo { stream(ground) } else { questions(ground) }
}

/// As many bytes as the queues hold.
fn stream(ground: &mut Ground<'_>) -> Verdict {
    let mut peer = ground.connect_narrow("A", NARROW)?;
    let sent = flood(&mut peer, HALF_CLOSE, |sent| pattern(sent, PIECE), |_| false);
    peer.fin();
    // Only when the server has read all of it, or reads no more, does it know of the end.
    let mut movement = Movement::new();
    until(FLOOD, || movement.stuck(&peer) || movement.is_over());
    peer.set_window(WIDE);
    let end = peer.until_end(ground.patience);
    let came = peer.inbox.len();
    let part = format!("{} of {}", number(came as u64), bytes(sent as u64));
    let right = peer.inbox.iter().zip(pattern(0, came)).all(|(one, other)| *one == other);
    match end {
        Some(End::Fin) if came == sent && !right => {
            fail("other bytes came back than those that were sent")
        }
        Some(End::Fin) if came == sent => Ok(Some(size(sent as u64))),
        Some(End::Fin) => fail(format!("I sent all and ended my side: your end came after {part}")),
        Some(how) => fail(format!("I sent all and ended my side: {how} came after {part}")),
        None if came == sent => fail(format!(
            "I sent all, ended my side and got all back, but your end did not come in {}",
            time(ground.patience)
        )),
        None => fail(format!(
            "I sent all and ended my side: {part} came, then nothing for {}",
            time(ground.patience)
        )),
    }
}

/// Some questions at once, and the end behind them.
fn questions(ground: &mut Ground<'_>) -> Verdict {
    let mut peer = ground.connect("A")?;
    let count = if ground.one_shot() { 1 } else { 8 };
    let messages: Vec<_> = (0..count).map(|_| ground.message()).collect();
    let all: Vec<u8> = messages.iter().flat_map(|one| one.bytes.iter().copied()).collect();
    peer.send_all(&all);
    peer.fin();
    for (nth, message) in messages.iter().enumerate() {
        if let Err(miss) = peer.reply(&message.want) {
            return fail(format!(
                "I sent {count} messages and ended my side; to message {}: {miss}",
                nth + 1
            ));
        }
    }
    match peer.until_end(ground.patience) {
        Some(End::Fin) if peer.inbox.is_empty() => Ok(None),
        Some(End::Fin) => {
            fail(format!("{} came that nobody asked for", bytes(peer.inbox.len() as u64)))
        }
        Some(how) => fail(format!("I ended my side and got all replies; then {how}")),
        None => fail(format!(
            "I ended my side and got all replies, but your end did not come in {}",
            time(ground.patience)
        )),
    }
}
