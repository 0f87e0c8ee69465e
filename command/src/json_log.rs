//! `serve --log json`: standard error for machines, one JSON object a line.
//!
//! Each has `time` (UTC, RFC 3339) and `event`; `connection` where it is about one, `peer` where one
//! opens or is refused, `cause` where it closes or is refused, `counts` in the summary, and `text`
//! where there is more to say.

use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use myriapod::{ConnectionId, LogEvent};
use serde::Serialize;

static IS_ON: AtomicBool = AtomicBool::new(false);

/// From now on, lines are JSON; [`begin_json`](crate::terminal::begin_json) calls it.
pub(crate) fn set_on() {
    IS_ON.store(true, Relaxed);
}

/// Whether they are.
pub fn is_on() -> bool {
    IS_ON.load(Relaxed)
}

/// An object that is being written.
#[derive(Debug)]
pub struct Line(String);

impl Line {
    /// One of this event, with its time.
    #[must_use]
    pub fn new(event: &str) -> Self {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(String::from("{"))
            .with("time", &utc(time.as_secs(), time.subsec_millis()))
            .with("event", event)
    }

    /// One more key. What JSON cannot say is null.
    #[must_use]
    pub fn with<T: Serialize + ?Sized>(mut self, key: &str, value: &T) -> Self {
        let comma = if self.0.len() > 1 { "," } else { "" };
        let value = serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned());
        // Writing to a string cannot fail.
        let _ = write!(self.0, "{comma}\"{key}\":{value}");
        self
    }

    fn about(self, id: ConnectionId) -> Self {
        let id = id.to_string();
        self.with("connection", id.strip_prefix("connection ").unwrap_or(&id))
    }

    fn text(self, text: impl Display) -> Self {
        self.with("text", &text.to_string())
    }

    /// The whole line.
    #[must_use]
    pub fn end(self) -> String {
        self.0 + "}\n"
    }
}

/// What the engine tells.
pub fn event(event: &LogEvent<'_>) -> String {
    let line = match event {
        LogEvent::Opened { id, peer } => {
            Line::new("opened").about(*id).with("peer", &peer.to_string())
        }
        LogEvent::Message { id, content_type, len } => {
            Line::new("message").about(*id).with("content_type", content_type).with("bytes", len)
        }
        LogEvent::Fault { id, fault, text } => {
            Line::new("fault").about(*id).with("fault", fault.name()).text(text)
        }
        LogEvent::HandlerError { id, text } => Line::new("handler_error").about(*id).text(text),
        LogEvent::HandlerPanic { id, callback } => {
            let line = Line::new("handler_panic");
            let line = if let Some(id) = id { line.about(*id) } else { line };
            line.with("callback", callback)
        }
        LogEvent::Closed { id, cause } => {
            Line::new("closed").about(*id).with("cause", cause.name())
        }
        LogEvent::AcceptPaused { errno, open } => {
            Line::new("accept_paused").with("errno", &errno.name()).with("open", open)
        }
        LogEvent::AtLimit { max_connections } => {
            Line::new("at_limit").with("max_connections", max_connections)
        }
        LogEvent::RefusedByAddress { peer, limit } => Line::new("refused")
            .with("peer", &peer.to_string())
            .with("cause", "address")
            .with("limit", limit),
        LogEvent::RefusedByProxy { peer, refusal, .. } => {
            let cause = format!("proxy_{}", refusal.name());
            Line::new("refused").with("peer", &peer.to_string()).with("cause", &cause)
        }
        LogEvent::LimitLowered { .. } => Line::new("limit_lowered").text(event),
        LogEvent::NotListening { host, error } => {
            Line::new("not_listening").with("host", host).text(error)
        }
        LogEvent::Draining { open } => Line::new("stopping").with("open", open),
        LogEvent::HandedOver { connections, process, took } => Line::new("handed_over")
            .with("connections", connections)
            .with("process", process)
            .with("milliseconds", &millis(took)),
        LogEvent::TookOver { connections, process, took } => Line::new("took_over")
            .with("connections", connections)
            .with("process", process)
            .with("milliseconds", &millis(took)),
        LogEvent::NotHandedOver { process, why } => {
            Line::new("not_handed_over").with("process", process).with("why", why)
        }
        LogEvent::Failed { error } => Line::new("failed").text(error),
        other => Line::new("note").text(other),
    };
    line.end()
}

fn millis(time: &Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What has happened so far, as counts of the form `name=1` with spaces between them.
pub fn summary(stats: &impl Display) -> String {
    let shown = stats.to_string();
    let pairs = shown.split(' ').filter_map(|pair| pair.split_once('='));
    let counts: serde_json::Map<String, serde_json::Value> = pairs
        .map(|(name, count)| (name.to_owned(), count.parse().unwrap_or(serde_json::Value::Null)))
        .collect();
    Line::new("summary").with("counts", &counts).end()
}

/// Seconds since 1970 as `2026-01-31T23:59:59.000Z`, by the Gregorian calendar.
fn utc(seconds: u64, millis: u32) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March end with the day that leap years add.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}.{millis:03}Z", second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_time_that_of_the_calendar() {
        for (seconds, shown) in [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (1_709_251_199, "2024-02-29T23:59:59.007Z"),
            (1_709_251_200, "2024-03-01T00:00:00.007Z"),
            (1_767_225_599, "2025-12-31T23:59:59.007Z"),
            (4_107_542_399, "2100-02-28T23:59:59.007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.007Z"),
        ] {
            assert_eq!(utc(seconds, 7), shown);
        }
    }

    #[test]
    fn is_a_line_one_object_whatever_it_says() {
        let line =
            Line::new("note").with("text", "a\n\"b\"\u{1b}\u{85}").with("n", &f64::NAN).end();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&value["event"], &value["n"]), (&"note".into(), &serde_json::Value::Null));
        assert_eq!(value["text"], "a\n\"b\"\u{1b}\u{85}");
        assert_eq!(line.matches('\n').count(), 1);
    }
}
