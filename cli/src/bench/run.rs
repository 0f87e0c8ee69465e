//! [`Bench`]: the phases of a run, one after the other, and what each comes to.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use myriapod::sys::{self, Time};
use myriapod_machine::{ProcessUsage, ProcessorTime};

use super::args::{Args, Plan};
use super::clock;
use super::crew::Crew;
use super::history::{History, Reading};
use super::job::{Command, Latencies, Phase, Snapshot};
use super::live::{Live, Now};
use super::report::{MemoryPoint, Phase as Passed, Report};
use super::server::{Embedded, Watch};
use super::{figures, report};
use crate::failure::Failure;
use crate::terminal::tell;

/// How long the ramp may make no progress before it is given up.
const RAMP_PATIENCE: Duration = Duration::from_secs(15);

/// How many points of the server's memory are kept.
const MEMORY_POINTS: usize = 200;

/// How much time a point of the series is over.
const WHOLE_POINT: Duration = Duration::from_secs(1);

/// A point of the series that a phase ends is over at least so much time.
const LEAST_POINT: Duration = Duration::from_millis(250);

/// A load that is ready to run, with its server.
pub(crate) struct Bench {
    pub(crate) plan: Plan,
    crew: Crew,
    _embedded: Option<Embedded>,
    watch: Option<Watch>,
    live: Live,
    pub(crate) history: History,
    latencies: Latencies,
}

/// What ends a phase.
#[derive(Clone, Copy, Debug)]
enum Goal {
    Connections(u64),
    Messages(u64),
    Time(Time, Duration),
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
            Self::None => None,
        }
    }
}

/// All that is known of the run phase.
pub(crate) struct Ran {
    /// From its begin to its last reply.
    pub(crate) seconds: f64,
    /// From its begin to its end, without the wait for the last replies.
    pub(crate) at_work: f64,
    pub(crate) latencies: Latencies,
    /// How things stood when it began, when it ended, after the last reply, and after closing.
    pub(crate) before: Snapshot,
    pub(crate) worked: Snapshot,
    pub(crate) after: Snapshot,
    pub(crate) closed: Snapshot,
    pub(crate) ramped: Snapshot,
    pub(crate) server: Option<report::ServerFigures>,
    pub(crate) stolen: Option<f64>,
    pub(crate) busy: Option<Duration>,
    pub(crate) clock_step: u64,
    pub(crate) time_wait: Option<u64>,
    /// Why it ended before its time.
    pub(crate) cut: Option<String>,
}

impl Bench {
    /// Starts the server, if that is bench's own, and the threads and processes of the load.
    ///
    /// # Errors
    ///
    /// As [`super::run`].
    pub(crate) fn start(args: &Args) -> Result<Self, Failure> {
        let mut plan = args.plan()?;
        if let Some(warning) = plan.foretell().warning() {
            tell(warning);
        }
        let mut embedded = None;
        let mut pids = args.server_pid.clone();
        if plan.embedded > 0 {
            let servers =
                Embedded::start(plan.embedded, args.service, args.pin, args.proxy_from.is_some())?;
            plan.job.targets =
                servers.ports.iter().map(|&port| ("127.0.0.1".to_owned(), port)).collect();
            pids = servers.pids();
            embedded = Some(servers);
        }
        let watch = Watch::start(pids)?;
        let crew = Crew::start(&plan.job, plan.processes)?;
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Ok(Self {
            live: Live::new(),
            crew,
            _embedded: embedded,
            watch,
            history: History::new(sys::now(), unix),
            latencies: Latencies::default(),
            plan,
        })
    }

    /// All phases.
    ///
    /// # Errors
    ///
    /// As [`super::run`].
    pub(crate) fn measure(mut self, args: &Args) -> Result<Report, Failure> {
        let ramped = self.ramp(args)?;
        let ran = self.load(args, ramped)?;
        let report = figures::report(args, &self.plan, &self.history, &ran, Vec::new());
        self.end()?;
        Ok(report)
    }

    pub(crate) fn end(self) -> Result<(), Failure> {
        let Self { crew, .. } = self;
        crew.end()
    }

    fn set_rate(&mut self, rate: f64) -> Result<(), Failure> {
        self.plan.job.rate = Some(rate);
        self.crew.order(&[Command::Rate(rate)])
    }

    /// Opens all connections, and holds them.
    pub(crate) fn ramp(&mut self, args: &Args) -> Result<Snapshot, Failure> {
        self.remember(0);
        let began = sys::now();
        self.crew.enter(Phase::Ramp, began)?;
        let requested = u64::from(self.plan.job.connections) + u64::from(self.plan.job.idle);
        let (mut progress, mut moved) = (0, began);
        let ramped = loop {
            let snapshot = self.look(Phase::Ramp, Goal::Connections(requested))?;
            let tried = snapshot.established + snapshot.failed;
            if tried > progress {
                (progress, moved) = (tried, sys::now());
            }
            let patience = RAMP_PATIENCE + args.connect_timeout.0;
            if snapshot.done || sys::now().saturating_since(moved) > patience {
                break snapshot;
            }
            self.pause(began);
        };
        let seconds = since(began);
        if !args.short {
            let summary = figures::ramp_summary(&ramped, requested, seconds);
            self.passed(Phase::Ramp, began, summary);
        }
        self.hold(args, &ramped)?;
        Ok(ramped)
    }

    fn hold(&mut self, args: &Args, ramped: &Snapshot) -> Result<(), Failure> {
        let began = sys::now();
        if !args.hold.0.is_zero() {
            self.crew.enter(Phase::Hold, began)?;
            while sys::now().saturating_since(began) < args.hold.0 {
                self.look(Phase::Hold, Goal::Time(began, args.hold.0))?;
                self.pause_until(began + args.hold.0);
            }
        }
        self.remember(ramped.open);
        let Some(watch) = &mut self.watch else {
            if !args.hold.0.is_zero() {
                self.passed(Phase::Hold, began, format!("{} connections", ramped.open));
            }
            return Ok(());
        };
        watch.held(ramped.open);
        if !args.hold.0.is_zero() {
            let memory = &self.history.memory;
            let summary = figures::hold_summary(ramped.open, memory.last(), memory.first());
            self.passed(Phase::Hold, began, summary);
        }
        Ok(())
    }

    /// Warms up, runs, waits for the last replies, and closes.
    pub(crate) fn load(&mut self, args: &Args, ramped: Snapshot) -> Result<Ran, Failure> {
        let ran = self.once(args, ramped)?;
        self.close(args, ran)
    }

    /// Forgets what was counted, for another run with another rate.
    pub(crate) fn reset(&mut self, rate: f64) -> Result<(), Failure> {
        self.set_rate(rate)?;
        self.crew.order(&[Command::Reset])
    }

    /// Closes all connections; what still comes belongs to the run.
    pub(crate) fn close(&mut self, args: &Args, mut ran: Ran) -> Result<Ran, Failure> {
        let began = sys::now();
        let open = self.crew.ask(false)?.open;
        self.crew.enter(Phase::Close, began)?;
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
        if !args.short {
            let summary = format!("{open} connections");
            self.passed(Phase::Close, began, summary);
        }
        self.live.done();
        Ok(ran)
    }

    /// Warms up, runs, and waits for the last replies.
    pub(crate) fn once(&mut self, args: &Args, ramped: Snapshot) -> Result<Ran, Failure> {
        if !args.warmup.0.is_zero() {
            let began = sys::now();
            self.crew.enter(Phase::Warmup, began)?;
            while sys::now().saturating_since(began) < args.warmup.0 {
                self.look(Phase::Warmup, Goal::Time(began, args.warmup.0))?;
                self.pause_until(began + args.warmup.0);
            }
            self.passed(Phase::Warmup, began, "left out of the figures".to_owned());
        }
        let before = self.crew.ask(true)?;
        self.latencies = Latencies::default();
        let (stolen, busy) = (ProcessorTime::read(), myriapod_machine::busy_time().ok());
        if let Some(watch) = &mut self.watch {
            watch.begin();
        }
        let began = sys::now();
        let begun = Reading::new(began, &before, self.usage().as_ref());
        self.history.begin(begun);
        self.crew.enter(Phase::Run, began)?;
        let until = match args.messages {
            Some(_) => Time::MAX,
            None => began + args.duration.0,
        };
        let goal = match args.messages {
            Some(messages) => Goal::Messages(before.messages.sent + messages.0 as u64),
            None => Goal::Time(began, args.duration.0),
        };
        let mut cut = None;
        loop {
            let snapshot = self.look(Phase::Run, goal)?;
            if snapshot.done {
                let asked = args.messages.map_or(u64::MAX, |messages| messages.0 as u64);
                let sent = snapshot.messages.sent - before.messages.sent;
                if sent < asked || snapshot.stopped.is_some() {
                    cut = Some(figures::why_ended(&snapshot, args));
                }
                break;
            }
            if sys::now() >= until {
                break;
            }
            // What ends with messages is looked at more often, so that nobody waits for nothing.
            if args.messages.is_some() { self.pause(began) } else { self.pause_until(until) }
        }
        let ended = sys::now();
        // What the server used belongs to what was answered until now, not to what is still to come.
        let used = self.usage();
        // Both at once, so that what becomes due later is not sent in between.
        let drain = Command::Enter(Phase::Drain, ended.as_nanos());
        self.crew.order(&[Command::Tell { latencies: true }, drain])?;
        let worked = self.hear()?;
        let stolen = stolen.zip(ProcessorTime::read());
        let stolen = stolen.map(|(before, after)| after.since(&before).stolen_share());
        let busy = busy
            .zip(myriapod_machine::busy_time().ok())
            .map(|(before, now)| now.saturating_sub(before));
        let over = self.since_point();
        if over >= LEAST_POINT {
            self.point(Phase::Run, &worked);
            self.show(&worked, goal, over >= WHOLE_POINT);
        }
        let after = loop {
            let snapshot = self.look(Phase::Drain, Goal::None)?;
            let patience = args.timeout.0 + args.connect_timeout.0 + Duration::from_secs(1);
            if snapshot.done || sys::now().saturating_since(ended) > patience {
                break snapshot;
            }
            self.pause(ended);
        };
        self.ask(true)?;
        if self.since_point() >= LEAST_POINT {
            self.point(Phase::Drain, &after);
        }
        // The last reply may have come after the end, and then the run lasted as long.
        let last = Time::from_nanos(after.last_reply);
        let end = if args.messages.is_some() { last } else { last.max(ended) };
        let seconds = end.saturating_since(began).as_secs_f64();
        let answered = after.messages.ok - before.messages.ok;
        let at_work = ended.saturating_since(began).as_secs_f64();
        let meanwhile = worked.messages.ok - before.messages.ok;
        let server = self.watch.as_ref().zip(used);
        let memory = &self.history.memory;
        let server = server.map(|(watch, used)| watch.figures(&used, at_work, meanwhile, memory));
        let summary = figures::run_summary(&after, answered, seconds);
        self.passed(Phase::Run, began, summary);
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
            cut,
        })
    }

    /// Asks how things stand; with latencies, takes them.
    fn ask(&mut self, latencies: bool) -> Result<Snapshot, Failure> {
        self.crew.order(&[Command::Tell { latencies }])?;
        self.hear()
    }

    fn hear(&mut self) -> Result<Snapshot, Failure> {
        let mut snapshot = self.crew.hear()?;
        if let Some(latencies) = snapshot.latencies.take() {
            self.latencies.add(&latencies);
            self.history.recent.add(&latencies);
        }
        Ok(snapshot)
    }

    /// Asks how things stand, notes what the series wants, and shows it once a second.
    fn look(&mut self, phase: Phase, goal: Goal) -> Result<Snapshot, Failure> {
        let due = self.since_point() >= WHOLE_POINT;
        let snapshot = self.ask(due)?;
        if phase == Phase::Ramp {
            self.remember(snapshot.open);
        }
        if due {
            self.point(phase, &snapshot);
        }
        self.show(&snapshot, goal, due);
        Ok(snapshot)
    }

    fn show(&mut self, snapshot: &Snapshot, goal: Goal, second: bool) {
        let (share, since_start) = (goal.share(snapshot), since(self.history.started));
        if let Some(point) = self.history.series.last() {
            self.live.show(&Now { point, snapshot, share, since_start }, second);
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
        let all = u64::from(self.plan.job.connections) + u64::from(self.plan.job.idle);
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
        self.live.passed(&passed);
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
