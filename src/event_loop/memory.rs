//! Giving back memory that was needed for a while: a little at a time, as long as nobody needs it.

use std::time::Duration;

use myriapod_sys as sys;

use super::EventLoop;
use crate::handler::Handler;
use crate::link::Link;
use crate::protocol::Framing;
use crate::timer::{self, Tick};

/// The time between two steps.
const STEP: Duration = Duration::from_millis(100);

/// When the next step is due; `None` while there is nothing to give back.
#[derive(Debug, Default)]
pub(super) struct GiveBack(Option<Tick>);

impl GiveBack {
    pub(super) fn due(&self) -> Option<Tick> {
        self.0
    }
}

impl<H: Handler, F: Framing, L: Link> EventLoop<H, F, L> {
    /// Takes a step, if one is due. An idle loop is woken for that until nothing is left to give
    /// back.
    #[inline]
    pub(super) fn give_back(&mut self) {
        match self.give_back.0 {
            Some(due) if timer::until(self.shared.tick, due) == 0 => self.give_back_some(),
            None if self.holds_spare_memory() => self.give_back.0 = Some(self.next_step()),
            _ => {}
        }
    }

    #[inline]
    fn holds_spare_memory(&self) -> bool {
        self.shared.pool.holds_spare_memory() || self.shared.engine.holds_spare_memory()
    }

    fn next_step(&self) -> Tick {
        self.shared.tick.wrapping_add(timer::ticks(STEP))
    }

    #[cold]
    #[inline(never)]
    fn give_back_some(&mut self) {
        if self.shared.pool.holds_spare_memory() {
            self.shared.pool.give_back();
        } else {
            self.shared.engine.give_back(sys::release_pages);
            // Whatever was large went through here as well; what it holds is done with.
            self.shared.scratch.clear();
            sys::release_pages(&mut self.shared.scratch);
        }
        self.give_back.0 = self.holds_spare_memory().then(|| self.next_step());
    }
}
