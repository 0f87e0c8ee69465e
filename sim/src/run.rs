//! One seed, and many at once in their order.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use myriapod::sys::sim::{Faults, Injected, Packet, Rng, World, mix};

use myriapod_sim::cut::Cut;

use crate::watchdog::Watch;
use crate::{clients, cluster, handover, proxies, serve, watch};

/// What became of one seed.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) trace: u64,
    pub(crate) injected: Injected,
    pub(crate) messages: u64,
    pub(crate) handed_over: u64,
    /// Servers that were replaced by another process, and those that were not after all.
    pub(crate) replaced: (u64, u64),
    /// Connections that another process went on with.
    pub(crate) taken_over: u64,
    pub(crate) steps: u64,
    pub(crate) failure: Option<String>,
    /// What was on the wire, where that was asked for.
    pub(crate) packets: Vec<Packet>,
}

/// What is left of a world, also of one that ended badly.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) world: World,
    pub(crate) rng: Rng,
    pub(crate) step: u64,
    pub(crate) messages: u64,
    /// Connections that one event loop accepted and another served.
    pub(crate) handed_over: u64,
    /// See [`Outcome`].
    pub(crate) replaced: (u64, u64),
    pub(crate) taken_over: u64,
    /// What is left out of it.
    pub(crate) cut: Cut,
}

impl Life {
    pub(crate) fn new(world: World, rng: Rng, cut: Cut) -> Self {
        let (handed_over, replaced, taken_over) = (0, (0, 0), 0);
        Self { world, rng, step: 0, messages: 0, handed_over, replaced, taken_over, cut }
    }
}

/// Lives through the world of one seed: of twenty, twelve are a server's, one is that of a server
/// behind proxies, one of nodes and their broker, two are a selector's, two are of clients and
/// several event loops, and two of servers that replace each other.
pub(crate) fn seed(seed: u64, cut: &Cut, recorded: bool) -> Outcome {
    let mut life: Option<Life> = None;
    let under_way = Watch::new(seed);
    let run = match seed % 20 {
        8 | 18 => watch::run,
        9 | 19 => clients::run,
        14 => proxies::run,
        6 => cluster::run,
        4 | 15 => handover::run,
        _ => serve::run,
    };
    let result = catch_unwind(AssertUnwindSafe(|| {
        let world = World::enter(seed, Faults::none());
        under_way.counts(world.calls());
        cut.apply(&world);
        if recorded {
            world.record();
        }
        run(life.insert(Life::new(world, Rng::new(mix(seed)), cut.clone())))
    }));
    let failure = match result {
        Ok(result) => result.err(),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Some(format!("panic: {}", text.unwrap_or("of no text")))
        }
    };
    let Some(life) = life else { return Outcome { failure, ..Outcome::default() } };
    Outcome {
        trace: life.world.trace(),
        injected: life.world.injected(),
        messages: life.messages,
        handed_over: life.handed_over,
        replaced: life.replaced,
        taken_over: life.taken_over,
        // Where several threads go on at once, the kernel's calls are the only order there is.
        steps: if life.step > 0 { life.step } else { life.world.calls().get() },
        failure,
        packets: life.world.take_packets(),
    }
}

/// How many worlds are lived through at once, where `jobs` were asked for; 0 is as many as there
/// are processors.
fn workers(jobs: usize) -> usize {
    match jobs {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        jobs => jobs,
    }
}

/// Does `work` for the numbers below `count`, several at once (see [`workers`]), and hands the results on in order.
/// `take` says whether to go on.
pub(crate) fn in_order<R: Send>(
    jobs: usize,
    count: u64,
    work: impl Fn(u64) -> R + Sync,
    mut take: impl FnMut(u64, R) -> bool,
) {
    let next = AtomicU64::new(0);
    let (done, results) = mpsc::sync_channel(64);
    std::thread::scope(|scope| {
        for _ in 0..workers(jobs) {
            let (next, work, done) = (&next, &work, done.clone());
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    // Nobody listens any more once the answer is known.
                    if number >= count || done.send((number, work(number))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        let mut waiting = BTreeMap::new();
        let mut due = 0;
        while let Ok((number, result)) = results.recv() {
            waiting.insert(number, result);
            while let Some(result) = waiting.remove(&due) {
                if !take(due, result) {
                    drop(results);
                    return;
                }
                due += 1;
            }
        }
    });
}
