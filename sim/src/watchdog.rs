//! A world that does not come to its end is a failure too, and has a seed like any other.
#![expect(clippy::print_stdout, reason = "a program of the command line")]

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use myriapod::sys::sim::Calls;

/// How long a world may take, in real time: hundreds of times as long as any does.
const PATIENCE: Duration = Duration::from_secs(60);

/// The worlds that are under way, by their number; the oldest comes first.
static UNDER_WAY: Mutex<(u64, BTreeMap<u64, Watched>)> = Mutex::new((0, BTreeMap::new()));

struct Watched {
    seed: u64,
    since: Instant,
    /// What the world has come to; it has none until it is made.
    calls: Option<Calls>,
}

/// A world under way, for as long as this lives.
pub(crate) struct Watch(u64);

fn under_way() -> MutexGuard<'static, (u64, BTreeMap<u64, Watched>)> {
    UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watch {
    pub(crate) fn new(seed: u64) -> Self {
        let mut under_way = under_way();
        under_way.0 += 1;
        let number = under_way.0;
        under_way.1.insert(number, Watched { seed, since: Instant::now(), calls: None });
        Self(number)
    }

    pub(crate) fn counts(&self, calls: Calls) {
        if let Some(watched) = under_way().1.get_mut(&self.0) {
            watched.calls = Some(calls);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        under_way().1.remove(&self.0);
    }
}

/// Ends the program as soon as a world has taken too long.
pub(crate) fn start() {
    thread::spawn(|| {
        loop {
            thread::sleep(Duration::from_secs(1));
            let under_way = under_way();
            let Some(oldest) = under_way.1.values().next() else { continue };
            if oldest.since.elapsed() > PATIENCE {
                let step = oldest.calls.as_ref().map_or(0, Calls::get);
                println!(
                    "seed={} step={step}: after {} seconds it has not come to its end (the step \
                     counts system calls)",
                    oldest.seed,
                    PATIENCE.as_secs()
                );
                std::process::exit(1);
            }
        }
    });
}
