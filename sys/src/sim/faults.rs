//! [`Faults`]: what goes wrong in a simulated world, how often, and what did.

use super::rng::Rng;

macro_rules! kinds {
    ($($kind:ident $name:literal $doc:literal)*) => {
        /// Something that a system may do and that a program hardly ever sees.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum FaultKind {
            $(#[doc = $doc] $kind,)*
        }

        impl FaultKind {
            /// All kinds, in the order of their numbers.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$kind),*];

            /// The name in reports.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }
        }
    };
}

kinds! {
    ShortRead "short read" "A receive brings less than is there."
    ShortLastRead "short read after a stop" "A receive brings less than is there, and the program stops."
    ShortWrite "short write" "A send takes less than there is room for."
    FullBuffer "EAGAIN on send" "A socket that was said to be writable is not."
    Interrupted "EINTR" "A signal interrupts a call."
    Spurious "spurious readiness" "An event for something that is not ready."
    Delayed "delayed event" "Something ready is not reported by this wait."
    Reordered "reordered events" "Events come in another order than they happened in."
    Oversleep "late wake-up" "A wait ends later than it was to."
    ClockJump "clock jump" "The clock jumps forward."
    SlowNetwork "slow delivery" "Bytes take long to arrive."
    Dribble "delivery of one byte" "Bytes arrive one by one."
    BufferChange "buffer resized" "A send or receive buffer changes its size."
    DroppedByReset "received bytes lost to RST" "A reset destroys what had arrived and was not read."
    NotShut "ENOBUFS on shutdown" "The system has no buffers to end a stream with."
    Aborted "ECONNABORTED on accept" "A peer is gone before it is accepted."
    Emfile "EMFILE" "This process has no descriptor left."
    Enfile "ENFILE" "The system has no descriptor left."
    Enobufs "ENOBUFS" "The system has no memory for buffers left."
    Enomem "ENOMEM" "The system has no memory left."
    Unwatched "ENOMEM or ENOSPC on watching" "A poller has no room for another descriptor."
    Unwoken "ENOMEM on waking" "A loop cannot be woken."
    Threadless "EAGAIN on starting a thread" "The system has no room for another thread."
    BacklogFull "backlog full" "A peer is not let into a backlog, and tries again later."
    LateConnect "late connect" "A connect takes long."
    Refused "refused connect" "Nobody listens where a connect goes."
    TimedOut "timed-out connect" "Nobody answers where a connect goes."
    Preempted "change of thread" "Another thread goes on."
}

/// What may go wrong, in chances per thousand, and how long things take.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Faults {
    /// A receive brings less than is there, down to a byte.
    pub short_read: u16,
    /// The same once the program was told to stop, in place of that.
    pub short_last_read: u16,
    /// Whether it was.
    pub stopping: bool,
    /// A send takes less than there is room for, down to a byte.
    pub short_write: u16,
    /// A send takes nothing although there is room.
    pub full_buffer: u16,
    /// A call is interrupted.
    pub interrupted: u16,
    /// An event for something that is not ready.
    pub spurious: u16,
    /// An event is left out of a wait.
    pub delayed: u16,
    /// Whether the events of a wait come in any order.
    pub reordered: bool,
    /// A wait ends late.
    pub oversleep: u16,
    /// The clock jumps when a wait ends.
    pub clock_jump: u16,
    /// A delivery takes long.
    pub slow_network: u16,
    /// A delivery brings one byte.
    pub dribble: u16,
    /// A buffer changes its size when it is used.
    pub buffer_change: u16,
    /// A reset destroys what has arrived.
    pub dropped_by_reset: u16,
    /// shutdown fails with `ENOBUFS`.
    pub not_shut: u16,
    /// accept finds the peer gone.
    pub aborted: u16,
    /// A call that makes a descriptor fails with `EMFILE`, `ENFILE`, `ENOBUFS` or `ENOMEM`.
    pub exhausted: u16,
    /// A poller does not take a descriptor that it does not watch yet.
    pub unwatched: u16,
    /// Waking another thread fails.
    pub unwoken: u16,
    /// Starting a thread fails.
    pub threadless: u16,
    /// A connect takes long.
    pub late_connect: u16,
    /// Another thread goes on after a call.
    pub preempted: u16,
    /// Whether waits say nothing of hang-ups, errors and half-closes, as select does.
    pub no_hints: bool,
    /// The most bytes that a send or receive buffer holds; 0 is 64 KiB.
    pub buffer: usize,
    /// The longest that an ordinary delivery takes, in microseconds.
    pub latency: u64,
}

impl Faults {
    /// Nothing goes wrong, and everything is fast.
    #[must_use]
    pub fn none() -> Self {
        Self { latency: 50, ..Self::default() }
    }

    /// A mixture that has each kind with an even chance: so some worlds know one trouble alone, at
    /// a rate that brings out what a mixture of everything would hide.
    #[must_use]
    pub fn random(rng: &mut Rng) -> Self {
        let mut some = |rates: &[u16]| match rng.chance(500) {
            true => rng.pick(rates).copied().unwrap_or_default(),
            false => 0,
        };
        let mut faults = Self {
            short_read: some(&[50, 300, 900]),
            short_last_read: some(&[50, 300, 900]),
            short_write: some(&[50, 300, 900]),
            full_buffer: some(&[20, 200]),
            interrupted: some(&[20, 200]),
            spurious: some(&[20, 200]),
            delayed: some(&[50, 300]),
            reordered: some(&[1]) == 1,
            oversleep: some(&[50, 500]),
            clock_jump: some(&[1, 4]),
            slow_network: some(&[20, 200]),
            dribble: some(&[20, 500]),
            buffer_change: some(&[10, 100]),
            dropped_by_reset: some(&[1000]),
            not_shut: some(&[50, 500]),
            aborted: some(&[20, 200]),
            exhausted: some(&[20, 200]),
            unwatched: some(&[5, 50]),
            unwoken: some(&[50, 500]),
            threadless: some(&[50, 300]),
            late_connect: some(&[50, 500]),
            preempted: some(&[50, 500]),
            no_hints: some(&[1]) == 1,
            ..Self::default()
        };
        faults.buffer =
            rng.pick(&[1, 7, 100, 1000, 4096, 16 << 10, 64 << 10]).copied().unwrap_or(0);
        faults.latency = rng.pick(&[1, 50, 1000, 20_000]).copied().unwrap_or(50);
        faults
    }
}

/// How often each kind happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injected([u64; FaultKind::ALL.len()]);

impl Default for Injected {
    fn default() -> Self {
        Self([0; FaultKind::ALL.len()])
    }
}

impl Injected {
    /// How often a kind happened.
    #[must_use]
    pub fn of(&self, kind: FaultKind) -> u64 {
        self.0.get(kind as usize).copied().unwrap_or_default()
    }

    /// Adds what happened in another world.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum += more;
        }
    }

    pub(super) fn count(&mut self, kind: FaultKind) {
        if let Some(count) = self.0.get_mut(kind as usize) {
            *count += 1;
        }
    }
}
