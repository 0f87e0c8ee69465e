//! [`Live`]: what is shown while it runs: a bar on a terminal, else a line a second.

use std::io::{self, IsTerminal as _, Write as _};

use super::job::Snapshot;
use super::report::{Phase, Second};
use super::table::{count, duration};

/// Characters of a full bar.
const BAR: u64 = 20;

/// How things stand.
pub(crate) struct Now<'a> {
    /// The latest second.
    pub(crate) point: &'a Second,
    pub(crate) snapshot: &'a Snapshot,
    /// Connections asked for, while they are opened.
    pub(crate) of: u64,
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
    let open = count(now.snapshot.open);
    if now.of > 0 && bar {
        let full = (now.snapshot.open * BAR / now.of).min(BAR);
        let full = usize::try_from(full).unwrap_or(0);
        let rest = usize::try_from(BAR).unwrap_or(0) - full;
        let (done, left) = ("#".repeat(full), ".".repeat(rest));
        return format!("{} [{done}{left}] {open} of {}", point.phase, count(now.of));
    }
    format!(
        "{:>4.0} s  {:<6} {open} open  {:.0}/s  p50 {}  p99 {}  errors {}",
        now.since_start,
        point.phase,
        point.rate,
        latency(point.p50_ns),
        latency(point.p99_ns),
        point.errors,
    )
}

/// Where standard error is closed, nobody wants to know.
fn write(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
