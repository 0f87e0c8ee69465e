//! [`Ground`]: what a rung stands on: the server, what is asked of it, and how long to wait.

use std::sync::Arc;
use std::time::Duration;

use myriapod::sys;

use super::evidence;
use super::peer::{Miss, Peer, until};
use super::server::Server;
use super::service::{Message, Service};
use super::trace::Trace;
use super::words::time;
use crate::failure::Failure;

/// Why a rung is not passed.
#[derive(Clone, Debug)]
pub(super) enum Stop {
    /// The server did something wrong: what the peer did and saw.
    Fail(String),
    /// It cannot be told from here, and why.
    Skip(String),
    /// The check itself could not go on.
    Broken(Failure),
}

impl From<Miss> for Stop {
    fn from(miss: Miss) -> Self {
        Self::Fail(miss.to_string())
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Broken(failure)
    }
}

/// A figure worth telling, or nothing; or why the rung is not passed.
pub(super) type Verdict = Result<Option<String>, Stop>;

/// Fails with this text.
pub(super) fn fail<T>(text: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Fail(text.into()))
}

/// What the user asked for.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) service: Service,
    pub(super) one_shot: bool,
    pub(super) patience: Duration,
    /// What a server may hold for one client that does not read.
    pub(super) buffer: u64,
    /// How soon a client that never ends its message must be closed.
    pub(super) limit: Duration,
}

#[derive(Debug)]
pub(super) struct Ground<'a> {
    pub(super) settings: &'a Settings,
    pub(super) server: &'a mut Server,
    pub(super) trace: Arc<Trace>,
    pub(super) patience: Duration,
    /// The shortest time that a question and its answer took; set by the rung `answers`.
    pub(super) round_trip: &'a mut Option<Duration>,
    pub(super) same_machine: &'a mut bool,
    pub(super) next: &'a mut u64,
}

impl Ground<'_> {
    pub(super) fn service(&self) -> Service {
        self.settings.service
    }

    pub(super) fn one_shot(&self) -> bool {
        self.settings.one_shot
    }

    /// Another message, unlike all before.
    pub(super) fn message(&mut self) -> Message {
        *self.next += 1;
        self.settings.service.message(*self.next)
    }

    /// How long to look whether something comes that nobody asked for.
    pub(super) fn while_quiet(&self) -> Duration {
        let round_trip = self.round_trip.unwrap_or_default();
        (round_trip * 3).clamp(Duration::from_millis(30), self.patience)
    }

    /// Begins to connect.
    pub(super) fn start(&self, who: &'static str) -> Result<Peer, Stop> {
        self.start_with(who, None)
    }

    fn start_with(&self, who: &'static str, window: Option<usize>) -> Result<Peer, Stop> {
        Peer::start(who, self.server.address(), self.patience, &self.trace, window)
            .map_err(|error| self.no_connection(who, &error.to_string()))
    }

    /// Connects.
    pub(super) fn connect(&self, who: &'static str) -> Result<Peer, Stop> {
        self.finish(who, self.start(who)?)
    }

    /// The same with a window of so many bytes.
    pub(super) fn connect_narrow(&self, who: &'static str, window: usize) -> Result<Peer, Stop> {
        self.finish(who, self.start_with(who, Some(window))?)
    }

    fn finish(&self, who: &'static str, mut peer: Peer) -> Result<Peer, Stop> {
        match peer.connected(self.patience) {
            Ok(true) => {
                peer.say("connect");
                Ok(peer)
            }
            Ok(false) => {
                peer.say("connect: nothing comes back");
                fail(format!("{who} could not connect within {}", time(self.patience)))
            }
            Err(errno) => {
                let address = self.server.address();
                let error = sys::SystemError::call("connect", errno, address);
                Err(self.no_connection(who, &error.to_string()))
            }
        }
    }

    fn no_connection(&self, who: &'static str, text: &str) -> Stop {
        self.trace.end(who, text);
        Stop::Fail(text.to_owned())
    }

    /// Silence, and a right reply to another message, where there may be one: wrong replies may look
    /// like right ones.
    pub(super) fn and_again(&mut self, peer: &mut Peer) -> Result<(), Stop> {
        peer.quiet(self.while_quiet())?;
        if self.one_shot() {
            return Ok(());
        }
        let message = self.message();
        if let Err(miss) = peer.exchange(&message) {
            return fail(format!("the first reply was right, but to the next message: {miss}"));
        }
        peer.quiet(self.while_quiet())?;
        Ok(())
    }

    /// A new client is answered; `None` if so, else what became of it.
    pub(super) fn others_served(&mut self, who: &'static str) -> Result<(), String> {
        let mut peer = match self.connect(who) {
            Ok(peer) => peer,
            Err(Stop::Fail(text)) => return Err(text),
            Err(Stop::Skip(text)) => return Err(text),
            Err(Stop::Broken(failure)) => return Err(failure.to_string()),
        };
        let message = self.message();
        match peer.exchange(&message) {
            Ok(()) => Ok(()),
            Err(miss) => Err(miss.to_string()),
        }
    }

    /// The processes of the server.
    ///
    /// # Errors
    ///
    /// [`Stop::Skip`] where it is not on this machine, or not ours to look into.
    pub(super) fn pids(&self) -> Result<Vec<u32>, Stop> {
        if !self.server.is_child() && !*self.same_machine {
            return Err(Stop::Skip("needs the server on this machine, or --run".into()));
        }
        let pids = self.server.pids();
        if pids.is_empty() {
            return Err(Stop::Skip("needs --run: the server's process is not ours to see".into()));
        }
        Ok(pids)
    }

    /// Waits until the server has accepted all who wait, where that can be seen.
    pub(super) fn wait_accepted(&self, wait: Duration) -> bool {
        let address = self.server.address();
        until(wait, || evidence::waiting(address).is_none_or(|waiting| waiting == 0))
    }

    /// Share of the time in which the server runs, or would if it had a processor: 1 for one that spins.
    pub(super) fn processor_share(&self, pids: &[u32], look: Duration) -> Option<f64> {
        let start = sys::now();
        let before = evidence::busy_time(pids)?;
        std::thread::sleep(look);
        let used = evidence::busy_time(pids)? - before;
        Some(used.max(0.0) / sys::now().saturating_since(start).as_secs_f64())
    }
}
