//! [`Signals`]: signals as something that a poller can wait for.
//!
//! A handler may do next to nothing, so ours writes one byte to a pipe, in the order of arrival.
//! The pipe stays open for as long as the process lives: a handler that runs late, on another
//! thread, then still writes to a pipe and never to what has got its number since. A forked child
//! shares it with its parent until it [takes the signals over](Signals::take_over).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use nix::sys::signal::{self, SaFlags, SigAction, SigHandler, SigSet, sigaction};
use nix::unistd::getpid;

use super::descriptor::{pipe, set_close_on_exec};
use crate::{Descriptor, Errno, Result, Signal, SystemError};

impl Signal {
    const ALL: [Self; 4] = [Self::Interrupt, Self::Terminate, Self::Hangup, Self::User1];

    pub(crate) const fn number(self) -> signal::Signal {
        match self {
            Self::Interrupt => signal::Signal::SIGINT,
            Self::Terminate => signal::Signal::SIGTERM,
            Self::Hangup => signal::Signal::SIGHUP,
            Self::User1 => signal::Signal::SIGUSR1,
        }
    }
}

/// Whether a [`Signals`] lives.
static INSTALLED: AtomicBool = AtomicBool::new(false);
/// Reading and writing end, made once.
static PIPE: OnceLock<(Descriptor, Descriptor)> = OnceLock::new();
/// The writing end for the handler, which must not touch a lock; -1 before there is one.
static WRITE_END: AtomicI32 = AtomicI32::new(-1);
/// Whose pipe it is: a child after a fork has our handler, but its signals are not ours.
static OWNER: AtomicI32 = AtomicI32::new(0);
/// What came for a process that does not own the pipe: its number above, below a bit for each
/// signal. In one word, because a child may share our memory until its exec (`vfork`): what it
/// leaves here has its number and is not taken for another's.
static EARLY: AtomicU64 = AtomicU64::new(0);
/// Signals for which the pipe had no room.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Only what signal-safety(7) allows: getpid, write, and atomics without locks. It leaves `errno`
/// as the interrupted code had it.
extern "C" fn handler(number: libc::c_int) {
    let errno = nix::errno::Errno::last_raw();
    // SAFETY: no memory is involved.
    let process = unsafe { libc::getpid() };
    if process == OWNER.load(Ordering::SeqCst) {
        deliver(number);
    } else {
        note_early(process, number);
        // Another thread may have taken over in between, and have missed this one.
        if process == OWNER.load(Ordering::SeqCst) {
            deliver_early(process);
        }
    }
    nix::errno::Errno::set_raw(errno);
}

/// Writes a signal to the pipe; called by the handler.
fn deliver(number: i32) {
    let byte = u8::try_from(number).unwrap_or(0);
    let to = WRITE_END.load(Ordering::Relaxed);
    // SAFETY: one byte of ours is read. The pipe is never closed, so the number is the pipe's.
    let written = unsafe { libc::write(to, (&raw const byte).cast(), 1) };
    if written != 1 {
        LOST.fetch_add(1, Ordering::Relaxed);
    }
}

/// Remembers a signal of a process that may yet take the signals over; called by the handler.
fn note_early(process: i32, number: i32) {
    let place = Signal::ALL.iter().position(|signal| signal.number() as i32 == number);
    let bit = place.map_or(0, |place| 1 << place);
    let noted = |before: u64| match before >> 32 == early(process) >> 32 {
        true => before | bit,
        false => early(process) | bit,
    };
    let mut before = EARLY.load(Ordering::Relaxed);
    while let Err(now) =
        EARLY.compare_exchange_weak(before, noted(before), Ordering::SeqCst, Ordering::Relaxed)
    {
        before = now;
    }
}

/// Writes what was remembered for this process to the pipe; called by the handler too.
fn deliver_early(process: i32) {
    let kept = EARLY.swap(0, Ordering::SeqCst);
    if kept >> 32 == early(process) >> 32 {
        let come = |(place, _): &(usize, Signal)| kept & 1 << place != 0;
        let signals = Signal::ALL.into_iter().enumerate().filter(come);
        signals.for_each(|(_, signal)| deliver(signal.number() as i32));
    }
}

/// What [`EARLY`] is where nothing has come for this process.
fn early(process: i32) -> u64 {
    u64::from(process.unsigned_abs()) << 32
}

/// The signals of this process, delivered through a descriptor.
///
/// Its descriptor is readable while a signal waits to be taken: lend it to a poller ([`AsFd`]), or
/// give a poller that owns what it watches a [duplicate](Self::try_clone_descriptor). Dropping this
/// restores what the signals did before.
///
/// ```
/// use myriapod_sys::{Signal, Signals};
///
/// let mut signals = Signals::install(&[Signal::Terminate, Signal::User1])?;
/// assert_eq!(signals.take(), None);
/// // Now somebody says `kill -USR1`, and it becomes readable.
/// # nix::sys::signal::raise(nix::sys::signal::Signal::SIGUSR1).unwrap();
/// assert_eq!(signals.take(), Some(Signal::User1));
/// # Ok::<(), myriapod_sys::SystemError>(())
/// ```
#[derive(Debug)]
pub struct Signals {
    pipe: &'static Descriptor,
    /// In the order of installing.
    before: Vec<(Signal, SigAction)>,
}

impl Signals {
    /// `int sigaction(int number, const struct sigaction *action, struct sigaction *before)`
    ///
    /// Catches these signals, also where they were ignored before. System calls that a signal
    /// interrupts are restarted where the kernel can (`SA_RESTART`). A child between fork and exec
    /// does nothing about them; see [`take_over`](Self::take_over).
    ///
    /// # Errors
    ///
    /// [`SystemError::SignalsInstalled`] while another `Signals` lives: signals belong to the process.
    /// [`SystemError::Call`] with `pipe` or `sigaction`.
    ///
    /// Source: sigaction(2), signal-safety(7).
    pub fn install(signals: &[Signal]) -> Result<Self> {
        if INSTALLED.swap(true, Ordering::AcqRel) {
            return Err(SystemError::SignalsInstalled);
        }
        match Self::install_first(signals) {
            Ok(installed) => Ok(installed),
            Err(error) => {
                INSTALLED.store(false, Ordering::Release);
                Err(error)
            }
        }
    }

    fn install_first(signals: &[Signal]) -> Result<Self> {
        let (read_end, write_end) = match PIPE.get() {
            Some(ends) => ends,
            None => {
                let ends = pipe().map_err(|errno| SystemError::call("pipe", errno, ""))?;
                PIPE.get_or_init(|| ends)
            }
        };
        if ![0, getpid().as_raw()].contains(&OWNER.load(Ordering::Acquire)) {
            // It is the parent's, as what is in it is.
            renew((read_end, write_end))?;
        }
        drain(read_end);
        LOST.store(0, Ordering::Relaxed);
        WRITE_END.store(write_end.as_raw_fd(), Ordering::Relaxed);
        EARLY.store(0, Ordering::Relaxed);
        OWNER.store(getpid().as_raw(), Ordering::Release);
        // All are blocked while the handler runs, so that two bytes cannot change places.
        let action =
            SigAction::new(SigHandler::Handler(handler), SaFlags::SA_RESTART, SigSet::all());
        let mut before = Vec::with_capacity(signals.len());
        for &signal in signals {
            // SAFETY: the handler does only what signal-safety(7) allows.
            match unsafe { sigaction(signal.number(), &action) } {
                Ok(old) => before.push((signal, old)),
                Err(errno) => {
                    restore(&before);
                    return Err(SystemError::call("sigaction", errno.into(), signal));
                }
            }
        }
        Ok(Self { pipe: read_end, before })
    }

    /// The signal that arrived first and was not taken yet. A signal delivered twice is there
    /// twice; one that arrives again before the kernel has delivered the first is not.
    pub fn take(&mut self) -> Option<Signal> {
        loop {
            let mut byte = [0];
            match nix::unistd::read(self.pipe, &mut byte) {
                Ok(1) => {
                    let number = i32::from(byte[0]);
                    let known = |signal: &Signal| signal.number() as i32 == number;
                    if let Some(signal) = Signal::ALL.into_iter().find(known) {
                        return Some(signal);
                    }
                }
                Err(nix::Error::EINTR) => {}
                _ => return None,
            }
        }
    }

    /// Has the signals of this process come here where another process installed this: its parent,
    /// before a fork. Until then nothing comes here in the child, and what arrives there is kept, one
    /// of each kind.
    ///
    /// Call it before the first wait, in the process that runs the loop. Where it returns `true` the
    /// descriptor leads to a new pipe, and a poller must be told of it anew. The parent keeps the old
    /// one.
    ///
    /// ```
    /// use myriapod_sys::{Signal, Signals};
    ///
    /// let mut signals = Signals::install(&[Signal::Terminate])?;
    /// assert!(!signals.take_over()?, "this process has installed them itself");
    /// # Ok::<(), myriapod_sys::SystemError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`SystemError::Call`] with `pipe`, such as `EMFILE`, or `dup2`; it may be called again.
    ///
    /// Source: fork(2), pipe(7), signal(7).
    pub fn take_over(&mut self) -> Result<bool> {
        let (process, Some(ends)) = (getpid().as_raw(), PIPE.get()) else { return Ok(false) };
        if OWNER.load(Ordering::Acquire) == process {
            return Ok(false);
        }
        renew((&ends.0, &ends.1))?;
        LOST.store(0, Ordering::Relaxed);
        // From here on the handler writes to the pipe itself.
        OWNER.store(process, Ordering::SeqCst);
        deliver_early(process);
        Ok(true)
    }

    /// `int fcntl(int fd, F_DUPFD_CLOEXEC, int least)`
    ///
    /// A second descriptor that is readable while a signal waits, for a poller that owns what it
    /// watches, as `myriapod::Selector` does. What became readable is still taken [here](Self::take).
    ///
    /// ```
    /// use myriapod_sys::{AsFd, Backend, Events, Interest, Mode, Poller, Signal, Signals, Token};
    ///
    /// let mut signals = Signals::install(&[Signal::User1])?;
    /// let watched = signals.try_clone_descriptor()?;
    /// let mut poller = Poller::new(Backend::native())?;
    /// poller.add(watched.as_fd(), Token(7), Interest::READABLE, Mode::LEVEL)?;
    /// # nix::sys::signal::raise(nix::sys::signal::Signal::SIGUSR1).unwrap();
    /// let mut events = Events::with_capacity(8);
    /// poller.wait(&mut events, None)?;
    /// assert_eq!(events.as_slice()[0].token(), Token(7));
    /// assert_eq!(signals.take(), Some(Signal::User1));
    /// # Ok::<(), myriapod_sys::SystemError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`SystemError::Call`], such as `EMFILE`.
    ///
    /// Source: fcntl(2).
    pub fn try_clone_descriptor(&self) -> Result<Descriptor> {
        self.as_fd().try_clone_to_owned().map_err(|error| {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or_default());
            SystemError::call("fcntl F_DUPFD_CLOEXEC", errno, "the signals' descriptor")
        })
    }

    /// How many signals had no room in the pipe, which holds thousands, since this was installed.
    #[must_use]
    pub fn lost(&self) -> u64 {
        LOST.load(Ordering::Relaxed)
    }
}

impl AsFd for Signals {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        restore(&self.before);
        INSTALLED.store(false, Ordering::Release);
    }
}

/// Backwards, so that a signal that was named twice ends as it began.
fn restore(before: &[(Signal, SigAction)]) {
    for (signal, action) in before.iter().rev() {
        // SAFETY: this action was in force before, so its handler was allowed to run.
        let restored = unsafe { sigaction(signal.number(), action) };
        debug_assert!(restored.is_ok(), "a signal that could be caught can be restored");
    }
}

/// `int dup2(int from, int to)`: puts a new pipe behind the numbers of the old one, so that nothing
/// that knows these has to change, and the handler meets an open pipe at every moment.
fn renew(ends: (&Descriptor, &Descriptor)) -> Result<()> {
    let new = pipe().map_err(|errno| SystemError::call("pipe", errno, "signals"))?;
    for (from, to) in [(&new.0, ends.0), (&new.1, ends.1)] {
        // SAFETY: no memory is involved. Both numbers are open and ours, and stay so: the pipe is
        // never closed, only what stands behind its numbers changes.
        let done = unsafe { libc::dup2(from.as_raw_fd(), to.as_raw_fd()) };
        let done = if done < 0 { Err(Errno::last()) } else { set_close_on_exec(to.as_fd()) };
        done.map_err(|errno| SystemError::call("dup2", errno, "signals"))?;
    }
    Ok(())
}

/// What a handler wrote after the last owner had gone.
fn drain(read_end: &Descriptor) {
    let mut bytes = [0; 512];
    loop {
        match nix::unistd::read(read_end, &mut bytes) {
            Ok(1..) | Err(nix::Error::EINTR) => {}
            _ => return,
        }
    }
}
