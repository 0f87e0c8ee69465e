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
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the table is for the reader")]

mod descriptors;
mod peers;
mod table;
mod traced;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::table::{Call, Case, Expected, Place, cases};
use crate::traced::Scenario;

/// Servers at a time. Each mostly waits for its tracer.
const AT_ONCE: usize = 8;

#[test]
fn does_the_server_outlive_every_error_of_every_call() {
    if let Err(reason) = traced::is_possible() {
        println!("SKIPPED: {reason}");
        return;
    }
    // Where in each scenario the calls are, that is how often each was made before.
    let places: BTreeMap<Scenario, Place> =
        Scenario::ALL.into_iter().map(|scenario| (scenario, Place::of(scenario))).collect();
    let cases = cases();
    for (scenario, place) in &places {
        assert_eq!(place.unknown(&cases), [""; 0], "calls without a row: {scenario:?}");
    }
    let (next, results) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((number, case)) = {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    cases.get(number).map(|case| (number, case))
                } {
                    let result = run(case, &places[&case.scenario]);
                    results.lock().unwrap().insert(number, result);
                }
            });
        }
    });
    let results = results.into_inner().unwrap();
    assert_eq!(results.len(), cases.len());
    println!("{:<44} {:<16} outcome", "call", "errno");
    let mut failed = Vec::new();
    for (case, result) in cases.iter().zip(results.values()) {
        let outcome = result.as_ref().unwrap_or_else(|wrong| wrong);
        let mark = if result.is_ok() { "" } else { "WRONG: " };
        println!("{:<44} {:<16} {mark}{outcome}", case.call.title(), case.errno);
        if result.is_err() {
            failed.push(format!("{} {}", case.call.title(), case.errno));
        }
    }
    println!("{} calls with an errno each, {} wrong", cases.len(), failed.len());
    assert!(failed.is_empty(), "{failed:#?}");
}

/// What became of it, or what should not have.
///
/// Calls are told by their number. Which of the closes it is that has it depends on when the server
/// sees the ends of peers that do not wait for it; where that was another one, whose peer waits for
/// what strace withholds, it is tried again. So is what two event loops do to each other.
fn run(case: &Case, place: &Place) -> Result<String, String> {
    let is_raced = matches!(case.call, Call::Close | Call::WakeOther | Call::ClearWaker);
    let again = if is_raced { 2 } else { 0 };
    (0..again).find_map(|_| run_once(case, place).ok()).map_or_else(|| run_once(case, place), Ok)
}

fn run_once(case: &Case, place: &Place) -> Result<String, String> {
    let Some(when) = place.when(case.call) else {
        return Err("the server makes no such call here".to_owned());
    };
    let run = traced::run(case.scenario, Some((case, when)))?;
    if !run.was_injected {
        return Err("the call never came to fail".to_owned());
    }
    case.expected.judge(case, &run)
}

impl Expected {
    fn judge(self, case: &Case, run: &traced::Run) -> Result<String, String> {
        let errno = match (case.call, case.errno) {
            // The C library says EAGAIN where a thread cannot be made.
            (Call::Clone, "ENOMEM") => "EAGAIN",
            // It may be in use, and so the path is taken.
            (Call::ProbeStale, _) => "EADDRINUSE",
            (_, errno) => errno,
        };
        let names_the_errno = || run.stderr.iter().any(|line| line.contains(errno));
        let said = || run.stderr.join(" | ");
        if self == Self::Refuses || self == Self::Ends {
            let what = if self == Self::Refuses { "refuses to start" } else { "ends by itself" };
            if run.status != Some(1) || run.started != (self == Self::Ends) {
                return Err(format!("does not say so and exit: {:?}, {}", run.status, said()));
            }
            if !names_the_errno() {
                return Err(format!("does not name the errno: {}", said()));
            }
            let line = run.stderr.iter().find(|line| line.contains(errno)).unwrap();
            return Ok(format!("{what}, status 1: {}", line.trim()));
        }
        if run.status != Some(0) || !run.started {
            return Err(format!("did not stop in order: {:?}, {}", run.status, said()));
        }
        if let Some(wrong) = &run.wrong {
            return Err(format!("{wrong}; {}", said()));
        }
        if case.call == Call::Accept {
            self.judge_accept(case, run).map_err(|wrong| format!("{wrong}: {}", said()))?;
        }
        if run.count("open") != 0 {
            return Err(format!("connections are left: {}", said()));
        }
        // strace withholds the call, so that what was to leave the poller stays in it and is
        // reported on and on. No kernel does that.
        let is_withheld = matches!(case.call, Call::Close | Call::ParkListener);
        if run.count("wakeups") > 500 && !is_withheld {
            return Err(format!("spins: {} wake-ups", run.count("wakeups")));
        }
        match (self, run.cut_off.as_slice()) {
            (Self::Unnoticed, [])
                if case.call == Call::Accept && run.count("accept_errors") == 1 =>
            {
                Ok("counted, and the next accepted; no peer noticed".to_owned())
            }
            (Self::Unnoticed, []) => Ok("served; no peer noticed".to_owned()),
            (Self::Pauses, []) => Ok("accepting paused; all peers were served".to_owned()),
            (Self::Pauses, ["first"]) => {
                Ok("accepting paused; one peer turned away, the others served".to_owned())
            }
            (Self::Closes, []) if run.count("closed_error") == 1 => {
                Ok("that connection closed after its last reply".to_owned())
            }
            (Self::Closes, [peer]) => Ok(format!("that connection closed ({peer}), others served")),
            (_, cut_off) => Err(format!("peers cut off: {cut_off:?}; {}", said())),
        }
    }

    /// Whether accepting paused for what it must pause for, and nothing else.
    fn judge_accept(self, case: &Case, run: &traced::Run) -> Result<(), String> {
        let (pauses, errors) = (run.count("accept_pauses"), run.count("accept_errors"));
        if (pauses > 0) != (self == Self::Pauses) {
            return Err(format!("accepting paused {pauses} times"));
        }
        // Nobody waits, or it was only interrupted: that is no error.
        let is_none = matches!(case.errno, "EAGAIN" | "EINTR");
        if self == Self::Unnoticed && errors != u64::from(!is_none) {
            return Err(format!("{errors} errors of accept were counted"));
        }
        Ok(())
    }
}
