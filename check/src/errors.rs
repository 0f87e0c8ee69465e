//! Clients that break off, and a server that runs out of descriptors.

use std::time::Duration;

use super::ground::{Ground, Verdict, fail};
use super::peer::{Peer, until};
use super::service::Service;
use super::words::time;

/// Descriptors of a child that shall run out of them, the fewest first: some need more to start.
const FEW: [u64; 3] = [32, 64, 160];

/// Bytes of a message that takes a server some time, and yet arrives at once with the end behind it:
/// only a reset behind an end makes the next send `EPIPE`.
const LARGE: usize = 50_000;

/// A reset in the middle of a message, three times.
pub(super) fn rude(ground: &mut Ground<'_>) -> Verdict {
    for _ in 0..3 {
        let mut peer = ground.connect("A")?;
        let message = ground.message();
        peer.send_all(message.bytes.get(..message.bytes.len() / 2).unwrap_or_default());
        // The server has begun with it: an echo comes, or its kernel's queue is empty.
        if ground.service() == Service::Echo {
            peer.pump(&[], Duration::from_millis(200), |inbox| !inbox.is_empty());
        } else {
            until(Duration::from_millis(200), || {
                peer.their_end().is_none_or(|end| end.unread == 0)
            });
        }
        peer.reset();
    }
    match ground.others_served("B") {
        Ok(()) => Ok(None),
        Err(what) => {
            fail(format!("three clients reset their connections; to the next client: {what}"))
        }
    }
}

/// Twenty clients ask and are gone before the reply.
pub(super) fn vanish(ground: &mut Ground<'_>) -> Verdict {
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(ground.connect("A")?);
    }
    // Accepted first, so that all of them are read and not just dropped.
    ground.wait_accepted(ground.patience.min(Duration::from_secs(1)));
    for (nth, mut client) in clients.into_iter().enumerate() {
        // Small and large, with and without an end before the reset: send fails in several ways.
        let message = match nth % 4 {
            0 | 1 => ground.message(),
            // So much that a server is still at work with it when the reset comes.
            _ => ground.service().large(nth as u64, LARGE),
        };
        client.send_some(&message.bytes);
        if nth % 4 != 0 {
            client.fin();
        }
        client.reset();
    }
    match ground.others_served("B") {
        Ok(()) => Ok(None),
        Err(what) => fail(format!("20 clients asked and were gone; to the next client: {what}")),
    }
}

/// More clients than the process has descriptors for.
pub(super) fn descriptors(ground: &mut Ground<'_>) -> Verdict {
    let mut few = None;
    for count in FEW {
        if ground.server.start(Some(count)).is_ok() {
            few = Some(count);
            break;
        }
    }
    let Some(count) = few else {
        ground.server.start(None)?;
        return Err(super::ground::Stop::Skip(format!(
            "your server does not start with {} descriptors",
            FEW[FEW.len() - 1]
        )));
    };
    ground.trace.say("server", format!("may open {count} descriptors"));
    let mut clients: Vec<Peer> = Vec::new();
    for _ in 0..count * 2 {
        // A backlog that is full lets nobody in; those who are there are enough.
        let mut client = ground.start("A")?;
        match client.connected(Duration::from_millis(300)) {
            Ok(true) => clients.push(client),
            _ => break,
        }
    }
    ground.trace.say("A", format!("{} clients connected", clients.len()));
    // What it does about it is seen within moments; a good one then waits.
    let ended = ground.server.ended(Duration::from_millis(500), true);
    if let Some(how) = ended {
        return fail(format!(
            "with {count} descriptors and {} clients, accept: EMFILE ended your server ({how})",
            clients.len()
        ));
    }
    let pids = ground.pids()?;
    let share = ground.processor_share(&pids, Duration::from_secs(1));
    if let Some(share) = share.filter(|share| *share > 0.5) {
        return fail(format!(
            "with {count} descriptors and {} clients your server does not rest: it keeps a \
             processor busy {:.0} % of the time",
            clients.len(),
            share * 100.0
        ));
    }
    clients.into_iter().for_each(Peer::close);
    // It may look again only after a moment.
    let mut what = String::new();
    let served = until(ground.patience, || match ground.others_served("B") {
        Ok(()) => true,
        Err(text) => {
            what = text;
            false
        }
    });
    if !served {
        return fail(format!(
            "with {count} descriptors, all clients left; {} later a new one is still not served: \
             {what}",
            time(ground.patience)
        ));
    }
    Ok(None)
}
