//! [`Ciphers`]: the ciphers that are awake, for all connections of a loop.

use std::fmt;

use ring::aead::{AES_128_GCM, LessSafeKey, UnboundKey};
use ring::error::Unspecified;

use crate::schedule::{Cipher, IV_LEN};
use crate::suite::Suite;

/// Places for pairs of ciphers that a loop has by default.
pub const DEFAULT_AWAKE: usize = 4096;

/// A bounded cache of ciphers that are awake.
///
/// Each connection has one place, given by its number, and shares that place with others: so a
/// connection needs no byte to find its ciphers, and no list has to be kept in order. Who finds the
/// place taken wakes its own ciphers there, in about 1.5 microseconds.
pub struct Ciphers {
    places: Box<[Place]>,
    mask: usize,
    /// Whether what is woken stays awake.
    keeps: bool,
    /// Overwrites keys that are not needed any more.
    blank: LessSafeKey,
    pub(crate) counts: Counts,
}

/// What happened to the records of a loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Records that were decrypted.
    pub records_in: u64,
    /// Records that were encrypted.
    pub records_out: u64,
    /// Ciphers that were woken: each direction counts.
    pub wakes: u64,
    /// Uses of a cipher that was awake already.
    pub hits: u64,
    /// `KeyUpdate` messages from peers.
    pub updates_in: u64,
    /// `KeyUpdate` messages to peers.
    pub updates_out: u64,
}

struct Place {
    owner: u64,
    opening: Option<Cipher>,
    sealing: Option<Cipher>,
}

/// The owner of a place that nobody has.
const NOBODY: u64 = u64::MAX;

impl Ciphers {
    /// A cache with so many places, rounded up to a power of two, of about 1,120 bytes each. With 0
    /// nothing stays awake.
    ///
    /// All of its memory is taken and touched here: a connection never makes it grow.
    ///
    /// # Errors
    ///
    /// None in practice: a blank key has the right length.
    pub fn new(places: usize) -> Result<Self, crate::Fault> {
        let count = places.clamp(1, 1 << 24).next_power_of_two();
        let blank = UnboundKey::new(&AES_128_GCM, &[0; 16]).map(LessSafeKey::new);
        let blank = blank.map_err(|_: Unspecified| crate::Fault::Exhausted)?;
        let cipher = || Some(Cipher { key: blank.clone(), iv: [0; IV_LEN] });
        let place = || Place { owner: NOBODY, opening: cipher(), sealing: cipher() };
        let places_now: Box<[Place]> = (0..count).map(|_| place()).collect();
        Ok(Self {
            places: places_now,
            mask: count - 1,
            keeps: places > 0,
            blank,
            counts: Counts::default(),
        })
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The cipher that opens the owner's records.
    #[inline]
    pub(crate) fn opening(
        &mut self,
        owner: u64,
        suite: Suite,
        secret: &[u8],
    ) -> Result<&Cipher, Unspecified> {
        self.find(owner, suite, secret, |place| &mut place.opening)
    }

    /// The cipher that seals the owner's records.
    #[inline]
    pub(crate) fn sealing(
        &mut self,
        owner: u64,
        suite: Suite,
        secret: &[u8],
    ) -> Result<&Cipher, Unspecified> {
        self.find(owner, suite, secret, |place| &mut place.sealing)
    }

    #[inline(always)]
    fn find(
        &mut self,
        owner: u64,
        suite: Suite,
        secret: &[u8],
        side: impl Fn(&mut Place) -> &mut Option<Cipher>,
    ) -> Result<&Cipher, Unspecified> {
        let at = place_of(owner, self.mask);
        let place = self.places.get_mut(at).ok_or(Unspecified)?;
        if place.owner != owner {
            place.owner = owner;
            place.blank(&self.blank);
        }
        let cipher = side(place);
        if let Some(cipher) = cipher {
            self.counts.hits += 1;
            return Ok(cipher);
        }
        self.counts.wakes += 1;
        Ok(cipher.insert(Cipher::wake(suite, secret)?))
    }

    /// The owner's secret for what it receives has changed.
    pub(crate) fn drop_opening(&mut self, owner: u64) {
        self.drop_side(owner, |place| &mut place.opening);
    }

    /// The owner's secret for what it sends has changed.
    pub(crate) fn drop_sealing(&mut self, owner: u64) {
        self.drop_side(owner, |place| &mut place.sealing);
    }

    fn drop_side(&mut self, owner: u64, side: impl Fn(&mut Place) -> &mut Option<Cipher>) {
        let blank = &self.blank;
        if let Some(place) = self.places.get_mut(place_of(owner, self.mask))
            && place.owner == owner
        {
            blank_out(side(place), blank);
        }
    }

    /// The owner has done its work for now: where nothing is to stay awake, nothing does.
    #[inline]
    pub(crate) fn rest(&mut self, owner: u64) {
        if !self.keeps {
            self.forget(owner);
        }
    }

    /// The owner is gone: its keys are overwritten, and its place is nobody's.
    pub fn forget(&mut self, owner: u64) {
        if let Some(place) = self.places.get_mut(place_of(owner, self.mask))
            && place.owner == owner
        {
            place.owner = NOBODY;
            place.blank(&self.blank);
        }
    }
}

impl Place {
    #[cold]
    #[inline(never)]
    fn blank(&mut self, blank: &LessSafeKey) {
        blank_out(&mut self.opening, blank);
        blank_out(&mut self.sealing, blank);
    }
}

/// Overwrites a cipher before it is dropped: the keys of ring have no destructor that would.
fn blank_out(cipher: &mut Option<Cipher>, blank: &LessSafeKey) {
    if let Some(awake) = cipher {
        awake.key = blank.clone();
        awake.iv = [0; IV_LEN];
        // The compiler must not take these stores for useless.
        std::hint::black_box(&mut *awake);
    }
    *cipher = None;
}

/// Which place is an owner's. Numbers that follow one another have places that do.
#[inline]
fn place_of(owner: u64, mask: usize) -> usize {
    usize::try_from(owner & 0xffff_ffff).unwrap_or_default() & mask
}

impl fmt::Debug for Ciphers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ciphers")
            .field("places", &self.places.len())
            .field("keeps", &self.keeps)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}
