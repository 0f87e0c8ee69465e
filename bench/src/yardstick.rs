//! The echo service beside a raw C epoll loop.

use crate::load::{Clients, Measured};
use crate::servers::{Contender, Running, pin_clients};
use crate::{Result, median};

/// Connections, and messages in flight on each.
const SETTINGS: [(u64, usize); 4] = [(50, 1), (1_000, 1), (10_000, 1), (50, 16)];

/// One run of one server, from its start to its end.
fn run_once(contender: &Contender, setting: (u64, usize), requests: u64) -> Result<Measured> {
    let server = Running::start(contender)?;
    let mut clients = Clients::connect(server.port, setting.0, setting.1)?;
    clients.measure(&server, requests)
}

/// Prints the ratios of `pairs` pairs of runs for each setting.
pub(crate) fn run(pairs: u64, requests: u64) -> Result<()> {
    myriapod::sys::raise_descriptor_limit()?;
    let (ours, raw) = (Contender::myriapod(&[])?, Contender::compiled("raw_epoll")?);
    pin_clients()?;
    println!("{pairs} pairs of {requests} requests of 146 bytes; myriapod / raw C epoll loop");
    for setting in SETTINGS {
        let (mut cpu_time, mut rate) = (Vec::new(), Vec::new());
        let mut last = None;
        for pair in 0..pairs {
            // The second of a pair may find the machine in another state.
            let (a, b) = if pair % 2 == 0 {
                let a = run_once(&ours, setting, requests)?;
                (a, run_once(&raw, setting, requests)?)
            } else {
                let b = run_once(&raw, setting, requests)?;
                (run_once(&ours, setting, requests)?, b)
            };
            cpu_time.push(a.cpu_time.as_secs_f64() / b.cpu_time.as_secs_f64());
            rate.push(a.requests_per_second / b.requests_per_second);
            last = Some((a, b));
        }
        let (connections, in_flight) = setting;
        println!(
            "{connections} connections, {in_flight} in flight: processor time per request {}, messages per second {}",
            summary(&cpu_time),
            summary(&rate)
        );
        if let Some((a, b)) = last {
            println!("    the last pair: {:?} and {:?} per request", a.cpu_time, b.cpu_time);
        }
    }
    Ok(())
}

/// The median and the range.
pub(crate) fn summary(ratios: &[f64]) -> String {
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ratios.iter().copied().fold(0.0, f64::max);
    format!("{:.3} ({least:.3} to {most:.3})", median(ratios))
}
