//! What is timed, on processors of their own: a server's processor time and rate; and its memory.

use std::fs;
use std::time::Duration;

use super::peers::Peer;
use super::{MANY, SETTINGS, SLOTS, setting_of};
use crate::Result;
use crate::load::{Clients, Measured, measure_short};
use crate::servers::Running;

/// How often a run is repeated at once because the host took processor time away from it.
const RETRIES: usize = 3;

/// What a run came to: processor time, rate, and the bytes of an idle connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ran {
    pub(crate) measured: Measured,
    pub(crate) bytes: Option<f64>,
}

/// What runs were disturbed.
#[derive(Debug, Default)]
pub(crate) struct Noise {
    pub(crate) stolen: u64,
    pub(crate) dropped: u64,
}

/// A run in which the host stole no time, unless it never stops.
pub(crate) fn repeat(
    peer: &Peer,
    setting: usize,
    time: Duration,
    noise: &mut Noise,
) -> Result<Option<Ran>> {
    for _ in 0..RETRIES {
        let before = stolen()?;
        let ran = run_once(peer, setting, time)?;
        if stolen()? == before {
            return Ok(Some(ran));
        }
        noise.stolen += 1;
    }
    noise.dropped += 1;
    Ok(None)
}

fn run_once(peer: &Peer, setting: usize, time: Duration) -> Result<Ran> {
    let server = Running::start(&peer.contender)?;
    let (connections, in_flight) = setting_of(setting);
    if setting == SETTINGS.len() {
        let measured = measure_short(&server, &peer.request, peer.expect, SLOTS, time)?;
        return Ok(Ran { measured, bytes: None });
    }
    let mut clients = Clients::none(server.port, &peer.request, peer.expect, in_flight)?;
    // The slope is over connections that each have exchanged a message and are now idle.
    let mut bytes = None;
    if connections >= MANY {
        let few = connections / 5;
        clients.grow(few)?;
        let before = server.resident()?;
        clients.grow(connections)?;
        let more = server.resident()?.saturating_sub(before);
        bytes = Some(more as f64 / (connections - few) as f64);
    } else {
        clients.grow(connections)?;
    }
    Ok(Ran { measured: clients.measure_for(&server, time)?, bytes })
}

/// Hundredths of a second that the host has taken away from this machine.
pub(crate) fn stolen() -> Result<u64> {
    let text = fs::read_to_string("/proc/stat")?;
    let all = text.lines().next().and_then(|line| line.split_whitespace().nth(8));
    Ok(all.ok_or("no steal in /proc/stat")?.parse()?)
}
