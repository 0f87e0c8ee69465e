//! What is said of the seeds.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program of the command line")]

use std::io::{IsTerminal, stderr};
use std::process::ExitCode;
use std::time::Instant;

use myriapod::sys::sim::{FaultKind, Injected, Trace};

use crate::options::Options;
use crate::run::{self, Outcome};

/// Seeds between two signs of life.
const BETWEEN: u64 = 50;

/// Runs seeds, and says what happened.
pub(crate) fn seeds(&Options { start, seeds: count, jobs, first }: &Options) -> ExitCode {
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
        |number| run::seed(start + number),
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
            failed == 0 || !first
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
