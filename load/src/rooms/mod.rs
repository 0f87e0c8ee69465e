//! A load of rooms: members say something, and every delivery to every member is checked.
//!
//! Members are spread over the servers in turn, so that each room spans all of them. Before anything
//! is counted, each member has heard somebody of each server: then the servers know of each other.

mod ledger;
mod member;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use hdrhistogram::Histogram;
use myriapod::sys::{self, Time};
use myriapod::{EventLoop, Handle, Limits, Server};
use serde::Serialize;

use self::ledger::Ledger;
use self::member::{Crowd, Ears};
use crate::error::{Error, Result};

/// Members of all rooms together, and pairs of a speaker and a listener that are remembered.
const MOST_MEMBERS: usize = 1 << 20;
const MOST_PAIRS: usize = 1 << 28;

/// Servers that a run may be spread over.
const MOST_SERVERS: usize = 64;

/// Until all are in their rooms and hear each other.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How often somebody of each server says something until then. A member may speak 20 times a second.
const PROBE_EVERY: Duration = Duration::from_millis(250);

/// A load of rooms as somebody asks for it.
#[derive(Clone, Debug, PartialEq)]
pub struct RoomOptions {
    /// The servers' host: a name, an address or `unix:PATH`.
    pub host: String,
    /// Their ports, which members take in turn; one or more, 64 at most.
    pub ports: Vec<u16>,
    /// Rooms; at least 1.
    pub rooms: usize,
    /// Members of each; at least 1.
    pub members: usize,
    /// Messages a second that are said in all rooms together; above 0.
    pub rate: f64,
    /// How long something is said.
    pub duration: Duration,
    /// Bytes of each text; 64 at least.
    pub text: usize,
    /// Without a further delivery for this long after the end, the rest is lost.
    pub timeout: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RoomReport {
    /// Rooms.
    pub rooms: u64,
    /// Members of each.
    pub members: u64,
    /// Messages that were said and taken.
    pub said: u64,
    /// Messages that a server refused, such as by its limit of requests a second.
    pub refused: u64,
    /// Deliveries that are due: one to each member for each message.
    pub expected: u64,
    /// Deliveries that came.
    pub delivered: u64,
    /// Deliveries that the servers say they dropped, because a member read too slowly.
    pub dropped: u64,
    /// Deliveries that neither came nor were told to be dropped.
    pub lost: u64,
    /// Deliveries that came more than once.
    pub duplicated: u64,
    /// Deliveries that came behind a later one of the same speaker.
    pub disordered: u64,
    /// Connections that a server closed before the end.
    pub closed: u64,
    /// From the first message to the last delivery.
    pub seconds: f64,
    /// Deliveries a second in that time.
    pub deliveries_per_second: f64,
    /// From the moment a message was due to its delivery to a member, in nanoseconds.
    pub latency_ns: RoomLatency,
}

/// Quantiles of the time to a delivery, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RoomLatency {
    /// Half of all deliveries took no longer.
    pub p50: u64,
    /// 99 of 100 took no longer.
    pub p99: u64,
    /// 999 of 1,000 took no longer.
    pub p999: u64,
    /// The slowest one.
    pub max: u64,
}

impl RoomReport {
    /// Whether every delivery came once, in order, or was told to be dropped.
    #[must_use]
    pub const fn is_right(&self) -> bool {
        self.lost == 0
            && self.duplicated == 0
            && self.disordered == 0
            && self.closed == 0
            && self.refused == 0
    }
}

impl RoomOptions {
    fn check(&self) -> Result<()> {
        let all =
            self.rooms.checked_mul(self.members).filter(|all| (1..=MOST_MEMBERS).contains(all));
        let Some(all) = all else {
            return Err(Error::usage(format_args!(
                "`rooms` times `members` must be 1 to {MOST_MEMBERS}"
            )));
        };
        if all.saturating_mul(self.members) > MOST_PAIRS {
            let most = MOST_PAIRS;
            let text = format!("`rooms` times `members` squared must be at most {most}");
            return Err(Error::usage(text));
        }
        if self.ports.is_empty() || self.ports.len() > MOST_SERVERS {
            return Err(Error::usage(format_args!("1 to {MOST_SERVERS} ports are needed")));
        }
        if self.members < self.ports.len() {
            return Err(Error::usage("`members` must be as many as there are ports"));
        }
        if !(self.rate > 0.0 && self.rate.is_finite()) {
            return Err(Error::usage("`rate` must be above 0"));
        }
        Ok(())
    }
}

/// Runs a load of rooms; `is_interrupted` ends the speaking early.
///
/// # Errors
///
/// Options that cannot work, a server that cannot be reached or refuses to let members in, and servers
/// that do not share their rooms. What a server loses is no error but in the report.
pub fn measure_rooms(
    options: &RoomOptions,
    mut is_interrupted: impl FnMut() -> bool,
) -> Result<RoomReport> {
    options.check()?;
    let crowd = Rc::new(RefCell::new(Crowd::new(options)?));
    let limits = Limits {
        idle_timeout: Duration::ZERO,
        min_content_rate: 0,
        max_content_len: 64 << 20,
        max_buffer_bytes: 1 << 30,
        ..Limits::default()
    };
    let built = Server::builder().limits(limits).build(Ears(Rc::clone(&crowd)));
    let mut server = built.map_err(|error| Error::new(format_args!("the load: {error}")))?;
    let handle = server.handle();
    let mut run = Run { options, crowd, handle, event_loop: server.event_loop() };
    run.enter()?;
    run.meet()?;
    let began = sys::now();
    run.speak(began, &mut is_interrupted)?;
    let report = run.conclude(began)?;
    Ok(report)
}

struct Run<'a> {
    options: &'a RoomOptions,
    crowd: Rc<RefCell<Crowd>>,
    handle: Handle,
    event_loop: &'a mut EventLoop<Ears>,
}

impl Run<'_> {
    fn turn(&mut self, wait: Duration) -> Result<()> {
        let turned = self.event_loop.run_once(Some(wait));
        turned.map_err(|error| Error::new(format_args!("the load: {error}")))?;
        match self.crowd.borrow_mut().failed.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// All members connect and join.
    fn enter(&mut self) -> Result<()> {
        let mut addresses = Vec::new();
        for port in &self.options.ports {
            let found = sys::resolve(&self.options.host, *port)?;
            addresses.push(
                found.into_iter().next().ok_or_else(|| {
                    Error::new(format_args!("{} has no address", self.options.host))
                })?,
            );
        }
        let all = self.options.rooms * self.options.members;
        let (mut next, start) = (0, sys::now());
        loop {
            let inside = self.crowd.borrow().inside;
            if inside == all {
                return Ok(());
            }
            if sys::now().saturating_since(start) > READY_WITHIN {
                return Err(Error::new(format_args!("{inside} of {all} members could join")));
            }
            // No more on their way than a backlog holds.
            while next < all && next < inside + 100 {
                let member = next % self.options.members;
                let address = addresses.get(member % addresses.len().max(1)).cloned();
                if let Some(address) = address {
                    let asked = self.handle.connect(address, next as u64, READY_WITHIN);
                    asked.map_err(|error| Error::new(format_args!("the load: {error}")))?;
                }
                next += 1;
            }
            self.turn(Duration::from_millis(10))?;
        }
    }

    /// Somebody of each server speaks, until all of a room have heard somebody of each.
    fn meet(&mut self) -> Result<()> {
        let start = sys::now();
        let mut probed: Option<Time> = None;
        while !self.crowd.borrow().all_have_met() {
            let now = sys::now();
            if now.saturating_since(start) > READY_WITHIN {
                let error = Error::new("members of one server do not hear those of another");
                return Err(error.with_next_step("serve --broker URL has servers share rooms"));
            }
            if probed.is_none_or(|at| now.saturating_since(at) >= PROBE_EVERY) {
                probed = Some(now);
                self.crowd.borrow_mut().probe(&self.handle)?;
            }
            self.turn(PROBE_EVERY)?;
        }
        // The answers to what was said, so that they are not taken for later ones.
        while self.crowd.borrow().is_asking() {
            self.turn(Duration::from_millis(10))?;
        }
        Ok(())
    }

    fn speak(&mut self, began: Time, is_interrupted: &mut impl FnMut() -> bool) -> Result<()> {
        let interval = 1e9 / self.options.rate;
        let mut nth = 0_u64;
        loop {
            let now = sys::now();
            if now.saturating_since(began) >= self.options.duration || is_interrupted() {
                return Ok(());
            }
            #[expect(clippy::cast_precision_loss, reason = "messages of a run, below 2^53")]
            let offset = nth as f64 * interval;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive")]
            let due = Time::from_nanos(began.as_nanos() + offset as u64);
            if due > now {
                let wait = due.saturating_since(now).min(Duration::from_millis(100));
                self.turn(wait)?;
            } else {
                self.crowd.borrow_mut().say(&self.handle, nth, due)?;
                nth += 1;
                if nth.is_multiple_of(64) {
                    // One that is late hears what comes meanwhile.
                    self.turn(Duration::ZERO)?;
                }
            }
        }
    }

    /// Waits for what is on its way, and counts.
    fn conclude(&mut self, began: Time) -> Result<RoomReport> {
        let mut last = sys::now();
        let mut seen = 0;
        loop {
            let (accounted, is_done) = {
                let crowd = self.crowd.borrow();
                (crowd.accounted(), crowd.is_done())
            };
            let now = sys::now();
            if accounted != seen {
                (seen, last) = (accounted, now);
            }
            if is_done || now.saturating_since(last) >= self.options.timeout {
                break;
            }
            self.turn(Duration::from_millis(10))?;
        }
        let crowd = self.crowd.borrow();
        let Ledger { delivered, duplicated, disordered, .. } = crowd.ledger;
        let expected = crowd.said * self.options.members as u64;
        let seconds = crowd.last_heard.saturating_since(began).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a ratio")]
        let per_second = if seconds > 0.0 { delivered as f64 / seconds } else { 0.0 };
        Ok(RoomReport {
            rooms: self.options.rooms as u64,
            members: self.options.members as u64,
            said: crowd.said,
            refused: crowd.refused,
            expected,
            delivered,
            dropped: crowd.dropped,
            lost: expected.saturating_sub(delivered + crowd.dropped),
            duplicated,
            disordered,
            closed: crowd.closed,
            seconds,
            deliveries_per_second: per_second,
            latency_ns: quantiles(&crowd.latency),
        })
    }
}

fn quantiles(histogram: &Histogram<u64>) -> RoomLatency {
    let at = |quantile| histogram.value_at_quantile(quantile);
    RoomLatency { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: histogram.max() }
}
