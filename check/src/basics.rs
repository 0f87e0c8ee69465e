//! One client, the next one, two at a time, and a goodbye.

use std::time::Duration;

use myriapod::sys;

use super::ground::{Ground, Verdict, fail};
use super::peer::{End, Miss};
use super::words::{bytes, time};

/// One message, and all of its reply.
pub(super) fn answers(ground: &mut Ground<'_>) -> Verdict {
    let mut peer = ground.connect("A")?;
    *ground.same_machine = peer.their_end().is_some();
    let message = ground.message();
    let begun = sys::now();
    peer.exchange(&message)?;
    let mut shortest = sys::now().saturating_since(begun);
    peer.quiet(ground.while_quiet())?;
    if !ground.one_shot() {
        let message = ground.message();
        let begun = sys::now();
        match peer.exchange(&message) {
            Ok(()) => {}
            Err(Miss::Ended { came: 0, how: End::Fin, .. }) => {
                return fail(
                    "the first message was answered, then your server closed: \
                     if that is how it is meant, say --one-shot",
                );
            }
            Err(miss) => return fail(format!("the first reply was right, the second not: {miss}")),
        }
        shortest = shortest.min(sys::now().saturating_since(begun));
        peer.quiet(ground.while_quiet())?;
    }
    *ground.round_trip = Some(shortest);
    Ok(Some(time(shortest)))
}

/// Somebody comes, asks and leaves; then somebody else.
pub(super) fn next_client(ground: &mut Ground<'_>) -> Verdict {
    let mut first = ground.connect("A")?;
    let message = ground.message();
    first.exchange(&message)?;
    first.close();
    let mut second = ground.connect("B")?;
    let message = ground.message();
    match second.exchange(&message) {
        Ok(()) => Ok(None),
        Err(miss) => fail(format!("one client came and left; to the next: {miss}")),
    }
}

/// One is connected and silent, the other asks.
pub(super) fn two_at_once(ground: &mut Ground<'_>) -> Verdict {
    let mut silent = ground.connect("A")?;
    ground.wait_accepted(ground.patience);
    let mut asks = ground.connect("B")?;
    let message = ground.message();
    match asks.exchange(&message) {
        Ok(()) => {}
        Err(Miss::Silent { came: 0, waited, .. }) => {
            return fail(format!(
                "while A was silent, B connected and asked, but was never answered in {}: \
                 the kernel accepted B, you did not",
                time(waited)
            ));
        }
        Err(miss) => return fail(format!("while A was silent, B asked: {miss}")),
    }
    let message = ground.message();
    match silent.exchange(&message) {
        Ok(()) => Ok(None),
        Err(miss) => fail(format!("B was answered; then A asked: {miss}")),
    }
}

/// The client ends its side; the server must end its own.
pub(super) fn goodbye(ground: &mut Ground<'_>) -> Verdict {
    let mut peer = ground.connect("A")?;
    let message = ground.message();
    peer.exchange(&message)?;
    peer.fin();
    let begun = sys::now();
    match peer.until_end(ground.patience) {
        Some(End::Fin) if peer.inbox.is_empty() => {
            Ok(Some(time(sys::now().saturating_since(begun))))
        }
        Some(End::Fin) => {
            let came = bytes(peer.inbox.len() as u64);
            fail(format!("{came} came that nobody asked for"))
        }
        Some(how) => fail(format!("your side ended with {how} and not with a close")),
        None => {
            let state = peer.their_end().map(|end| format!(" (it is in {})", end.state));
            fail(format!(
                "{} after my end yours is still open{}: you missed recv = 0",
                time(ground.patience),
                state.unwrap_or_default()
            ))
        }
    }
}

/// `SIGTERM` while somebody is connected, then a new start on the same port.
pub(super) fn restart(ground: &mut Ground<'_>) -> Verdict {
    let mut peer = ground.connect("A")?;
    let message = ground.message();
    peer.exchange(&message)?;
    peer.say("SIGTERM");
    if ground.server.stop(ground.patience.max(Duration::from_secs(5))).is_none() {
        ground.trace.say("server", "does not end: SIGKILL");
        ground.server.end();
    }
    peer.until_end(ground.patience);
    peer.close();
    ground.trace.say("server", "starts again");
    match ground.server.start_again() {
        Ok(()) => {}
        Err(failure)
            if failure.message.contains("in use") || failure.message.contains("EADDRINUSE") =>
        {
            return fail(
                "a client was connected when your server ended, and started again it cannot bind: \
                 that connection is in TIME-WAIT and holds the port (EADDRINUSE)",
            );
        }
        Err(failure) => return fail(format!("started again: {}", failure.message)),
    }
    match ground.others_served("B") {
        Ok(()) => Ok(None),
        Err(what) => fail(format!("started again, but to a new client: {what}")),
    }
}

/// `SIGTERM` while a reply is due. There is no single right way, so this only tells.
pub(super) fn stop(ground: &mut Ground<'_>) -> Verdict {
    let mut peer = ground.connect("A")?;
    if !ground.one_shot() {
        let message = ground.message();
        peer.exchange(&message)?;
    }
    let message = ground.message();
    peer.send_all(&message.bytes);
    peer.say("SIGTERM");
    ground.server.tell_to_stop();
    let reply = peer.reply(&message.want);
    let end = peer.until_end(ground.patience);
    peer.close();
    let ended = ground.server.ended(ground.patience, true);
    let reply = match reply {
        Ok(()) => "the reply came".to_owned(),
        Err(_) => "the reply was lost".to_owned(),
    };
    let end = match end {
        Some(End::Fin) => "then the end".to_owned(),
        Some(how) => format!("then {how}"),
        None => "no end".to_owned(),
    };
    let ended = ended.unwrap_or_else(|| format!("still there after {}", time(ground.patience)));
    Ok(Some(format!("after SIGTERM {reply}, {end}; {ended}")))
}

/// One byte of a message, then nothing more.
pub(super) fn slowloris(ground: &mut Ground<'_>) -> Verdict {
    let mut peer = ground.connect("A")?;
    let message = ground.message();
    peer.send_all(message.bytes.get(..1).unwrap_or_default());
    let wait = ground.settings.limit + ground.patience;
    let begun = sys::now();
    match peer.until_end(wait) {
        Some(_) => Ok(Some(time(sys::now().saturating_since(begun)))),
        None => fail(format!(
            "one byte of a message came and nothing more; still open after {}",
            time(wait)
        )),
    }
}
