//! What does a real server do when the kernel says no? Each system call that it makes is made to
//! fail by strace (`-e inject=`) with each errno of its manual page, while clients check their
//! answers.
//!
//! ```text
//! $ cargo test --test syscall_faults -- --nocapture
//! ```
//!
//! prints the table: call, errno, what became of the server and its peers.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is for the reader")]

mod descriptors;
mod dual_stack;
mod peers;
mod table;
mod trace;
mod traced;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::table::{Case, Expected, Table};
use crate::trace::Line;
use crate::traced::{Run, Scenario};

/// Servers at a time. Each mostly waits for its tracer.
const AT_ONCE: usize = 8;

#[test]
fn does_the_server_outlive_every_error_of_every_call() {
    if let Err(reason) = traced::is_possible() {
        println!("SKIPPED: {reason}");
        return;
    }
    let mut table = Table::read();
    // The calls of each scenario when nothing fails.
    let mut calls = BTreeMap::new();
    for scenario in Scenario::ALL {
        if let Some(why) = scenario.is_impossible() {
            println!("SKIPPED: {scenario:?}: {why}");
            table.cases.retain(|case| case.scenario != scenario);
            continue;
        }
        let lines = undisturbed(scenario);
        // The other is the test's own program.
        if scenario != Scenario::DualStack {
            assert_eq!(table.unknown(&lines), [""; 0], "calls without a row: {scenario:?}");
        }
        calls.insert(scenario, lines);
    }
    let (next, results) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((number, case)) = {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    table.cases.get(number).map(|case| (number, case))
                } {
                    let result = run(case, &calls[&case.scenario]);
                    results.lock().unwrap().insert(number, result);
                }
            });
        }
    });
    let results = results.into_inner().unwrap();
    assert_eq!(results.len(), table.cases.len());
    println!("{:<56} {:<16} outcome", "call", "errno");
    let mut failed = Vec::new();
    for (case, result) in table.cases.iter().zip(results.values()) {
        let outcome = result.as_ref().unwrap_or_else(|wrong| wrong);
        let mark = if result.is_ok() { "" } else { "WRONG: " };
        println!("{:<56} {:<16} {mark}{outcome}", case.call.title, case.errno);
        if result.is_err() {
            failed.push(format!("{} {}", case.call.title, case.errno));
        }
    }
    for left_out in &table.left_out {
        let table::LeftOut { title, errno, why } = left_out;
        println!("{title:<56} {errno:<16} left out: {why}");
    }
    println!("{} calls with an errno each, {} wrong", table.cases.len(), failed.len());
    assert!(failed.is_empty(), "{failed:#?}");
}

fn undisturbed(scenario: Scenario) -> Vec<Line> {
    loop {
        let run = traced::run(scenario, None).unwrap();
        assert_eq!((run.status, &run.wrong), (Some(0), &None), "{run:?}");
        let [first, again] = &run.cut_off;
        assert!(first.len() <= usize::from(scenario == Scenario::Exhausted), "{run:?}");
        assert!(again.is_empty(), "{run:?}");
        let lines = trace::lines(&run.calls, scenario.bystanders());
        // The first thread gets the signal, unless its tracer has stopped it just then.
        let is_handler = |line: &&Line| line.name == "rt_sigreturn";
        if lines.iter().filter(is_handler).all(|line| line.thread == 0)
            || scenario == Scenario::DualStack
        {
            return lines;
        }
    }
}

/// What became of it, or what should not have.
///
/// Calls are told by their number. How many come before it may depend on when the server sees what
/// peers do that do not wait for it, and on what two event loops do to each other: then all is
/// counted anew and tried again.
fn run(case: &Case, calls: &[Line]) -> Result<String, String> {
    let mut result = run_once(case, calls);
    for _ in 0..4 {
        if result.is_ok() || !case.call.is_raced {
            break;
        }
        result = run_once(case, &undisturbed(case.scenario));
    }
    result
}

fn run_once(case: &Case, calls: &[Line]) -> Result<String, String> {
    let Some(place) = case.call.place(calls) else {
        return Err("the server makes no such call here".to_owned());
    };
    let run = traced::run(case.scenario, Some((case, &place)))?;
    let mut failed = trace::lines(&run.calls, case.scenario.bystanders());
    failed.retain(|line| {
        line.name == place.0 && line.text.contains(case.errno) && line.text.contains("(INJECTED)")
    });
    if failed.is_empty() {
        return Err("the call never came to fail".to_owned());
    }
    if let Some(other) = failed.iter().find(|line| !case.call.may_be(line)) {
        return Err(format!("another call failed: {}{}", other.name, other.text));
    }
    case.judge(&run)
}

impl Case {
    fn judge(&self, run: &Run) -> Result<String, String> {
        let said = || run.stderr.join(" | ");
        if let Expected::Refuses | Expected::Ends = self.expected {
            let is_end = self.expected == Expected::Ends;
            if run.status != Some(1) || run.started != is_end {
                return Err(format!("does not say so and exit: {:?}, {}", run.status, said()));
            }
            let names_it =
                |line: &&String| line.contains(self.says) && line.contains(self.call.named);
            let Some(line) = run.stderr.iter().find(names_it) else {
                return Err(format!("does not name call and errno: {}", said()));
            };
            let what = if is_end { "ends by itself" } else { "refuses to start" };
            return Ok(format!("{what}, status 1: {}", line.trim()));
        }
        if run.status != Some(0) || !run.started {
            return Err(format!("did not stop in order: {:?}, {}", run.status, said()));
        }
        if let Some(wrong) = &run.wrong {
            return Err(format!("{wrong}; {}", said()));
        }
        let is_accept = self.call.named == "accept";
        if is_accept {
            self.judge_accept(run).map_err(|wrong| format!("{wrong}: {}", said()))?;
        }
        if run.count("open") != 0 {
            return Err(format!("connections are left: {}", said()));
        }
        if run.count("wakeups") > 500 && !self.call.is_withheld {
            return Err(format!("spins: {} wake-ups", run.count("wakeups")));
        }
        let [cut_off, again] = &run.cut_off;
        if !again.is_empty() && !self.call.is_raced {
            return Err(format!("peers cut off when all was well again: {again:?}; {}", said()));
        }
        let cut_off = [cut_off.as_slice(), again].concat();
        let outcome = match (self.expected, cut_off.as_slice()) {
            (Expected::Unnoticed, []) if is_accept && run.count("accept_errors") == 1 => {
                "counted, and the next accepted; no peer noticed"
            }
            (Expected::Unnoticed, []) => "served; no peer noticed",
            (Expected::Pauses, []) => "accepting paused; all peers were served",
            (Expected::Pauses, [_]) => "accepting paused; one peer turned away, the others served",
            (Expected::Closes, []) if run.count("closed_error") == 1 => {
                "that connection closed after its last reply"
            }
            (Expected::Closes, [peer]) => {
                return Ok(format!("that connection closed ({peer}), others served"));
            }
            (_, cut_off) => return Err(format!("peers cut off: {cut_off:?}; {}", said())),
        };
        Ok(outcome.to_owned())
    }

    /// Whether accepting paused for what it must pause for, and nothing else.
    fn judge_accept(&self, run: &Run) -> Result<(), String> {
        let (pauses, errors) = (run.count("accept_pauses"), run.count("accept_errors"));
        if (pauses > 0) != (self.expected == Expected::Pauses) {
            return Err(format!("accepting paused {pauses} times"));
        }
        // Nobody waits, or it was only interrupted: that is no error.
        let is_none = matches!(self.errno, "EAGAIN" | "EINTR");
        if self.expected == Expected::Unnoticed && errors != u64::from(!is_none) {
            return Err(format!("{errors} errors of accept were counted"));
        }
        Ok(())
    }
}
