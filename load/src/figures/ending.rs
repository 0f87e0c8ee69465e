//! How a run ended: its exit status, and the reason in words.

use crate::options::Plan;
use crate::ran::Ran;
use crate::report::{Connections, Messages, Report};
use crate::snapshot::Snapshot;
use myriapod_machine::figures::grouped;

/// The exit status where something was wrong.
const FAILED: u8 = 1;

/// The exit status where a threshold was missed.
const MISSED: u8 = 3;

pub(super) fn exit_status(plan: &Plan, report: &Report, ran: &Ran) -> u8 {
    if let Some(interruption) = ran.interrupted {
        return interruption.status;
    }
    let Messages { ok, lost, wrong, late, duplicate, .. } = report.messages;
    if lost + wrong + late + duplicate > 0 || is_incomplete(report) || ok == 0 {
        FAILED
    } else if report.thresholds.iter().any(|threshold| !threshold.met)
        || found_nothing(plan, report)
    {
        MISSED
    } else {
        0
    }
}

/// No rate of a search kept the limit, or the server did not keep up with it.
fn found_nothing(plan: &Plan, report: &Report) -> bool {
    plan.options.find_rate && !report.find_rate.iter().any(|tried| tried.met)
}

/// Whether connections are missing. Short ones are opened as they are needed, so what matters is
/// that none of them failed, not how many there were at once.
fn is_incomplete(report: &Report) -> bool {
    let Connections { requested, established, failed, lost, .. } = report.connections;
    let missing = if report.settings.short { failed > 0 } else { established < requested };
    missing || lost > 0 || unserved(report) > 0
}

/// Connections that had no answer in some storm.
fn unserved(report: &Report) -> u64 {
    report.storms.iter().map(|storm| storm.connections - storm.served).sum()
}

/// Why a run ended that had time left.
pub(crate) fn why_ended(snapshot: &Snapshot, short: bool) -> String {
    if let Some(stopped) = &snapshot.stopped {
        return format!("no more connections: {stopped}");
    }
    if snapshot.lost > 0 && !short {
        return "every connection was closed by the server".to_owned();
    }
    "there was no connection left".to_owned()
}

pub(super) fn exit_reason(plan: &Plan, report: &Report, ran: &Ran) -> String {
    let advised = |reason: &str| {
        let worst = report.errors.iter().max_by_key(|error| error.count);
        match worst.and_then(|error| error.next_step.as_ref()) {
            Some(next_step) => format!("{reason}; {next_step}"),
            None => reason.to_owned(),
        }
    };
    if ran.interrupted.is_some() {
        return match bad_replies(report) {
            Some(bad) => format!("interrupted; {bad}"),
            None => "interrupted".to_owned(),
        };
    }
    if let Some(stranger) = &ran.closed.stranger {
        let service = &report.settings.service;
        let step = if stranger.ends_with("speaks TLS") {
            "is it the right port? --tls speaks it too"
        } else {
            "is it the right port? --service says what is asked"
        };
        return format!("{stranger}, and {service} was asked for: {step}");
    }
    let ended_after_one = ran.closed.ended_after_one;
    if ended_after_one > 0 && ended_after_one == report.connections.lost {
        return "the server closes each connection after one reply; --short measures such servers"
            .to_owned();
    }
    let Connections { requested, established, failed, lost, opened, .. } = report.connections;
    if let Some(cut) = ran.cut.as_ref().filter(|_| established > 0) {
        return advised(cut);
    }
    if report.settings.short && failed > 0 {
        let tried = grouped(failed + opened);
        return advised(&format!("{} of {tried} attempts to connect failed", grouped(failed)));
    }
    if !report.settings.short && established < requested {
        let why = match &ran.ramped.stopped {
            Some(stopped) => format!(": {stopped}"),
            None => String::new(),
        };
        let short_of = format!("{established} of {requested} connections were established{why}");
        return advised(&short_of);
    }
    if lost > 0 {
        return advised(&format!("{lost} connections ended before bench closed them"));
    }
    if let Some(bad) = bad_replies(report) {
        return bad;
    }
    if unserved(report) > 0 {
        let missing = grouped(unserved(report));
        return advised(&format!("{missing} connections were not served again after a storm"));
    }
    if report.messages.ok == 0 {
        return "nothing was answered".to_owned();
    }
    if found_nothing(plan, report) {
        return "threshold missed: no rate was found that keeps it".to_owned();
    }
    match report.thresholds.iter().find(|threshold| !threshold.met) {
        Some(missed) => format!("threshold missed: {}", missed.name),
        None => "completed".to_owned(),
    }
}

/// The bad replies by their kinds, where there are any.
fn bad_replies(report: &Report) -> Option<String> {
    let Messages { lost, wrong, late, duplicate, .. } = report.messages;
    let faults = [("lost", lost), ("wrong", wrong), ("late", late), ("duplicated", duplicate)];
    let faults: Vec<String> = faults
        .iter()
        .filter(|(_, number)| *number > 0)
        .map(|(name, number)| format!("{} {name}", grouped(*number)))
        .collect();
    (!faults.is_empty()).then(|| format!("bad replies: {}", faults.join(", ")))
}
