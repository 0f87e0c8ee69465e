//! Changes the code in many small ways, and asks of a sample of them whether a test fails.
//!
//! ```text
//! mutants COUNT SEED      from the root of the project; COUNT 0 for all
//! ```
//!
//! All changes are compiled in at once, and a run chooses one by the variable `MUTANT`, so that the tests
//! are built once. A first run of each test program tells which changes it comes across; only those
//! programs are asked. A change is caught if a test fails, and fails again when it is run alone. Status 1
//! where fewer than 95 of 100 are caught, but for those that `explained.txt` names.

mod instrument;
mod run;
mod tree;

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    match measure() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("mutants: {error}");
            ExitCode::from(2)
        }
    }
}

fn measure() -> Result<bool> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [count, seed] = &args[..] else { return Err("usage: mutants COUNT SEED".into()) };
    let (count, seed): (usize, u64) = (count.parse()?, seed.parse()?);
    let root = env::current_dir()?.join("target/mutants/tree");
    let (mutants, programs) = tree::prepare(&root)?;
    let sample = sample(mutants.len(), count, seed);
    let chosen: Vec<_> = sample.into_iter().map(|at| mutants[at].clone()).collect();
    let outcomes = run::all(&chosen, &programs)?;

    let explained = fs::read_to_string(Path::new(".ci/mutants/explained.txt")).unwrap_or_default();
    let lines: Vec<&str> = explained.lines().filter(|line| !line.starts_with('#')).collect();
    let (mut caught, mut hung, mut same) = (0, 0, 0);
    for (placed, outcome) in chosen.iter().zip(&outcomes) {
        let name = format!("{}: {}", placed.file, placed.mutant.what);
        let place = format!("{}:{}: {}", placed.file, placed.mutant.line, placed.mutant.what);
        match outcome {
            run::Outcome::Caught => caught += 1,
            run::Outcome::Hung(program) => {
                hung += 1;
                println!("hangs      {place} ({program})");
            }
            _ if lines.iter().any(|line| line.starts_with(&name)) => same += 1,
            run::Outcome::Survived => println!("survives   {place}"),
            run::Outcome::NotReached => println!("unreached  {place}"),
        }
    }
    let judged = chosen.len() - same;
    println!(
        "{} of {} mutants (seed {seed}): {same} explained; of the others {caught} of {judged} caught, {hung} by a hang",
        chosen.len(),
        mutants.len()
    );
    Ok(hung == 0 && caught * 100 >= judged * 95)
}

/// So many of `all`, by a seed (xorshift, and the front of a shuffle); all for 0.
fn sample(all: usize, count: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..all).collect();
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let count = if count == 0 { all } else { count.min(all) };
    for at in 0..count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let other = at + usize::try_from(state % (all - at) as u64).unwrap_or(0);
        order.swap(at, other);
    }
    order.truncate(count);
    order.sort_unstable();
    order
}
