//! [`Wheel`]: a hierarchical timing wheel whose lists run through the entries themselves.
//!
//! Arming, cancelling and expiring take constant time, however many timers there are. An entry has
//! one timer. To push a deadline back, leave the wheel alone: when the timer
//! fires, compare and arm it again ("lazy re-arm"), so that activity costs one stamp.
//!
//! # The levels
//!
//! A timer goes to a level by how far ahead it is, and to a slot by when it is due.
//!
//! | level | a slot lasts | holds what is due in | one round |
//! |---|---|---|---|
//! | 0 | 1 tick, 10 ms | 0 to 63 ticks | 0.64 s |
//! | 1 | 64 ticks, 0.64 s | 64 to 4,095 ticks | 41 s |
//! | 2 | 4,096 ticks, 41 s | up to 262,143 ticks | 44 min |
//! | 3 | 262,144 ticks, 44 min | up to 16,777,215 ticks | 47 h |
//! | 4 | 16,777,216 ticks, 47 h | up to 2^30 - 1 ticks | 124 days |
//!
//! # An example
//!
//! The wheel stands at tick 10, and a timer is armed for tick 100. That is 90 ahead, so level 1; its
//! slot is 100 / 64 = 1. [`next`](Wheel::next) says 64, for then slot 1 of level 1 begins. At tick 64
//! the slot is emptied: the timer is 36 ahead now, so level 0, slot 100 mod 64 = 36. It fires at tick
//! 100. It was moved once; a timer is moved four times at most.
//!
//! Source: G. Varghese and A. Lauck, "Hashed and Hierarchical Timing Wheels", SOSP 1987, scheme 7.

use std::time::Duration;

/// A moment, in ticks since whatever the owner counts from.
///
/// The count wraps around after 497 days; moments are compared by their distance
/// ([`until`]), never with `<`.
pub type Tick = u32;

/// How many ticks `later` is ahead of `earlier`; 0 where it is not ahead (that is, where it is
/// more than 2^31 ticks ahead going round).
#[must_use]
#[inline]
pub const fn until(earlier: Tick, later: Tick) -> u32 {
    let ahead = later.wrapping_sub(earlier);
    if ahead < 1 << 31 { ahead } else { 0 }
}

/// How long one tick is: 10 milliseconds.
pub const TICK: Duration = Duration::from_millis(10);

/// The number of whole ticks that surely last for `duration`, at most [`MAX_TICKS`].
#[must_use]
pub fn ticks(duration: Duration) -> Tick {
    let ticks = duration.as_nanos().div_ceil(TICK.as_nanos());
    u32::try_from(ticks).unwrap_or(MAX_TICKS).min(MAX_TICKS)
}

/// The longest time a timer can be set ahead: 2^30 - 1 ticks, 124 days.
pub const MAX_TICKS: Tick = (1 << (LEVELS * SLOT_BITS)) - 1;

const SLOT_BITS: u32 = 6;
const SLOTS: u32 = 1 << SLOT_BITS;
const LEVELS: u32 = 5;

const NONE: u32 = u32::MAX;
/// Set in `previous` where an entry is the first of its list; the other bits name the slot.
const FIRST: u32 = 1 << 31;

/// What the wheel keeps in each entry: 12 bytes.
#[derive(Clone, Copy, Debug)]
pub struct TimerLinks {
    next: u32,
    /// One of three:
    ///
    /// - `NONE`: not armed, and in no list;
    /// - `FIRST` and a slot: the first of that slot's list, and the slot names this entry;
    /// - an index: the entry before this one, and its `next` names this entry.
    ///
    /// So an entry leaves its list without a walk, whichever list that is.
    previous: u32,
    expires: Tick,
}

impl TimerLinks {
    /// The links of an entry whose timer is not armed.
    pub const UNARMED: Self = Self { next: NONE, previous: NONE, expires: 0 };

    /// When the timer will fire, if it is armed.
    #[must_use]
    pub const fn expires(&self) -> Option<Tick> {
        if self.previous == NONE { None } else { Some(self.expires) }
    }
}

impl Default for TimerLinks {
    fn default() -> Self {
        Self::UNARMED
    }
}

/// Where the entries are that a [`Wheel`] links together.
pub trait TimerEntries {
    /// The links of the entry at `index`, or `None` where there is no such entry; the wheel then
    /// drops the rest of that list, so an entry must be cancelled before it goes.
    fn links(&mut self, index: u32) -> Option<&mut TimerLinks>;
}

/// The wheel: five levels of 64 slots. It owns no memory but its own 1.3 KB.
///
/// - **Change.** [`arm`](Self::arm) sets or moves the timer of an entry, and [`cancel`](Self::cancel)
///   takes it away. An entry must be cancelled before it goes.
/// - **Fire.** [`expire`](Self::expire) goes on to a moment and hands out those that are due, a
///   one in each call and a bounded number in all: `budget`.
/// - **Ask.** [`next`](Self::next) says when `expire` is to be called again: never after the first
///   timer is due, and sometimes before, when timers of a higher level are to be moved down.
///   [`first`](Self::first) is one of the entries whose slot comes first.
///
/// Invariants: an entry is in the list of one slot, or in none, and then its `previous` is `NONE`; a
/// bit of `occupied` is set where its slot's list is not empty; no list is in a slot that the wheel
/// has passed.
#[derive(Debug)]
pub struct Wheel {
    now: Tick,
    slots: [[u32; SLOTS as usize]; LEVELS as usize],
    occupied: [u64; LEVELS as usize],
    /// The slot whose entries are being moved to lower levels.
    cascading: Option<(u32, usize)>,
    armed: usize,
}

impl Default for Wheel {
    fn default() -> Self {
        Self::new()
    }
}

impl Wheel {
    /// An empty wheel, standing at tick 0.
    #[must_use]
    pub const fn new() -> Self {
        Self::starting_at(0)
    }

    /// An empty wheel, standing at `now`.
    #[must_use]
    pub const fn starting_at(now: Tick) -> Self {
        Self {
            now,
            slots: [[NONE; SLOTS as usize]; LEVELS as usize],
            occupied: [0; LEVELS as usize],
            cascading: None,
            armed: 0,
        }
    }

    /// How many timers are armed.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.armed
    }

    /// Whether none is.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.armed == 0
    }

    /// Arms the timer of the entry at `index` for `expires`, or moves it there. A moment that has
    /// passed fires with the next [`expire`](Self::expire); one more than [`MAX_TICKS`] ahead is
    /// brought down to that.
    pub fn arm(&mut self, entries: &mut impl TimerEntries, index: u32, expires: Tick) {
        self.cancel(entries, index);
        if let Some(links) = entries.links(index) {
            let ahead = until(self.now, expires).min(MAX_TICKS);
            links.expires = self.now.wrapping_add(ahead);
            self.insert(entries, index);
        }
    }

    /// Disarms the timer of the entry at `index`. Returns whether it was armed.
    pub fn cancel(&mut self, entries: &mut impl TimerEntries, index: u32) -> bool {
        let Some(links) = entries.links(index) else { return false };
        let TimerLinks { next, previous, .. } = *links;
        if previous == NONE {
            return false;
        }
        (links.next, links.previous) = (NONE, NONE);
        self.armed -= 1;
        if let Some(follower) = entries.links(next) {
            follower.previous = previous;
        }
        if previous & FIRST == 0 {
            if let Some(leader) = entries.links(previous) {
                leader.next = next;
            }
            return true;
        }
        let (level, slot) = unpack(previous & !FIRST);
        self.slots[level][slot] = next;
        if next == NONE {
            self.occupied[level] &= !(1 << slot);
        }
        true
    }

    /// Takes out one timer that has expired by `now`, moving the wheel forward.
    ///
    /// Each timer that is taken out or moved between levels uses up one of `budget`; with no
    /// budget left the answer is `None` and [`next`](Self::next) says that more is due.
    pub fn expire(
        &mut self,
        entries: &mut impl TimerEntries,
        now: Tick,
        budget: &mut u32,
    ) -> Option<u32> {
        loop {
            if let Some((level, slot)) = self.cascading {
                let (slots, occupied) = (level as usize, 1 << slot);
                while self.slots[slots][slot] != NONE {
                    if *budget == 0 {
                        return None;
                    }
                    *budget -= 1;
                    let index = self.slots[slots][slot];
                    if !self.cancel(entries, index) {
                        self.slots[slots][slot] = NONE;
                        break;
                    }
                    self.insert(entries, index);
                }
                self.occupied[slots] &= !occupied;
                self.cascading = self.higher(level);
                continue;
            }
            let slot = (self.now % SLOTS) as usize;
            let index = self.slots[0][slot];
            if index != NONE {
                if *budget == 0 {
                    return None;
                }
                *budget -= 1;
                if self.cancel(entries, index) {
                    return Some(index);
                }
                self.slots[0][slot] = NONE;
                self.occupied[0] &= !(1 << slot);
            }
            let ahead = until(self.now, now);
            if ahead == 0 {
                return None;
            }
            if self.armed == 0 {
                self.now = now;
                return None;
            }
            self.step(ahead);
        }
    }

    /// The entry at the head of the soonest slot: one of those whose timers fire next, but for
    /// those on higher levels that have not been moved down yet.
    #[must_use]
    pub fn first(&self) -> Option<u32> {
        (0..LEVELS).find_map(|level| {
            let here = self.now >> (level * SLOT_BITS);
            let bits = self.occupied[level as usize].rotate_right(here % SLOTS);
            // Above the lowest level, what is in the slot where the wheel stands is a round ahead.
            let ahead = match bits {
                0 => return None,
                bits if level > 0 && bits != 1 => (bits & !1).trailing_zeros(),
                bits => bits.trailing_zeros(),
            };
            let slot = (here.wrapping_add(ahead) % SLOTS) as usize;
            Some(self.slots[level as usize][slot]).filter(|index| *index != NONE)
        })
    }

    /// When [`expire`](Self::expire) should be called next: at the latest when a timer expires,
    /// earlier where timers have to be moved between levels. `None` where nothing is armed.
    #[must_use]
    pub fn next(&self) -> Option<Tick> {
        if self.armed == 0 {
            return None;
        }
        if self.cascading.is_some() {
            return Some(self.now);
        }
        let mut soonest = u32::MAX;
        for level in 0..LEVELS {
            let occupied = self.occupied[level as usize];
            if occupied == 0 {
                continue;
            }
            let shift = level * SLOT_BITS;
            let here = self.now >> shift;
            let bits = occupied.rotate_right(here % SLOTS);
            // Above the lowest level, what is in the slot where the wheel stands is a round ahead.
            let ahead = match bits {
                1 if level > 0 => SLOTS,
                bits if level > 0 => (bits & !1).trailing_zeros(),
                bits => bits.trailing_zeros(),
            };
            let begins = here.wrapping_add(ahead) << shift;
            soonest = soonest.min(begins.wrapping_sub(self.now));
        }
        Some(self.now.wrapping_add(soonest))
    }

    /// Moves to the next tick at which something may happen, at most `limit` ticks ahead.
    fn step(&mut self, limit: u32) {
        let slot = self.now % SLOTS;
        // Slots behind this one on the lowest level, within the current round.
        let later = match slot {
            63 => 0,
            slot => self.occupied[0] >> (slot + 1),
        };
        let ahead = match later {
            0 => SLOTS - slot,
            later => later.trailing_zeros() + 1,
        };
        self.now = self.now.wrapping_add(ahead.min(limit));
        if self.now.is_multiple_of(SLOTS) {
            self.cascading = self.higher(0);
        }
    }

    /// The slot above `level` whose time has come, where a round of `level` begins just now.
    fn higher(&self, level: u32) -> Option<(u32, usize)> {
        let level = level + 1;
        let shift = level * SLOT_BITS;
        let round_begins = self.now & ((1 << shift) - 1) == 0;
        if level >= LEVELS || !round_begins {
            return None;
        }
        Some((level, ((self.now >> shift) % SLOTS) as usize))
    }

    /// Links an entry that is not armed into the slot for its `expires`.
    fn insert(&mut self, entries: &mut impl TimerEntries, index: u32) {
        let Some(links) = entries.links(index) else { return };
        let ahead = until(self.now, links.expires);
        let level = (32 - ahead.leading_zeros()).saturating_sub(1) / SLOT_BITS;
        let level = level.min(LEVELS - 1);
        let slot = (links.expires >> (level * SLOT_BITS)) as usize % SLOTS as usize;
        let level = level as usize;
        let next = self.slots[level][slot];
        links.next = next;
        links.previous = FIRST | pack(level, slot);
        if let Some(follower) = entries.links(next) {
            follower.previous = index;
        }
        self.slots[level][slot] = index;
        self.occupied[level] |= 1 << slot;
        self.armed += 1;
    }
}

#[expect(clippy::cast_possible_truncation, reason = "levels and slots are below 64")]
const fn pack(level: usize, slot: usize) -> u32 {
    (level as u32) << SLOT_BITS | slot as u32
}

const fn unpack(place: u32) -> (usize, usize) {
    ((place >> SLOT_BITS) as usize, (place % SLOTS) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Entries(Vec<TimerLinks>);

    impl TimerEntries for Entries {
        fn links(&mut self, index: u32) -> Option<&mut TimerLinks> {
            self.0.get_mut(index as usize)
        }
    }

    fn entries(n: usize) -> Entries {
        Entries(vec![TimerLinks::UNARMED; n])
    }

    fn drain(wheel: &mut Wheel, entries: &mut Entries, now: Tick) -> Vec<u32> {
        let mut budget = u32::MAX;
        let mut fired: Vec<u32> =
            std::iter::from_fn(|| wheel.expire(entries, now, &mut budget)).collect();
        fired.sort_unstable();
        fired
    }

    /// A small generator, so that the histories are the same on every run.
    fn random(state: &mut u64) -> u32 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (*state >> 33) as u32
    }

    #[test]
    fn does_a_timer_fire_at_its_tick_and_not_before() {
        let distances =
            [0, 1, 5, 63, 64, 65, 127, 128, 4095, 4096, 4097, 262_144, 262_143, 20_000_000];
        // The last takes hundreds of thousands of steps.
        let distances = if cfg!(miri) { &distances[..12] } else { &distances };
        for &distance in distances {
            for start in [0, 1, 63, 64, 4000, 4095, u32::MAX - 70, u32::MAX] {
                let mut wheel = Wheel::starting_at(start);
                let mut entries = entries(1);
                let due = start.wrapping_add(distance);
                wheel.arm(&mut entries, 0, due);
                if distance > 0 {
                    let early = drain(&mut wheel, &mut entries, due.wrapping_sub(1));
                    assert!(early.is_empty(), "start {start}, distance {distance}");
                }
                assert_eq!(drain(&mut wheel, &mut entries, due), [0]);
                assert!(wheel.is_empty());
            }
        }
    }

    #[test]
    fn does_a_random_history_agree_with_a_sorted_list() {
        let (seeds, steps) = if cfg!(miri) { (2, 100) } else { (200, 400) };
        for seed in 0..seeds {
            let mut state = seed;
            // Half of the histories run over the end of the count.
            let mut now = if seed % 2 == 0 { 0 } else { u32::MAX - 20 * steps };
            let mut wheel = Wheel::starting_at(now);
            let mut entries = entries(64);
            let mut model = vec![None::<Tick>; 64];
            for _ in 0..steps {
                let index = random(&mut state) % 64;
                match random(&mut state) % 4 {
                    0 | 1 => {
                        let span = 1 << (random(&mut state) % 15);
                        let tick = now.wrapping_add(random(&mut state) % span);
                        wheel.arm(&mut entries, index, tick);
                        model[index as usize] = Some(tick);
                    }
                    2 => {
                        let was = wheel.cancel(&mut entries, index);
                        assert_eq!(was, model[index as usize].take().is_some());
                    }
                    _ => {
                        // Waking when the wheel asks for it must be soon enough for the soonest.
                        let soonest = model.iter().flatten().map(|tick| until(now, *tick)).min();
                        if let Some(soonest) = soonest {
                            assert!(until(now, wheel.next().unwrap()) <= soonest);
                        }
                        now = now.wrapping_add(random(&mut state) % 300);
                        let mut due = Vec::new();
                        for (index, tick) in model.iter_mut().enumerate() {
                            if tick.is_some_and(|tick| until(now, tick) == 0) {
                                due.push(u32::try_from(index).unwrap());
                                *tick = None;
                            }
                        }
                        assert_eq!(drain(&mut wheel, &mut entries, now), due, "seed {seed}");
                    }
                }
                assert_eq!(wheel.len(), model.iter().flatten().count());
                assert_eq!(wheel.next().is_none(), wheel.is_empty());
            }
        }
    }

    #[test]
    fn does_following_next_reach_a_far_timer_in_few_steps() {
        let mut wheel = Wheel::new();
        let mut entries = entries(1);
        wheel.arm(&mut entries, 0, 30_000);
        let mut wakeups = 0;
        loop {
            let next = wheel.next().unwrap();
            wakeups += 1;
            if !drain(&mut wheel, &mut entries, next).is_empty() {
                assert_eq!(next, 30_000);
                break;
            }
        }
        assert!(wakeups <= LEVELS, "{wakeups} wake-ups for one timer");
    }

    #[test]
    fn does_a_spent_budget_leave_the_rest_for_the_next_turn() {
        let mut wheel = Wheel::new();
        let mut entries = entries(1000);
        for index in 0..1000 {
            wheel.arm(&mut entries, index, 5000);
        }
        let (mut fired, mut turns) = (0, 0);
        while fired < 1000 {
            let mut budget = 64;
            while wheel.expire(&mut entries, 5000, &mut budget).is_some() {
                fired += 1;
            }
            turns += 1;
            assert!(turns <= 200, "{fired} of 1000 fired");
            if fired < 1000 {
                assert!(wheel.next().unwrap() <= 5000, "the rest is due at once");
            }
        }
        assert!(wheel.is_empty());
    }

    #[test]
    fn are_durations_rounded_up_to_whole_ticks() {
        assert_eq!(ticks(Duration::ZERO), 0);
        assert_eq!(ticks(Duration::from_nanos(1)), 1);
        assert_eq!(ticks(Duration::from_millis(10)), 1);
        assert_eq!(ticks(Duration::from_millis(11)), 2);
        assert_eq!(ticks(Duration::MAX), MAX_TICKS);
    }
}
