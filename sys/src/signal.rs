//! [`Signals`]: signals as something that a poller can wait for.
//!
//! A handler may do next to nothing, so ours writes one byte to a pipe, in the order of arrival.
//! The pipe stays open for as long as the process lives: a handler that runs late, on another
//! thread, then still writes to a pipe and never to what has got its number since.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use nix::sys::signal::{self, SaFlags, SigAction, SigHandler, SigSet, sigaction};

use crate::descriptor::pipe;
use crate::{Descriptor, Error, Result};

/// The signals that a server is told things by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// `SIGINT`: the user pressed Ctrl-C.
    Interrupt,
    /// `SIGTERM`: end in good order.
    Terminate,
    /// `SIGHUP`: the terminal is gone; to a server, read your configuration again.
    Hangup,
    /// `SIGUSR1`: whatever the program makes of it.
    User1,
}

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

/// `SIGINT`, `SIGTERM`, `SIGHUP`, `SIGUSR1`.
impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.number().as_str())
    }
}

/// Whether a [`Signals`] lives.
static INSTALLED: AtomicBool = AtomicBool::new(false);
/// Reading and writing end, made once.
static PIPE: OnceLock<(Descriptor, Descriptor)> = OnceLock::new();
/// The writing end for the handler, which must not touch a lock; -1 before there is one.
static WRITE_END: AtomicI32 = AtomicI32::new(-1);
/// Whose pipe it is: a child between fork and exec has our handler, but its signals are not ours.
static OWNER: AtomicI32 = AtomicI32::new(0);
/// Signals for which the pipe had no room.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Only what signal-safety(7) allows: getpid, write, and atomics without locks. It leaves `errno`
/// as the interrupted code had it.
extern "C" fn handler(number: libc::c_int) {
    let errno = nix::errno::Errno::last_raw();
    // SAFETY: no memory is involved.
    if unsafe { libc::getpid() } == OWNER.load(Ordering::Relaxed) {
        let byte = u8::try_from(number).unwrap_or(0);
        let to = WRITE_END.load(Ordering::Relaxed);
        // SAFETY: one byte of ours is read. The pipe is never closed, so the number is the pipe's.
        let written = unsafe { libc::write(to, (&raw const byte).cast(), 1) };
        if written != 1 {
            LOST.fetch_add(1, Ordering::Relaxed);
        }
    }
    nix::errno::Errno::set_raw(errno);
}

/// The signals of this process, delivered through a descriptor.
///
/// It is readable (see [`AsFd`]) while a signal waits to be taken. Dropping it restores what the
/// signals did before.
///
/// ```
/// use myriapod_sys::{Signal, Signals};
///
/// let mut signals = Signals::install(&[Signal::Terminate, Signal::User1])?;
/// assert_eq!(signals.take(), None);
/// // Now somebody says `kill -USR1`, and it becomes readable.
/// # nix::sys::signal::raise(nix::sys::signal::Signal::SIGUSR1).unwrap();
/// assert_eq!(signals.take(), Some(Signal::User1));
/// # Ok::<(), myriapod_sys::Error>(())
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
    /// ignores them.
    ///
    /// # Errors
    ///
    /// [`Error::SignalsInstalled`] while another `Signals` lives: signals belong to the process.
    /// [`Error::Call`] with `pipe` or `sigaction`.
    ///
    /// Source: sigaction(2), signal-safety(7).
    pub fn install(signals: &[Signal]) -> Result<Self> {
        if INSTALLED.swap(true, Ordering::AcqRel) {
            return Err(Error::SignalsInstalled);
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
                let ends = pipe().map_err(|errno| Error::call("pipe", errno, ""))?;
                PIPE.get_or_init(|| ends)
            }
        };
        drain(read_end);
        LOST.store(0, Ordering::Relaxed);
        WRITE_END.store(write_end.as_raw_fd(), Ordering::Relaxed);
        OWNER.store(nix::unistd::getpid().as_raw(), Ordering::Release);
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
                    return Err(Error::call("sigaction", errno.into(), signal));
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
