//! The end of a world: nothing goes wrong any more, so everything must come to its end.

use std::time::Duration;

use myriapod::sys::sim::Faults;

use super::Scene;
use crate::oracle;
use crate::peer::{Peer, Temper};

/// Virtual time within which everything outstanding must finish when nothing goes wrong any more.
const PATIENCE: Duration = Duration::from_secs(600);

/// Turns of a server without any progress elsewhere: more means that it spins.
const MOST_TURNS: u32 = 20_000;

impl Scene<'_> {
    /// Nothing goes wrong any more: everything must come to its end, and soon.
    pub(super) fn conclude(&mut self) -> Result<(), String> {
        self.faults = Faults::none();
        self.life.world.set_faults(Faults::none());
        self.life.world.set_descriptor_limit(1024);
        self.deeds.calm_since = Some(self.life.world.now());
        let deadline = self.life.world.now() + PATIENCE;
        self.set_accepting(true)?;
        self.knock()?;
        let (mut turns, mut rounds) = (0, 0);
        loop {
            self.life.step += 1;
            let mut moved = !self.book.borrow().promises.is_empty();
            self.keep_promise();
            self.open_doors();
            for peer in &mut self.peers {
                moved |= peer.conclude()?;
            }
            self.let_mutes_go();
            let over = self.server.event_loop().is_finished();
            if over {
                // Those of a loop that stops do not fire.
                self.timers.clear();
            }
            let waits = if over { None } else { self.server.event_loop().timeout() };
            let ready = !over && self.has_ready();
            if self.life.rng.chance(10) {
                self.pause();
            }
            if ready || waits == Some(Duration::ZERO) {
                self.turn()?;
                turns += 1;
                if turns > MOST_TURNS {
                    return Err(format!(
                        "the server spins: ready {ready}, timeout {waits:?}, {:?}, {}",
                        self.server.event_loop().audit(),
                        self.what_is_left()
                    ));
                }
                self.check()?;
            } else if !moved {
                if self.is_quiet() && waits.is_none() {
                    return Ok(());
                }
                let now = self.life.world.now();
                let next = self.life.world.next_happening();
                let next = next.into_iter().chain(waits.map(|waits| now + waits)).min();
                let Some(next) = next else {
                    // What a call brought about while it ran is seen in another round.
                    rounds += 1;
                    if rounds > 3 {
                        return Err(self.what_is_left());
                    }
                    continue;
                };
                rounds = 0;
                self.life.world.pass(next.saturating_since(now).max(Duration::from_nanos(1)));
            }
            if moved {
                turns = 0;
            }
            if self.life.world.now() > deadline {
                return Err(self.what_is_left());
            }
        }
    }

    fn has_ready(&mut self) -> bool {
        let event_loop = self.server.event_loop();
        let poller = event_loop.as_fd();
        poller.is_some_and(|poller| self.life.world.has_ready(poller))
    }

    /// Peers that never read see no end: they go when the server has closed.
    fn let_mutes_go(&mut self) {
        let book = self.book.borrow();
        for peer in &mut self.peers {
            let Some(remote) = &peer.remote else { continue };
            let over = match book.seats.get(&peer.number) {
                Some(seat) => seat.cause.is_some(),
                None => !remote.is_connecting() && remote.is_ended(),
            };
            if peer.temper == Temper::Mute && over {
                peer.remote = None;
            }
        }
    }

    fn is_quiet(&self) -> bool {
        let stats = self.server.stats();
        stats.open == 0
            && stats.lingering == 0
            && self.connects.is_empty()
            && self.timers.is_empty()
            && self.peers.iter().all(Peer::is_done)
    }

    fn what_is_left(&self) -> String {
        let open = self.server.stats().open;
        let book = self.book.borrow();
        let left = self.peers.iter().filter(|peer| !peer.is_done());
        let left: Vec<String> = left
            .map(|peer| {
                let seat = book.seats.get(&peer.number);
                format!(
                    "peer {} ({:?}) owed {} sent all {} seat {:?} remote {:?}",
                    peer.number,
                    peer.temper,
                    peer.owed(),
                    peer.has_sent_all(),
                    seat.map(|seat| (seat.cause, seat.owed, seat.handled)),
                    peer.remote.as_ref().map(|remote| (
                        remote.is_connecting(),
                        remote.is_accepted(),
                        remote.unread(),
                        remote.unreceived()
                    )),
                )
            })
            .collect();
        format!(
            "not finished: {open} open, connects {:?}, timers {:?}, {}",
            self.connects,
            self.timers,
            left.join("; ")
        )
    }

    /// Everybody is gone: nothing may be left. Then the server is stopped, if it was not.
    pub(super) fn end(&mut self) -> Result<(), String> {
        {
            let watched = self.watched();
            let book = self.book.borrow();
            for peer in &self.peers {
                oracle::at_end(peer, &book, &self.closings, &self.deeds)?;
            }
            let (stats, audit) = (self.server.stats(), self.server.event_loop().audit());
            oracle::at_rest(&self.moment(&stats, &audit, &book, watched))?;
        }
        self.stop()?;
        for _ in 0..100 {
            if self.server.event_loop().is_finished() {
                break;
            }
            self.turn()?;
            self.life.world.pass(Duration::from_millis(50));
        }
        if !self.server.event_loop().is_finished() {
            return Err("a server without connections does not end".to_owned());
        }
        self.check()
    }
}
