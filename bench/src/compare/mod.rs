//! `compare`: other servers and ours, with the same job, against the least that an echo costs.

mod counted;
mod figures;
mod html;
mod peers;
mod table;
mod timed;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;

use crate::Result;
use crate::servers::pin_clients;
use figures::{Figures, tables};
use peers::{Job, NAMES, Peer, YARDSTICK};
use table::Table;
use timed::{Noise, repeat, stolen};

/// Connections, and messages in flight on each.
const SETTINGS: [(u64, usize); 4] = [(50, 1), (1_000, 1), (10_000, 1), (50, 16)];

/// Short connections that are open at the same time.
const SLOTS: u64 = 50;

/// So many connections take pages enough to tell the bytes of one.
const MANY: u64 = 1_000;

const EXAMPLES: &str = "\
Examples:
  myriapod-bench compare                               everything: half an hour
  myriapod-bench compare --quick                       two short rounds
  myriapod-bench compare --peers myriapod,mio --jobs raw --rounds 10
  myriapod-bench compare --html compare.html";

/// Measure other servers and ours side by side
#[derive(Debug, Parser)]
#[command(name = "myriapod-bench compare", after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Only these, beside the yardstick, which is always there
    #[arg(long, value_delimiter = ',', value_name = "NAME,...", value_parser = NAMES)]
    peers: Vec<String>,
    /// Only these jobs
    #[arg(long, value_delimiter = ',', value_name = "JOB,...", value_enum)]
    jobs: Vec<Job>,
    /// Rounds, in each of which every server runs once
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=100))]
    rounds: u64,
    /// Milliseconds that each run is measured for
    #[arg(long, default_value_t = 250, value_name = "MS",
        value_parser = clap::value_parser!(u64).range(10..=60_000))]
    time: u64,
    /// Two rounds of 80 ms
    #[arg(long)]
    quick: bool,
    /// Leave out what is counted: instructions and system calls
    #[arg(long)]
    timed_only: bool,
    /// Leave out what is timed
    #[arg(long, conflicts_with = "timed_only")]
    counted_only: bool,
    /// Also draw it, as one page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Builds, measures, prints.
pub(crate) fn run(args: &Args) -> Result<()> {
    if cfg!(debug_assertions) {
        return Err("only what is optimized is worth comparing: cargo run --release -p myriapod-bench -- compare".into());
    }
    let began = Instant::now();
    let (rounds, time) = if args.counted_only {
        (0, 0)
    } else if args.quick {
        (2, 80)
    } else {
        (args.rounds, args.time)
    };
    let time = Duration::from_millis(time);
    let jobs = if args.jobs.is_empty() { Job::ALL.to_vec() } else { args.jobs.clone() };
    myriapod::sys::raise_descriptor_limit()?;
    let mut left_out = Vec::new();
    let peers = peers::build(&args.peers, &jobs, &mut left_out)?;
    let mut figures: Vec<Figures> = peers.iter().map(|_| Figures::default()).collect();
    let mut problems = Vec::new();

    if !args.timed_only {
        count(&peers, &mut figures, &mut left_out, &mut problems);
    }
    pin_clients()?;
    let mut noise = Noise::default();
    let (steal, timed) = (stolen()?, Instant::now());
    let yardstick = peers.iter().position(|peer| peer.name == YARDSTICK).ok_or("no yardstick")?;
    let all = rounds * (SETTINGS.len() as u64 + 1) * jobs.len() as u64;
    let mut steps = 0;
    for (round, reversed) in (0..rounds).zip([false, true].into_iter().cycle()) {
        for setting in 0..=SETTINGS.len() {
            for job in &jobs {
                steps += 1;
                eprintln!(
                    "{steps} of {all}, {:.0} s: round {}, {}, {}",
                    began.elapsed().as_secs_f64(),
                    round + 1,
                    job.name(),
                    setting_name(setting)
                );
                let base = match repeat(&peers[yardstick], setting, time, &mut noise)? {
                    Some(base) => base,
                    None => continue,
                };
                figures[yardstick].keep(setting, base, base);
                let mut order: Vec<usize> = (0..peers.len())
                    .filter(|at| *at != yardstick && peers[*at].job == *job)
                    .collect();
                // Nobody always comes first, or always behind the same one.
                if reversed {
                    order.reverse();
                }
                let turn = usize::try_from(round * 3)? % order.len().max(1);
                order.rotate_left(turn);
                for at in order {
                    if setting_of(setting).0 > peers[at].most {
                        continue;
                    }
                    match repeat(&peers[at], setting, time, &mut noise) {
                        Ok(Some(ran)) => figures[at].keep(setting, ran, base),
                        Ok(None) => {}
                        Err(error) => problems.push(format!(
                            "{} ({}, {}): {error}",
                            peers[at].name,
                            job.name(),
                            setting_name(setting)
                        )),
                    }
                }
            }
        }
    }
    let stolen = (stolen()? - steal) as f64 / 100.0;
    let tables: Vec<Table> = jobs
        .iter()
        .flat_map(|job| tables(*job, &peers, &figures, yardstick))
        .filter(|table| table.rows.iter().any(|(_, cells)| cells.iter().any(Option::is_some)))
        .collect();

    let mut notes = vec![
        format!("{}: {rounds} rounds of {} ms, interleaved; median (least to most) of each round's ratio against the yardstick, a C epoll loop that echoes bytes; no range where all rounds agree.", machine(), time.as_millis()),
        "{processors}. † where the server or the yardstick had work for less than 90 % of the time, so that the clients set the rate. – where a server cannot hold so many (select watches descriptors below 1,024), or the yardstick's figure is nothing. c-epoll-again is the yardstick once more: what it differs from 1.00 is noise. The yardstick keeps nothing for a connection: its bytes are what is left of whole pages.".replace("{processors}", &crate::servers::Processors::get().to_string()),
        format!("The host stole {stolen:.2} s of processor time in {:.0} s; runs that saw it: {}, repeated at once; still so, and left out: {}.", timed.elapsed().as_secs_f64(), noise.stolen, noise.dropped),
        format!("All of it took {:.1} minutes.", began.elapsed().as_secs_f64() / 60.0),
    ];
    for peer in NAMES {
        let asked = args.peers.is_empty() || args.peers.iter().any(|name| name == peer);
        let there = peers.iter().any(|built| built.name == peer);
        if asked && !there && !left_out.iter().any(|line| line.contains(peer)) {
            left_out.push(format!("{peer}: has no such job, or could not be built"));
        }
    }
    notes.extend(left_out.iter().map(|line| format!("Left out: {line}.")));
    problems.dedup();
    notes.extend(problems.iter().map(|line| format!("Failed: {line}.")));
    for table in &tables {
        println!("{}", table.markdown());
    }
    for note in &notes {
        println!("{note}");
    }
    if let Some(path) = &args.html {
        fs::write(path, html::page(&tables, &notes))
            .map_err(|e| format!("{}: {e}", path.display()))?;
        eprintln!("drawn: {}", path.display());
    }
    if problems.is_empty() { Ok(()) } else { Err("some servers failed, see above".into()) }
}

/// Fills in what is counted.
fn count(
    peers: &[Peer],
    figures: &mut [Figures],
    left_out: &mut Vec<String>,
    problems: &mut Vec<String>,
) {
    let (valgrind, strace) = (counted::installed("valgrind"), counted::installed("strace"));
    for (there, what) in [(valgrind, "instructions: valgrind"), (strace, "system calls: strace")] {
        if !there {
            left_out.push(format!("{what} is not installed"));
        }
    }
    for (at, (peer, figures)) in peers.iter().zip(figures).enumerate() {
        eprintln!("counting {} of {}: {}, {}", at + 1, peers.len(), peer.name, peer.job.name());
        let mut failed = |what, error| problems.push(format!("{}, {what}: {error}", peer.name));
        if valgrind {
            match counted::instructions(peer) {
                Ok(counts) => figures.instructions = counts,
                Err(error) => failed("instructions", error),
            }
        }
        if strace {
            match counted::system_calls(peer) {
                Ok((calls, named)) => (figures.calls, figures.named) = (calls, named),
                Err(error) => failed("system calls", error),
            }
        }
    }
}

/// Connections and messages in flight; short connections carry one message each.
fn setting_of(setting: usize) -> (u64, usize) {
    SETTINGS.get(setting).copied().unwrap_or((SLOTS, 1))
}

fn setting_name(setting: usize) -> String {
    match SETTINGS.get(setting) {
        Some((connections, 1)) => format!("{connections} connections"),
        Some((connections, in_flight)) => {
            format!("{connections} connections, {in_flight} in flight")
        }
        None => "short connections".to_owned(),
    }
}

/// The processor and the kernel.
fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown processor", |line| line.trim_start_matches([' ', '\t', ':']));
    let processors = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{processors} × {model}, Linux {}", kernel.trim())
}
