//! As many `serve` processes as connections need descriptors.

use std::io::Read as _;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use myriapod::sys::{self, Signal, Signals};

use crate::Result;
use crate::servers::{Contender, Running};

/// What a process keeps for itself: its listener, poller, signals, and what the engine holds back.
const OWN_DESCRIPTORS: u64 = 128;

/// Connections that one process may hold here.
pub(crate) fn connections_per_process() -> Result<u64> {
    let limit = sys::raise_descriptor_limit()?.soft;
    match limit.checked_sub(OWN_DESCRIPTORS) {
        Some(connections) if connections > 0 => Ok(connections),
        _ => Err(format!("RLIMIT_NOFILE is {limit}: too few for a server").into()),
    }
}

/// Servers, and how many connections each is meant for.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) servers: Vec<(Running, u64)>,
}

impl Fleet {
    /// Starts what `connections` need: echo servers without an idle timeout.
    pub(crate) fn start(connections: u64) -> Result<Self> {
        let shares = shares(connections, connections_per_process()?);
        let start = |share| {
            let contender = Contender::myriapod(&[
                "--idle-timeout=0",
                &format!("--max-connections={}", share + 1),
            ])?;
            Ok((Running::start_anywhere(&contender)?, share))
        };
        Ok(Self { servers: shares.into_iter().map(start).collect::<Result<_>>()? })
    }
}

/// The share of each of as many servers as connections need, as clients deal them that connect to
/// one after the other: even ones, with what is left over at the first.
fn shares(connections: u64, most: u64) -> Vec<u64> {
    let servers = connections.div_ceil(most);
    let share = |nth| connections / servers + u64::from(nth < connections % servers);
    (0..servers).map(share).collect()
}

/// Starts servers, prints their ports, and ends them when standard input ends or a signal comes.
pub(crate) fn run(connections: u64) -> Result<()> {
    let mut signals = Signals::install(&[Signal::Interrupt, Signal::Terminate])?;
    let fleet = Fleet::start(connections)?;
    let ports: Vec<String> = fleet.servers.iter().map(|(s, _)| s.port.to_string()).collect();
    println!("{}", ports.join(","));
    eprintln!(
        "{} servers for {connections} connections, {} at most on each; the end of input or Ctrl-C ends them",
        ports.len(),
        fleet.servers.iter().map(|(_, share)| *share).max().unwrap_or_default(),
    );
    let (tell, ended) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        // Whatever is typed is of no interest; an error is an end too.
        while std::io::stdin().read(&mut bytes).is_ok_and(|len| len > 0) {}
        let _ = tell.send(());
    });
    while signals.take().is_none() && ended.recv_timeout(Duration::from_millis(100)).is_err() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::shares;

    #[test]
    fn has_every_server_room_for_what_it_is_dealt_in_turn() {
        for (connections, most) in [(200_000, 19_872), (19_872, 19_872), (19_873, 19_872), (7, 3)] {
            let shares = shares(connections, most);
            let servers = shares.len() as u64;
            assert_eq!(servers, connections.div_ceil(most));
            for (nth, share) in (0..).zip(&shares) {
                let dealt = (0..connections).filter(|id| id % servers == nth).count() as u64;
                assert_eq!(*share, dealt, "{nth} of {servers}");
                assert!(*share <= most);
            }
        }
    }
}
