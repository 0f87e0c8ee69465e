//! [`Bench`]: the phases of a run, one after the other, and what each comes to.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use myriapod::sys::{self, Time};
use myriapod_machine::{ProcessUsage, ProcessorTime};

use crate::clock;
use crate::error::Result;
use crate::history::{History, Reading};
use crate::job::{Command, Phase};
use crate::observer::{Interruption, Now, Observer};
use crate::options::Plan;
use crate::ran::Ran;
use crate::report::{MemoryPoint, Phase as Passed, Storm};
use crate::server::{Embedded, Watch};
use crate::snapshot::{Latencies, Snapshot};
use crate::workers::Workers;
use crate::{figures, summaries};

/// How long the ramp may make no progress before it is given up.
const RAMP_PATIENCE: Duration = Duration::from_secs(15);

/// How many points of the server's memory are kept.
const MEMORY_POINTS: usize = 200;

/// How much time a point of the series is over.
const WHOLE_POINT: Duration = Duration::from_secs(1);

/// A point of the series that a phase ends is over at least so much time.
const LEAST_POINT: Duration = Duration::from_millis(250);

/// A load that is ready to run, with its server.
pub(crate) struct Bench<'a> {
    pub(crate) plan: Plan,
    observer: &'a mut dyn Observer,
    /// Somebody has ended it before its time.
    interruption: Option<Interruption>,
    workers: Workers,
    _embedded: Option<Embedded>,
    watch: Option<Watch>,
    pub(crate) history: History,
    latencies: Latencies,
}

/// What ends a phase.
#[derive(Clone, Copy, Debug)]
enum Goal {
    Connections(u64),
    Messages(u64),
    Time(Time, Duration),
    /// So many beside those that were served before.
    Served(u64, u64),
    None,
}

impl Goal {
    /// How much of it is reached, from 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "for a bar")]
    fn share(self, snapshot: &Snapshot) -> Option<f64> {
        match self {
            Self::Connections(all) => Some(snapshot.open as f64 / all as f64),
            Self::Messages(all) => Some(snapshot.messages.sent as f64 / all as f64),
            Self::Time(began, time) => Some(since(began) / time.as_secs_f64()),
            Self::Served(before, all) => {
                Some(snapshot.served.saturating_sub(before) as f64 / all as f64)
            }
            Self::None => None,
        }
    }
}

impl<'a> Bench<'a> {
    /// Starts the server, if that is bench's own, and the threads and processes of the load.
    pub(crate) fn start(mut plan: Plan, observer: &'a mut dyn Observer) -> Result<Self> {
        let mut embedded = None;
        let mut pids = plan.options.server_pids.clone();
        if plan.embedded > 0 {
            let servers = Embedded::start(
                plan.embedded,
                (plan.options.service, plan.job.framing.as_deref()),
                plan.options.pin,
                plan.options.proxy_from.is_some(),
                plan.options.secure.is_some(),
            )?;
            plan.job.targets =
                servers.ports.iter().map(|&port| ("127.0.0.1".to_owned(), port)).collect();
            pids = servers.pids();
            embedded = Some(servers);
        }
        let watch = Watch::start(pids)?;
        let workers = Workers::start(&plan.job, plan.processes)?;
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Ok(Self {
            observer,
            interruption: None,
            workers,
            _embedded: embedded,
            watch,
            history: History::new(sys::now(), unix),
            latencies: Latencies::default(),
            plan,
        })
    }

    pub(crate) fn end(self) -> Result<()> {
        self.workers.end()
    }

    /// Whether somebody ends it before its time, or there is no use in going on.
    fn is_over(&mut self, snapshot: &Snapshot) -> bool {
        if self.interruption.is_none() {
            self.interruption = self.observer.interrupted();
        }
        self.interruption.is_some() || snapshot.stranger.is_some()
    }

    /// Opens all connections, and holds them.
    pub(crate) fn ramp(&mut self) -> Result<Snapshot> {
        self.remember(0);
        let began = sys::now();
        self.workers.enter(Phase::Ramp, began)?;
        let requested = u64::from(self.plan.job.connections) + u64::from(self.plan.job.idle);
        let patience = RAMP_PATIENCE + self.plan.options.connect_timeout;
        let (mut progress, mut moved) = (0, began);
        let ramped = loop {
            let snapshot = self.look(Phase::Ramp, Goal::Connections(requested))?;
            let tried = snapshot.established + snapshot.failed;
            if tried > progress {
                (progress, moved) = (tried, sys::now());
            }
            let over = snapshot.done || self.is_over(&snapshot);
            if over || sys::now().saturating_since(moved) > patience {
                break snapshot;
            }
            self.pause(began);
        };
        let seconds = since(began);
        if !self.plan.options.short {
            let summary = summaries::ramp(&ramped, requested, seconds);
            self.passed(Phase::Ramp, began, summary);
        }
        self.hold(&ramped)?;
        Ok(ramped)
    }

    fn hold(&mut self, ramped: &Snapshot) -> Result<()> {
        let hold = self.plan.options.hold;
        let began = sys::now();
        if !hold.is_zero() && !self.is_over(ramped) {
            self.workers.enter(Phase::Hold, began)?;
            self.spend(Phase::Hold, began, hold)?;
        }
        self.remember(ramped.open);
        if let Some(watch) = &mut self.watch {
            watch.held(ramped.open);
        }
        if !hold.is_zero() {
            let memory = self.watch.as_ref().map(|_| &self.history.memory);
            let ends = memory.map(|memory| (memory.last(), memory.first()));
            let (held, before) = ends.unwrap_or_default();
            let summary = summaries::hold(ramped.open, held, before);
            self.passed(Phase::Hold, began, summary);
        }
        Ok(())
    }

    /// Looks on until a phase has lasted so long.
    fn spend(&mut self, phase: Phase, began: Time, time: Duration) -> Result<()> {
        while sys::now().saturating_since(began) < time {
            let snapshot = self.look(phase, Goal::Time(began, time))?;
            if self.is_over(&snapshot) {
                return Ok(());
            }
            self.pause_until(began + time);
        }
        Ok(())
    }

    /// Warms up, runs, waits for the last replies, makes storms, and closes.
    pub(crate) fn load(&mut self, ramped: Snapshot) -> Result<Ran> {
        let mut ran = self.once(ramped)?;
        for nth in 0..self.plan.options.reconnect {
            if self.is_over(&ran.after) {
                break;
            }
            let storm = self.storm(nth)?;
            ran.storms.push(storm);
        }
        self.close(ran)
    }

    /// Forgets what was counted, for another run with another rate.
    pub(crate) fn reset(&mut self, rate: f64) -> Result<()> {
        self.plan.job.rate = Some(rate);
        self.workers.order(&[Command::Rate(rate), Command::Reset])
    }

    /// Closes all connections; what still comes belongs to the run.
    pub(crate) fn close(&mut self, mut ran: Ran) -> Result<Ran> {
        let began = sys::now();
        let open = self.workers.ask(false)?.open;
        self.workers.enter(Phase::Close, began)?;
        loop {
            let snapshot = self.look(Phase::Close, Goal::None)?;
            let done = snapshot.done || since(began) > 10.0;
            ran.closed = snapshot;
            if done {
                break;
            }
            self.pause(began);
        }
        self.ask(true)?;
        ran.latencies.add(&std::mem::take(&mut self.latencies));
        if !self.plan.options.short {
            let summary = format!("{open} connections");
            self.passed(Phase::Close, began, summary);
        }
        ran.interrupted = self.interruption;
        self.observer.done();
        Ok(ran)
    }

    /// Warms up, runs, and waits for the last replies.
    pub(crate) fn once(&mut self, ramped: Snapshot) -> Result<Ran> {
        let warmup = self.plan.options.warmup;
        if !warmup.is_zero() && !self.is_over(&ramped) {
            let began = sys::now();
            self.workers.enter(Phase::Warmup, began)?;
            self.spend(Phase::Warmup, began, warmup)?;
            self.passed(Phase::Warmup, began, "left out of the figures".to_owned());
        }
        let before = self.ask(true)?;
        self.latencies = Latencies::default();
        let (stolen, busy) = (ProcessorTime::read(), myriapod_machine::busy_time().ok());
        if let Some(watch) = &mut self.watch {
            watch.begin();
        }
        let began = sys::now();
        self.history.begin(Reading::new(began, &before, self.usage().as_ref()));
        let (cut, goal) = self.work(began, &before)?;
        let ended = sys::now();
        // What the server used belongs to what was answered until now, not to what is still to come.
        let used = self.usage();
        // Both at once, so that what becomes due later is not sent in between.
        let drain = Command::Enter(Phase::Drain, ended.as_nanos());
        self.workers.order(&[Command::Tell { latencies: true }, drain])?;
        let worked = self.hear()?;
        let stolen = stolen.zip(ProcessorTime::read());
        let stolen = stolen.map(|(before, after)| after.since(&before).stolen_share());
        let busy = busy
            .zip(myriapod_machine::busy_time().ok())
            .map(|(before, now)| now.saturating_sub(before));
        let over = self.since_point();
        if over >= LEAST_POINT {
            self.point(Phase::Run, &worked);
            if over >= WHOLE_POINT {
                self.show(&worked, goal);
            }
        }
        let after = self.drain(ended)?;
        // The last reply may have come after the end, and then the run lasted as long.
        let last = Time::from_nanos(after.last_reply);
        let by_messages = self.plan.options.messages.is_some();
        let end = if by_messages { last } else { last.max(ended) };
        let seconds = end.saturating_since(began).as_secs_f64();
        let answered = after.messages.ok - before.messages.ok;
        let at_work = ended.saturating_since(began).as_secs_f64();
        let meanwhile = worked.messages.ok - before.messages.ok;
        let server = self.watch.as_ref().zip(used);
        let memory = &self.history.memory;
        let server = server.map(|(watch, used)| watch.figures(&used, at_work, meanwhile, memory));
        self.passed(Phase::Run, began, summaries::run(&after, answered, seconds));
        Ok(Ran {
            seconds,
            at_work,
            latencies: std::mem::take(&mut self.latencies),
            before,
            worked,
            closed: after.clone(),
            after,
            ramped,
            server,
            stolen,
            busy,
            clock_step: clock::step(),
            time_wait: myriapod_machine::time_wait_sockets().ok(),
            storms: Vec::new(),
            cut,
            interrupted: self.interruption,
        })
    }

    /// The run itself; why it ended before its time, and what it was to reach.
    fn work(&mut self, began: Time, before: &Snapshot) -> Result<(Option<String>, Goal)> {
        let (messages, duration) = (self.plan.options.messages, self.plan.options.duration);
        let (until, goal) = match messages {
            Some(messages) => (Time::MAX, Goal::Messages(before.messages.sent + messages)),
            None => (began + duration, Goal::Time(began, duration)),
        };
        if self.is_over(before) {
            return Ok((before.stranger.clone(), goal));
        }
        self.workers.enter(Phase::Run, began)?;
        loop {
            let snapshot = self.look(Phase::Run, goal)?;
            if snapshot.done {
                let asked = messages.unwrap_or(u64::MAX);
                let sent = snapshot.messages.sent - before.messages.sent;
                let short = self.plan.options.short;
                let cut = sent < asked || snapshot.stopped.is_some();
                return Ok((cut.then(|| figures::why_ended(&snapshot, short)), goal));
            }
            if self.is_over(&snapshot) || sys::now() >= until {
                return Ok((None, goal));
            }
            // What ends with messages is looked at more often, so that nobody waits for nothing.
            if messages.is_some() { self.pause(began) } else { self.pause_until(until) }
        }
    }

    /// Waits for the last replies.
    fn drain(&mut self, ended: Time) -> Result<Snapshot> {
        let options = &self.plan.options;
        let patience = options.timeout + options.connect_timeout + Duration::from_secs(1);
        let after = loop {
            let snapshot = self.look(Phase::Drain, Goal::None)?;
            if snapshot.done || sys::now().saturating_since(ended) > patience {
                break snapshot;
            }
            self.pause(ended);
        };
        self.ask(true)?;
        if self.since_point() >= LEAST_POINT {
            self.point(Phase::Drain, &after);
        }
        Ok(after)
    }

    /// Has all connections closed at once and come back, and waits until each has an answer.
    fn storm(&mut self, nth: u32) -> Result<Storm> {
        let before = self.workers.ask(false)?.served;
        let took = std::mem::take(&mut self.latencies);
        let options = &self.plan.options;
        let patience = options.timeout + options.connect_timeout + RAMP_PATIENCE;
        let connections = u64::from(self.plan.job.connections);
        let began = sys::now();
        self.workers.enter(Phase::Storm, began)?;
        let (mut progress, mut moved) = (0, began);
        let after = loop {
            let snapshot = self.look(Phase::Storm, Goal::Served(before, connections))?;
            if snapshot.served > progress {
                (progress, moved) = (snapshot.served, sys::now());
            }
            // The first look may come before a thread has heard of it.
            let over = snapshot.done && snapshot.phase == Some(Phase::Storm);
            if over || self.is_over(&snapshot) || sys::now().saturating_since(moved) > patience {
                break snapshot;
            }
            self.pause(began);
        };
        self.ask(true)?;
        let response = std::mem::replace(&mut self.latencies, took).response;
        let at = |quantile| (!response.is_empty()).then(|| response.value_at_quantile(quantile));
        let storm = Storm {
            connections,
            served: after.served - before,
            p50_ns: at(0.5),
            p99_ns: at(0.99),
            all_ns: (after.served - before == connections).then(|| response.max()),
        };
        self.passed(Phase::Storm, began, summaries::storm(nth + 1, &storm));
        Ok(storm)
    }

    /// Asks how things stand; with latencies, takes them.
    fn ask(&mut self, latencies: bool) -> Result<Snapshot> {
        self.workers.order(&[Command::Tell { latencies }])?;
        self.hear()
    }

    fn hear(&mut self) -> Result<Snapshot> {
        let mut snapshot = self.workers.hear()?;
        if let Some(latencies) = snapshot.latencies.take() {
            self.latencies.add(&latencies);
            self.history.recent.add(&latencies);
            // All have the same bounds.
            let _ = self.history.handshakes.add(&latencies.handshake);
        }
        Ok(snapshot)
    }

    /// Asks how things stand, notes what the series wants, and shows it once a second.
    fn look(&mut self, phase: Phase, goal: Goal) -> Result<Snapshot> {
        let due = self.since_point() >= WHOLE_POINT;
        let snapshot = self.ask(due)?;
        if phase == Phase::Ramp {
            self.remember(snapshot.open);
        }
        if due {
            self.point(phase, &snapshot);
        }
        if due {
            self.show(&snapshot, goal);
        }
        Ok(snapshot)
    }

    fn show(&mut self, snapshot: &Snapshot, goal: Goal) {
        let (share, since_start) = (goal.share(snapshot), since(self.history.started));
        if let Some(point) = self.history.series.last() {
            self.observer.second(&Now { point, snapshot, share, since_start });
        }
    }

    fn usage(&self) -> Option<ProcessUsage> {
        self.watch.as_ref().and_then(Watch::usage)
    }

    fn since_point(&self) -> Duration {
        sys::now().saturating_since(self.history.under_way())
    }

    /// A point of the series.
    fn point(&mut self, phase: Phase, snapshot: &Snapshot) {
        let reading = Reading::new(sys::now(), snapshot, self.usage().as_ref());
        self.history.point(phase, snapshot, reading);
    }

    /// Notes the server's memory at so many connections, no more often than a page can show.
    fn remember(&mut self, connections: u64) {
        let Some(watch) = &self.watch else { return };
        let all = self.plan.connections();
        let step = (all / MEMORY_POINTS as u64).max(1);
        let memory = &mut self.history.memory;
        let last = memory.last().map(|point| point.connections);
        let far = last.is_none_or(|last| connections >= last + step || connections == all);
        if !far || memory.len() > 2 * MEMORY_POINTS {
            return;
        }
        if let Some(server_rss_bytes) = watch.rss() {
            memory.push(MemoryPoint { connections, server_rss_bytes });
        }
    }

    fn passed(&mut self, phase: Phase, began: Time, summary: String) {
        let passed = Passed {
            name: phase.name().to_owned(),
            start_s: began.saturating_since(self.history.started).as_secs_f64(),
            seconds: since(began),
            summary,
        };
        self.observer.passed(&passed);
        self.history.phases.push(passed);
    }

    /// Sleeps a moment: short ones at first, for what is done in no time.
    fn pause(&self, began: Time) {
        let elapsed = sys::now().saturating_since(began);
        let pause = (elapsed / 8).clamp(Duration::from_millis(1), Duration::from_millis(50));
        std::thread::sleep(pause);
    }

    /// Sleeps until the next point of the series, but not beyond `until`.
    fn pause_until(&self, until: Time) {
        let now = sys::now();
        let point = self.history.under_way() + Duration::from_secs(1);
        let next = point.min(until).min(now + Duration::from_millis(250));
        std::thread::sleep(next.saturating_since(now).max(Duration::from_millis(1)));
    }
}

fn since(began: Time) -> f64 {
    sys::now().saturating_since(began).as_secs_f64()
}
