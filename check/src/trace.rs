//! [`Trace`]: what the peers of one rung did and saw, and when.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use myriapod::sys::{self, Time};

/// More lines say nothing to a reader; the rest is counted.
const MAX_LINES: usize = 48;

/// Calls so close to each other are one line.
const ONE_LINE: Duration = Duration::from_millis(20);

/// A time line. Peers in several threads share it.
#[derive(Debug)]
pub(super) struct Trace {
    start: Time,
    lines: Mutex<Lines>,
    /// Whether a peer saw the server end a connection, or refuse one.
    ended: AtomicBool,
}

#[derive(Debug, Default)]
struct Lines {
    kept: Vec<Line>,
    left_out: u64,
}

#[derive(Debug)]
struct Line {
    at: Duration,
    until: Duration,
    who: &'static str,
    what: What,
}

#[derive(Debug)]
enum What {
    Sent { bytes: usize, calls: u32 },
    Received { bytes: usize, calls: u32 },
    Said(String),
}

impl Trace {
    pub(super) fn start() -> Self {
        Self { start: sys::now(), lines: Mutex::default(), ended: AtomicBool::new(false) }
    }

    pub(super) fn say(&self, who: &'static str, text: impl Into<String>) {
        self.add(who, What::Said(text.into()));
    }

    /// A connection ended, and not by us.
    pub(super) fn end(&self, who: &'static str, text: impl Into<String>) {
        self.ended.store(true, Ordering::Relaxed);
        self.say(who, text);
    }

    pub(super) fn saw_an_end(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    pub(super) fn sent(&self, who: &'static str, bytes: usize) {
        self.add(who, What::Sent { bytes, calls: 1 });
    }

    pub(super) fn received(&self, who: &'static str, bytes: usize) {
        self.add(who, What::Received { bytes, calls: 1 });
    }

    fn add(&self, who: &'static str, what: What) {
        let at = sys::now().saturating_since(self.start);
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let close = |last: &&mut Line| last.who == who && at.saturating_sub(last.until) < ONE_LINE;
        if let Some(last) = lines.kept.last_mut().filter(close)
            && let (What::Sent { bytes, calls }, What::Sent { bytes: more, .. })
            | (What::Received { bytes, calls }, What::Received { bytes: more, .. }) =
                (&mut last.what, &what)
        {
            *bytes += *more;
            *calls = calls.saturating_add(1);
            last.until = at;
            return;
        }
        if lines.kept.len() < MAX_LINES {
            lines.kept.push(Line { at, until: at, who, what });
        } else {
            lines.left_out += 1;
        }
    }

    /// One line for each moment: `0.020  A  -> RST`.
    pub(super) fn lines(&self) -> Vec<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut shown: Vec<String> = lines.kept.iter().map(shown).collect();
        if lines.left_out > 0 {
            shown.push(format!("… and {} more", lines.left_out));
        }
        shown
    }
}

fn shown(line: &Line) -> String {
    let mut text = format!("{:8.3}  {:<7} ", line.at.as_secs_f64(), line.who);
    let (arrow, bytes, calls) = match &line.what {
        What::Said(said) => {
            text.push_str(said);
            return text;
        }
        What::Sent { bytes, calls } => ("->", bytes, calls),
        What::Received { bytes, calls } => ("<-", bytes, calls),
    };
    let _ = write!(text, "{arrow} {}", super::words::bytes(*bytes as u64));
    if *calls > 1 {
        let _ = write!(text, " in {calls} pieces, until {:.3}", line.until.as_secs_f64());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_burst_of_small_sends_one_line() {
        let trace = Trace::start();
        trace.say("A", "connect");
        for _ in 0..75 {
            trace.sent("A", 1);
        }
        trace.received("A", 12);
        let lines = trace.lines();
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[1].contains("A       -> 75 bytes in 75 pieces"), "{lines:?}");
        assert!(lines[2].ends_with("<- 12 bytes"), "{lines:?}");
    }

    #[test]
    fn is_a_long_trace_cut_and_counted() {
        let trace = Trace::start();
        for _ in 0..MAX_LINES + 5 {
            trace.say("A", "connect");
        }
        assert_eq!(trace.lines().len(), MAX_LINES + 1);
        assert_eq!(trace.lines()[MAX_LINES], "… and 5 more");
    }
}
