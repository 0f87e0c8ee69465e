//! The keys of one header, each a hash: is one of them there twice?

use super::text::{Members, text_of, unescape};
use super::values::first_of;

/// So many further keys are compared each with each. Where there are more, a table tells.
const FEW: usize = 32;

/// The further keys of a header, as hashes.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    few: Vec<u64>,
    /// Where there are more: a table, at most six tenths full. A place whose lowest byte is not
    /// `round` is free: so the table is cleared once for 255 headers.
    table: Vec<u64>,
    /// One less than the table has places, which are a power of two.
    mask: usize,
    round: u64,
    /// Places of the table that may still be looked at in vain.
    looks: usize,
    /// Two hashes are the same, or too many are close to each other.
    pub(super) doubtful: bool,
}

impl Default for Keys {
    fn default() -> Self {
        let few = Vec::with_capacity(FEW + 1);
        Self { few, table: Vec::new(), mask: 0, round: 0, looks: 0, doubtful: false }
    }
}

impl Keys {
    pub(super) fn clear(&mut self) {
        self.few.clear();
        self.doubtful = false;
    }

    #[inline(always)]
    pub(super) fn note(&mut self, hash: u64, header_len: usize) {
        if self.few.len() > FEW {
            return self.note_in_table(hash);
        }
        if self.few.len() == FEW {
            self.begin_table(header_len);
            return self.note_in_table(hash);
        }
        self.doubtful |= self.few.contains(&hash);
        self.few.push(hash);
    }

    #[inline(always)]
    fn note_in_table(&mut self, hash: u64) {
        let hash = hash & !0xff | self.round;
        let place = u32::try_from(hash >> 8 & 0xffff_ffff).unwrap_or_default() as usize;
        match self.table.get_mut(place & self.mask) {
            Some(slot) if first_of(*slot ^ hash) != 0 => *slot = hash,
            _ => self.note_elsewhere(hash, place),
        }
    }

    /// Takes the first free place behind one that is taken.
    #[inline(never)]
    fn note_elsewhere(&mut self, hash: u64, mut place: usize) {
        while let Some(slot) = self.table.get_mut(place & self.mask) {
            if first_of(*slot ^ hash) != 0 {
                *slot = hash;
                return;
            }
            if *slot == hash || self.looks == 0 {
                break;
            }
            self.looks -= 1;
            place += 1;
        }
        self.doubtful = true;
    }

    #[cold]
    #[inline(never)]
    fn begin_table(&mut self, header_len: usize) {
        // A member takes seven bytes and more, where so many are different.
        let len = (header_len / 4).next_power_of_two();
        self.round = (self.round + 1) & 0xff;
        if self.round == 0 || self.table.len() < len {
            self.table.clear();
            self.table.resize(len, 0);
            self.mask = len - 1;
            self.round = 1;
        }
        self.looks = header_len;
        for nth in 0..FEW {
            if let Some(&hash) = self.few.get(nth) {
                self.note_in_table(hash);
            }
        }
        // One more than there may be, so that this is done once.
        self.few.push(0);
    }
}

/// Whether two keys of a valid header are the same, for certain.
#[cold]
#[inline(never)]
pub(super) fn have_twins(header: &[u8]) -> bool {
    let mut keys: Vec<_> = Members::of_object(header)
        .map(|member| unescape(text_of(header, member.key), member.key_escaped))
        .collect();
    keys.sort_unstable();
    keys.windows(2).any(|two| two.first() == two.last())
}
