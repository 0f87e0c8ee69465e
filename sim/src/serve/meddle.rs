//! What is asked of the server from outside, at any time: answers, pushes, closes, timers, a stop.

use std::time::Duration;

use myriapod::sys::Signal;
use myriapod::{ConnectionId, Error, Handle, HandleError, Outgoing};

use super::limits::others;
use super::{Scene, millis};
use crate::peer::{Peer, Temper};
use crate::replies::{To, push_content};
use crate::service::Promise;

/// The place of a connection in its loop, whichever connection has it now: what its name says before the `v`.
fn place_of(id: ConnectionId) -> String {
    let name = id.to_string();
    name.split('v').next().unwrap_or_default().to_owned()
}

impl Scene<'_> {
    /// Something that is neither a turn nor a peer's.
    pub(super) fn meddle(&mut self, closes: bool) -> Result<(), String> {
        if closes && self.life.rng.chance(300) {
            return self.close_somebody_owed();
        }
        let to = self.life.rng.index(self.peers.len());
        let number = u32::try_from(to).unwrap_or_default();
        let id = self.book.borrow().seats.get(&number).map(|seat| seat.id);
        match self.life.rng.below(26) {
            0..=7 => self.keep_promise(),
            8..=10 => {
                if let Some(id) = id {
                    let push = self.push(To::Peer(number));
                    self.tell(|handle| handle.send(id, push))?;
                }
            }
            11 => {
                let push = self.push(To::All);
                self.tell(|handle| handle.broadcast_all(push))?;
            }
            12 => {
                let push = self.push(To::All);
                self.tell(|handle| handle.broadcast("group", push))?;
            }
            13 => {
                if let Some(id) = id {
                    self.tell(|handle| handle.join(id, "group"))?;
                }
            }
            14 => {
                if let Some(id) = id {
                    self.tell(|handle| handle.leave(id, "group"))?;
                }
            }
            15 if self.by_signals && self.deeds.drain_began.is_some() => {
                // Somebody does not want to wait.
                self.deeds.hurried = true;
                self.life.world.raise(Signal::Interrupt);
            }
            16 if closes => {
                if let Some(id) = id {
                    self.deeds.closed.push(number);
                    self.tell(|handle| handle.close(id))?;
                }
            }
            17 => {
                let tag = self.next_timer;
                self.next_timer += 1;
                let after = millis(&mut self.life.rng, 0, 1000);
                let due = self.life.world.now() + after;
                if self.deeds.drain_began.is_none() {
                    self.tell(|handle| handle.timer(after, tag))?;
                    self.timers.push((tag, due));
                }
            }
            18 => {
                // Sometimes there are too few descriptors.
                let open = self.life.world.open_descriptors();
                let limit = if self.life.rng.chance(500) { open + 3 } else { 1024 };
                self.life.world.set_descriptor_limit(limit);
            }
            19 => {
                if let Some(id) = id {
                    let push = self.push(To::AllBut(number));
                    self.tell(|handle| handle.broadcast_except("group", id, push))?;
                }
            }
            20 if self.relimits => {
                self.limits = others(&mut self.life.rng, &self.limits);
                self.ever.push(self.limits.clone());
                match self.handle.set_limits(&self.limits) {
                    Err(Error::Handle(error)) => self.tell(|_| Err(error))?,
                    set => set.map_err(|error| error.to_string())?,
                }
            }
            21 => self.set_accepting(!self.accepts)?,
            22 => self.set_accepting(true)?,
            23 if closes => {
                if let Some(id) = id {
                    self.cut(number, id)?;
                }
            }
            24 => self.pause(),
            _ => self.open_doors(),
        }
        Ok(())
    }

    /// Has the server let peers in, or leave them waiting.
    pub(super) fn set_accepting(&mut self, accepts: bool) -> Result<(), String> {
        self.accepts = accepts;
        self.tell(|handle| match accepts {
            true => handle.resume_accepting(),
            false => handle.stop_accepting(),
        })
    }

    /// Has a connection closed at once.
    fn cut(&mut self, number: u32, id: ConnectionId) -> Result<(), String> {
        let is_open =
            self.book.borrow().seats.get(&number).is_some_and(|seat| seat.cause.is_none());
        let stays = self.peers.get(number as usize).is_some_and(|peer| !peer.ends);
        if is_open
            && stays
            && self.deeds.drain_began.is_none()
            && !self.deeds.closed.contains(&number)
        {
            self.cutting.push(number);
        }
        self.deeds.closed.push(number);
        self.deeds.cut.push(number);
        self.tell(|handle| handle.close_now(id))
    }

    /// The process is stopped for a while, and what is on its way arrives.
    pub(super) fn pause(&mut self) {
        if self.pauses == 0 {
            return;
        }
        self.pauses -= 1;
        let time = millis(&mut self.life.rng, 1000, 60_000);
        self.life.world.pass(time);
        if let Some(calm_since) = &mut self.deeds.calm_since {
            *calm_since = self.life.world.now();
        }
    }

    /// Closes a connection that waits for a deferred answer: the answer comes for nobody then, and
    /// its place is soon another's.
    fn close_somebody_owed(&mut self) -> Result<(), String> {
        let book = self.book.borrow();
        let owed = book.seats.iter().filter(|(_, seat)| seat.owed > 0 && seat.cause.is_none());
        let owed: Vec<_> = owed.map(|(number, seat)| (*number, seat.id)).collect();
        drop(book);
        let Some((number, id)) = self.life.rng.pick(&owed).copied() else { return Ok(()) };
        self.deeds.closed.push(number);
        self.tell(|handle| handle.close(id))
    }

    pub(super) fn tell(
        &mut self,
        tell: impl FnOnce(&Handle) -> Result<(), HandleError>,
    ) -> Result<(), String> {
        match tell(&self.handle) {
            Ok(()) => Ok(()),
            // It has what it is asked for, and will look when it wakes for something else.
            Err(HandleError::NotWoken) => {
                self.unwoken = true;
                Ok(())
            }
            // It may be gone.
            Err(_) if self.deeds.drain_began.is_some() => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Has the server look at what it was asked for while it could not be woken.
    pub(super) fn knock(&mut self) -> Result<(), String> {
        let push = self.push(To::All);
        self.tell(|handle| handle.broadcast("nobody", push))
    }

    fn push(&mut self, to: To) -> Outgoing {
        let now = self.life.world.now();
        self.deeds.first_push.get_or_insert(now);
        self.next_push += 1;
        let padding = self.life.rng.len(0, 300);
        let content = push_content(to, self.next_push, padding);
        Outgoing::binary("sim/push", content)
    }

    /// Makes one of the answers that were left for later.
    pub(super) fn keep_promise(&mut self) {
        let mut book = self.book.borrow_mut();
        if book.promises.is_empty() {
            return;
        }
        let mut at = self.life.rng.index(book.promises.len());
        // An answer for a connection that is gone waits until somebody in its place waits for one.
        let is_gone = |peer| book.seats.get(&peer).is_none_or(|seat| seat.cause.is_some());
        let in_place = |promise: &Promise| {
            let place = place_of(promise.deferred.connection());
            let mut seats = book.seats.values();
            seats.any(|seat| seat.cause.is_none() && seat.owed > 0 && place_of(seat.id) == place)
        };
        let late = |promise: &Promise| is_gone(promise.peer) && in_place(promise);
        if let Some(gone) = book.promises.iter().position(late) {
            at = gone;
        } else if self.deeds.calm_since.is_none()
            && book.promises.get(at).is_some_and(|promise| is_gone(promise.peer))
        {
            return;
        }
        let promise = book.promises.swap_remove(at);
        if let Some(seat) = book.seats.get_mut(&promise.peer) {
            seat.owed = seat.owed.saturating_sub(1);
        }
        drop(book);
        // A loop that is gone has closed the connection.
        let _ = promise.deferred.send(promise.outgoing);
    }

    /// Peers take the connects of the server.
    pub(super) fn open_doors(&mut self) {
        for (number, door) in &self.doors {
            if let Some(peer) = self.peers.get_mut(*number as usize)
                && peer.remote.is_none()
                && let Some(remote) = door.accept()
            {
                peer.remote = Some(remote);
            }
        }
    }

    /// Many ask at once, and then the rest behind that: so sockets hold requests behind some that
    /// wait for their answers.
    pub(super) fn rush(&mut self) -> Result<(), String> {
        for _ in 0..self.life.rng.below(10) {
            self.come()?;
        }
        // They are accepted first.
        for most in [None, None, None, Some(200), Some(200), Some(usize::MAX)] {
            self.life.world.pass(Duration::from_millis(2));
            self.turn()?;
            self.check()?;
            let Some(most) = most else { continue };
            for peer in self.peers.iter_mut().filter(|peer| peer.temper != Temper::Dribbling) {
                peer.send(most);
            }
        }
        self.life.world.pass(Duration::from_millis(1));
        Ok(())
    }

    pub(super) fn stop(&mut self) -> Result<(), String> {
        if self.deeds.drain_began.is_some() {
            return Ok(());
        }
        // A receive that comes short has emptied the socket, as far as a server that stops knows.
        self.faults.stopping = true;
        self.life.world.set_faults(self.faults.clone());
        self.peers.iter_mut().for_each(Peer::note_stop);
        self.deeds.drain_began = Some(self.life.world.now());
        if self.by_signals {
            self.life.world.raise(Signal::Terminate);
            return Ok(());
        }
        ask_to_stop(&self.handle).map_err(|error| error.to_string())
    }
}

/// Has servers stop, however often it takes to wake them.
pub(crate) fn ask_to_stop(handle: &Handle) -> Result<(), HandleError> {
    loop {
        let asked = handle.shutdown();
        if asked != Err(HandleError::NotWoken) {
            return asked;
        }
    }
}
