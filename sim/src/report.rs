//! What is said of the seeds.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program of the command line")]

use std::fs::File;
use std::io::{self, IsTerminal, stderr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use myriapod::sys::sim::{FaultKind, Injected, Packet, Trace};
use myriapod_sim::{cut, pcap};

use crate::options::Options;
use crate::run::{self, Outcome};

/// Seeds between two signs of life.
const BETWEEN: u64 = 50;

/// So many failing seeds are made smaller; each takes some forty worlds.
const SHRUNK: u64 = 3;

/// Says which smaller world fails in the same way.
fn smaller(seed: u64, failure: &str) {
    let cut = cut::shrink(failure, |cut| run::seed(seed, cut, false).failure);
    if !cut.is_none() {
        println!("    smaller: cargo sim --seed {seed}{cut}");
    }
}

fn capture(path: &Path, packets: &[Packet]) -> io::Result<()> {
    let mut file = io::BufWriter::new(File::create(path)?);
    pcap::write(packets, &mut file)?;
    println!("{} packets in {}", packets.len(), path.display());
    Ok(())
}

/// Runs seeds, and says what happened.
pub(crate) fn seeds(options: &Options) -> ExitCode {
    let Options { start, seeds: count, jobs, first, cut: ref left_out, pcap: ref file } = *options;
    let begun = Instant::now();
    let is_live = stderr().is_terminal();
    let mut all = Trace::default();
    let mut injected = Injected::default();
    let (mut messages, mut handed_over, mut steps, mut failed) = (0, 0, 0, 0u64);
    let (mut replaced, mut kept, mut taken_over) = (0, 0, 0);
    let live = |number: u64, failed: u64| {
        if is_live && number.is_multiple_of(BETWEEN) {
            eprint!("\r{number} of {count} seeds, {failed} failed ");
        }
    };
    run::in_order(
        jobs,
        count,
        |number| run::seed(start + number, left_out, file.is_some()),
        |number, outcome: Outcome| {
            live(number, failed);
            all.add(outcome.trace);
            injected.add(&outcome.injected);
            messages += outcome.messages;
            handed_over += outcome.handed_over;
            replaced += outcome.replaced.0;
            kept += outcome.replaced.1;
            taken_over += outcome.taken_over;
            steps += outcome.steps;
            if let Some(failure) = outcome.failure {
                println!("seed={} step={}: {failure}", start + number, outcome.steps);
                if left_out.is_none() && failed < SHRUNK {
                    smaller(start + number, &failure);
                }
                failed += 1;
            }
            if let Some(path) = file
                && let Err(error) = capture(path, &outcome.packets)
            {
                eprintln!("myriapod-sim: write {}: {error}", path.display());
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
    println!(
        "{replaced} servers replaced by another process, {kept} kept after all, {taken_over} \
         connections taken over"
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
