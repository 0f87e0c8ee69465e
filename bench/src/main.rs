//! Servers measured side by side on one machine: `myriapod serve` beside others that answer with the
//! same bytes.
//!
//! ```text
//! $ cargo build --release && cargo run --release -p myriapod-bench -- yardstick
//! $ cargo build --release && cargo run --release -p myriapod-bench -- bad-peers
//! ```
//!
//! Runs of the servers are interleaved, and figures are ratios: on a machine with other work to do,
//! nothing else can be compared.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "figures are what it is for")]

mod bad_peers;
mod compare;
mod fan_out;
mod fleet;
mod load;
mod million;
mod servers;
mod yardstick;

use std::error::Error;
use std::process::ExitCode;

/// What went wrong; nobody looks closer than that.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "\
usage: myriapod-bench yardstick [PAIRS [REQUESTS]]
       myriapod-bench fan-out [PAIRS [MEMBERS [MESSAGES]]]
       myriapod-bench bad-peers [EACH]
       myriapod-bench compare [--help]
       myriapod-bench servers --connections N
       myriapod-bench million [--connections N]

yardstick   the echo service beside a raw C epoll loop: processor time per request
            at 50, 1,000 and 10,000 connections, messages per second with 16 in flight
            on each of 50; 6 pairs of runs of 200,000 requests
fan-out     a room beside a raw C loop that sends the same bytes to as many sockets:
            processor time per delivery; 6 pairs of 50 messages to 10,000 members
bad-peers   latency of 100 good clients, without and with 2,000 of each kind of bad one
compare     other servers and ours, side by side, as tables and a page
servers     as many `serve` processes as N connections need descriptors: prints their
            ports, as `myriapod bench --ports` takes them; they end with this program's
            input, or with Ctrl-C
million     N (1,000,000) connections open at once, and a message on each: in one server
            process where descriptors allow it, over many where they do not";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |nth: usize, default: u64| args.get(nth).map_or(Ok(default), |arg| arg.parse());
    let result = match args.first().map(String::as_str) {
        Some("yardstick") => match (number(1, 6), number(2, 200_000)) {
            (Ok(pairs), Ok(requests)) => yardstick::run(pairs, requests),
            _ => Err(USAGE.into()),
        },
        Some("fan-out") => match (number(1, 6), number(2, 10_000), number(3, 50)) {
            (Ok(pairs), Ok(members @ 1..), Ok(times @ 1..)) => fan_out::run(pairs, members, times),
            _ => Err(USAGE.into()),
        },
        Some("bad-peers") => match number(1, 2_000) {
            Ok(each) => bad_peers::run(each),
            Err(_) => Err(USAGE.into()),
        },
        Some("compare") => {
            compare::run(&<compare::Args as clap::Parser>::parse_from(std::env::args().skip(1)))
        }
        Some("servers") => connections(&args, None).and_then(fleet::run),
        Some("million") => connections(&args, Some(1_000_000)).and_then(million::run),
        // The clients of `million`, in processes of their own.
        Some("hold") => match (args.get(1).map(|arg| arg.parse()), number(2, 0), number(3, 0)) {
            (Some(Ok(port)), Ok(count), Ok(first)) => million::hold(port, count, first),
            _ => Err(USAGE.into()),
        },
        _ => Err(USAGE.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// What follows `--connections`.
fn connections(args: &[String], default: Option<u64>) -> Result<u64> {
    let given = match args.get(1).map(String::as_str) {
        None => None,
        Some("--connections") => {
            args.get(2).and_then(|arg| arg.replace([',', '_'], "").parse().ok())
        }
        Some(_) => return Err(USAGE.into()),
    };
    match given.or(default.filter(|_| args.len() == 1)) {
        Some(connections) if connections > 0 => Ok(connections),
        _ => Err(USAGE.into()),
    }
}

/// The value in the middle of an odd number of them, else the mean of the two.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN);
    let lower = sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN);
    f64::midpoint(lower, upper)
}
