//! Runs that never were, and what is made of them.

use std::time::Duration;

use clap::Parser as _;
use myriapod::sys::Time;

use super::*;
use crate::bench::job::{Latencies as Histograms, Snapshot};

#[derive(Debug, clap::Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

/// Ten seconds in which all is well: 100,000 messages on 50 connections, answered in 1 ms each.
fn good() -> Ran {
    let mut latencies = Histograms::default();
    latencies.service.saturating_record_n(1_000_000, 100_000);
    latencies.response.saturating_record_n(1_000_000, 100_000);
    let before = Snapshot { open: 50, established: 50, opened: 50, ..Snapshot::default() };
    let mut closed = before.clone();
    closed.messages.sent = 100_000;
    closed.messages.ok = 100_000;
    Ran {
        seconds: 10.0,
        at_work: 10.0,
        latencies,
        ramped: before.clone(),
        before,
        worked: closed.clone(),
        after: closed.clone(),
        closed,
        server: None,
        stolen: Some(0.0),
        busy: Some(Duration::ZERO),
        clock_step: 30,
        time_wait: None,
        cut: None,
    }
}

/// What is reported of a run that was asked for with these words.
fn reported(words: &str, ran: &Ran) -> Report {
    let args = Line::parse_from(["bench"].into_iter().chain(words.split_whitespace())).args;
    let plan = args.plan().unwrap();
    report(&args, &plan, &History::new(Time::from_nanos(0), 1), ran, Vec::new())
}

#[test]
fn is_a_good_run_without_fault() {
    let report = reported("", &good());
    assert_eq!((report.exit_status, report.exit_reason.as_str()), (0, "completed"));
    assert_eq!(report.warnings, Vec::<String>::new());
    assert_eq!((report.rate.offered, report.rate.achieved), (10_000.0, 10_000.0));
    assert_eq!(report.latency_ns.response.count, 100_000);
}

#[test]
fn is_nothing_offered_while_the_last_replies_are_awaited() {
    // Of 120,000 that were due in 10 s, the last reply came after 2 s more.
    let mut ran = good();
    ran.seconds = 12.0;
    ran.closed.due = 120_000;
    let report = reported("--rate 12k", &ran);
    assert_eq!(report.rate.offered, 12_000.0);
    assert!((report.rate.achieved - 100_000.0 / 12.0).abs() < 0.01);
    // A run that messages end is over with the last reply, though that is noticed later.
    let mut ran = good();
    ran.at_work = 10.05;
    assert_eq!(reported("-m 100000", &ran).rate.offered, 10_000.0);
}
