//! Many clients, greedy clients, and none that want anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use myriapod::sys::poll::wait_one;
use myriapod::sys::{self, AsFd as _, Errno, Interest, Time};

use super::ground::{Ground, Stop, Verdict, fail};
use super::peer::Peer;
use super::service::Service;
use super::words::{number, size, time};

/// Above this share of a processor, a server that has nothing to do is doing something.
const IDLE_SHARE: f64 = 0.2;

/// Clients at once.
const BURST: usize = 500;

/// A connection that takes so long was sent its first packet twice: the kernel's timer is a second.
const SECOND_TRY: Duration = Duration::from_millis(900);

/// More than select can watch.
const MANY: usize = 1100;

/// Connected at once where it is not about that.
const BATCH: usize = 50;

/// Offered to the kernel with one call, so that the server always finds more to read.
const FLOOD: usize = 1 << 20;

/// From one question beside a flooder to the next.
const PAUSE: Duration = Duration::from_millis(30);

/// How soon a flooder sees that it shall stop.
const LOOK: Duration = Duration::from_millis(20);

/// What a server still has for a flooder that has ended its side is soon sent.
const END: Duration = Duration::from_secs(3);

/// Beside a flooder, others wait no longer than this.
const FAIR: Duration = Duration::from_millis(200);

/// What Nagle's algorithm and a delayed acknowledgement cost together.
const NAGLE: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(30)..=Duration::from_millis(60);

/// Nothing happens for a second.
pub(super) fn idle_cpu(ground: &mut Ground<'_>) -> Verdict {
    let pids = ground.pids()?;
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(ground.connect("silent")?);
    }
    // Some servers spin on an end that they do not see.
    let mut gone = ground.connect("gone")?;
    let message = ground.message();
    gone.send_all(&message.bytes);
    gone.pump(&[], Duration::from_millis(300), |inbox| {
        matches!(message.want.progress(inbox), super::service::Progress::Done(_))
    });
    gone.close();
    // Others spin on a message without content.
    let empty = ground.service().empty();
    if let (Some(empty), Some(client)) = (&empty, silent.first_mut()) {
        client.send_all(&empty.bytes);
        client.quiet(Duration::from_millis(100)).ok();
    }
    ground.wait_accepted(Duration::from_millis(500));
    // What these few caused is soon done.
    ground.processor_share(&pids, Duration::from_millis(200));
    let share = ground.processor_share(&pids, Duration::from_secs(1));
    let Some(share) = share else {
        return match ground.server.ended(Duration::from_millis(500), *ground.same_machine) {
            Some(how) => fail(format!("three clients were silent, and your server ended ({how})")),
            None => Err(Stop::Skip("needs --run: the server's process is not ours to see".into())),
        };
    };
    ground
        .trace
        .say("server", format!("keeps a processor busy {:.1} % of the time", share * 100.0));
    if share > IDLE_SHARE {
        return fail(format!(
            "three clients are silent, one is gone, nothing happens, and you keep a processor \
             busy {:.0} % of the time",
            // Several threads may spin.
            share.min(1.0) * 100.0
        ));
    }
    Ok(Some(format!("{:.1} %", share * 100.0)))
}

/// All at once.
pub(super) fn burst(ground: &mut Ground<'_>) -> Verdict {
    if ground.round_trip.is_some_and(|trip| trip > Duration::from_millis(300)) {
        return Err(Stop::Skip("a round trip takes too long to tell".into()));
    }
    let mut waiting = Vec::new();
    let mut connected = Vec::new();
    for _ in 0..BURST {
        let message = ground.message();
        let mut peer = ground.start("crowd")?;
        // They want something, as real ones do: the server has more to do than accept.
        peer.send_some(&message.bytes);
        waiting.push((sys::now(), peer, message.want));
    }
    ground.trace.say("crowd", format!("{BURST} clients connect at once"));
    let (mut late, mut refused) = (0, None);
    while !waiting.is_empty() && refused.is_none() {
        let mut still = Vec::new();
        for (since, mut peer, want) in waiting {
            match peer.connected(Duration::ZERO) {
                Ok(true) => connected.push((peer, want)),
                Err(errno) => refused = Some(errno),
                Ok(false) if sys::now().saturating_since(since) > SECOND_TRY => late += 1,
                Ok(false) => still.push((since, peer, want)),
            }
        }
        waiting = still;
        std::thread::sleep(Duration::from_millis(2));
    }
    let served = connected.len();
    ground.trace.say("crowd", format!("{served} connected, {late} not after {}", time(SECOND_TRY)));
    if late == 0 && refused.is_none() {
        // Replies are taken, so that nobody leaves with a reset.
        let all =
            connected.iter_mut().all(|(peer, want)| peer.sent == 0 || peer.reply(want).is_ok());
        if !all {
            ground.trace.say("crowd", "not all were answered");
        }
    }
    drop(connected);
    if let Some(errno) = refused {
        return fail(format!("{BURST} clients connected at once: connect: {}", errno.name()));
    }
    if late > 0 {
        return fail(format!(
            "of {BURST} clients that connected at once {late} had to try again after a second: the \
             accept queue was full"
        ));
    }
    Ok(None)
}

/// More connections than one select can watch, all silent but one.
pub(super) fn many(ground: &mut Ground<'_>) -> Verdict {
    let limit = sys::descriptor_limit().map_or(u64::MAX, |limit| limit.soft);
    if limit < MANY as u64 + 100 {
        return Err(Stop::Skip(format!("this process may open only {} files", number(limit))));
    }
    let mut clients: Vec<Peer> = Vec::new();
    let (mut patience, mut stuck) = (ground.patience, false);
    while clients.len() < MANY && !stuck {
        let mut batch = Vec::new();
        for _ in 0..BATCH.min(MANY - clients.len()) {
            batch.push(ground.start("crowd")?);
        }
        for mut client in batch {
            match client.connected(patience) {
                Ok(true) => clients.push(client),
                Ok(false) => stuck = true,
                Err(errno) => {
                    let there = number(clients.len() as u64);
                    return fail(format!("with {there} connected, connect: {}", errno.name()));
                }
            }
            if stuck {
                break;
            }
        }
        // A server that does not accept is waited for once.
        if !ground.wait_accepted(patience) {
            patience = Duration::from_millis(20);
        }
    }
    ground.trace.say("crowd", format!("{} connected and silent", clients.len()));
    let there = number(clients.len() as u64);
    match ground.others_served("A") {
        Ok(()) if !stuck => Ok(None),
        Ok(()) => fail(format!("only {there} could connect at once")),
        Err(what) => fail(format!("you answered nobody with {there} connected: {what}")),
    }
}

/// One client takes all that it gets, another asks now and then.
pub(super) fn fairness(ground: &mut Ground<'_>) -> Verdict {
    let mut asks = ground.connect("A")?;
    let mut alone = Vec::new();
    for _ in 0..20 {
        alone.push(timed(ground, &mut asks).map_err(Stop::Fail)?);
    }
    let alone = median(alone);

    let flooder = ground.connect("flooder")?;
    let message = ground.message();
    let block = message.bytes.repeat(FLOOD / message.bytes.len().max(1) + 1);
    let stop = Arc::new(AtomicBool::new(false));
    let flood = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || flood(flooder, &block, &stop)
    });
    // It has begun.
    std::thread::sleep(Duration::from_millis(300));
    let mut beside = Vec::new();
    let mut failed = None;
    for _ in 0..20 {
        match timed(ground, &mut asks) {
            Ok(took) => beside.push(took),
            Err(text) => {
                failed = Some(text);
                break;
            }
        }
        // Spread, so that one moment without flood does not count for all.
        std::thread::sleep(PAUSE);
    }
    stop.store(true, Ordering::Relaxed);
    let flooded = flood.join().unwrap_or(0);
    ground.trace.say("flooder", format!("-> {} in all", size(flooded)));
    if let Some(text) = failed {
        return fail(format!(
            "alone, a client is answered in {}; beside one that floods: {text}",
            time(alone)
        ));
    }
    let beside = median(beside);
    if beside > FAIR + alone {
        return fail(format!(
            "alone, a client is answered in {}, beside one that floods in {}",
            time(alone),
            time(beside)
        ));
    }
    Ok(Some(format!("{}, alone {}", time(beside), time(alone))))
}

fn timed(ground: &mut Ground<'_>, peer: &mut Peer) -> Result<Duration, String> {
    let message = ground.message();
    let begun = sys::now();
    peer.exchange(&message).map_err(|miss| miss.to_string())?;
    Ok(sys::now().saturating_since(begun))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Sends and reads with all its might, each in a thread, so that the server always finds more to
/// read; says how much it sent.
fn flood(mut peer: Peer, block: &[u8], stop: &Arc<AtomicBool>) -> u64 {
    let reader = std::thread::spawn({
        let (socket, stop) = (peer.socket(), Arc::clone(stop));
        move || {
            let mut piece = vec![0; FLOOD];
            let mut stopped = None;
            // To the end, so that it is no reset; but not for ever.
            while stopped.is_none_or(|at: Time| sys::now().saturating_since(at) < END) {
                if stop.load(Ordering::Relaxed) {
                    stopped = stopped.or_else(|| Some(sys::now()));
                }
                match socket.recv(&mut piece) {
                    Ok(0) => return,
                    Ok(_) => {}
                    Err(Errno::EAGAIN) => {
                        let _ = wait_one(socket.as_fd(), Interest::READABLE, Some(LOOK));
                    }
                    Err(_) => return,
                }
            }
        }
    });
    let mut at = 0;
    while !stop.load(Ordering::Relaxed) && peer.ended.is_none() {
        if peer.wait_writable(LOOK) {
            let sent = peer.send_some(block.get(at..).unwrap_or_default());
            at = (at + sent) % block.len().max(1);
        }
    }
    peer.fin();
    let _ = reader.join();
    peer.sent
}

/// Questions in turn, as a person at a keyboard asks.
pub(super) fn delay(ground: &mut Ground<'_>) -> Verdict {
    let mut peer = ground.start("A")?;
    let begun = sys::now();
    if !matches!(peer.connected(ground.patience), Ok(true)) {
        return fail("could not connect");
    }
    let connect = sys::now().saturating_since(begun);
    let mut took = Vec::new();
    for _ in 0..12 {
        took.push(timed(ground, &mut peer).map_err(Stop::Fail)?);
    }
    let least = took.iter().min().copied().unwrap_or_default();
    let median = median(took);
    let net = median.saturating_sub(connect);
    // A service that is slow by itself is slow the first time too; the kernel acknowledges the
    // first ones at once.
    if NAGLE.contains(&net) && least < *NAGLE.start() / 2 {
        return fail(format!(
            "each reply takes {}: its second part waits for the acknowledgement of its first \
             (Nagle), and that is delayed",
            time(median)
        ));
    }
    Ok(Some(time(median)))
}

/// Said here so that both words stand in one place.
pub(super) fn unseen(service: Service) -> String {
    format!("does not apply to {}", service.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_median_the_one_in_the_middle() {
        let of = |list: &[u64]| median(list.iter().map(|ms| Duration::from_millis(*ms)).collect());
        assert_eq!(of(&[9, 1, 5]), Duration::from_millis(5));
        assert_eq!(of(&[]), Duration::ZERO);
    }
}
