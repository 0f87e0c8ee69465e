//! [`Kernel`]: the state of a simulated system: descriptors, the clock, and what is to happen.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use super::closing::Closing;
use super::end::{End, EndId};
use super::faults::{FaultKind, Faults, Injected};
use super::maker::Calls;
use super::net::{Listening, ListeningId};
use super::poller::Watches;
use super::process::{Process, ProcessId};
use super::rng::{Rng, Trace};
use super::threads::Thread;
use super::wire::Packet;
use crate::{Errno, Signal, SocketAddr};

/// A microsecond, in the clock's unit.
pub(super) const MICROSECOND: u64 = 1_000;

/// Calls of one world: more means that somebody spins. A world makes some ten thousand.
const MOST_CALLS: u64 = 3_000_000;

/// The first descriptor that is given out: 0 to 2 are the standard streams.
const FIRST: usize = 3;

/// What a descriptor is.
#[derive(Debug)]
pub(super) enum Object {
    Stream(EndId),
    Listener(ListeningId),
    Poller(Watches),
    /// A counter that is readable while it is raised.
    Counter(bool),
    Signals,
    Null,
    /// Its process was killed, so it is closed; the number is free when the value that has it is gone.
    Dead,
}

impl Object {
    /// A second one for the same thing, where there can be one.
    pub(super) fn duplicate(&self) -> Result<Self, Errno> {
        match self {
            Self::Stream(end) => Ok(Self::Stream(*end)),
            Self::Listener(listening) => Ok(Self::Listener(*listening)),
            Self::Signals => Ok(Self::Signals),
            Self::Poller(_) | Self::Counter(_) | Self::Null | Self::Dead => Err(Errno::EINVAL),
        }
    }
}

/// What a number stands for, and in which process.
#[derive(Debug)]
struct Place {
    process: ProcessId,
    object: Object,
}

/// What happens by itself, at its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Happening {
    /// Bytes, or the end of them, go from this end to the other.
    Deliver(EndId),
    /// A reset arrives at this end.
    Reset(EndId),
    /// A connect of this end arrives where it goes, after so many attempts.
    Connect(EndId, u32),
    /// A connect of this end has failed with this number.
    Fail(EndId, i32),
    /// Nothing but the time.
    Alarm,
}

#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) rng: Rng,
    pub(super) faults: Faults,
    pub(super) injected: Injected,
    /// See [`tell`](Self::tell).
    pub(super) trace: Trace,
    /// Nanoseconds.
    pub(super) now: u64,
    pub(super) descriptor_limit: usize,
    /// The descriptors of all processes: no two have the same number.
    table: Vec<Option<Place>>,
    /// Several descriptors may stand for one thing.
    pub(super) has_duplicates: bool,
    pub(super) processes: Vec<Process>,
    /// By their numbers: the channels of threads on which something has come.
    pub(super) channels: BTreeMap<u64, bool>,
    pub(super) ends: BTreeMap<EndId, End>,
    pub(super) listenings: BTreeMap<ListeningId, Listening>,
    pub(super) hosts: BTreeMap<String, Vec<SocketAddr>>,
    pub(super) next_id: u64,
    pub(super) next_port: u16,
    happenings: BinaryHeap<Reverse<(u64, u64, Happening)>>,
    scheduled: u64,
    pub(super) signals: VecDeque<Signal>,
    pub(super) signals_installed: bool,
    pub(super) threads: Vec<Thread>,
    pub(super) running: usize,
    /// Why the world has ended: nothing can ever happen again, or it went on for too long.
    pub(super) dead: Option<&'static str>,
    /// Calls that were made.
    pub(super) calls: Calls,
    /// The streams that were closed since somebody asked.
    pub(super) closings: Vec<Closing>,
    /// What was on the wire, where that is wanted; see [`carry`](Self::carry).
    pub(super) wire: Option<Vec<Packet>>,
    /// Kinds that never happen, by their numbers; the world is the same otherwise.
    pub(super) without: u64,
    /// Bytes that descriptors have received and sent so far.
    pub(super) received: u64,
    pub(super) sent: u64,
}

impl Kernel {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        Self {
            rng: Rng::new(seed),
            faults,
            injected: Injected::default(),
            trace: Trace::default(),
            // Some time after the system was started.
            now: 1_000_000_000_000,
            descriptor_limit: 1024,
            table: Vec::new(),
            has_duplicates: false,
            processes: vec![Process::default()],
            channels: BTreeMap::new(),
            ends: BTreeMap::new(),
            listenings: BTreeMap::new(),
            hosts: BTreeMap::new(),
            next_id: 1,
            next_port: 32_768,
            happenings: BinaryHeap::new(),
            scheduled: 0,
            signals: VecDeque::new(),
            signals_installed: false,
            threads: vec![Thread::ready(0)],
            running: 0,
            dead: None,
            calls: Calls::default(),
            closings: Vec::new(),
            wire: None,
            without: 0,
            received: 0,
            sent: 0,
        }
    }

    /// As [`enter`](Self::enter), for a call about a descriptor.
    pub(super) fn enter_at(&mut self, call: u64, fd: i32) {
        self.enter(call);
        self.tell(u64::from(fd.unsigned_abs()));
    }

    /// Every call takes its time, is interrupted now and then, and is part of the trace.
    pub(super) fn enter(&mut self, call: u64) {
        while self.fault(FaultKind::Interrupted, self.faults.interrupted) {
            self.tick();
        }
        self.tick();
        if self.dead.is_none() && self.calls.count() >= MOST_CALLS {
            self.dead = Some("there is no end of calls: somebody spins");
        }
        self.tell(call);
        self.tell(self.now);
    }

    /// Adds to the trace. Once the world has ended, its threads end in any order.
    pub(super) fn tell(&mut self, number: u64) {
        if self.dead.is_none() {
            self.trace.add(number);
        }
    }

    /// Adds bytes to the trace.
    pub(super) fn tell_bytes(&mut self, bytes: &[u8]) {
        if self.dead.is_none() {
            self.trace.add_bytes(bytes);
        }
    }

    /// Adds the result of a call to the trace.
    pub(super) fn tell_result<T>(
        &mut self,
        result: Result<T, Errno>,
        number: impl FnOnce(&T) -> u64,
    ) -> Result<T, Errno> {
        match &result {
            Ok(value) => self.tell(number(value)),
            Err(errno) => self.tell_bytes(errno.name().as_bytes()),
        }
        result
    }

    fn tick(&mut self) {
        let nanos = self.rng.between(100, 2 * MICROSECOND);
        self.pass(nanos);
    }

    /// Whether a fault happens; if so, it is counted.
    pub(super) fn fault(&mut self, kind: FaultKind, permille: u16) -> bool {
        // The chance is taken all the same, so that the rest of the world stays as it was.
        let happens = self.rng.chance(permille) && self.without & (1 << kind as u64) == 0;
        if happens {
            self.note(kind);
        }
        happens
    }

    pub(super) fn note(&mut self, kind: FaultKind) {
        if self.dead.is_none() {
            self.injected.count(kind);
            self.trace.add(kind as u64);
        }
    }

    /// Lets time pass, with all that happens meanwhile.
    pub(super) fn pass(&mut self, nanos: u64) {
        self.pass_until(self.now.saturating_add(nanos));
    }

    pub(super) fn pass_until(&mut self, time: u64) {
        while let Some(Reverse((at, ..))) = self.happenings.peek().copied()
            && at <= time
        {
            let Some(Reverse((_, _, happening))) = self.happenings.pop() else { break };
            self.now = self.now.max(at);
            self.happen(happening);
        }
        self.now = self.now.max(time);
    }

    /// Every stream and everything that is to happen, for people.
    pub(super) fn describe(&self) -> String {
        format!("now {} {:#?} {:#?}", self.now, self.ends, self.happenings)
    }

    /// When something happens next.
    pub(super) fn next_happening(&self) -> Option<u64> {
        self.happenings.peek().map(|Reverse((at, ..))| *at)
    }

    pub(super) fn schedule_in(&mut self, nanos: u64, happening: Happening) {
        self.scheduled += 1;
        let at = self.now.saturating_add(nanos);
        self.happenings.push(Reverse((at, self.scheduled, happening)));
    }

    pub(super) fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Gives out the smallest free number, unless there is none or a fault says so.
    pub(super) fn open(&mut self, object: Object) -> Result<i32, Errno> {
        if self.rng.chance(self.faults.exhausted) {
            let (kind, errno) = match self.rng.below(4) {
                0 => (FaultKind::Emfile, Errno::EMFILE),
                1 => (FaultKind::Enfile, Errno::ENFILE),
                2 => (FaultKind::Enobufs, Errno::ENOBUFS),
                _ => (FaultKind::Enomem, Errno::ENOMEM),
            };
            self.note(kind);
            return Err(errno);
        }
        let opened = self.open_surely(object);
        self.tell_result(opened, |number| u64::from(number.unsigned_abs()))
    }

    /// The same without any fault but a real lack.
    pub(super) fn open_surely(&mut self, object: Object) -> Result<i32, Errno> {
        let free = self.table.iter().position(Option::is_none).unwrap_or(self.table.len());
        // Of several processes each has as many numbers, and here they are all different ones.
        let taken = if self.processes.len() > 1 { self.open_count() } else { free };
        if taken + FIRST >= self.descriptor_limit {
            self.note(FaultKind::Emfile);
            return Err(Errno::EMFILE);
        }
        if free == self.table.len() {
            self.table.push(None);
        }
        let process = self.process();
        if let Some(place) = self.table.get_mut(free) {
            *place = Some(Place { process, object });
        }
        i32::try_from(free + FIRST).map_err(|_| Errno::EMFILE)
    }

    fn place(number: i32) -> usize {
        usize::try_from(number).unwrap_or(usize::MAX).wrapping_sub(FIRST)
    }

    pub(super) fn object(&mut self, number: i32) -> Result<&mut Object, Errno> {
        let place = self.table.get_mut(Self::place(number)).and_then(Option::as_mut);
        match place.map(|place| &mut place.object) {
            None | Some(Object::Dead) => Err(Errno::EBADF),
            Some(object) => Ok(object),
        }
    }

    pub(super) fn look(&self, number: i32) -> Option<&Object> {
        let place = self.table.get(Self::place(number)).and_then(Option::as_ref);
        place.map(|place| &place.object).filter(|object| !matches!(object, Object::Dead))
    }

    pub(super) fn stream(&mut self, number: i32) -> Result<EndId, Errno> {
        match self.object(number)? {
            Object::Stream(end) => Ok(*end),
            _ => Err(Errno::ENOTSOCK),
        }
    }

    /// How many descriptors this process has.
    pub(super) fn open_count(&self) -> usize {
        self.open_count_of(self.process())
    }

    /// How many a process has.
    pub(super) fn open_count_of(&self, process: ProcessId) -> usize {
        let is_open =
            |place: &&Place| place.process == process && !matches!(place.object, Object::Dead);
        self.table.iter().flatten().filter(is_open).count()
    }

    /// Takes a poller out of the table while it looks at the others; it must be put back.
    pub(super) fn take_poller(&mut self, number: i32) -> Option<Watches> {
        match self.object(number) {
            Ok(Object::Poller(watches)) => Some(std::mem::take(watches)),
            _ => None,
        }
    }

    pub(super) fn put_poller(&mut self, number: i32, watches: Watches) {
        if let Ok(object) = self.object(number) {
            *object = Object::Poller(watches);
        }
    }

    /// `close(2)`: the poller that watches the number forgets it, as the kernel does where no other
    /// descriptor stands for the same thing.
    pub(super) fn close(&mut self, number: i32) {
        let Some(place) = self.table.get_mut(Self::place(number)).and_then(Option::take) else {
            return;
        };
        self.release(number, &place.object);
    }

    /// Closes all descriptors of a process. The values that have them close nothing any more.
    pub(super) fn close_all(&mut self, process: ProcessId) {
        for index in 0..self.table.len() {
            let Some(Some(place)) = self.table.get_mut(index) else { continue };
            if place.process == process {
                let object = std::mem::replace(&mut place.object, Object::Dead);
                self.release(i32::try_from(index + FIRST).unwrap_or(i32::MAX), &object);
            }
        }
    }

    /// A descriptor is closed that stood for this.
    fn release(&mut self, number: i32, object: &Object) {
        let is_shared = self.is_held(object);
        for other in self.table.iter_mut().flatten() {
            if let Object::Poller(watches) = &mut other.object {
                let was_watched = watches.forget(number);
                let is_ending = self.processes.get(other.process).is_none_or(|one| one.is_dead);
                if was_watched && is_shared && !is_ending {
                    // A real one goes on reporting it, under a number that is another's soon.
                    self.dead = Some("a descriptor was closed that is watched and has a duplicate");
                }
            }
        }
        if !is_shared {
            self.end_object(object);
        }
    }

    /// A descriptor for this is gone that had no number.
    pub(super) fn end_unless_held(&mut self, object: &Object) {
        if !self.is_held(object) {
            self.end_object(object);
        }
    }

    /// Nobody has this any more.
    fn end_object(&mut self, object: &Object) {
        match *object {
            Object::Stream(end) => {
                let passed = self.ends.get_mut(&end).map(|end| std::mem::take(&mut end.passed));
                self.close_end(end);
                for (_, objects) in passed.into_iter().flatten() {
                    objects.into_iter().for_each(|object| self.end_unless_held(&object));
                }
            }
            Object::Listener(listening) => self.close_listening(listening),
            Object::Poller(_)
            | Object::Counter(_)
            | Object::Signals
            | Object::Null
            | Object::Dead => {}
        }
    }

    /// Whether a descriptor stands for this, of any process or on its way to one.
    fn is_held(&self, wanted: &Object) -> bool {
        let is_it = |object: &Object| match (object, wanted) {
            (Object::Stream(one), Object::Stream(other)) => one == other,
            (Object::Listener(one), Object::Listener(other)) => one == other,
            _ => false,
        };
        let on_their_way = || self.ends.values().flat_map(|end| &end.passed).flat_map(|(_, on)| on);
        self.has_duplicates
            && (self.table.iter().flatten().any(|place| is_it(&place.object))
                || on_their_way().any(is_it))
    }
}
