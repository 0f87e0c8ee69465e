//! [`Due`]: when the next message is due, and which place is free for it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::opening::CATCH_UP;
use crate::schedule::Schedule;

/// The messages of one thread that are still to be sent. Times are nanoseconds of the clock.
#[derive(Debug)]
pub(super) struct Due {
    /// Moments of an open loop; a closed one has none.
    schedule: Option<Schedule>,
    pub(super) rate: Option<f64>,
    poisson: bool,
    seed: u64,
    /// Moments that were recorded, in place of a rate. Then a recording says who sends, and no place
    /// has to be free for it.
    recorded: Option<Arc<[u64]>>,
    /// Moments that came, and whose short connection could not be made.
    retries: VecDeque<u64>,
    /// None of them is tried again before this time.
    retry_after: u64,
    /// Messages that may still be sent.
    pub(super) budget: u64,
    /// A place for a message each: the slots in the order in which they became free.
    free: VecDeque<u32>,
}

impl Due {
    pub(super) fn new(rate: Option<f64>, poisson: bool, seed: u64, budget: u64) -> Self {
        Self {
            schedule: None,
            rate,
            poisson,
            seed,
            recorded: None,
            retries: VecDeque::new(),
            retry_after: 0,
            budget,
            free: VecDeque::new(),
        }
    }

    /// Messages are due as they were recorded.
    pub(super) fn replay(&mut self, moments: Arc<[u64]>) {
        self.budget = moments.len() as u64;
        self.recorded = Some(moments);
    }

    /// From then on messages are due.
    pub(super) fn begin(&mut self, began: u64) {
        if let Some(moments) = &self.recorded {
            self.schedule = Some(Schedule::recorded(began, Arc::clone(moments)));
            return;
        }
        self.schedule = self.rate.map(|rate| Schedule::new(began, rate, self.poisson, self.seed));
    }

    /// Whether moments come by themselves. Else a message is due for every reply.
    pub(super) const fn is_open_loop(&self) -> bool {
        self.schedule.is_some()
    }

    /// The next moment of the schedule, if that is not after `end`.
    pub(super) fn moment(&self, end: u64) -> Option<u64> {
        self.schedule.as_ref().map(Schedule::next).filter(|&due| due <= end)
    }

    /// What is due next, and whether that is a moment of the schedule.
    pub(super) fn next(&self, now: u64) -> (u64, bool) {
        if let Some(&due) = self.retries.front().filter(|_| self.retry_after <= now) {
            return (due, false);
        }
        (self.schedule.as_ref().map_or(now, Schedule::next), true)
    }

    /// It is sent. As long as no connection succeeds, retries are made one at a time.
    pub(super) fn take(&mut self, scheduled: bool, now: u64, failing: bool) {
        if !scheduled {
            self.retries.pop_front();
            if failing {
                self.retry_after = now + CATCH_UP;
            }
        } else if let Some(schedule) = &mut self.schedule {
            schedule.advance();
        }
    }

    /// A moment whose connection could not be made is tried again in a while.
    pub(super) fn retry(&mut self, due: u64, now: u64) {
        self.retries.push_back(due);
        self.retry_after = now + CATCH_UP;
    }

    /// No more is sent; calls `each` with every moment by `now` that has waited in vain.
    pub(super) fn end(&mut self, now: u64, mut each: impl FnMut(u64)) {
        for due in std::mem::take(&mut self.retries) {
            self.budget = self.budget.saturating_sub(1);
            each(due);
        }
        let Some(mut schedule) = self.schedule.take() else { return };
        while schedule.next() <= now && self.budget > 0 {
            self.budget -= 1;
            each(schedule.next());
            schedule.advance();
        }
    }

    /// When something has to be sent; `None` where no place is free for it.
    pub(super) fn wakes_at(&self) -> Option<u64> {
        if self.free.is_empty() && self.recorded.is_none() {
            return None;
        }
        let due = self.schedule.as_ref().map_or(0, Schedule::next);
        let again = if self.retries.is_empty() { u64::MAX } else { self.retry_after };
        Some(due.min(again))
    }

    /// A slot has so many places more.
    #[inline]
    pub(super) fn add_places(&mut self, slot: usize, count: usize) {
        if self.recorded.is_some() {
            return;
        }
        for _ in 0..count {
            self.free.extend(u32::try_from(slot));
        }
    }

    /// The place that has been free longest.
    #[inline]
    pub(super) fn pop_place(&mut self) -> Option<usize> {
        self.free.pop_front().map(|slot| slot as usize)
    }

    pub(super) fn clear_places(&mut self) {
        self.free.clear();
    }
}
