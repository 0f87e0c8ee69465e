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
mod load;
mod servers;
mod yardstick;

use std::error::Error;
use std::process::ExitCode;

/// What went wrong; nobody looks closer than that.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "\
usage: myriapod-bench yardstick [PAIRS [REQUESTS]]
       myriapod-bench bad-peers [EACH]

yardstick   the echo service beside a raw C epoll loop: processor time per request
            at 50, 1,000 and 10,000 connections, messages per second with 16 in flight
            on each of 50; 6 pairs of runs of 200,000 requests
bad-peers   latency of 100 good clients, without and with 2,000 of each kind of bad one";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |nth: usize, default: u64| args.get(nth).map_or(Ok(default), |arg| arg.parse());
    let result = match args.first().map(String::as_str) {
        Some("yardstick") => match (number(1, 6), number(2, 200_000)) {
            (Ok(pairs), Ok(requests)) => yardstick::run(pairs, requests),
            _ => Err(USAGE.into()),
        },
        Some("bad-peers") => match number(1, 2_000) {
            Ok(each) => bad_peers::run(each),
            Err(_) => Err(USAGE.into()),
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

/// The value in the middle of an odd number of them, else the mean of the two.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN);
    let lower = sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN);
    f64::midpoint(lower, upper)
}
