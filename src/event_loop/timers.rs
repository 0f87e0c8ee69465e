//! [`Alarms`]: timers of the handler, which are no connection's deadline.

use std::time::Duration;

use crate::slab::{Key, Slab};
use crate::timer::{self, Tick, TimerEntries, TimerLinks, Wheel};

/// The timers of the handler, with what each is for.
#[derive(Debug)]
pub(super) struct Alarms<T> {
    wheel: Wheel,
    entries: Slab<Alarm<T>>,
}

#[derive(Debug)]
struct Alarm<T> {
    links: TimerLinks,
    what: T,
}

struct Entries<'a, T>(&'a mut Slab<Alarm<T>>);

impl<T> TimerEntries for Entries<'_, T> {
    fn links(&mut self, index: u32) -> Option<&mut TimerLinks> {
        self.0.at_mut(index).map(|(_, alarm)| &mut alarm.links)
    }
}

impl<T> Default for Alarms<T> {
    fn default() -> Self {
        Self { wheel: Wheel::new(), entries: Slab::new() }
    }
}

impl<T> Alarms<T> {
    /// How many are set.
    pub(super) fn len(&self) -> usize {
        self.wheel.len()
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Tick> {
        self.wheel.next()
    }

    /// Sets one. `None` where there are as many as there can be.
    pub(super) fn set(&mut self, now: Tick, after: Duration, what: T) -> Option<Key> {
        let alarm = Alarm { links: TimerLinks::UNARMED, what };
        let key = self.entries.insert(alarm).ok()?;
        if self.wheel.is_empty() {
            // It has not moved while it had nothing to do.
            self.wheel = Wheel::starting_at(now);
        }
        let due = now.wrapping_add(timer::ticks(after).saturating_add(1));
        self.wheel.arm(&mut Entries(&mut self.entries), key.index(), due);
        Some(key)
    }

    /// When one is due.
    pub(super) fn due(&self, key: Key) -> Option<Tick> {
        self.entries.get(key)?.links.expires()
    }

    /// Takes one back.
    pub(super) fn cancel(&mut self, key: Key) -> Option<T> {
        self.entries.get(key)?;
        self.wheel.cancel(&mut Entries(&mut self.entries), key.index());
        self.entries.remove(key).map(|alarm| alarm.what)
    }

    /// The next one that is due, which is no longer set.
    pub(super) fn take_due(&mut self, now: Tick, budget: &mut u32) -> Option<T> {
        let index = self.wheel.expire(&mut Entries(&mut self.entries), now, budget)?;
        let (key, _) = self.entries.at_mut(index)?;
        self.entries.remove(key).map(|alarm| alarm.what)
    }
}
