//! How many connections this machine will hold, why no more, and what to do: `myriapod doctor`.
#![forbid(unsafe_code)]

mod notes;
mod print;
#[cfg(test)]
mod tests;
mod verdict;

use std::process::ExitCode;

use myriapod::sys::{self, Backend};
use myriapod_machine::Machine;

use myriapod_command::failure::{FAILED, Failure};
use myriapod_command::units::{Count, Threads};

pub use self::verdict::{Plan, Side, Verdict};
use self::verdict::{Readings, judge};

const EXAMPLES: &str = "\
Examples:
  myriapod doctor                        where a server here will stop, and why
  myriapod doctor --connections 100000   whether it holds as many
  myriapod doctor --connections 1000000 --side both --processes 60
                                         the same with the clients on this machine
  myriapod doctor --json | jq .ceiling   for programs

Nothing is changed: it reads, judges, and names the commands that would help.
Exit status: 0; 1 where --connections cannot be reached; 2 wrong usage.";

/// Say how many connections this machine will hold, and why no more
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Say whether so many connections at once can be reached
    #[arg(long, value_name = "N")]
    connections: Option<Count>,
    /// Which ends are on this machine: server, client or both
    #[arg(long, value_enum, value_name = "END", default_value_t = Side::Server,
        hide_possible_values = true)]
    side: Side,
    /// Processes that each end here is divided among
    #[arg(long, value_name = "N", default_value_t = Count(1))]
    processes: Count,
    /// Event loops of each server; auto for one per processor
    #[arg(long, value_name = "N|auto", default_value_t = Threads::Number(Count(1)))]
    threads: Threads,
    /// epoll, kqueue, poll, select or portable
    #[arg(long, value_name = "NAME", default_value_t = Backend::native())]
    backend: Backend,
    /// Source addresses that clients here connect from
    #[arg(long, value_name = "N", default_value_t = Count(1))]
    sources: Count,
    /// Ports that they connect to
    #[arg(long, value_name = "N", default_value_t = Count(1))]
    ports: Count,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Reads, judges and prints.
///
/// # Errors
///
/// Standard output that cannot be written.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let count = |count: Count| count.0 as u64;
    let plan = Plan {
        side: args.side,
        connections: args.connections.map(count),
        processes: count(args.processes),
        threads: args.threads.number(),
        backend: args.backend,
        sources: count(args.sources),
        ports: count(args.ports),
    };
    let readings = read();
    let verdict = judge(&plan, &readings);
    let printed =
        if args.json { print::json(&verdict, &readings.machine) } else { print::text(&verdict) };
    printed.map_err(|error| Failure::output(&error))?;
    Ok(if verdict.suffices() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// Foretells what a plan will reach on this machine. Raises the descriptor limit of this process as
/// far as it may, as servers and `bench` do anyway: that is the one way to know how far.
#[must_use]
pub fn foretell(plan: &Plan) -> Verdict {
    judge(plan, &read())
}

fn read() -> Readings {
    let machine = Machine::read();
    let raised = sys::raise_descriptor_limit().ok();
    Readings { machine, descriptors: raised.map(|limit| limit.soft) }
}
