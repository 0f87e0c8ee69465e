//! What is said of the seeds.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program of the command line")]

use std::io::{IsTerminal, stderr};
use std::process::ExitCode;
use std::time::Instant;

use myriapod::sys::sim::{FaultKind, Injected, Planted, Trace};

use crate::options::Options;
use crate::run::{self, Outcome};

/// Seeds between two signs of life.
const BETWEEN: u64 = 50;

/// Runs seeds, and says what happened.
pub(crate) fn seeds(Options { start, seeds: count, jobs, .. }: Options) -> ExitCode {
    let begun = Instant::now();
    let is_live = stderr().is_terminal();
    let mut all = Trace::default();
    let mut injected = Injected::default();
    let (mut messages, mut handed_over, mut steps, mut failed) = (0, 0, 0, 0u64);
    let live = |number: u64, failed: u64| {
        if is_live && number.is_multiple_of(BETWEEN) {
            eprint!("\r{number} of {count} seeds, {failed} failed ");
        }
    };
    run::in_order(
        jobs,
        count,
        |number| run::seed(start + number, None),
        |number, outcome: Outcome| {
            live(number, failed);
            all.add(outcome.trace);
            injected.add(&outcome.injected);
            messages += outcome.messages;
            handed_over += outcome.handed_over;
            steps += outcome.steps;
            if let Some(failure) = outcome.failure {
                println!("seed={} step={}: {failure}", start + number, outcome.steps);
                failed += 1;
            }
            true
        },
    );
    if is_live {
        eprint!("\r\x1b[K");
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate of three digits")]
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    println!("{count} seeds from {start}, {rate:.0} a second, {steps} steps");
    println!(
        "{messages} messages checked, {handed_over} connections handed over between event loops"
    );
    println!("faults injected:");
    for kind in FaultKind::ALL {
        println!("  {:<28} {:>10}", kind.name(), injected.of(kind));
    }
    if failed > 0 {
        println!("{failed} seeds failed");
    }
    println!("{:016x}", all.get());
    if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Runs seeds with each planted bug until it is found.
pub(crate) fn planted(Options { start, seeds: most, jobs, .. }: Options) -> ExitCode {
    println!("{:<40} seeds until found", "planted bug");
    let mut missed = false;
    for bug in Planted::ALL {
        let mut found = None;
        run::in_order(
            jobs,
            most,
            |number| run::seed(start + number, Some(bug)),
            |number, outcome| {
                found = outcome.failure.map(|failure| (number + 1, outcome.steps, failure));
                found.is_none()
            },
        );
        match found {
            Some((seeds, step, failure)) => {
                let seed = start + seeds - 1;
                if let Some(otherwise) = run::seed(seed, None).failure {
                    // Then it says nothing about the bug.
                    println!("{:<40} seed={seed} fails without it: {otherwise}", bug.name());
                    missed = true;
                    continue;
                }
                println!("{:<40} {seeds:>5}  seed={seed} step={step}: {failure}", bug.name());
            }
            None => {
                println!("{:<40} NOT FOUND within {most}", bug.name());
                missed = true;
            }
        }
    }
    if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
