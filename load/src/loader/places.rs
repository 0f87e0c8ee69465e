//! [`Places`]: the connections' places, and how many of them are in use.

use myriapod::sys::Socket;

use super::wire::Wire;
use crate::connection::Queue;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Vacant,
    Connecting,
    /// In a handshake of TLS.
    Shaking,
    Open,
    /// Answered, and waiting to see who closes.
    Answered,
    /// Our side is shut down.
    Closing,
}

/// One connection's place.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) socket: Option<Socket>,
    pub(super) state: State,
    /// It has been connected at least once.
    pub(super) counted: bool,
    /// It waits to be writable.
    pub(super) writing: bool,
    /// When its present state began, in nanoseconds of the clock.
    pub(super) since: u64,
    /// When the request was due for which it was opened.
    pub(super) due: u64,
    pub(super) answered: u32,
    pub(super) queue: Queue,
    /// What TLS keeps of it.
    pub(super) wire: Option<Box<Wire>>,
    /// The start of a reply.
    pub(super) partial: Vec<u8>,
    /// What the socket has not taken.
    pub(super) rest: Vec<u8>,
}

impl Slot {
    fn new() -> Self {
        Self {
            socket: None,
            state: State::Vacant,
            counted: false,
            writing: false,
            since: 0,
            due: 0,
            answered: 0,
            queue: Queue::default(),
            wire: None,
            partial: Vec::new(),
            rest: Vec::new(),
        }
    }
}

/// All places of one thread.
#[derive(Debug)]
pub(super) struct Places {
    slots: Vec<Slot>,
    /// Requests that wait for their answer in time.
    pub(super) waiting: usize,
    /// Open connections that are not idle ones.
    pub(super) at_work: usize,
    /// Short connections that are not vacant.
    pub(super) busy: usize,
}

impl Places {
    pub(super) fn new(count: usize) -> Self {
        let slots = (0..count).map(|_| Slot::new()).collect();
        Self { slots, waiting: 0, at_work: 0, busy: 0 }
    }

    /// Adds vacant places, up to so many.
    pub(super) fn grow(&mut self, count: usize) {
        self.slots.resize_with(count.max(self.slots.len()), Slot::new);
    }

    pub(super) const fn len(&self) -> usize {
        self.slots.len()
    }

    #[inline]
    pub(super) fn get(&self, slot: usize) -> Option<&Slot> {
        self.slots.get(slot)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut Slot> {
        self.slots.get_mut(slot)
    }

    pub(super) fn is(&self, slot: usize, state: State) -> bool {
        self.get(slot).is_some_and(|place| place.state == state)
    }
}
