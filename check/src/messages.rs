//! Messages in pieces, two in one piece, large ones, empty ones, and such as make no sense.

use std::time::Duration;

use myriapod::sys;

use super::evidence;
use super::ground::{Ground, Stop, Verdict, fail};
use super::peer::{End, Miss, Peer};
use super::service::{Message, Service};
use super::words::{bytes, number, size, time};

/// An echo of this is more than any buffer of the kernel holds by itself.
const LARGE_ECHO: usize = 4 << 20;

/// A text of this comes in many pieces.
const LARGE_TEXT: usize = 200_000;

/// Sent behind the last request, more than one `recv` takes.
const TAIL: usize = 32 << 10;

/// A reply before the whole message was sent is an answer to a piece.
fn too_early(ground: &Ground<'_>, peer: &mut Peer, wait: Duration) -> bool {
    ground.service() != Service::Echo && peer.quiet(wait).is_err()
}

/// One byte each millisecond.
pub(super) fn dribble(ground: &mut Ground<'_>) -> Verdict {
    let mut peer = ground.connect("A")?;
    let message = ground.message();
    let len = message.bytes.len();
    for (at, byte) in message.bytes.iter().enumerate() {
        if !peer.send_all(&[*byte]) {
            let how = peer.ended.map_or("no room".to_owned(), |how| how.to_string());
            return fail(format!("after {} of {}: {how}", number(at as u64), bytes(len as u64)));
        }
        if at + 1 < len && too_early(ground, &mut peer, Duration::from_millis(1)) {
            return fail(format!(
                "one message is sent in {len} pieces, and a reply came after {} of them",
                at + 1
            ));
        }
        if ground.service() == Service::Echo {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    peer.reply(&message.want)?;
    match ground.and_again(&mut peer) {
        Err(Stop::Fail(text)) => {
            fail(format!("one message was sent in {len} pieces and answered; then {text}"))
        }
        done => done.map(|()| None),
    }
}

/// Two pieces, cut where it hurts.
pub(super) fn cut(ground: &mut Ground<'_>) -> Verdict {
    let sample = ground.message().bytes;
    let letter = sample.iter().position(|byte| *byte >= 0x80).map_or(1, |at| at + 1);
    let mut cuts = vec![1, 2, 63, 64, 65, sample.len() / 2, letter, sample.len() - 1];
    cuts.retain(|cut| (1..sample.len()).contains(cut));
    cuts.sort_unstable();
    cuts.dedup();
    for cut in cuts {
        let mut peer = ground.connect("A")?;
        let message = ground.message();
        let (one, other) = message.bytes.split_at(cut);
        let whole = message.bytes.len();
        let text = format!("cut after {cut} of {}", bytes(whole as u64));
        peer.send_all(one);
        if too_early(ground, &mut peer, Duration::from_millis(20)) {
            return fail(format!("{text}: a reply to the first piece alone"));
        }
        let rest = Message { bytes: other.to_vec(), want: message.want.clone() };
        if let Err(miss) = peer.exchange(&rest) {
            return fail(format!("{text}: {miss}"));
        }
        match ground.and_again(&mut peer) {
            Ok(()) => {}
            Err(Stop::Fail(miss)) => return fail(format!("{text}: {miss}")),
            Err(stop) => return Err(stop),
        }
    }
    Ok(None)
}

/// Two messages with one send.
pub(super) fn two_in_one(ground: &mut Ground<'_>) -> Verdict {
    let mut peer = ground.connect("A")?;
    let (one, other) = (ground.message(), ground.message());
    peer.send_all(&[&one.bytes[..], &other.bytes[..]].concat());
    if let Err(miss) = peer.reply(&one.want) {
        return fail(format!("two messages in one send; to the first: {miss}"));
    }
    if ground.one_shot() {
        return Ok(None);
    }
    match peer.reply(&other.want) {
        Ok(()) => {
            peer.quiet(ground.while_quiet())?;
            Ok(None)
        }
        Err(Miss::Silent { came: 0, .. }) => fail(
            "two messages in one send: the first was answered, the second never: \
             it came with the same recv",
        ),
        Err(miss) => fail(format!("two messages in one send; to the second: {miss}")),
    }
}

/// More than one `recv` or one `send` takes.
pub(super) fn large(ground: &mut Ground<'_>) -> Verdict {
    let mut peer = ground.connect("A")?;
    let echo = ground.service() == Service::Echo;
    let message = ground.service().large(1, if echo { LARGE_ECHO } else { LARGE_TEXT });
    let begun = sys::now();
    if let Err(miss) = peer.exchange(&message) {
        let hint = match miss {
            Miss::Silent { .. } if echo => " Edge-triggered? Then read until EAGAIN",
            _ => "",
        };
        let sent = bytes(message.bytes.len() as u64);
        return fail(format!("a message of {sent}: {miss}.{hint}"));
    }
    let took = sys::now().saturating_since(begun);
    ground.and_again(&mut peer)?;
    Ok(Some(format!("{} in {}", size(message.bytes.len() as u64), time(took))))
}

/// Headers that mean nothing.
pub(super) fn nonsense(ground: &mut Ground<'_>) -> Verdict {
    let all = ground.service().nonsense();
    let mut asked = Vec::new();
    for (name, header) in &all {
        let mut peer = ground.connect("A")?;
        peer.say(*name);
        peer.send_all(header);
        asked.push((*name, peer));
    }
    let right = super::service::Want::Bytes(b"Msg received".to_vec());
    let padded = ground.service() == Service::Padded;
    let (mut open, mut taken) = (Vec::new(), Vec::new());
    // All of them have the same time, not one after another.
    let begun = sys::now();
    for (name, peer) in &mut asked {
        let left = ground.patience.saturating_sub(sys::now().saturating_since(begun));
        peer.pump(&[], left.max(Duration::from_millis(1)), |inbox| !inbox.is_empty());
        if peer.ended.is_none() && peer.inbox.is_empty() {
            open.push(*name);
        } else if padded && matches!(right.progress(&peer.inbox), super::service::Progress::Done(_))
        {
            taken.push(*name);
        }
    }
    let list = |names: &[&str]| names.join(", ");
    match (&open[..], &taken[..]) {
        ([], []) => Ok(None),
        ([], taken) => fail(format!(
            "{} of {} headers that mean nothing were taken for a message: {}",
            taken.len(),
            all.len(),
            list(taken)
        )),
        (open, _) => fail(format!(
            "{} of {} headers that mean nothing were neither refused nor closed within {}: {}",
            open.len(),
            all.len(),
            time(ground.patience),
            list(open)
        )),
    }
}

/// A length that nobody can hold.
pub(super) fn huge(ground: &mut Ground<'_>) -> Verdict {
    let pids = ground.pids().unwrap_or_default();
    let before = evidence::memory(&pids);
    let mut peer = ground.connect("A")?;
    peer.send_all(&ground.service().huge());
    peer.pump(&[], ground.patience, |inbox| !inbox.is_empty());
    let grown =
        evidence::memory(&pids).zip(before).map_or(0, |(now, then)| now.saturating_sub(then));
    if grown > 100 << 20 {
        return fail(format!(
            "a length of 99,999,999,999 was announced: your server took {}",
            size(grown)
        ));
    }
    if peer.ended.is_none() && peer.inbox.is_empty() {
        return fail(format!(
            "you wait for 99,999,999,999 bytes: neither refused nor closed within {}",
            time(ground.patience)
        ));
    }
    Ok(None)
}

/// A whole message without content.
pub(super) fn empty(ground: &mut Ground<'_>) -> Verdict {
    let Some(message) = ground.service().empty() else { return Ok(None) };
    let mut peer = ground.connect("A")?;
    if let Err(miss) = peer.exchange(&message) {
        return fail(format!("a message with a content of 0 bytes: {miss}"));
    }
    ground.and_again(&mut peer)?;
    Ok(None)
}

/// The server closes while more has come than it has read.
pub(super) fn no_reset(ground: &mut Ground<'_>) -> Verdict {
    let nth = *ground.next + 1;
    let Some(message) = ground.service().last_request(nth, TAIL) else { return Ok(None) };
    let mut peer = ground.connect("A")?;
    peer.send_all(&message.bytes);
    if let Err(miss) = peer.reply(&message.want) {
        return match miss {
            Miss::Ended { how: End::Error(errno), .. } => fail(format!(
                "a request with {} behind it: {} came instead of the reply",
                size(TAIL as u64),
                errno.name()
            )),
            miss => fail(format!("a request with {} behind it: {miss}", size(TAIL as u64))),
        };
    }
    match peer.until_end(ground.patience) {
        Some(End::Error(errno)) => fail(format!(
            "{} came right behind the reply: you closed with bytes unread, and on a slower network \
             the reset would have destroyed the reply",
            errno.name()
        )),
        // One that stays open has not reset anything.
        Some(End::Fin) | None => Ok(None),
    }
}
