//! [`Watch`]: what is shown while it runs: a bar on a terminal, else a line a second.

use std::io::{self, IsTerminal as _};

use myriapod_load::report::Phase;
use myriapod_load::{Interruption, Now, Observer, Report};
use myriapod_machine::figures::{duration, grouped};

use super::args::Args;
use super::metrics::Metrics;
use super::stop::Stop;
use crate::failure::Failure;
use crate::live::Watched;
use crate::log_writer::LOG;

/// Characters of a full bar.
const BAR: usize = 12;

/// Shows on standard error how a run goes.
pub(crate) struct Watch {
    stop: Stop,
    terminal: bool,
    /// A line stands there that the next one replaces.
    shown: bool,
    live: Option<Watched>,
    metrics: Option<Metrics>,
}

impl Watch {
    /// # Errors
    ///
    /// A place where nobody can listen.
    pub(crate) fn new(args: &Args, stop: Stop) -> Result<Self, Failure> {
        let title = || std::env::args().skip(1).collect::<Vec<_>>().join(" ");
        let live = args.live.as_ref().map(|place| Watched::start(place, title()));
        let metrics = args.metrics.as_ref().map(Metrics::start);
        Ok(Self {
            stop,
            terminal: io::stderr().is_terminal(),
            shown: false,
            live: live.transpose()?,
            metrics: metrics.transpose()?,
        })
    }

    /// The run is over; those who watch it are told.
    ///
    /// # Errors
    ///
    /// A thread that has failed.
    pub(crate) fn end(self, report: &Report) -> Result<(), Failure> {
        let live = self.live.map(|live| live.end(&report.exit_reason, report.messages.ok));
        let metrics = self.metrics.map(Metrics::end);
        live.into_iter().chain(metrics).collect()
    }

    /// Clears the line that stands there.
    fn clear(&mut self) {
        if self.shown {
            LOG.say("\r\x1b[K".to_owned());
            self.shown = false;
        }
    }
}

impl Observer for Watch {
    fn second(&mut self, now: &Now<'_>) {
        if let Some(metrics) = &self.metrics {
            metrics.second(now);
        }
        if let Some(live) = &self.live {
            live.second(now);
        }
        let line = line(now, self.terminal);
        if self.terminal {
            self.shown = true;
            LOG.say(format!("\r\x1b[K{line}"));
        } else {
            LOG.say(format!("{line}\n"));
        }
    }

    fn passed(&mut self, phase: &Phase) {
        self.clear();
        let seconds = phase.seconds;
        LOG.say(format!("{:<6} {seconds:>6.2} s  {}\n", phase.name, phase.summary));
    }

    fn done(&mut self) {
        self.clear();
    }

    fn interrupted(&mut self) -> Option<Interruption> {
        self.stop.interruption()
    }
}

fn line(now: &Now<'_>, bar: bool) -> String {
    let point = now.point;
    let latency = |ns: Option<u64>| ns.map_or_else(|| "-".to_owned(), duration);
    let begin = match now.share.filter(|_| bar) {
        Some(share) => format!("{:<6} {}", point.phase, filled(share)),
        None => format!("{:>4.0} s  {:<6}", now.since_start, point.phase),
    };
    format!(
        "{begin} {} open  {:.0}/s  p50 {}  p99 {}  errors {}",
        grouped(now.snapshot.open),
        point.rate,
        latency(point.p50_ns),
        latency(point.p99_ns),
        point.errors,
    )
}

/// A bar that is full at 1.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "within its bounds"
)]
fn filled(share: f64) -> String {
    let full = (share * BAR as f64).clamp(0.0, BAR as f64) as usize;
    format!("[{}{}]", "#".repeat(full), ".".repeat(BAR - full))
}
