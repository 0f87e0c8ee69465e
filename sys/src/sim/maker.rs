//! A simulated kernel: the functions of this crate over a world in memory, with virtual time.
//!
//! Under `--cfg myriapod_sim` this stands in for everything else that touches the system, and what
//! is built on this crate runs on it unchanged. A [`World`] follows from one 64-bit seed: the same
//! seed and the same program make the same calls with the same results, on any machine.
//!
//! - **Time** passes only by calls (a microsecond or so each) and by waiting: when every thread
//!   waits, the clock goes to the moment at which something happens next.
//! - **The network** delivers bytes in their order, in pieces, after a while; buffers are finite. A
//!   close with unread input, or bytes for a closed socket, make a reset.
//! - **Descriptors** are the smallest free number from 3 on, so the next one opened has the number
//!   of the last one closed.
//! - **[`Faults`]** say what goes wrong how often; what did is counted by [`FaultKind`].
//! - **Threads** started with [`spawn`](crate::spawn) are real ones of which one runs at a time; who
//!   is next after a call, the seed decides.
//! - **Processes** begin with [`World::start_process`]. Each has its own descriptors, which it may pass to
//!   another over a Unix socket, and a [`Fate`]: it is killed or stands still after one of its calls.
//!   A world ends where one process uses a socket that it has left to another.
//! - **[`Remote`]** is a peer far away, played by the test itself: it needs no descriptor, and no
//!   fault befalls its calls.
//!
//! What reads the machine itself (memory, processor time, `TCP_INFO`) has no counterpart here.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::descriptor::BorrowedFd;
use super::kernel::{Happening, Kernel};
use super::system::start_process;
use super::threads::{Shared, call, set_here};
use crate::{Interest, JoinHandle, Signal, SocketAddr, Time};

pub use super::closing::Closing;
pub use super::faults::{FaultKind, Faults, Injected};
pub use super::process::Fate;
pub use super::remote::{Remote, RemoteListener};
pub use super::rng::{Rng, Trace, mix};
pub use super::wire::{Carried, Packet};

/// What goes wrong from now on in the world of this thread.
pub fn set_faults(faults: Faults) {
    call(|kernel| kernel.faults = faults);
}

/// How many calls were made in a world so far; also for those who cannot wait until one ends.
#[derive(Clone, Debug, Default)]
pub struct Calls(Arc<AtomicU64>);

impl Calls {
    /// The count now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one more, which only the kernel does, one call at a time.
    pub(super) fn count(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Whether the process of this thread was killed, so that all that it still does is to end.
#[must_use]
pub fn is_killed() -> bool {
    call(|kernel| kernel.is_dead(kernel.running))
}

/// A simulated system. The thread that [enters](Self::enter) it makes all its calls there.
///
/// Dropping it takes the thread out again.
pub struct World {
    shared: Arc<Shared>,
}

impl World {
    /// A world that follows from `seed`, entered by this thread.
    #[must_use]
    pub fn enter(seed: u64, faults: Faults) -> Self {
        let shared = Shared::new(Kernel::new(seed, faults));
        set_here(Some(Arc::clone(&shared)));
        Self { shared }
    }

    /// What goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.lock().faults = faults;
    }

    /// Has these kinds never happen, whatever the faults say. The rest of the world stays as it is
    /// until something depends on them: so a history that fails can be made smaller.
    pub fn set_without(&self, kinds: &[FaultKind]) {
        self.shared.lock().without = kinds.iter().fold(0, |mask, kind| mask | 1 << *kind as u64);
    }

    /// Notes from now on what arrives, up to a million packets.
    pub fn record(&self) {
        self.shared.lock().wire.get_or_insert_default();
    }

    /// What has arrived since it was asked for, in order; only with [`record`](Self::record).
    #[must_use]
    pub fn take_packets(&self) -> Vec<Packet> {
        self.shared.lock().wire.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// How many calls were made, now and later.
    #[must_use]
    pub fn calls(&self) -> Calls {
        self.shared.lock().calls.clone()
    }

    /// How often each fault has happened.
    #[must_use]
    pub fn injected(&self) -> Injected {
        self.shared.lock().injected.clone()
    }

    /// A hash of every call so far, with its result.
    #[must_use]
    pub fn trace(&self) -> u64 {
        self.shared.lock().trace.get()
    }

    /// Every stream and everything that is to happen, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        self.shared.lock().describe()
    }

    /// Adds something of the maker's own to the trace.
    pub fn note(&self, number: u64) {
        self.shared.lock().tell(number);
    }

    /// The time now. Unlike [`now`](crate::now), asking takes no time.
    #[must_use]
    pub fn now(&self) -> Time {
        Time::from_nanos(self.shared.lock().now)
    }

    /// Lets time pass, with all that happens meanwhile.
    pub fn pass(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.shared.lock().pass(nanos);
    }

    /// When something happens next by itself; `None` where nothing is under way.
    #[must_use]
    pub fn next_happening(&self) -> Option<Time> {
        self.shared.lock().next_happening().map(Time::from_nanos)
    }

    /// A waiting thread looks again after this time at the latest.
    pub fn alarm(&self, after: Duration) {
        let nanos = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        self.shared.lock().schedule_in(nanos, Happening::Alarm);
    }

    /// Whether a poller, known by its descriptor, has anything to report.
    #[must_use]
    pub fn has_ready(&self, poller: BorrowedFd<'_>) -> bool {
        self.shared.lock().has_ready(poller.number())
    }

    /// Whether a descriptor is ready for any of `interest`.
    #[must_use]
    pub fn is_ready(&self, fd: BorrowedFd<'_>, interest: Interest) -> bool {
        self.shared.lock().is_ready(fd.number(), interest)
    }

    /// How many descriptors a poller watches.
    #[must_use]
    pub fn watched(&self, poller: BorrowedFd<'_>) -> usize {
        let mut kernel = self.shared.lock();
        let Some(watches) = kernel.take_poller(poller.number()) else { return 0 };
        let count = watches.len();
        kernel.put_poller(poller.number(), watches);
        count
    }

    /// How many descriptors the program may hold from now on. What is open stays open.
    pub fn set_descriptor_limit(&self, limit: usize) {
        self.shared.lock().descriptor_limit = limit;
    }

    /// How many descriptors the program holds.
    #[must_use]
    pub fn open_descriptors(&self) -> usize {
        self.shared.lock().open_count()
    }

    /// Bytes that the program has received and sent so far.
    #[must_use]
    pub fn traffic(&self) -> (u64, u64) {
        let kernel = self.shared.lock();
        (kernel.received, kernel.sent)
    }

    /// The streams that the program has closed since this was last asked.
    #[must_use]
    pub fn take_closings(&self) -> Vec<Closing> {
        std::mem::take(&mut self.shared.lock().closings)
    }

    /// Starts another process, which is its first thread. Returns its number too; `None` where the real
    /// system has no room for another thread.
    pub fn start_process<T: Send + 'static>(
        &self,
        name: &str,
        run: impl FnOnce() -> T + Send + 'static,
    ) -> Option<(usize, JoinHandle<T>)> {
        let number = self.shared.lock().processes.len();
        start_process(name, run).map(|handle| (number, handle))
    }

    /// Decides what becomes of a process after so many more of its calls.
    pub fn doom(&self, process: usize, calls: u64, fate: Fate) {
        self.shared.lock().doom(process, calls, fate);
    }

    /// Nothing becomes of a process any more that was decided.
    pub fn reprieve(&self, process: usize) {
        self.shared.lock().reprieve(process);
    }

    /// Whether a process was killed.
    #[must_use]
    pub fn was_killed(&self, process: usize) -> bool {
        self.shared.lock().processes.get(process).is_some_and(|process| process.is_dead)
    }

    /// How many descriptors a process holds.
    #[must_use]
    pub fn open_descriptors_of(&self, process: usize) -> usize {
        self.shared.lock().open_count_of(process)
    }

    /// How many threads there are besides the first.
    #[must_use]
    pub fn threads(&self) -> usize {
        let kernel = self.shared.lock();
        kernel.threads.iter().skip(1).filter(|thread| !thread.has_ended()).count()
    }

    /// The buffers of all streams have their ordinary size from now on.
    pub fn make_room(&self) {
        self.shared.lock().make_room();
    }

    /// Raises a signal.
    pub fn raise(&self, signal: Signal) {
        self.shared.lock().signals.push_back(signal);
    }

    /// Gives a name addresses.
    pub fn add_host(&self, name: &str, addresses: Vec<SocketAddr>) {
        self.shared.lock().hosts.insert(name.to_owned(), addresses);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Those that wait for something would wait for ever.
        self.shared.lock().end("the world is over");
        set_here(None);
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("now", &self.now()).finish_non_exhaustive()
    }
}
