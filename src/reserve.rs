//! [`Reserve`]: empty buffers, kept for the next that needs one, and given back to the kernel one at a
//! time once nobody does.

/// The most buffers that are kept, and the most bytes of them.
const MOST: usize = 32;
const MOST_BYTES: usize = 2 << 20;

/// Smaller buffers are not worth keeping, larger ones too much to keep.
const WORTH_KEEPING: std::ops::RangeInclusive<usize> = (4 << 10)..=(512 << 10);

/// Releases the memory of an empty buffer, which may be used again; `sys::release_pages`, or nothing
/// in a test.
pub(crate) type Release = fn(&mut Vec<u8>) -> usize;

/// The empty buffers of one loop.
#[derive(Debug)]
pub(crate) struct Reserve {
    buffers: Vec<Vec<u8>>,
    /// Their capacity.
    bytes: usize,
    /// How many nobody has needed since the last step of giving back.
    unneeded: usize,
    release: Release,
}

impl Reserve {
    pub(crate) const fn new(release: Release) -> Self {
        Self { buffers: Vec::new(), bytes: 0, unneeded: 0, release }
    }

    /// Whether a buffer of that capacity is worth keeping.
    pub(crate) fn keeps(capacity: usize) -> bool {
        WORTH_KEEPING.contains(&capacity)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.buffers.is_empty()
    }

    /// The smallest buffer of at least `capacity` and at most `most`; an unallocated one where there
    /// is none.
    pub(crate) fn take(&mut self, capacity: usize, most: usize) -> Vec<u8> {
        let fitting = self
            .buffers
            .iter()
            .enumerate()
            .filter(|(_, buffer)| (capacity..=most).contains(&buffer.capacity()));
        let Some((at, _)) = fitting.min_by_key(|(_, buffer)| buffer.capacity()) else {
            return Vec::new();
        };
        let buffer = self.buffers.swap_remove(at);
        self.bytes -= buffer.capacity();
        self.unneeded = self.unneeded.min(self.buffers.len());
        buffer
    }

    /// Keeps a buffer that is not needed any more, or lets it go.
    pub(crate) fn put(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        let capacity = buffer.capacity();
        if capacity < *WORTH_KEEPING.start() {
            return;
        }
        let full = self.buffers.len() == MOST || self.bytes + capacity > MOST_BYTES;
        if full || !Self::keeps(capacity) {
            (self.release)(&mut buffer);
            return;
        }
        self.bytes += capacity;
        self.buffers.push(buffer);
    }

    /// Lets go of one buffer, if there is one that nobody has needed since the last step.
    pub(crate) fn give_back(&mut self) {
        if self.unneeded > 0
            && let Some(mut buffer) = self.buffers.pop()
        {
            self.bytes -= buffer.capacity();
            (self.release)(&mut buffer);
        }
        self.unneeded = self.buffers.len();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static RELEASED: Cell<usize> = const { Cell::new(0) };
    }

    fn release(buffer: &mut Vec<u8>) -> usize {
        RELEASED.set(RELEASED.get() + buffer.capacity());
        buffer.capacity()
    }

    #[test]
    fn is_the_smallest_buffer_given_that_is_large_enough() {
        let mut reserve = Reserve::new(release);
        for capacity in [64 << 10, 8 << 10, 16 << 10] {
            reserve.put(Vec::with_capacity(capacity));
        }
        assert_eq!(reserve.take(10_000, usize::MAX).capacity(), 16 << 10);
        assert_eq!(reserve.take(10_000, 20_000).capacity(), 0, "what is left is too large");
        assert_eq!(reserve.take(100_000, usize::MAX).capacity(), 0, "or too small");
        assert_eq!(reserve.take(1, usize::MAX).capacity(), 8 << 10);
    }

    #[test]
    fn does_the_reserve_keep_no_more_than_it_may() {
        let mut reserve = Reserve::new(release);
        for capacity in [0, 100, 600 << 10, 10 << 20] {
            reserve.put(Vec::with_capacity(capacity));
            assert!(reserve.is_empty(), "{capacity}");
        }
        for _ in 0..2 * MOST {
            reserve.put(Vec::with_capacity(4 << 10));
        }
        assert_eq!(reserve.buffers.len(), MOST);
        let mut reserve = Reserve::new(release);
        for _ in 0..2 * MOST {
            reserve.put(Vec::with_capacity(512 << 10));
        }
        assert_eq!(reserve.bytes, MOST_BYTES);
    }

    #[test]
    fn is_one_buffer_a_step_given_back_and_none_that_was_needed() {
        let mut reserve = Reserve::new(release);
        let capacity = 64 << 10;
        for _ in 0..3 {
            reserve.put(Vec::with_capacity(capacity));
        }
        RELEASED.set(0);
        reserve.give_back();
        assert_eq!(RELEASED.get(), 0, "they have only just come");
        // All three are in use for a moment, then two.
        let needed: Vec<_> = (0..3).map(|_| reserve.take(capacity, usize::MAX)).collect();
        needed.into_iter().for_each(|buffer| reserve.put(buffer));
        reserve.give_back();
        assert_eq!(RELEASED.get(), 0);
        let needed: Vec<_> = (0..2).map(|_| reserve.take(capacity, usize::MAX)).collect();
        needed.into_iter().for_each(|buffer| reserve.put(buffer));
        reserve.give_back();
        assert_eq!(RELEASED.get(), capacity);
        for step in 2..=3 {
            reserve.give_back();
            assert_eq!(RELEASED.get(), step * capacity);
        }
        assert!(reserve.is_empty());
    }
}
