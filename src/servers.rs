//! [`Servers`]: one server with an event loop for each of several threads.

use std::fmt;
use std::sync::Arc;

use myriapod_sys::{self as sys, JoinHandle, SocketAddr};

use crate::error::Error;
use crate::event_loop::{EventLoop, Seed};
use crate::handle::Handle;
use crate::handler::Handler;
use crate::link::{Link, Plain};
use crate::loops::StopAll;
use crate::plan::Plan;
use crate::protocol::{DefaultFraming, Framing};
use crate::stats::Stats;

/// Makes what each loop has of its own; called on the loop's thread.
type Make<H, F> = Arc<dyn Fn() -> (F, H) + Send + Sync>;

/// A server with several event loops, each with its own connections, buffers, timers, framing and
/// handler. They share nothing while messages are handled.
///
/// Where the kernel spreads connections over listeners that share a port (Linux, for IPv4 and IPv6
/// sockets that are bound here), each loop has a listener. Otherwise (Unix sockets, listeners from
/// elsewhere, other systems) the first loop accepts, and hands each socket over to the loop with
/// the fewest connections.
///
/// Made by [`ServerBuilder::build_each`](crate::ServerBuilder::build_each).
pub struct Servers<H: Handler, F: Framing = DefaultFraming, L: Link = Plain> {
    first: EventLoop<H, F, L>,
    /// Those that have not run yet.
    others: Vec<Seed<L>>,
    plan: Plan,
    make: Make<H, F>,
    addresses: Vec<SocketAddr>,
    /// The processors to pin loops to, in turn; empty for none.
    cpus: Vec<usize>,
    /// What the other loops had done when they ended.
    ended: Vec<Stats>,
}

/// How another loop ended: whether gracefully, and what it had done.
type Ended = Result<(bool, Stats), Error>;

impl<H: Handler + 'static, F: Framing + 'static, L: Link> Servers<H, F, L> {
    pub(crate) fn new(
        first: EventLoop<H, F, L>,
        others: Vec<Seed<L>>,
        plan: Plan,
        make: Make<H, F>,
        addresses: Vec<SocketAddr>,
        cpus: Vec<usize>,
    ) -> Self {
        let ended = vec![Stats::default(); others.len()];
        Self { first, others, plan, make, addresses, cpus, ended }
    }

    /// Where it listens, with the real port where 0 was asked for. A name may have several
    /// addresses; they stand together, in the order in which the system names them.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// A handle of all loops, for other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.first.handle()
    }

    /// Serves until it is stopped, by a [`Handle`] or a signal: the first loop on the calling
    /// thread, the others on threads of their own, which have ended when this returns. Returns
    /// whether that was graceful: all that was in flight on any loop was finished, and no second
    /// signal came. Where loops are pinned, the calling thread then gets its processors back, unless
    /// the system refuses.
    ///
    /// # Errors
    ///
    /// What the system says to a wait, to starting a thread or to pinning one. When one loop
    /// cannot go on, all stop.
    ///
    /// # Panics
    ///
    /// If the closure that makes handlers panics, or the log does; all loops have stopped then.
    pub fn run(&mut self) -> Result<bool, Error> {
        let unpinned = if self.cpus.is_empty() { Vec::new() } else { sys::thread_cpus()? };
        let mut loops = Threads { stop_all: self.first.stop_all(), threads: Vec::new() };
        for (seed, nth) in std::mem::take(&mut self.others).into_iter().zip(1..) {
            loops.threads.push(self.start(seed, nth)?);
        }
        self.pin(0)?;
        let first = self.first.run();
        if !unpinned.is_empty() {
            // All is served by now, and what the other loops have done must not be lost.
            let _ = sys::set_thread_cpus(&unpinned);
        }
        if first.is_err() {
            loops.stop_all.now();
        }
        let mut graceful = true;
        let mut failed = None;
        for (ended, thread) in self.ended.iter_mut().zip(loops.threads.drain(..)) {
            match thread.join() {
                Ok((gracefully, stats)) => {
                    graceful &= gracefully;
                    *ended = stats;
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        graceful &= first?;
        failed.map_or(Ok(graceful), Err)
    }

    /// Starts the thread of another loop than the first.
    fn start(&self, seed: Seed<L>, nth: usize) -> Result<JoinHandle<Ended>, Error> {
        let (plan, make) = (self.plan.for_another(), Arc::clone(&self.make));
        let cpu = self.cpu(nth);
        let thread = sys::spawn(&format!("myriapod-{nth}"), move || {
            if let Some(cpu) = cpu {
                sys::set_thread_cpus(&[cpu])?;
            }
            let (framing, handler) = make();
            let mut event_loop = plan.event_loop(seed, framing, handler)?;
            let graceful = event_loop.run()?;
            Ok((graceful, event_loop.stats()))
        });
        Ok(thread?)
    }

    fn cpu(&self, nth: usize) -> Option<usize> {
        self.cpus.get(nth % self.cpus.len().max(1)).copied()
    }

    fn pin(&self, nth: usize) -> Result<(), Error> {
        Ok(self.cpu(nth).map_or(Ok(()), |cpu| sys::set_thread_cpus(&[cpu]))?)
    }

    /// What each loop has done. Loops on other threads are counted when they have ended; while they
    /// run, [`Handle::stats`] asks them.
    #[must_use]
    pub fn stats(&self) -> ServersStats {
        let loops = std::iter::once(self.first.stats()).chain(self.ended.iter().cloned());
        ServersStats::from(loops.collect::<Vec<_>>())
    }
}

impl<H: Handler, F: Framing, L: Link> fmt::Debug for Servers<H, F, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Servers")
            .field("addresses", &self.addresses)
            .field("loops", &(1 + self.ended.len()))
            .field("first", &self.first)
            .finish_non_exhaustive()
    }
}

/// The threads of the other loops. None outlives this: should the first loop panic, they are
/// stopped and waited for.
struct Threads {
    stop_all: StopAll,
    threads: Vec<JoinHandle<Ended>>,
}

impl Drop for Threads {
    fn drop(&mut self) {
        if self.threads.is_empty() {
            return;
        }
        self.stop_all.now();
        for thread in self.threads.drain(..) {
            // Whatever it says, the first loop's end comes before it.
            let _ = thread.wait();
        }
    }
}

/// What the event loops of a server have done.
///
/// Its `Display` is the line of [`Stats`] for all together and, where there are several loops, how
/// many and how unevenly they are loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServersStats {
    loops: Vec<Stats>,
}

impl ServersStats {
    /// What each loop has done, the first first.
    #[must_use]
    pub fn loops(&self) -> &[Stats] {
        &self.loops
    }

    /// What all have done together.
    #[must_use]
    pub fn sum(&self) -> Stats {
        let mut sum = Stats::default();
        for stats in &self.loops {
            sum.add(stats);
        }
        sum
    }

    /// How unevenly the loops are loaded: the most messages that one loop has had, divided by their
    /// mean. 1 is even, the number of loops means that one does everything. Without any message the
    /// same of connections, and 1 without those.
    ///
    /// ```
    /// use myriapod::{ServersStats, Stats};
    ///
    /// let with = |messages| {
    ///     let mut stats = Stats::default();
    ///     stats.messages = messages;
    ///     stats
    /// };
    /// assert_eq!(ServersStats::from(vec![with(30), with(10)]).imbalance(), 1.5);
    /// assert_eq!(ServersStats::from(vec![with(0), with(0)]).imbalance(), 1.0);
    /// ```
    #[must_use]
    pub fn imbalance(&self) -> f64 {
        let of = |load: fn(&Stats) -> u64| {
            let most = self.loops.iter().map(load).max().unwrap_or(0);
            let sum: u64 = self.loops.iter().map(load).sum();
            #[expect(clippy::cast_precision_loss, reason = "a ratio of two or three digits")]
            let ratio = most as f64 * self.loops.len() as f64 / sum as f64;
            (sum > 0).then_some(ratio)
        };
        let messages = of(|stats| stats.messages);
        messages.or_else(|| of(|stats| stats.accepted + stats.connected)).unwrap_or(1.0)
    }
}

impl From<Vec<Stats>> for ServersStats {
    fn from(loops: Vec<Stats>) -> Self {
        Self { loops }
    }
}

impl fmt::Display for ServersStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.sum())?;
        match self.loops.len() {
            0 | 1 => Ok(()),
            count => write!(f, " loops={count} imbalance={:.2}", self.imbalance()),
        }
    }
}
