//! [`Poller`] and [`wait_one`]: the backend contract over the simulated kernel.
//!
//! Whatever backend is asked for, it is this one.

use std::collections::BTreeMap;
use std::time::Duration;

use super::descriptor::{BorrowedFd, Descriptor, call_number};
use super::end::State;
use super::faults::FaultKind;
use super::kernel::{Kernel, MICROSECOND, Object};
use super::threads::{Awaited, block, call};
use crate::event::Event;
use crate::{AsFd, Backend, Errno, Events, Interest, Mode, Result, SystemError, Token};

/// As every backend is this one, so is that.
pub(crate) const HAS_PORTABLE: bool = true;

/// Waits in a row that may leave out one descriptor that is ready.
const MOST_DELAYS: u8 = 4;

/// What a poller watches.
#[derive(Debug, Default)]
pub(super) struct Watches {
    list: BTreeMap<i32, Watch>,
    /// Those for which the last wait had no room: they come first in the next.
    left_out: Vec<i32>,
}

#[derive(Clone, Copy, Debug)]
struct Watch {
    token: Token,
    interest: Interest,
    /// Waits in a row that have left it out.
    delays: u8,
}

impl Watches {
    /// Returns whether it was watched.
    pub(super) fn forget(&mut self, number: i32) -> bool {
        self.left_out.retain(|left| *left != number);
        self.list.remove(&number).is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }
}

/// A poller of the simulated system. See the [contract](crate#the-backend-contract).
///
/// It has [`Mode::LEVEL`] and no other.
#[derive(Debug)]
pub struct Poller {
    descriptor: Descriptor,
    backend: Backend,
}

fn failed(call: &'static str, errno: Errno, fd: BorrowedFd<'_>) -> SystemError {
    SystemError::call(call, errno, format_args!("descriptor {}", fd.number()))
}

impl Poller {
    /// A new poller, which says that it is `backend`.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new(backend: Backend) -> Result<Self> {
        let open = |kernel: &mut Kernel| {
            kernel.enter(call_number::OPEN);
            kernel.open(Object::Poller(Watches::default()))
        };
        let number = call(open).map_err(|errno| SystemError::call("poller", errno, ""))?;
        Ok(Self { descriptor: Descriptor::new(number), backend })
    }

    /// The backend that it says it is.
    #[must_use]
    pub const fn backend(&self) -> Backend {
        self.backend
    }

    /// Its own descriptor.
    #[must_use]
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.descriptor.as_fd())
    }

    /// Nothing has a duplicate here.
    ///
    /// # Errors
    ///
    /// [`SystemError::Unsupported`].
    pub fn descriptor(&self) -> Result<Descriptor> {
        Err(SystemError::Unsupported {
            what: "descriptor to be watched by",
            by: "a simulated poller",
        })
    }

    /// Starts watching `fd`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC`, `EEXIST` where it is watched already, `EINVAL` for an empty interest, `EBADF`,
    /// [`SystemError::Unsupported`] for any mode but level-triggered.
    pub fn add(
        &mut self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> Result<()> {
        self.watch("poller add", fd, token, interest, mode, false)
    }

    /// Replaces token, interest and mode.
    ///
    /// # Errors
    ///
    /// `ENOENT` where it is not watched; else as [`add`](Self::add).
    pub fn modify(
        &mut self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> Result<()> {
        self.watch("poller modify", fd, token, interest, mode, true)
    }

    fn watch(
        &mut self,
        name: &'static str,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
        known: bool,
    ) -> Result<()> {
        mode.level_only("the simulated system")?;
        if interest.is_empty() {
            return Err(failed(name, Errno::EINVAL, fd));
        }
        let watch = Watch { token, interest, delays: 0 };
        let number = self.descriptor.as_fd().number();
        let result = call(|kernel| {
            kernel.enter_at(call_number::WATCH, number);
            kernel.tell(u64::from(interest.is_readable()) << 1 | u64::from(interest.is_writable()));
            let watched = kernel.watch(number, fd.number(), watch, known);
            kernel.tell_result(watched, |()| u64::from(fd.number().unsigned_abs()))
        });
        result.map_err(|errno| failed(name, errno, fd))
    }

    /// Stops watching `fd`.
    ///
    /// # Errors
    ///
    /// `ENOENT` where it is not watched.
    pub fn delete(&mut self, fd: BorrowedFd<'_>) -> Result<()> {
        let number = self.descriptor.as_fd().number();
        let result = call(|kernel| {
            kernel.enter_at(call_number::WATCH, number);
            let Object::Poller(watches) = kernel.object(number)? else {
                return Err(Errno::EBADF);
            };
            let known = watches.list.contains_key(&fd.number());
            watches.forget(fd.number());
            let result = known.then_some(()).ok_or(Errno::ENOENT);
            kernel.tell_result(result, |()| u64::from(fd.number().unsigned_abs()))
        });
        result.map_err(|errno| failed("poller delete", errno, fd))
    }

    /// Stops watching `fd`, which is about to be closed, where it has a duplicate; else that is enough.
    pub fn forget(&mut self, fd: BorrowedFd<'_>) {
        let number = self.descriptor.as_fd().number();
        call(|kernel| {
            if kernel.has_duplicates
                && let Ok(Object::Poller(watches)) = kernel.object(number)
            {
                watches.forget(fd.number());
            }
        });
    }

    /// Waits as the contract says.
    ///
    /// # Errors
    ///
    /// `EINVAL` where `events` is full.
    pub fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> Result<usize> {
        if events.free() == 0 {
            return Err(SystemError::call("poller wait", Errno::EINVAL, ""));
        }
        let number = self.descriptor.as_fd().number();
        let until = call(|kernel| {
            kernel.enter_at(call_number::WAIT, number);
            end_of(kernel, timeout)
        });
        let found = block(Awaited::Poller(number), until, |kernel| {
            let found = kernel.ready(number, events.free());
            if found.is_empty() && kernel.has_ready(number) {
                // It was left out: the next look is not at the same moment.
                let nanos = kernel.rng.between(1, 500) * MICROSECOND;
                kernel.pass(nanos);
            }
            (!found.is_empty()).then_some(found)
        });
        let found = found.unwrap_or_default();
        let count = found.len();
        call(|kernel| {
            kernel.wake_up(timeout);
            kernel.tell(count as u64);
        });
        for event in found {
            events.push(event);
        }
        Ok(count)
    }
}

fn end_of(kernel: &Kernel, timeout: Option<Duration>) -> Option<u64> {
    let nanos = |timeout: Duration| u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
    timeout.map(|timeout| kernel.now.saturating_add(nanos(timeout)))
}

/// Waits until one descriptor is ready for any of `interest`; `None` says that the time is over.
///
/// # Errors
///
/// `EINVAL` for an empty interest.
pub fn wait_one(
    fd: BorrowedFd<'_>,
    interest: Interest,
    timeout: Option<Duration>,
) -> Result<Option<Interest>, Errno> {
    if interest.is_empty() {
        return Err(Errno::EINVAL);
    }
    let until = call(|kernel| {
        kernel.enter_at(call_number::WAIT, fd.number());
        end_of(kernel, timeout)
    });
    let ready = block(Awaited::Descriptor(fd.number(), interest), until, |kernel| {
        let flags = kernel.flags(fd.number());
        let ready = Event::new(Token(0), flags).readiness() & interest;
        if ready.is_empty()
            && kernel.may_mislead(fd.number())
            && kernel.fault(FaultKind::Spurious, kernel.faults.spurious)
        {
            return Some(interest);
        }
        (!ready.is_empty()).then_some(ready)
    });
    call(|kernel| {
        kernel.wake_up(timeout);
        let ready = ready.unwrap_or(Interest::NONE);
        kernel.tell(u64::from(ready.is_readable()) << 1 | u64::from(ready.is_writable()));
    });
    Ok(ready)
}

impl Kernel {
    fn watch(&mut self, poller: i32, fd: i32, watch: Watch, known: bool) -> Result<(), Errno> {
        self.object(fd)?;
        let Object::Poller(watches) = self.object(poller)? else { return Err(Errno::EBADF) };
        match watches.list.contains_key(&fd) {
            true if !known => return Err(Errno::EEXIST),
            false if known => return Err(Errno::ENOENT),
            _ => {}
        }
        if !known && self.fault(FaultKind::Unwatched, self.faults.unwatched) {
            if let Ok(end) = self.stream(fd)
                && let Some(end) = self.ends.get_mut(&end)
            {
                end.unwatched = true;
            }
            return Err(if self.rng.chance(500) { Errno::ENOMEM } else { Errno::ENOSPC });
        }
        let Object::Poller(watches) = self.object(poller)? else { return Err(Errno::EBADF) };
        watches.list.insert(fd, watch);
        Ok(())
    }

    /// What a descriptor is ready for.
    fn flags(&self, number: i32) -> u8 {
        match self.look(number) {
            Some(Object::Stream(end)) => self.end_flags(*end),
            Some(Object::Listener(listening)) => {
                let waits = self.listenings.get(listening).is_some_and(|at| !at.queue.is_empty());
                if waits { Event::READABLE } else { 0 }
            }
            Some(Object::Counter(true)) => Event::READABLE,
            Some(Object::Signals) if !self.signals.is_empty() => Event::READABLE,
            _ => 0,
        }
    }

    /// Whether a descriptor may be said to be ready and is not: a connected stream or a listener.
    fn may_mislead(&self, number: i32) -> bool {
        match self.look(number) {
            Some(Object::Stream(end)) => {
                self.ends.get(end).is_some_and(|end| end.state == State::Connected)
            }
            Some(Object::Listener(_)) => true,
            _ => false,
        }
    }

    /// Whether a poller has anything to report, without any fault.
    pub(super) fn has_ready(&self, poller: i32) -> bool {
        let Some(Object::Poller(watches)) = self.look(poller) else { return false };
        watches.list.iter().any(|(number, watch)| self.is_ready(*number, watch.interest))
    }

    /// Whether a descriptor is ready for any of `interest`.
    pub(super) fn is_ready(&self, number: i32, interest: Interest) -> bool {
        let event = Event::new(Token(0), self.flags(number));
        !(event.readiness() & interest).is_empty()
    }

    /// The events of one wait.
    fn ready(&mut self, poller: i32, most: usize) -> Vec<Event> {
        let Some(mut watches) = self.take_poller(poller) else { return Vec::new() };
        let mut found = Vec::new();
        for (number, watch) in &mut watches.list {
            let mut event = Event::new(watch.token, self.flags(*number));
            if (event.readiness() & watch.interest).is_empty() {
                if !self.may_mislead(*number)
                    || !self.fault(FaultKind::Spurious, self.faults.spurious)
                {
                    continue;
                }
                event = spurious(watch.token, watch.interest);
            } else if watch.delays < MOST_DELAYS
                && self.fault(FaultKind::Delayed, self.faults.delayed)
            {
                watch.delays += 1;
                continue;
            }
            watch.delays = 0;
            if self.faults.no_hints {
                event = spurious(watch.token, event.readiness() & watch.interest);
            } else if !event.is_hangup() && !event.is_error() {
                event = trimmed(event, watch.interest);
            }
            found.push((*number, event));
        }
        if self.faults.reordered && found.len() > 1 {
            self.note(FaultKind::Reordered);
            self.rng.shuffle(&mut found);
        }
        // Stable: so the order stays whatever it is among those that were left out, and the others.
        found.sort_by_key(|(number, _)| !watches.left_out.contains(number));
        let kept = found.len().min(most);
        watches.left_out = found.split_off(kept).iter().map(|(number, _)| *number).collect();
        for (_, event) in &found {
            self.tell(event.token().0);
            self.tell(u64::from(event.is_readable()) << 1 | u64::from(event.is_writable()));
        }
        self.put_poller(poller, watches);
        found.into_iter().map(|(_, event)| event).collect()
    }

    /// A wait has ended: maybe later than it was to, and maybe the clock has jumped.
    fn wake_up(&mut self, timeout: Option<Duration>) {
        if timeout == Some(Duration::ZERO) {
            return;
        }
        if self.fault(FaultKind::Oversleep, self.faults.oversleep) {
            let nanos = self.rng.between(1, 50_000) * MICROSECOND;
            self.pass(nanos);
        }
        if self.fault(FaultKind::ClockJump, self.faults.clock_jump) {
            let nanos = self.rng.between(1, 20_000_000) * MICROSECOND;
            self.pass(nanos);
        }
    }
}

/// An event that says this readiness and nothing else.
fn spurious(token: Token, readiness: Interest) -> Event {
    let mut flags = 0;
    if readiness.is_readable() {
        flags |= Event::READABLE;
    }
    if readiness.is_writable() {
        flags |= Event::WRITABLE;
    }
    Event::new(token, flags)
}

/// An event that says nothing which was not asked for, but the hint of a half-close.
fn trimmed(event: Event, interest: Interest) -> Event {
    let mut flags = 0;
    let readiness = event.readiness() & interest;
    if readiness.is_readable() {
        flags |= Event::READABLE;
        if event.is_read_closed() {
            flags |= Event::READ_CLOSED;
        }
    }
    if readiness.is_writable() {
        flags |= Event::WRITABLE;
    }
    Event::new(event.token(), flags)
}
