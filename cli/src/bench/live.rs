//! [`Live`]: what is shown while it runs: a bar on a terminal, else a line a second.

use std::io::{self, IsTerminal as _, Write as _};

use super::job::Snapshot;
use super::report::{Phase, Second};
use super::table::{count, duration};

/// Characters of a full bar.
const BAR: usize = 12;

/// How things stand.
pub(crate) struct Now<'a> {
    /// The latest second.
    pub(crate) point: &'a Second,
    pub(crate) snapshot: &'a Snapshot,
    /// How much of the phase is done, from 0 to 1, where that is known.
    pub(crate) share: Option<f64>,
    pub(crate) since_start: f64,
}

/// Shows on standard error how a run goes.
#[derive(Debug)]
pub(crate) struct Live {
    terminal: bool,
    /// A line stands there that the next one replaces.
    shown: bool,
}

impl Live {
    pub(crate) fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), shown: false }
    }

    /// Shows how things stand; `second` says that a second is over.
    pub(crate) fn show(&mut self, now: &Now<'_>, second: bool) {
        if !second {
            return;
        }
        let line = line(now, self.terminal);
        if self.terminal {
            self.shown = true;
            write(&format!("\r\x1b[K{line}"));
        } else {
            write(&format!("{line}\n"));
        }
    }

    /// A phase is over.
    pub(crate) fn passed(&mut self, phase: &Phase) {
        self.done();
        let seconds = phase.seconds;
        write(&format!("{:<6} {seconds:>6.2} s  {}\n", phase.name, phase.summary));
    }

    /// Clears the line that stands there.
    pub(crate) fn done(&mut self) {
        if self.shown {
            write("\r\x1b[K");
            self.shown = false;
        }
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
        count(now.snapshot.open),
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

/// Where standard error is closed, nobody wants to know.
fn write(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
