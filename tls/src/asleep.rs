//! [`Asleep`]: all that is kept of a TLS 1.3 connection.

use std::fmt;

use zeroize::Zeroize;

use crate::ciphers::Ciphers;
use crate::fault::Fault;
use crate::schedule::next_secret;
use crate::suite::Suite;

/// All that is kept of a TLS 1.3 connection once its handshake is over: two traffic secrets, two
/// sequence numbers, the suite, and what is owed to the peer.
///
/// `N` is the length of a secret: 32 for the suites with SHA-256, whose connections take **80
/// bytes**; 48 where `TLS_AES_256_GCM_SHA384` is offered too: 112 bytes.
///
/// ```
/// assert_eq!(size_of::<myriapod_tls::Asleep<32>>(), 80);
/// assert_eq!(size_of::<myriapod_tls::Asleep<48>>(), 112);
/// ```
///
/// Keys and nonces are derived from the secrets whenever they are needed ([`Ciphers`] keeps some for
/// a while), so nothing of them has to be kept. The secrets themselves must be: after a `KeyUpdate`
/// the next one is derived from the one before.
///
/// [`open`](Self::open) and [`seal`](Self::seal) are the record layer. Neither writes to a socket.
pub struct Asleep<const N: usize = 32> {
    theirs: [u8; N],
    ours: [u8; N],
    /// Records opened with the present secret: the lower 32 bits, and the upper 16.
    opened: u32,
    opened_high: u16,
    /// Records in a row without data.
    pub(crate) quiet: u8,
    suite: Option<Suite>,
    /// Records sealed with the present secret.
    sealed: u32,
    pub(crate) marks: Marks,
    /// The alert that ends our side: 0 is `close_notify`.
    pub(crate) last_word: u8,
}

/// What else is known of a connection. All are independent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks(u8);

impl Marks {
    /// We are the client.
    pub(crate) const CLIENT: u8 = 1;
    /// A `KeyUpdate` goes out before the next data.
    pub(crate) const OWES_UPDATE: u8 = 1 << 1;
    /// That one asks for the peer's.
    pub(crate) const ASKS_UPDATE: u8 = 1 << 2;
    /// Nothing more is opened: `close_notify` has come, or a fault.
    pub(crate) const ENDED: u8 = 1 << 3;
    /// The peer has said `close_notify`.
    pub(crate) const CLOSED: u8 = 1 << 4;
    /// Our last word is sealed: nothing may follow.
    pub(crate) const SAID: u8 = 1 << 5;
    /// The stream ended without `close_notify`.
    pub(crate) const TRUNCATED: u8 = 1 << 6;

    #[inline]
    pub(crate) fn has(self, mark: u8) -> bool {
        self.0 & mark != 0
    }

    pub(crate) fn set(&mut self, mark: u8) {
        self.0 |= mark;
    }

    pub(crate) fn clear(&mut self, mark: u8) {
        self.0 &= !mark;
    }
}

/// Which end of a connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// We accepted it.
    Server,
    /// We made it.
    Client,
}

/// The traffic secrets of both directions, and how many records have used each.
pub struct Secrets<'a> {
    /// Of what the peer sends, with the number of records already opened with it.
    pub theirs: (&'a [u8], u64),
    /// Of what we send, with the number of records already sealed with it.
    pub ours: (&'a [u8], u64),
}

/// Records that are sealed with one secret at most; a `KeyUpdate` comes before the next one. RFC
/// 8446, 5.5, allows some more for AES-GCM; one figure serves for all suites.
pub const RECORDS_PER_SECRET: u32 = 1 << 24;

impl<const N: usize> Asleep<N> {
    /// A connection without TLS, for a loop that has both kinds: [`is_secure`](Self::is_secure) is
    /// false for it.
    pub const PLAIN: Self = Self {
        theirs: [0; N],
        ours: [0; N],
        opened: 0,
        opened_high: 0,
        quiet: 0,
        suite: None,
        sealed: 0,
        marks: Marks(0),
        last_word: 0,
    };

    /// A connection whose handshake is over.
    ///
    /// # Errors
    ///
    /// [`Fault::SecretMismatch`] for secrets that do not have the length that the suite asks for, or
    /// that this type has no room for; [`Fault::Exhausted`] for sequence numbers far too large.
    pub fn new(side: Side, suite: Suite, secrets: &Secrets<'_>) -> Result<Self, Fault> {
        let mut asleep = Self::PLAIN;
        let len = suite.secret_len();
        for (to, (from, _)) in
            [(&mut asleep.theirs, secrets.theirs), (&mut asleep.ours, secrets.ours)]
        {
            let room = to.get_mut(..len).filter(|_| from.len() == len);
            room.ok_or(Fault::SecretMismatch)?.copy_from_slice(from);
        }
        asleep.suite = Some(suite);
        asleep.opened = u32::try_from(secrets.theirs.1).map_err(|_| Fault::Exhausted)?;
        asleep.sealed = u32::try_from(secrets.ours.1).map_err(|_| Fault::Exhausted)?;
        if side == Side::Client {
            asleep.marks.set(Marks::CLIENT);
        }
        Ok(asleep)
    }

    /// Whether this connection has TLS.
    #[must_use]
    #[inline]
    pub fn is_secure(&self) -> bool {
        self.suite.is_some()
    }

    /// The suite; `None` without TLS.
    #[must_use]
    pub fn suite(&self) -> Option<Suite> {
        self.suite
    }

    /// Whether the peer has said `close_notify`: it sends no more, and everything has come.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.marks.has(Marks::CLOSED)
    }

    /// Whether our last word is said: [`finish`](Self::finish) was called.
    #[must_use]
    pub fn has_finished(&self) -> bool {
        self.marks.has(Marks::SAID)
    }

    /// The stream has ended. Returns whether something may be missing: the peer has not said
    /// `close_notify`, and no fault had ended the connection before.
    pub fn note_end(&mut self) -> bool {
        if !self.is_secure() || self.marks.has(Marks::ENDED) {
            return false;
        }
        self.marks.set(Marks::ENDED);
        self.marks.set(Marks::TRUNCATED);
        true
    }

    /// Whether the stream ended without `close_notify`.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.marks.has(Marks::TRUNCATED)
    }

    /// Has a `KeyUpdate` sent before the next data. With `ask`, the peer is to renew its keys too.
    pub fn renew(&mut self, ask: bool) {
        self.marks.set(Marks::OWES_UPDATE);
        if ask {
            self.marks.set(Marks::ASKS_UPDATE);
        }
    }

    /// Overwrites the secrets. The connection is over: nothing can be opened or sealed any more.
    pub fn wipe(&mut self) {
        self.theirs.zeroize();
        self.ours.zeroize();
        self.marks.set(Marks::ENDED);
        self.marks.set(Marks::SAID);
    }

    /// The number of the next record to be opened.
    #[inline]
    pub(crate) fn opened(&self) -> u64 {
        u64::from(self.opened_high) << 32 | u64::from(self.opened)
    }

    /// A record was opened.
    #[inline]
    pub(crate) fn count_opened(&mut self) -> Result<(), Fault> {
        let (low, carry) = self.opened.overflowing_add(1);
        self.opened = low;
        if carry {
            self.opened_high = self.opened_high.checked_add(1).ok_or(Fault::Exhausted)?;
        }
        Ok(())
    }

    /// The number of the next record to be sealed.
    #[inline]
    pub(crate) fn sealed(&self) -> u64 {
        u64::from(self.sealed)
    }

    #[inline]
    pub(crate) fn count_sealed(&mut self) {
        self.sealed += 1;
    }

    /// Whether the secret has sealed as many records as it may, but for those that end it.
    #[inline]
    pub(crate) fn is_used_up(&self) -> bool {
        self.sealed >= RECORDS_PER_SECRET - 2
    }

    #[inline]
    pub(crate) fn their_secret(&self, suite: Suite) -> &[u8] {
        self.theirs.get(..suite.secret_len()).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn our_secret(&self, suite: Suite) -> &[u8] {
        self.ours.get(..suite.secret_len()).unwrap_or_default()
    }

    /// The peer has renewed its keys.
    pub(crate) fn renew_theirs(
        &mut self,
        suite: Suite,
        owner: u64,
        ciphers: &mut Ciphers,
    ) -> Result<(), Fault> {
        ciphers.drop_opening(owner);
        ciphers.counts.updates_in += 1;
        (self.opened, self.opened_high) = (0, 0);
        let secret = self.theirs.get_mut(..suite.secret_len()).unwrap_or_default();
        next_secret(suite, secret).map_err(|_| Fault::Exhausted)
    }

    /// We renew our keys, behind the `KeyUpdate` that says so.
    pub(crate) fn renew_ours(
        &mut self,
        suite: Suite,
        owner: u64,
        ciphers: &mut Ciphers,
    ) -> Result<(), Fault> {
        ciphers.drop_sealing(owner);
        ciphers.counts.updates_out += 1;
        self.sealed = 0;
        let secret = self.ours.get_mut(..suite.secret_len()).unwrap_or_default();
        next_secret(suite, secret).map_err(|_| Fault::Exhausted)
    }
}

/// As if so many records had gone in each direction already.
#[cfg(test)]
impl<const N: usize> Asleep<N> {
    pub(crate) fn forward(&mut self, opened: u64, sealed: u32) {
        self.opened = u32::try_from(opened & 0xffff_ffff).unwrap_or_default();
        self.opened_high = u16::try_from(opened >> 32).unwrap_or_default();
        self.sealed = sealed;
    }
}

impl<const N: usize> Default for Asleep<N> {
    fn default() -> Self {
        Self::PLAIN
    }
}

impl<const N: usize> Drop for Asleep<N> {
    fn drop(&mut self) {
        if self.is_secure() {
            self.wipe();
        }
    }
}

/// Without the secrets.
impl<const N: usize> fmt::Debug for Asleep<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asleep")
            .field("suite", &self.suite)
            .field("opened", &self.opened())
            .field("sealed", &self.sealed)
            .field("marks", &self.marks)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Secrets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

const _: () = assert!(size_of::<Asleep<32>>() == 80 && size_of::<Asleep<48>>() == 112);
