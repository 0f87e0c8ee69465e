//! [`Slab`]: entries that never move, named by keys that know when they are stale.
//!
//! ```text
//! key 1v4 ──────────────┐  index 1, generation 4: the same generation, so it is found
//! key 2v0 ──────────────│───────────┐  index 2, generation 0: the place has 1 now, so it is stale
//!              0        ▼ 1         ▼ 2           3
//!        ┌───────────┬───────────┬─────────────┬─────────────┐
//!        │ gen 0     │ gen 4     │ gen 1       │ gen 7       │   one segment: 1,024 of them,
//!        │ occupied  │ occupied  │ vacant ─────┼─▶ vacant ─▶ │   which never move
//!        └───────────┴───────────┴─────▲───────┴─────────────┘
//!                            free ─────┘  the place that was vacated last is used first
//! ```

use std::fmt;

/// Names one entry of a [`Slab`], and no later one in the same place.
///
/// The generation is counted up whenever the place is vacated, so a key that outlived its entry
/// finds nothing. After 2^32 reuses of one place the count starts over.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// The place in the slab.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.index
    }

    /// How often the place had been vacated when this key was made.
    #[must_use]
    pub const fn generation(self) -> u32 {
        self.generation
    }

    /// Both halves in one number, for a poller's token.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }

    /// The key that [`to_bits`](Self::to_bits) made into `bits`.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of the number")]
    pub const fn from_bits(bits: u64) -> Self {
        Self { index: bits as u32, generation: (bits >> 32) as u32 }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}v{}", self.index, self.generation)
    }
}

/// "No entry", in the free list.
const NONE: u32 = u32::MAX;

/// Entries of one segment; segments are never moved, nor their entries copied.
const SEGMENT: usize = 1 << SEGMENT_BITS;
const SEGMENT_BITS: u32 = 10;

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    slot: Slot<T>,
}

#[derive(Debug)]
enum Slot<T> {
    Vacant { next: u32 },
    Occupied(T),
}

/// A store of entries in segments: growing allocates one more segment and touches no other.
///
/// - **Change.** [`insert`](Self::insert) gives a key, and [`remove`](Self::remove) takes the entry
///   that it names. Only these two change who is where.
/// - **Look up by key**, which finds nothing where the key is stale: [`get`](Self::get),
///   [`get_mut`](Self::get_mut), [`get_two_mut`](Self::get_two_mut).
/// - **Look up by place**, for lists that run through the entries (as the timing wheel's) and for
///   going round all of them: [`at`](Self::at), [`at_mut`](Self::at_mut), [`iter`](Self::iter), up to
///   [`end`](Self::end).
///
/// Invariants: an entry does not move while it is there; no two entries ever have the same key,
/// but for the wrap of its generation; each vacant place is in the free list once.
///
/// Inserting, removing and looking up take constant time. Vacated places are reused, the last one
/// first, so that what is touched stays small. At most 2^31 entries.
///
/// ```
/// use myriapod::slab::Slab;
///
/// let mut slab = Slab::new();
/// let key = slab.insert("ten thousand feet").unwrap();
/// assert_eq!(slab.remove(key), Some("ten thousand feet"));
///
/// let reused = slab.insert("one body").unwrap();
/// assert_eq!(reused.index(), key.index());
/// assert_eq!(slab.get(key), None, "the old key is stale");
/// ```
#[derive(Debug)]
pub struct Slab<T> {
    segments: Vec<Vec<Entry<T>>>,
    free: u32,
    len: usize,
    /// Segments of an empty slab that are yet to be dropped.
    leaving: Vec<Vec<Entry<T>>>,
}

impl<T> Slab<T> {
    /// The most entries a slab holds.
    pub const MAX_LEN: usize = 1 << 31;

    /// Bytes that one entry takes, its generation and the marks of a vacant place included.
    pub const ENTRY_SIZE: usize = size_of::<Entry<T>>();

    /// An empty slab, which has allocated nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { segments: Vec::new(), free: NONE, len: 0, leaving: Vec::new() }
    }

    /// How many entries there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One more than the highest index in use so far; indices below it may be vacant.
    #[must_use]
    pub fn end(&self) -> u32 {
        let places = match self.segments.last() {
            Some(last) => (self.segments.len() - 1) * SEGMENT + last.len(),
            None => 0,
        };
        u32::try_from(places).unwrap_or(NONE)
    }

    /// Adds an entry.
    ///
    /// # Errors
    ///
    /// Gives `value` back where the slab is full ([`MAX_LEN`](Self::MAX_LEN)).
    pub fn insert(&mut self, value: T) -> Result<Key, T> {
        if self.free != NONE {
            let index = self.free;
            let Some(entry) = Self::place(&mut self.segments, index) else { return Err(value) };
            let Slot::Vacant { next } = entry.slot else { return Err(value) };
            entry.slot = Slot::Occupied(value);
            self.free = next;
            self.len += 1;
            return Ok(Key { index, generation: entry.generation });
        }
        let index = self.end();
        if index as usize >= Self::MAX_LEN {
            return Err(value);
        }
        if offset(index) == 0 {
            self.segments.push(Vec::with_capacity(SEGMENT));
        }
        if let Some(segment) = self.segments.last_mut() {
            segment.push(Entry { generation: 0, slot: Slot::Occupied(value) });
        }
        self.len += 1;
        Ok(Key { index, generation: 0 })
    }

    /// Takes an entry out; its key and all copies of it are stale from now on.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let free = self.free;
        let entry = Self::place(&mut self.segments, key.index)?;
        if entry.generation != key.generation || matches!(entry.slot, Slot::Vacant { .. }) {
            return None;
        }
        let slot = std::mem::replace(&mut entry.slot, Slot::Vacant { next: free });
        entry.generation = entry.generation.wrapping_add(1);
        self.free = key.index;
        self.len -= 1;
        match slot {
            Slot::Occupied(value) => Some(value),
            Slot::Vacant { .. } => None,
        }
    }

    /// Whether [`drop_spare_segment`](Self::drop_spare_segment) has something to do.
    #[inline]
    pub(crate) fn has_spare_segment(&self) -> bool {
        !self.leaving.is_empty() || self.is_empty() && self.segments.len() > 1
    }

    /// Drops one segment of a slab that is empty after it had several: all go, one with each call.
    /// For owners that have dropped all keys as well, since generations start anew.
    pub(crate) fn drop_spare_segment(&mut self) {
        if self.leaving.is_empty() && self.has_spare_segment() {
            self.leaving = std::mem::take(&mut self.segments);
            self.free = NONE;
        }
        self.leaving.pop();
    }

    /// The entry that `key` names, unless it is gone.
    #[must_use]
    #[inline]
    pub fn get(&self, key: Key) -> Option<&T> {
        let entry = self.segments.get(segment(key.index))?.get(offset(key.index))?;
        match &entry.slot {
            Slot::Occupied(value) if entry.generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// The entry that `key` names, to be changed.
    #[must_use]
    #[inline]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let entry = Self::place(&mut self.segments, key.index)?;
        match &mut entry.slot {
            Slot::Occupied(value) if entry.generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// Two entries at once, to be changed; `None` where one is gone, or both are the same.
    ///
    /// ```
    /// use myriapod::slab::Slab;
    ///
    /// let mut slab = Slab::new();
    /// let (left, right) = (slab.insert(1).unwrap(), slab.insert(2).unwrap());
    /// let [a, b] = slab.get_two_mut(left, right).unwrap();
    /// std::mem::swap(a, b);
    /// assert_eq!((slab.get(left), slab.get(right)), (Some(&2), Some(&1)));
    /// assert_eq!(slab.get_two_mut(left, left), None);
    /// ```
    #[must_use]
    pub fn get_two_mut(&mut self, first: Key, second: Key) -> Option<[&mut T; 2]> {
        let segments = [segment(first.index), segment(second.index)];
        let places = [offset(first.index), offset(second.index)];
        let [one, other] = if segments[0] == segments[1] {
            self.segments.get_mut(segments[0])?.get_disjoint_mut(places).ok()?
        } else {
            let [one, other] = self.segments.get_disjoint_mut(segments).ok()?;
            [one.get_mut(places[0])?, other.get_mut(places[1])?]
        };
        if (one.generation, other.generation) != (first.generation, second.generation) {
            return None;
        }
        match [&mut one.slot, &mut other.slot] {
            [Slot::Occupied(one), Slot::Occupied(other)] => Some([one, other]),
            _ => None,
        }
    }

    /// Whatever entry is at `index` now. For owners of an index that keep it in step themselves.
    #[must_use]
    #[inline]
    pub fn at(&self, index: u32) -> Option<&T> {
        match &self.segments.get(segment(index))?.get(offset(index))?.slot {
            Slot::Occupied(value) => Some(value),
            Slot::Vacant { .. } => None,
        }
    }

    /// Whatever entry is at `index` now, with its key. For lists that are kept in the entries
    /// themselves and are mended before an entry goes.
    #[must_use]
    #[inline]
    pub fn at_mut(&mut self, index: u32) -> Option<(Key, &mut T)> {
        let entry = Self::place(&mut self.segments, index)?;
        match &mut entry.slot {
            Slot::Occupied(value) => Some((Key { index, generation: entry.generation }, value)),
            Slot::Vacant { .. } => None,
        }
    }

    /// All entries in the order of their places.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.segments.iter().flatten().enumerate().filter_map(|(index, entry)| match &entry.slot {
            Slot::Occupied(value) => {
                let index = u32::try_from(index).ok()?;
                Some((Key { index, generation: entry.generation }, value))
            }
            Slot::Vacant { .. } => None,
        })
    }

    #[inline]
    fn place(segments: &mut [Vec<Entry<T>>], index: u32) -> Option<&mut Entry<T>> {
        segments.get_mut(segment(index))?.get_mut(offset(index))
    }
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}

const fn segment(index: u32) -> usize {
    (index >> SEGMENT_BITS) as usize
}

const fn offset(index: u32) -> usize {
    index as usize & (SEGMENT - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn does_an_empty_slab_give_up_its_segments_one_at_a_time() {
        let mut slab = Slab::new();
        for round in 0..2 {
            let keys: Vec<_> = (0..4 * SEGMENT).map(|value| slab.insert(value).unwrap()).collect();
            assert!(!slab.has_spare_segment(), "round {round}: all are in use");
            for key in keys {
                slab.remove(key);
            }
            for left in [3, 2, 1, 0] {
                assert!(slab.has_spare_segment());
                slab.drop_spare_segment();
                assert_eq!((slab.leaving.len(), slab.end()), (left, 0));
            }
            assert!(!slab.has_spare_segment());
        }
    }

    #[test]
    fn does_a_stale_key_find_nothing_after_its_place_is_reused() {
        let mut slab = Slab::new();
        let old = slab.insert(1).unwrap();
        assert_eq!(slab.remove(old), Some(1));
        let new = slab.insert(2).unwrap();
        assert_eq!(old.index(), new.index());
        assert_ne!(old, new);
        assert_eq!(slab.get(old), None);
        assert_eq!(slab.get_mut(old), None);
        assert_eq!(slab.remove(old), None);
        assert_eq!(slab.get(new), Some(&2));
    }

    #[test]
    fn are_two_entries_found_at_once_wherever_they_are() {
        let mut slab = Slab::new();
        let keys: Vec<_> = (0..3 * SEGMENT).map(|value| slab.insert(value).unwrap()).collect();
        let gone = keys[5];
        slab.remove(gone);
        let beyond = Key { index: 1_000_000, generation: 0 };
        let again = slab.insert(5).unwrap();
        for (first, second) in [(0, 1), (1, 0), (7, SEGMENT + 7), (2 * SEGMENT, SEGMENT - 1)] {
            let found = slab.get_two_mut(keys[first], keys[second]);
            assert_eq!(found.map(|[one, other]| (*one, *other)), Some((first, second)));
        }
        for (first, second) in
            [(keys[9], keys[9]), (gone, keys[1]), (keys[1], gone), (gone, again), (beyond, keys[1])]
        {
            assert_eq!(slab.get_two_mut(first, second), None, "{first:?} {second:?}");
        }
    }

    #[test]
    fn does_growing_leave_entries_where_they_are() {
        let mut slab = Slab::new();
        let first = slab.insert(0u64).unwrap();
        let before = std::ptr::from_ref(slab.get(first).unwrap());
        for n in 1..5 * SEGMENT as u64 {
            slab.insert(n).unwrap();
        }
        assert_eq!(before, std::ptr::from_ref(slab.get(first).unwrap()));
        assert_eq!(slab.len(), 5 * SEGMENT);
        assert_eq!(slab.end() as usize, 5 * SEGMENT);
    }

    #[test]
    fn does_a_key_survive_its_trip_through_a_token() {
        let key = Key { index: 7, generation: u32::MAX };
        assert_eq!(Key::from_bits(key.to_bits()), key);
    }

    #[test]
    fn are_vacant_places_reused_before_the_slab_grows() {
        let mut slab = Slab::new();
        let keys: Vec<Key> = (0..100).map(|n| slab.insert(n).unwrap()).collect();
        for key in &keys {
            slab.remove(*key).unwrap();
        }
        for n in 0..100 {
            slab.insert(n).unwrap();
        }
        assert_eq!(slab.end(), 100);
        assert_eq!(slab.iter().count(), 100);
    }
}
