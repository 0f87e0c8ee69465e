//! [`Clients`]: a load in small steps, for a program that measures something else meanwhile.

use std::time::Duration;

use myriapod::sys;

use crate::error::{Error, Result};
use crate::job::{Command, Phase};
use crate::options::Options;
use crate::snapshot::Snapshot;
use crate::workers::Workers;

/// How often it is asked how things stand: soon at first, for what is done in no time.
const SOON: Duration = Duration::from_micros(200);
const LATER: Duration = Duration::from_millis(5);

/// Connections to a server, on a thread of their own, which exchange messages when they are told.
/// Every reply is checked; the first fault is an error.
#[derive(Debug)]
pub struct Clients {
    workers: Workers,
    options: Options,
    opened: u32,
    /// What it was when the last exchange ended.
    last: Snapshot,
}

/// What was exchanged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exchanged {
    /// Messages that were answered rightly.
    pub messages: u64,
    /// From the first request to the last reply.
    pub seconds: f64,
}

impl Clients {
    /// Makes them ready; nothing is connected yet. Of the options, `host`, `ports`, `service`,
    /// `content`, `in_flight`, `short` (with `connections`) and the timeouts count.
    ///
    /// # Errors
    ///
    /// Options that cannot work, and what the system refuses.
    pub fn new(options: &Options) -> Result<Self> {
        let connections = if options.short { options.connections } else { 1 };
        let options = Options { threads: 1, processes: Some(1), connections, ..options.clone() };
        if options.host.is_none() {
            return Err(Error::usage("`host` is needed"));
        }
        let mut job = options.plan()?.job;
        job.messages = Some(0);
        if !options.short {
            job.connections = 0;
            job.all = 0;
        }
        Ok(Self {
            workers: Workers::start(&job, 1)?,
            options,
            opened: 0,
            last: Snapshot::default(),
        })
    }

    /// Messages that may be outstanding, on all connections together.
    #[must_use]
    pub const fn at_once(&self) -> u64 {
        self.opened as u64 * self.options.in_flight as u64
    }

    /// Connects up to so many, and exchanges a message in each place, so that nothing is done for
    /// the first time later.
    ///
    /// # Errors
    ///
    /// A connection that is refused, and a reply that is not right.
    pub fn grow(&mut self, connections: u32) -> Result<()> {
        self.workers.order(&[Command::Grow(connections)])?;
        self.workers.enter(Phase::Ramp, sys::now())?;
        let now = self.until(|now| now.done && now.phase == Some(Phase::Ramp))?;
        if now.established < connections.into() {
            let why = now.stopped.unwrap_or_else(|| format!("{} only", now.established));
            return Err(Error::new(format_args!("{connections} connections: {why}")));
        }
        self.opened = connections;
        self.exchange(self.at_once()).map(drop)
    }

    /// From now on, has so many messages outstanding on each connection.
    ///
    /// # Errors
    ///
    /// A thread that has ended.
    pub fn set_in_flight(&mut self, in_flight: u32) -> Result<()> {
        self.options.in_flight = in_flight;
        self.workers.order(&[Command::InFlight(in_flight)])
    }

    /// Exchanges so many messages, with all connections at work.
    ///
    /// # Errors
    ///
    /// A reply that is wrong, late or missing.
    pub fn exchange(&mut self, messages: u64) -> Result<Exchanged> {
        let began = sys::now();
        self.begin(messages)?;
        self.end(began.as_nanos())
    }

    /// Exchanges messages for so long. With `short`, each has a connection of its own.
    ///
    /// # Errors
    ///
    /// As [`exchange`](Self::exchange).
    pub fn exchange_for(&mut self, time: Duration) -> Result<Exchanged> {
        if self.options.short {
            // It asks on one connection who closes.
            self.workers.order(&[Command::Budget(1)])?;
            self.workers.enter(Phase::Ramp, sys::now())?;
            self.last = self.until(|now| now.done && now.phase == Some(Phase::Ramp))?;
        }
        let began = sys::now();
        self.begin(u64::MAX)?;
        std::thread::sleep(time);
        self.workers.enter(Phase::Drain, sys::now())?;
        self.end(began.as_nanos())
    }

    /// As many messages as may be outstanding: all are sent before `go` lets the server see them.
    ///
    /// # Errors
    ///
    /// As [`exchange`](Self::exchange), and what `go` says.
    pub fn round<E>(&mut self, go: impl FnOnce() -> std::result::Result<(), E>) -> Result<()>
    where
        E: std::fmt::Display,
    {
        let (all, began) = (self.at_once(), sys::now());
        let before = self.last.messages.sent;
        self.begin(all)?;
        self.until(|now| now.messages.sent - before == all)?;
        go().map_err(Error::new)?;
        self.end(began.as_nanos()).map(drop)
    }

    fn begin(&mut self, messages: u64) -> Result<()> {
        self.workers
            .order(&[Command::Budget(messages), Command::Enter(Phase::Run, sys::now().as_nanos())])
    }

    fn end(&mut self, began: u64) -> Result<Exchanged> {
        let is_over =
            |now: &Snapshot| now.done && matches!(now.phase, Some(Phase::Run | Phase::Drain));
        let now = self.until(is_over)?;
        let messages = now.messages.ok - self.last.messages.ok;
        #[expect(clippy::cast_precision_loss, reason = "less than a year")]
        let seconds = now.last_reply.saturating_sub(began) as f64 / 1e9;
        self.last = now;
        Ok(Exchanged { messages, seconds })
    }

    /// Waits until it is so.
    fn until(&mut self, is_so: impl Fn(&Snapshot) -> bool) -> Result<Snapshot> {
        let mut pause = SOON;
        loop {
            let now = self.workers.ask(false)?;
            if now.faults() > 0 {
                let first = now.first_wrong.map_or_else(String::new, |first| format!(": {first}"));
                let call = now
                    .errors
                    .first()
                    .map_or_else(String::new, |(_, call, errno, _)| format!(" ({call} {errno})"));
                let what = "a reply is wrong, late or missing, or a connection has ended";
                return Err(Error::new(format_args!("{what}{call}{first}")));
            }
            if is_so(&now) {
                return Ok(now);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LATER);
        }
    }
}
