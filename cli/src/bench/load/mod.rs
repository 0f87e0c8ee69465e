//! [`Loader`]: one thread's share of the load. One poller, many connections, and little to do for
//! each message.

mod end;
mod exchange;
mod open;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::Duration;

use myriapod::sys::{self, Events, Poller, Socket, SocketAddr, Token, Waker};

use super::connection::{Asked, Queue};
use super::job::{Command, Job, Latencies, Phase, Snapshot};
use super::message::Messages;
use super::schedule::Schedule;

const WAKER: Token = Token(u64::MAX);

/// Connections under way at once.
const MOST_CONNECTING: usize = 4096;

/// Those of them that were begun lately: a backlog is not to be flooded.
const MOST_FRESH: usize = 256;

/// An attempt that takes so long has met a full backlog, or a long way. The kernel tries again, but
/// only after a second; meanwhile others are begun, after a pause in which the server may catch up.
const FRESH: u64 = 20_000_000;
const CATCH_UP: u64 = 5_000_000;

/// Attempts within one turn, and messages in an open loop, before replies have theirs.
const BATCH: usize = 64;

/// After so many failures with no success between, no more connections are tried.
const MOST_FAILURES: u32 = 100;

/// How long a server that has answered a short connection may take to close it, before we do.
const CLOSING_GRACE: u64 = 100_000_000;

/// How long closing waits for servers to close too.
const CLOSE_TIMEOUT: u64 = 1_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Vacant,
    Connecting,
    Open,
    /// Answered, and waiting to see who closes.
    Answered,
    /// Our side is shut down.
    Closing,
}

/// One connection's place.
#[derive(Debug)]
struct Slot {
    socket: Option<Socket>,
    state: State,
    /// It has been connected at least once.
    counted: bool,
    /// It waits to be writable.
    writing: bool,
    /// When its present state began, in nanoseconds of the clock.
    since: u64,
    /// When the request was due for which it was opened.
    due: u64,
    answered: u32,
    queue: Queue,
    /// The start of a reply.
    partial: Vec<u8>,
    /// What the socket has not taken.
    rest: Vec<u8>,
}

impl Slot {
    const fn new(queue: Queue) -> Self {
        Self {
            socket: None,
            state: State::Vacant,
            counted: false,
            writing: false,
            since: 0,
            due: 0,
            answered: 0,
            queue,
            partial: Vec::new(),
            rest: Vec::new(),
        }
    }
}

/// A thread's share of the load.
pub(crate) struct Loader {
    job: Job,
    targets: Vec<SocketAddr>,
    sources: Vec<SocketAddr>,
    timeout: u64,
    poller: Poller,
    waker: Arc<Waker>,
    commands: Receiver<Command>,
    told: Sender<Snapshot>,
    messages: Messages,
    slots: Vec<Slot>,
    /// A place for a message each: the slots in the order in which they became free.
    free: VecDeque<u32>,
    phase: Phase,
    /// Slots below this one have been tried.
    ramped: usize,
    pace: Option<Schedule>,
    connecting: usize,
    /// Attempts that may be fresh, with the time when each began.
    fresh: VecDeque<(u32, u64)>,
    /// No attempt is made before this time.
    ramp_after: u64,
    failures: u32,
    schedule: Option<Schedule>,
    rate: Option<f64>,
    /// Moments of an open loop that came, and whose short connection could not be made.
    retries: VecDeque<u64>,
    /// None of them is tried again before this time.
    retry_after: u64,
    /// Messages that may still be sent.
    budget: u64,
    waiting: usize,
    /// Open connections that are not idle ones.
    at_work: usize,
    /// Short connections that are not vacant.
    busy: usize,
    /// Whether the server closes short connections itself, once that is known.
    server_closes: Option<bool>,
    state: Snapshot,
    errors: BTreeMap<(Phase, &'static str, String), u64>,
    latencies: Latencies,
    received: Vec<u8>,
    scratch: Vec<u8>,
    abandoned: Vec<Asked>,
    scanned: u64,
    ended: bool,
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
        mut poller: Poller,
        commands: Receiver<Command>,
        told: Sender<Snapshot>,
    ) -> sys::Result<Self> {
        let waker = Arc::new(Waker::new(&mut poller, WAKER)?);
        let first = |host: &str, port| {
            let addresses = sys::resolve(host, port)?;
            addresses.into_iter().next().ok_or_else(|| sys::SystemError::InvalidAddress {
                given: host.into(),
                reason: "no address",
            })
        };
        let targets = job.targets.iter().map(|(host, port)| first(host, *port));
        let sources = job.sources.iter().map(|source| first(source, 0));
        let (targets, sources) =
            (targets.collect::<Result<_, _>>()?, sources.collect::<Result<_, _>>()?);
        let messages = Messages::new(job.service, &job.content).map_err(|why| {
            sys::SystemError::InvalidAddress {
                given: why.into(),
                reason: "no content for this service",
            }
        })?;
        let count = job.connections as usize + job.idle as usize;
        let buffer = messages.request_len().saturating_mul(2).clamp(64 << 10, 4 << 20);
        Ok(Self {
            targets,
            sources,
            timeout: nanos(job.timeout),
            poller,
            waker,
            commands,
            told,
            messages,
            slots: (0..count).map(|_| Slot::new(Queue::default())).collect(),
            free: VecDeque::new(),
            phase: Phase::Still,
            ramped: 0,
            pace: None,
            connecting: 0,
            fresh: VecDeque::new(),
            ramp_after: 0,
            failures: 0,
            schedule: None,
            rate: job.rate,
            retries: VecDeque::new(),
            retry_after: 0,
            budget: job.messages.unwrap_or(u64::MAX),
            waiting: 0,
            at_work: 0,
            busy: 0,
            server_closes: None,
            state: Snapshot::default(),
            errors: BTreeMap::new(),
            latencies: Latencies::default(),
            received: vec![0; buffer],
            scratch: Vec::new(),
            abandoned: Vec::new(),
            scanned: 0,
            ended: false,
            job,
        })
    }

    /// What wakes this thread for its commands.
    pub(crate) fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
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
        while !self.ended {
            events.clear();
            self.poller.wait(&mut events, self.patience())?;
            for event in &events {
                if event.token() == WAKER {
                    self.waker.reset();
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
        if self.phase == Phase::Ramp && self.ramping() && self.connecting < MOST_CONNECTING {
            let due = self.pace.as_ref().map_or(0, Schedule::next).max(self.ramp_after);
            let crowded = self.fresh.len() >= MOST_FRESH;
            let aged = self.fresh.front().map_or(0, |(_, began)| began + FRESH);
            next = next.min(if crowded { aged } else { due });
        }
        let crowded = self.job.short && self.connecting >= MOST_FRESH;
        if self.sending() && !self.free.is_empty() && !crowded {
            let due = self.schedule.as_ref().map_or(0, Schedule::next);
            let again = if self.retries.is_empty() { u64::MAX } else { self.retry_after };
            next = next.min(due).min(again);
        }
        Some(Duration::from_nanos(next.saturating_sub(now)))
    }

    fn scan_interval(&self) -> u64 {
        // A grace is not to be longer than it is.
        let probing = self.phase == Phase::Ramp && self.busy > 0;
        let longest = if probing { CLOSING_GRACE / 10 } else { 250_000_000 };
        (self.timeout / 8).clamp(5_000_000, longest)
    }

    fn obey(&mut self) {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Enter(phase, began)) => self.enter(phase, began),
                Ok(Command::Rate(all)) => {
                    let share = f64::from(self.job.connections) / f64::from(self.job.all.max(1));
                    self.rate = Some(all * share);
                }
                Ok(Command::Tell { latencies }) => self.tell(latencies),
                Ok(Command::Reset) => self.reset(),
                Ok(Command::End) | Err(TryRecvError::Disconnected) => {
                    self.ended = true;
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
        match phase {
            Phase::Ramp => {
                self.pace =
                    self.job.ramp.map(|ramp| Schedule::new(began, ramp, false, self.seed()));
                if self.job.short {
                    self.ramped = self.slots.len();
                    self.free = (0..self.job.connections).collect();
                    self.probe();
                }
            }
            Phase::Warmup | Phase::Run if self.job.short && before == Phase::Ramp => {
                // The probe was none of them.
                self.state.opened = 0;
                self.state.closed_first_by_server = 0;
                self.state.closed_first_by_client = 0;
                self.state.reset = 0;
                self.begin(began);
            }
            Phase::Warmup | Phase::Run if !matches!(before, Phase::Warmup) => self.begin(began),
            Phase::Drain => self.count_unsent(began),
            Phase::Close => self.close_all(clock()),
            _ => {}
        }
    }

    /// From then on messages are due.
    fn begin(&mut self, began: u64) {
        self.schedule =
            self.rate.map(|rate| Schedule::new(began, rate, self.job.poisson, self.seed()));
    }

    const fn seed(&self) -> u64 {
        self.job.first as u64
    }

    fn reset(&mut self) {
        let Snapshot { open, established, established_idle, opened, failed, lost, stopped, .. } =
            std::mem::take(&mut self.state);
        self.state = Snapshot {
            open,
            established,
            established_idle,
            opened,
            failed,
            lost,
            stopped,
            ..Snapshot::default()
        };
        self.latencies = Latencies::default();
        self.budget = self.job.messages.unwrap_or(u64::MAX);
    }

    fn tell(&mut self, latencies: bool) {
        let errors = self.errors.iter();
        let errors = errors.map(|((phase, call, errno), count)| {
            (*phase, (*call).to_owned(), errno.clone(), *count)
        });
        let wrong = self.messages.first_wrong.as_deref();
        let snapshot = Snapshot {
            done: self.is_done(),
            errors: errors.collect(),
            first_wrong: wrong.map(|bytes| bytes.escape_ascii().to_string()),
            cpu: vec![nanos(myriapod_machine::thread_cpu_time())],
            latencies: latencies.then(|| std::mem::take(&mut self.latencies)),
            ..self.state.clone()
        };
        // Whoever has left does not want to know.
        let _ = self.told.send(snapshot);
    }

    fn is_done(&self) -> bool {
        match self.phase {
            Phase::Still | Phase::Hold => true,
            Phase::Ramp => !self.ramping() && self.connecting == 0 && self.busy == 0,
            Phase::Warmup => false,
            Phase::Run => {
                let nobody =
                    if self.job.short { self.state.stopped.is_some() } else { self.at_work == 0 };
                (self.budget == 0 || nobody) && self.waiting == 0 && self.busy == 0
            }
            Phase::Drain => self.waiting == 0 && self.busy == 0,
            Phase::Close => self.state.open == 0 && self.connecting == 0,
        }
    }

    /// What has to be done though nothing came.
    fn step(&mut self) {
        if self.phase == Phase::Ramp && self.ramping() {
            self.ramp();
        }
        if self.sending() {
            self.send_due(u64::MAX);
        }
        let now = clock();
        if now.saturating_sub(self.scanned) >= self.scan_interval() {
            self.scanned = now;
            self.scan(now);
        }
    }

    fn error(&mut self, call: &'static str, errno: String) {
        *self.errors.entry((self.named_phase(), call, errno)).or_default() += 1;
    }

    /// What comes in while replies are awaited belongs to the run.
    const fn named_phase(&self) -> Phase {
        match self.phase {
            Phase::Drain => Phase::Run,
            phase => phase,
        }
    }

    fn handle(&mut self, slot: usize, writable: bool, readable: bool) {
        let Some(place) = self.slots.get(slot) else { return };
        match place.state {
            State::Vacant => {}
            State::Connecting => self.connect_ended(slot),
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
    use crate::bench::figures::tests::args;

    #[test]
    fn is_as_much_due_as_a_run_took_however_late_its_begin_and_end_were_heard_of() {
        let path = std::env::temp_dir().join(format!("myriapod-loader-{}", std::process::id()));
        let _listener = UnixListener::bind(&path).unwrap();
        for words in ["-c 1000 --short", "-c 1000"] {
            let host = format!("unix:{}", path.display());
            let job = args(&format!("{host} -s raw -r 1000 {words}")).plan().unwrap().job;
            let (_order, commands) = mpsc::channel();
            let (tell, _told) = mpsc::channel();
            let poller = Poller::new(Backend::native()).unwrap();
            let mut loader = Loader::new(job, poller, commands, tell).unwrap();
            loader.phase = Phase::Ramp;
            // Only short connections are made when they are needed; the others are not there.
            loader.free = (0..1000).collect();
            let second = 1_000_000_000;
            let began = clock() - 10 * second;
            loader.enter(Phase::Run, began);
            loader.enter(Phase::Drain, began + second / 2);
            let messages = &loader.state.messages;
            assert_eq!(messages.sent + messages.unsent, 500, "{words}: {messages:?}");
            assert_eq!(loader.state.due, 500, "{words}");
        }
        std::fs::remove_file(path).unwrap();
    }
}
