//! [`Rng`]: the one source of chance in a simulated world.

/// A small generator of numbers that look random: the same from the same seed, on any machine.
///
/// xoshiro256++, its state filled by `SplitMix64`. Source: D. Blackman and S. Vigna, "Scrambled
/// Linear Pseudorandom Number Generators", ACM TOMS 47 (2021).
#[derive(Clone, Debug)]
pub struct Rng([u64; 4]);

impl Rng {
    /// A generator whose numbers follow from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut state = seed;
        Self(std::array::from_fn(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            mix(state)
        }))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.0;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// A number below `end`, or 0 where that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        // The multiplication's high half: as even as 64 bits are for ends this small.
        let wide = u128::from(self.bits()) * u128::from(end);
        u64::try_from(wide >> 64).unwrap_or_default()
    }

    /// A number from `first` to `last`, both included.
    pub fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last.saturating_sub(first).saturating_add(1))
    }

    /// As [`between`](Self::between), for a length.
    pub fn len(&mut self, first: usize, last: usize) -> usize {
        usize::try_from(self.between(first as u64, last as u64)).unwrap_or(last)
    }

    /// Whether something happens that happens `permille` times in a thousand.
    pub fn chance(&mut self, permille: u16) -> bool {
        permille > 0 && self.below(1000) < u64::from(permille)
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        choices.get(self.index(choices.len()))
    }

    /// The place of one of `count` things; 0 where there is none.
    pub fn index(&mut self, count: usize) -> usize {
        usize::try_from(self.below(count as u64)).unwrap_or_default()
    }

    /// Puts a list into an order that every permutation has the same chance to be.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            let other = self.index(last + 1);
            list.swap(last, other);
        }
    }
}

/// Spreads the bits of a number over all of them (the output function of `SplitMix64`).
#[must_use]
pub const fn mix(bits: u64) -> u64 {
    let bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

/// A hash of all that happened in a world, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Trace(u64);

impl Trace {
    /// Adds one number.
    pub fn add(&mut self, number: u64) {
        self.0 = mix(self.0.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ number);
    }

    /// Adds bytes, and how many they are.
    pub fn add_bytes(&mut self, bytes: &[u8]) {
        self.add(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.add(u64::from_le_bytes(word));
        }
    }

    /// The hash so far.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}
