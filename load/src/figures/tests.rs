//! Runs that never were, and what is made of them.

use std::time::Duration;

use myriapod::sys::Time;

use super::*;
use crate::history::Reading;
use crate::job::Phase;
use crate::options::Options;
use crate::snapshot::{Latencies as Histograms, Snapshot};

/// Ten seconds in which all is well: 100,000 messages on 50 connections, answered in 1 ms each.
pub(crate) fn good() -> Ran {
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
        storms: Vec::new(),
        cut: None,
        interrupted: None,
    }
}

/// What is planned with these options.
fn plan(words: &str) -> Plan {
    let mut options = Options::default();
    let mut words = words.split_whitespace();
    while let Some(word) = words.next() {
        let mut number = || words.next().unwrap().parse::<u32>().unwrap();
        match word {
            "rate" => options.rate = Some(number().into()),
            "messages" => options.messages = Some(number().into()),
            "min_rate" => options.min_rate = Some(number().into()),
            "max_p99" => options.max_p99 = Some(number().into()),
            "short" => options.short = true,
            "find_rate" => options.find_rate = true,
            other => panic!("{other}"),
        }
    }
    options.plan().unwrap()
}

/// What is reported of a run with these options.
fn reported(words: &str, ran: &Ran) -> Report {
    report(&plan(words), &History::new(Time::from_nanos(0), 1), ran, Vec::new())
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
    let report = reported("rate 12000", &ran);
    assert_eq!(report.rate.offered, 12_000.0);
    assert!((report.rate.achieved - 100_000.0 / 12.0).abs() < 0.01);
    // A run that messages end is over with the last reply, though that is noticed later.
    let mut ran = good();
    ran.at_work = 10.05;
    assert_eq!(reported("messages 100000", &ran).rate.offered, 10_000.0);
}

/// The exit status and reason of `good` after a change to its end.
fn ended(words: &str, change: impl Fn(&mut Snapshot)) -> (u8, String) {
    let mut ran = good();
    change(&mut ran.closed);
    let report = reported(words, &ran);
    (report.exit_status, report.exit_reason)
}

#[test]
fn is_a_short_run_judged_by_the_attempts_that_failed() {
    let tried = |used: u64, opened: u64, failed: u64| {
        ended("short messages 10", |closed| {
            (closed.established, closed.opened, closed.failed) = (used, opened, failed);
        })
    };
    // Fewer messages than places leave some of them empty.
    assert_eq!(tried(10, 10, 0), (0, "completed".to_owned()));
    assert_eq!(tried(50, 997, 0), (0, "completed".to_owned()));
    assert_eq!(tried(50, 997, 3), (1, "3 of 1,000 attempts to connect failed".to_owned()));
    assert_eq!(tried(0, 0, 7), (1, "7 of 7 attempts to connect failed".to_owned()));
}

#[test]
fn is_every_fault_in_the_status_and_the_reason() {
    type Change = fn(&mut Snapshot);
    let faults: [(Change, &str); 6] = [
        (|closed| closed.messages.lost = 1, "bad replies: 1 lost"),
        (|closed| closed.messages.wrong = 2, "bad replies: 2 wrong"),
        (|closed| closed.messages.late = 3, "bad replies: 3 late"),
        (|closed| closed.messages.duplicate = 4, "bad replies: 4 duplicated"),
        (|closed| closed.lost = 5, "5 connections ended before bench closed them"),
        (|closed| closed.messages.ok = 0, "nothing was answered"),
    ];
    for (change, reason) in faults {
        assert_eq!(ended("", change), (1, reason.to_owned()));
        // A threshold that is missed too does not hide it.
        assert_eq!(ended("min_rate 1000000", change), (1, reason.to_owned()));
    }
    let mut ran = good();
    ran.ramped.established = 49;
    ran.ramped.stopped = Some("connect: EMFILE".to_owned());
    let report = reported("", &ran);
    assert_eq!(report.exit_status, 1);
    assert_eq!(report.exit_reason, "49 of 50 connections were established: connect: EMFILE");
    let slow = reported("min_rate 10001", &good());
    assert_eq!((slow.exit_status, slow.exit_reason.as_str()), (3, "threshold missed: min_rate"));
    assert_eq!(reported("min_rate 10000 max_p99 1100000", &good()).exit_status, 0);
}

#[test]
fn are_the_faults_of_the_warm_up_not_hidden() {
    let mut ran = good();
    // Two of its messages were wrong; of the run's, three were late.
    ran.before.messages = Messages { sent: 2, wrong: 2, ..Messages::default() };
    ran.closed.messages =
        Messages { sent: 1005, ok: 1000, wrong: 2, late: 3, ..Messages::default() };
    let report = reported("", &ran);
    assert_eq!(report.messages.sent, 1005);
    assert_eq!(report.exit_reason, "bad replies: 2 wrong, 3 late");
}

/// Those of the warnings that say this.
fn warned(report: &Report, text: &str) -> usize {
    report.warnings.iter().filter(|warning| warning.contains(text)).count()
}

#[test]
fn is_what_waited_before_it_was_sent_blamed_on_who_was_late() {
    // 2 % of the messages waited so long; bench was so late at worst.
    let run = |words: &str, wait: u64, late: u64| {
        let mut ran = good();
        ran.latencies.service.clear();
        ran.latencies.response.clear();
        ran.latencies.service.saturating_record_n(100_000, 1000);
        ran.latencies.response.saturating_record_n(100_000, 980);
        ran.latencies.response.saturating_record_n(100_000 + wait, 20);
        ran.latencies.delay.saturating_record_n(1000, 999);
        ran.latencies.delay.saturating_record(late);
        reported(words, &ran)
    };
    let waited = |wait, late| run("rate 10000", wait, late);
    // Short connections are late for more reasons than the server's.
    let short = run("rate 10000 short", 200_000_000, 1000);
    assert_eq!(
        (warned(&short, "the server stalled"), warned(&short, "connecting is part")),
        (0, 1)
    );
    // (the wait, bench's own delay, a warning about the server, one about bench)
    let table = [
        (0, 1000, 0, 0),
        (900_000, 1000, 0, 0),
        (200_000_000, 1000, 1, 0),
        (200_000_000, 50_000_000, 1, 0),
        (200_000_000, 199_000_000, 0, 1),
    ];
    for (wait, late, server, bench) in table {
        let report = waited(wait, late);
        let found = (warned(&report, "the server stalled"), warned(&report, "bench itself was up"));
        assert_eq!(found, (server, bench), "{wait} {late} {:?}", report.warnings);
    }
    // What bench's lateness may have done to many does not cover what the server did to few.
    let mut ran = good();
    ran.latencies.service.clear();
    ran.latencies.response.clear();
    ran.latencies.service.saturating_record_n(100_000, 1000);
    ran.latencies.response.saturating_record_n(2_200_000, 985);
    ran.latencies.response.saturating_record_n(95_000_000, 15);
    ran.latencies.delay.saturating_record(11_000_000);
    let report = reported("rate 10000", &ran);
    assert_eq!(warned(&report, "the server stalled or fell behind: 1 %"), 1, "{report:?}");
}

#[test]
fn do_no_two_warnings_say_that_each_of_two_was_late() {
    // Bench was 0.4 ms late with 2 % of the messages, and the server stalled for 50 ms.
    let mut ran = good();
    ran.latencies.service.clear();
    ran.latencies.response.clear();
    ran.latencies.service.saturating_record_n(100_000, 20_000);
    ran.latencies.response.saturating_record_n(1_000_000, 19_900);
    ran.latencies.response.saturating_record_n(50_000_000, 100);
    ran.latencies.delay.saturating_record_n(1000, 980);
    ran.latencies.delay.saturating_record_n(400_000, 20);
    let report = reported("rate 10000", &ran);
    assert_eq!(warned(&report, "the server stalled or fell behind"), 1, "{:?}", report.warnings);
    assert_eq!(warned(&report, "bench itself"), 0, "{:?}", report.warnings);
    // Bench was 60 ms late: what could not be sent says nothing about the server then.
    ran.latencies.delay.saturating_record(60_000_000);
    ran.closed.messages.unsent = 7;
    let report = reported("rate 10000", &ran);
    assert_eq!(warned(&report, "says nothing about the server"), 1, "{:?}", report.warnings);
    assert_eq!(warned(&report, "the server did not keep up"), 0, "{:?}", report.warnings);
    assert_eq!(warned(&report, "7 messages were due and never sent"), 1, "{:?}", report.warnings);
}

#[test]
fn is_an_interrupted_run_called_that() {
    let mut ran = good();
    ran.interrupted = Some(crate::observer::Interruption { status: 143 });
    ran.ramped.established = 3;
    let report = reported("min_rate 1000000", &ran);
    assert_eq!((report.exit_status, report.exit_reason.as_str()), (143, "interrupted"));
    ran.closed.messages.wrong = 2;
    assert_eq!(reported("", &ran).exit_reason, "interrupted; bad replies: 2 wrong");
}

#[test]
fn is_a_connection_that_a_storm_leaves_behind_a_fault() {
    let mut ran = good();
    let storm = crate::report::Storm { connections: 50, served: 50, ..Default::default() };
    ran.storms = vec![storm];
    assert_eq!(reported("", &ran).exit_status, 0);
    ran.storms.push(crate::report::Storm { served: 47, ..storm });
    let report = reported("", &ran);
    assert_eq!(report.exit_status, 1);
    assert_eq!(report.exit_reason, "3 connections were not served again after a storm");
}

#[test]
fn is_the_lowest_percentile_named_that_has_too_few_answers() {
    let table = [
        (5, "5 answers are few for p90 and"),
        (50, "50 answers are few for p99 and"),
        (999, "999 answers are few for p99.9 and"),
        (9999, "9,999 answers are few for p99.99:"),
    ];
    for (answers, expected) in table {
        let mut ran = good();
        ran.latencies.response.clear();
        ran.latencies.response.saturating_record_n(1_000_000, answers);
        let report = reported("", &ran);
        assert_eq!(warned(&report, "are few"), 1, "{:?}", report.warnings);
        assert_eq!(warned(&report, expected), 1, "{:?}", report.warnings);
    }
    assert_eq!(warned(&reported("", &good()), "are few"), 0);
}

#[test]
fn is_what_disturbs_a_run_told() {
    type Change = fn(&mut Ran);
    let disturbed: [(Change, &str); 4] = [
        (|ran| ran.stolen = Some(0.05), "the host gave 5.0 % of processor time to others"),
        (|ran| ran.clock_step = 4_000_000, "the clock is coarse: it moves in steps of 4"),
        (|ran| ran.worked.cpu = vec![9_700_000_000], "the thread of it was busy 97 % of the time"),
        (|ran| ran.closed.messages.unsent = 7, "7 messages were due and never sent"),
    ];
    for (change, expected) in disturbed {
        let mut ran = good();
        ran.before.cpu = vec![0];
        ran.worked.cpu = vec![0];
        change(&mut ran);
        let report = reported("", &ran);
        assert_eq!(warned(&report, expected), 1, "{expected}: {:?}", report.warnings);
        assert_eq!(report.warnings.len(), 1, "{:?}", report.warnings);
    }
}

#[test]
fn is_the_rate_steady_though_the_last_replies_are_awaited() {
    let plan = plan("");
    let mut history = History::new(Time::from_nanos(0), 1);
    let mut point = |phase, at_s: u64, ok| {
        let mut snapshot = Snapshot::default();
        snapshot.messages.ok = ok;
        let at = Time::from_nanos(at_s * 1_000_000_000);
        history.point(phase, &snapshot, Reading::new(at, &snapshot, None));
    };
    point(Phase::Ramp, 1, 0);
    point(Phase::Run, 2, 1000);
    point(Phase::Run, 3, 2000);
    point(Phase::Drain, 4, 2001);
    let steady = report(&plan, &history, &good(), Vec::new());
    assert_eq!(steady.noise.rate_deviation, Some(0.0));
    assert_eq!(warned(&steady, "not steady"), 0);
    history.point(
        Phase::Run,
        &Snapshot::default(),
        Reading::new(Time::from_nanos(5_000_000_000), &Snapshot::default(), None),
    );
    let report = report(&plan, &history, &good(), Vec::new());
    assert_eq!(warned(&report, "not steady"), 1);
}

#[test]
fn is_a_search_that_found_no_rate_a_threshold_missed() {
    let plan = plan("find_rate max_p99 4000000000");
    let history = History::new(Time::from_nanos(0), 1);
    for (met, status, reason) in
        [(true, 0, "completed"), (false, 3, "threshold missed: no rate was found that keeps it")]
    {
        let tried = vec![RateTried { offered: 1.0, achieved: 1.0, p99_ns: 1, met }];
        let report = report(&plan, &history, &good(), tried);
        assert_eq!((report.exit_status, report.exit_reason.as_str()), (status, reason));
    }
}

#[test]
fn is_it_told_that_pinned_threads_are_not_alone() {
    let server = |allowed: &str| crate::report::ServerFigures {
        cpus_allowed: Some(allowed.to_owned()),
        ..crate::report::tests::sample().server.unwrap()
    };
    let table = [
        (vec![], "0-3", ""),
        (vec![3, 2], "0-1", ""),
        (vec![3, 2], "0-2", "the server may run on processor 2, which"),
        (vec![1, 0], "0-3", "the server may run on processors 0-1, which"),
        (vec![1, 1], "0", "2 threads of bench share processor 1:"),
    ];
    for (cpus, allowed, expected) in table {
        let ran = good();
        let mut report = reported("", &ran);
        report.settings.cpus = cpus;
        report.server = Some(server(allowed));
        report.warnings = warnings(&plan(""), &report, &ran);
        assert_eq!(report.warnings.len(), usize::from(!expected.is_empty()), "{report:?}");
        assert!(report.warnings.iter().all(|warning| warning.starts_with(expected)), "{report:?}");
    }
}

#[test]
fn is_it_told_why_what_was_due_was_never_sent() {
    let mut ran = good();
    ran.closed.messages.unsent = 3;
    let table = [("", "since no connection was free:"), ("short ", "was free or could be made:")];
    for (short, why) in table {
        let report = reported(&format!("{short}rate 10000"), &ran);
        let told = report.warnings.iter().filter(|warning| warning.contains(why));
        assert_eq!(told.count(), 1, "{:?}", report.warnings);
    }
}
