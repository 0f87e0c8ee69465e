//! [`Loader`]: one thread's share of the load. One poller, many connections, and little to do for
//! each message.
//!
//! It is made of parts that know one thing each: [`Net`] (poller and addresses), [`Places`] (the
//! connections), [`Opening`] (when another may be begun), [`Due`] (when a message is due, and who is
//! free for it), [`Messages`] (requests, and what replies are checked for) and [`Tally`] (counts).

mod due;
mod end;
mod exchange;
mod handshake;
mod net;
mod open;
mod opening;
mod places;
mod slow;
mod tally;
mod tickets;
mod wire;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::Duration;

use myriapod::sys::{self, Events, Poller, Waker};

use self::due::Due;
use self::net::{Net, WAKER};
use self::opening::Opening;
use self::places::{Places, State};
use self::tally::Tally;
use self::wire::Seal;
use crate::connection::Asked;
use crate::error::{Error, Result};
use crate::job::{Command, Job, Phase};
use crate::message::Messages;
use crate::replay::{Recording, Tape};
use crate::schedule::Schedule;
use crate::snapshot::Snapshot;

/// Attempts within one turn, and messages in an open loop, before replies have theirs.
const BATCH: usize = 64;

/// How long a server that has answered a short connection may take to close it, before we do.
const CLOSING_GRACE: u64 = 100_000_000;

/// How long closing waits for servers to close too.
const CLOSE_TIMEOUT: u64 = 1_000_000_000;

/// What is told to the thread, and by it.
#[derive(Debug)]
struct Line {
    commands: Receiver<Command>,
    told: Sender<Snapshot>,
    ended: bool,
}

/// Memory that every message uses again.
#[derive(Debug)]
struct Buffers {
    received: Vec<u8>,
    scratch: Vec<u8>,
    abandoned: Vec<Asked>,
}

/// A thread's share of the load.
#[derive(Debug)]
pub(crate) struct Loader {
    job: Job,
    phase: Phase,
    line: Line,
    net: Net,
    places: Places,
    opening: Opening,
    due: Due,
    messages: Messages,
    /// What is sent in place of made-up requests.
    tape: Option<Tape>,
    /// TLS, where that was asked for.
    seal: Option<Seal>,
    tally: Tally,
    buffers: Buffers,
    /// Whether the server closes short connections itself, once that is known.
    server_closes: Option<bool>,
    /// When the phase began.
    began: u64,
    /// When those were last looked for whose time is over, and when the slow ones last moved.
    scanned: u64,
    dripped: u64,
    /// Which of them do so next.
    turn: usize,
}

fn clock() -> u64 {
    sys::now().as_nanos()
}

impl Loader {
    /// A share of the load that is `job`.
    ///
    /// # Errors
    ///
    /// What the system refuses, and addresses that are none.
    pub(crate) fn new(
        job: Job,
        poller: Poller,
        commands: Receiver<Command>,
        told: Sender<Snapshot>,
    ) -> Result<Self> {
        let net = Net::new(&job, poller)?;
        let framing = job.framing.as_deref().and_then(|framing| framing.parse().ok());
        let messages =
            Messages::new(job.service, framing.as_ref(), &job.content).map_err(|why| {
                sys::SystemError::InvalidAddress {
                    given: why.into(),
                    reason: "no content for this service",
                }
            })?;
        let buffer = messages.request_len().saturating_mul(2).clamp(64 << 10, 4 << 20);
        let budget = job.messages.unwrap_or(u64::MAX);
        let mut due = Due::new(job.rate, job.poisson, job.first.into(), budget);
        let tape = match &job.replay {
            Some(replay) => {
                let framing = job.framing.as_deref().unwrap_or(job.service.framing());
                let framing = framing.parse().map_err(Error::new)?;
                let recording = Recording::read(replay, &framing)?;
                let tape = Tape::new(&recording, job.first, job.connections);
                due.replay(tape.moments(replay.speed));
                Some(tape)
            }
            None => None,
        };
        let seal = match &job.secure {
            Some(secure) => Some(Seal::new(secure, job.connections)?),
            None => None,
        };
        Ok(Self {
            net,
            messages,
            seal,
            places: Places::new(job.slots()),
            opening: Opening::new(job.secure.is_some()),
            due,
            tape,
            tally: Tally::default(),
            phase: Phase::Still,
            line: Line { commands, told, ended: false },
            buffers: Buffers {
                received: vec![0; buffer],
                scratch: Vec::new(),
                abandoned: Vec::new(),
            },
            server_closes: None,
            began: 0,
            scanned: 0,
            dripped: 0,
            turn: 0,
            job,
        })
    }

    /// What wakes this thread for its commands.
    pub(crate) fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.net.waker)
    }

    /// Works until it is told to end.
    ///
    /// # Errors
    ///
    /// Those of waiting.
    pub(crate) fn run(&mut self) -> sys::Result<()> {
        // Due moments are not to be met 50 µs late.
        myriapod_machine::set_timer_slack(Duration::from_nanos(1));
        let mut events = Events::with_capacity(1024);
        while !self.line.ended {
            events.clear();
            self.net.poller.wait(&mut events, self.patience())?;
            for event in &events {
                if event.token() == WAKER {
                    self.net.waker.reset();
                    self.obey();
                    continue;
                }
                let slot = usize::try_from(event.token().0).unwrap_or(usize::MAX);
                self.handle(slot, event.is_writable(), event.is_readable());
            }
            self.step();
        }
        Ok(())
    }

    /// How long nothing has to be done unless something comes.
    fn patience(&self) -> Option<Duration> {
        let now = clock();
        let mut next = self.scanned.saturating_add(self.scan_interval());
        if self.ramping() {
            next = next.min(self.opening.wakes_at().unwrap_or(u64::MAX));
        }
        let crowded = self.job.short && self.opening.is_crowded();
        if self.sending() && !crowded {
            next = next.min(self.due.wakes_at().unwrap_or(u64::MAX));
        }
        if self.is_dripping() {
            next = next.min(self.dripped + slow::STEP);
        }
        Some(Duration::from_nanos(next.saturating_sub(now)))
    }

    fn timeout(&self) -> u64 {
        nanos(self.job.timeout)
    }

    fn scan_interval(&self) -> u64 {
        // A grace is not to be longer than it is.
        let probing = self.phase == Phase::Ramp && self.places.busy > 0;
        let longest = if probing { CLOSING_GRACE / 10 } else { 250_000_000 };
        (self.timeout() / 8).clamp(5_000_000, longest)
    }

    fn obey(&mut self) {
        loop {
            match self.line.commands.try_recv() {
                Ok(Command::Enter(phase, began)) => self.enter(phase, began),
                Ok(Command::Rate(all)) => {
                    let share = f64::from(self.job.connections) / f64::from(self.job.all.max(1));
                    self.due.rate = Some(all * share);
                }
                Ok(Command::Budget(all)) => self.due.budget = self.job.share_of(all),
                Ok(Command::InFlight(in_flight)) => self.set_in_flight(in_flight),
                Ok(Command::Grow(connections)) => self.grow(connections),
                Ok(Command::Tell { latencies }) => self.tell(latencies),
                Ok(Command::Reset) => {
                    self.tally.reset();
                    self.due.budget = self.job.messages.unwrap_or(u64::MAX);
                }
                Ok(Command::End) | Err(TryRecvError::Disconnected) => {
                    self.line.ended = true;
                    return;
                }
                Err(TryRecvError::Empty) => return,
            }
        }
    }

    fn enter(&mut self, phase: Phase, began: u64) {
        let before = self.phase;
        if phase == Phase::Drain {
            // That it is not sent yet is no fault of the server's.
            self.send_rest_of_due(began);
        }
        self.phase = phase;
        self.began = began;
        match phase {
            Phase::Ramp => {
                let pace = self
                    .job
                    .ramp
                    .map(|ramp| Schedule::new(began, ramp, false, self.job.first.into()));
                self.opening.pace = pace;
                if self.job.short {
                    self.opening.ramped = self.places.len();
                    for slot in 0..self.job.connections as usize {
                        self.due.add_places(slot, 1);
                    }
                    self.probe();
                }
            }
            Phase::Warmup | Phase::Run if self.job.short && before == Phase::Ramp => {
                self.tally.forget_probe();
                self.due.begin(began);
            }
            Phase::Warmup | Phase::Run if before != Phase::Warmup => self.due.begin(began),
            Phase::Drain => {
                let tally = &mut self.tally;
                self.due.end(began, |due| tally.unsent(due, began));
            }
            Phase::Storm => self.storm(),
            Phase::Close => self.close_all(clock()),
            _ => {}
        }
    }

    fn tell(&mut self, latencies: bool) {
        let done = self.is_done();
        let wrong = self.messages.first_wrong.as_deref();
        let first_wrong = wrong.map(|bytes| bytes.escape_ascii().to_string());
        let cpu = vec![nanos(myriapod_machine::thread_cpu_time())];
        let connecting = self.opening.connecting as u64;
        let waiting = self.places.waiting as u64;
        let snapshot = Snapshot {
            done,
            phase: Some(self.phase),
            first_wrong,
            cpu,
            connecting,
            waiting,
            ..self.tally.snapshot(latencies)
        };
        // One that has left does not want to know.
        let _ = self.line.told.send(snapshot);
    }

    fn is_done(&self) -> bool {
        let Self { places, opening, due, tally, .. } = self;
        match self.phase {
            Phase::Still | Phase::Hold => true,
            Phase::Ramp => !self.ramping() && opening.connecting == 0 && places.busy == 0,
            Phase::Warmup => false,
            Phase::Run => {
                let nobody = match self.job.short {
                    true => tally.state.stopped.is_some(),
                    false => places.at_work == 0,
                };
                (due.budget == 0 || nobody) && places.waiting == 0 && places.busy == 0
            }
            Phase::Drain => places.waiting == 0 && places.busy == 0,
            Phase::Storm => !self.ramping() && opening.connecting == 0 && places.waiting == 0,
            Phase::Close => tally.state.open == 0 && opening.connecting == 0,
        }
    }

    /// What has to be done though nothing came.
    fn step(&mut self) {
        if self.ramping() {
            self.ramp();
        }
        if self.sending() {
            self.send_due(u64::MAX);
        }
        let now = clock();
        if self.is_dripping() && now.saturating_sub(self.dripped) >= slow::STEP {
            self.dripped = now;
            self.drip();
        }
        if now.saturating_sub(self.scanned) >= self.scan_interval() {
            self.scanned = now;
            self.scan(now);
        }
    }

    fn handle(&mut self, slot: usize, writable: bool, readable: bool) {
        let Some(place) = self.places.get(slot) else { return };
        match place.state {
            State::Vacant => {}
            State::Connecting => self.connect_ended(slot),
            State::Shaking => self.shake(slot, writable, readable),
            _ => {
                if writable && place.writing {
                    self.send_rest(slot);
                }
                if readable {
                    self.receive(slot);
                }
            }
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::sync::mpsc;

    use myriapod::sys::Backend;

    use super::*;
    use crate::message::Service;
    use crate::options::Options;

    #[test]
    fn is_as_much_due_as_a_run_took_though_it_was_heard_of_late() {
        let path = std::env::temp_dir().join(format!("myriapod-loader-{}", std::process::id()));
        let _listener = UnixListener::bind(&path).unwrap();
        for short in [true, false] {
            let options = Options {
                host: Some(format!("unix:{}", path.display())),
                service: Service::Raw,
                framing: None,
                rate: Some(1000.0),
                connections: 1000,
                short,
                ..Options::default()
            };
            let job = options.plan().unwrap().job;
            let (_order, commands) = mpsc::channel();
            let (tell, _told) = mpsc::channel();
            let poller = Poller::new(Backend::native()).unwrap();
            let mut loader = Loader::new(job, poller, commands, tell).unwrap();
            loader.phase = Phase::Ramp;
            // Only short connections are made when they are needed; the others are not there.
            for slot in 0..1000 {
                loader.due.add_places(slot, 1);
            }
            let second = 1_000_000_000;
            let began = clock() - 10 * second;
            loader.enter(Phase::Run, began);
            loader.enter(Phase::Drain, began + second / 2);
            let messages = &loader.tally.state.messages;
            assert_eq!(messages.sent + messages.unsent, 500, "{short}: {messages:?}");
            assert_eq!(loader.tally.state.due, 500, "{short}");
        }
        std::fs::remove_file(path).unwrap();
    }
}
