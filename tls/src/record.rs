//! The record layer: [`Asleep::open`] and [`Asleep::seal`] (RFC 8446, section 5).

use ring::aead::Aad;

use crate::asleep::{Asleep, Marks};
use crate::ciphers::Ciphers;
use crate::fault::{Fault, alert};
use crate::suite::Suite;

/// Bytes of a record's header.
pub const HEADER: usize = 5;

/// Bytes of data that one record has at most.
pub const MOST_PLAIN: usize = 1 << 14;

/// Bytes behind the header of a record at most.
pub const MOST_SEALED: usize = MOST_PLAIN + 256;

/// By how much sealing one record lengthens it: the header, the type of its content, the tag.
pub const OVERHEAD: usize = HEADER + 1 + TAG;

const TAG: usize = 16;

/// Records in a row without data that are passed over.
pub(crate) const MOST_QUIET: u8 = 32;

/// The types of content.
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

/// The types of handshake messages that may come once the handshake is over.
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// What became of received bytes. Good records in front of a bad one are opened, and told of together
/// with the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Opened {
    /// So many bytes of data now stand where the records stood, from the front.
    pub plain: usize,
    /// So many bytes, from the front, were records. What follows is part of another.
    pub consumed: usize,
    /// So many bytes must be there behind `consumed` before another record can be opened.
    pub needed: usize,
    /// Nothing more will be opened, for this reason.
    pub end: Option<End>,
}

/// Why nothing more is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer has said `close_notify`.
    Closed,
    /// The connection cannot go on.
    Fault(Fault),
}

/// What a record brought.
enum Content {
    /// So many bytes of data.
    Data(usize),
    /// Nothing for the reader.
    Nothing,
    /// The peer sends no more.
    Closed,
}

impl<const N: usize> Asleep<N> {
    /// Decrypts the records that `bytes` begins with, in place: their data is moved together at the
    /// front. Nothing is allocated, and nothing is ever written to the peer: what is owed to it goes
    /// out in front of the next data.
    ///
    /// `owner` names this connection among those that share `ciphers`, and must be the same each
    /// time.
    pub fn open(&mut self, ciphers: &mut Ciphers, owner: u64, bytes: &mut [u8]) -> Opened {
        let mut opened = Opened { plain: 0, consumed: 0, needed: HEADER, end: None };
        let Some(suite) = self.suite() else { return opened };
        if self.marks.has(Marks::ENDED) {
            opened.consumed = bytes.len();
            return opened;
        }
        loop {
            let rest = bytes.get(opened.consumed..).unwrap_or_default();
            let Some(header) = rest.first_chunk::<HEADER>() else {
                opened.needed = HEADER;
                break;
            };
            let len = match sealed_len(header) {
                Ok(len) => len,
                Err(fault) => {
                    self.fail(&mut opened, fault);
                    break;
                }
            };
            if rest.len() < HEADER + len {
                opened.needed = HEADER + len;
                break;
            }
            let header = *header;
            // From where the data goes to the end of the record: decrypting moves it there.
            let (to, end) = (opened.plain, opened.consumed + HEADER + len);
            let from = opened.consumed + HEADER - to;
            let window = bytes.get_mut(to..end).unwrap_or_default();
            match self.open_one(ciphers, owner, suite, &header, window, from) {
                Ok(content) => {
                    opened.consumed = end;
                    match content {
                        Content::Data(len) => opened.plain += len,
                        Content::Nothing => {}
                        Content::Closed => {
                            self.marks.set(Marks::ENDED);
                            self.marks.set(Marks::CLOSED);
                            opened.end = Some(End::Closed);
                            break;
                        }
                    }
                }
                Err(fault) => {
                    self.fail(&mut opened, fault);
                    break;
                }
            }
        }
        ciphers.rest(owner);
        opened
    }

    #[cold]
    fn fail(&mut self, opened: &mut Opened, fault: Fault) {
        self.marks.set(Marks::ENDED);
        self.last_word = fault.alert().unwrap_or(alert::CLOSE_NOTIFY);
        if fault.alert().is_none() {
            // A peer that has said its last word is told nothing.
            self.marks.set(Marks::SAID);
        }
        opened.end = Some(End::Fault(fault));
    }

    /// Decrypts one record, which starts at `from` in `window`, to its front.
    #[inline]
    fn open_one(
        &mut self,
        ciphers: &mut Ciphers,
        owner: u64,
        suite: Suite,
        header: &[u8; HEADER],
        window: &mut [u8],
        from: usize,
    ) -> Result<Content, Fault> {
        let sequence = self.opened();
        let secret = self.their_secret(suite);
        let cipher = ciphers.opening(owner, suite, secret).map_err(|_| Fault::Exhausted)?;
        let nonce = cipher.nonce(sequence);
        let inner = cipher
            .key
            .open_within(nonce, Aad::from(header), window, from..)
            .map_err(|_| Fault::BadRecordMac)?;
        self.count_opened()?;
        ciphers.counts.records_in += 1;
        if inner.len() > MOST_PLAIN + 1 {
            return Err(Fault::RecordOverflow);
        }
        // Behind the content stands its type, and behind that zeros.
        let last = inner.iter().rposition(|byte| *byte != 0).ok_or(Fault::UnexpectedMessage)?;
        let (content, kind) = inner.split_at(last);
        match kind.first() {
            Some(&DATA) if !content.is_empty() => {
                self.quiet = 0;
                Ok(Content::Data(content.len()))
            }
            Some(&DATA) => self.count_quiet(Fault::TooManyEmptyRecords),
            Some(&HANDSHAKE) => self.take_handshake(ciphers, owner, suite, inner.get(..last)),
            Some(&ALERT) => self.take_alert(content),
            _ => Err(Fault::UnexpectedMessage),
        }
    }

    /// A record without data came.
    fn count_quiet(&mut self, fault: Fault) -> Result<Content, Fault> {
        if self.quiet >= MOST_QUIET {
            return Err(fault);
        }
        self.quiet += 1;
        Ok(Content::Nothing)
    }

    #[cold]
    #[inline(never)]
    fn take_alert(&mut self, content: &[u8]) -> Result<Content, Fault> {
        match content {
            [] => Err(Fault::UnexpectedMessage),
            [_, alert::CLOSE_NOTIFY] => Ok(Content::Closed),
            // What it announces comes with close_notify.
            [_, alert::USER_CANCELED] => self.count_quiet(Fault::TooManyEmptyRecords),
            [_, code] => Err(Fault::PeerAlert(*code)),
            _ => Err(Fault::DecodeError),
        }
    }

    /// The messages of a record of the handshake. One that is split over records is refused.
    #[cold]
    #[inline(never)]
    fn take_handshake(
        &mut self,
        ciphers: &mut Ciphers,
        owner: u64,
        suite: Suite,
        content: Option<&[u8]>,
    ) -> Result<Content, Fault> {
        let mut rest = content.filter(|rest| !rest.is_empty()).ok_or(Fault::UnexpectedMessage)?;
        while let Some((&kind, behind)) = rest.split_first() {
            let is_known = match kind {
                KEY_UPDATE => true,
                NEW_SESSION_TICKET => self.marks.has(Marks::CLIENT),
                _ => false,
            };
            if !is_known {
                return Err(Fault::UnexpectedMessage);
            }
            let (len, body) = behind.split_first_chunk::<3>().ok_or(Fault::SplitHandshake)?;
            let len = len.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
            if kind == KEY_UPDATE && len != 1 {
                return Err(Fault::DecodeError);
            }
            let (body, next) = body.split_at_checked(len).ok_or(Fault::SplitHandshake)?;
            if kind == KEY_UPDATE {
                let asked = match body.first() {
                    Some(0) => false,
                    Some(1) => true,
                    _ => return Err(Fault::IllegalParameter),
                };
                if !next.is_empty() {
                    // What follows would have to be under the new key.
                    return Err(Fault::UnexpectedMessage);
                }
                self.count_quiet(Fault::TooManyKeyUpdates)?;
                self.renew_theirs(suite, owner, ciphers)?;
                if asked {
                    self.marks.set(Marks::OWES_UPDATE);
                }
                return Ok(Content::Nothing);
            }
            rest = next;
        }
        // Tickets for later connections: nobody here has a use for them.
        self.count_quiet(Fault::TooManyEmptyRecords)
    }

    /// Encrypts `plain` and appends the records to `out`, in front of them what is owed to the peer.
    /// Nothing is allocated, but for room in `out`: [`sealed_room`] says how much that takes.
    ///
    /// # Errors
    ///
    /// [`Fault::Exhausted`] where our last word has been said, or encrypting fails. Nothing is
    /// appended then but whole records.
    pub fn seal(
        &mut self,
        ciphers: &mut Ciphers,
        owner: u64,
        plain: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let suite = self.suite().ok_or(Fault::Exhausted)?;
        if self.marks.has(Marks::SAID) {
            return Err(Fault::Exhausted);
        }
        let mut result = Ok(());
        for piece in plain.chunks(MOST_PLAIN) {
            result = self
                .seal_update_if_due(ciphers, owner, suite, out)
                .and_then(|()| self.seal_one(ciphers, owner, suite, DATA, piece, out));
            if result.is_err() {
                break;
            }
        }
        ciphers.rest(owner);
        result
    }

    /// Seals our last word: the alert that a fault asks for, else `close_notify`. Nothing can follow.
    /// Does nothing where that has been said.
    ///
    /// # Errors
    ///
    /// [`Fault::Exhausted`] where encrypting fails.
    pub fn finish(
        &mut self,
        ciphers: &mut Ciphers,
        owner: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let Some(suite) = self.suite() else { return Ok(()) };
        if self.marks.has(Marks::SAID) {
            return Ok(());
        }
        self.marks.set(Marks::SAID);
        let level = if self.last_word == alert::CLOSE_NOTIFY { 1 } else { 2 };
        let alert = [level, self.last_word];
        let result = self.seal_one(ciphers, owner, suite, ALERT, &alert, out);
        ciphers.rest(owner);
        result
    }

    /// A `KeyUpdate` goes out under the old key; what follows has the new one.
    #[inline]
    fn seal_update_if_due(
        &mut self,
        ciphers: &mut Ciphers,
        owner: u64,
        suite: Suite,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        if !self.marks.has(Marks::OWES_UPDATE) && !self.is_used_up() {
            return Ok(());
        }
        self.seal_update(ciphers, owner, suite, out)
    }

    #[cold]
    #[inline(never)]
    fn seal_update(
        &mut self,
        ciphers: &mut Ciphers,
        owner: u64,
        suite: Suite,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let asks = u8::from(self.marks.has(Marks::ASKS_UPDATE));
        self.seal_one(ciphers, owner, suite, HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, asks], out)?;
        self.marks.clear(Marks::OWES_UPDATE | Marks::ASKS_UPDATE);
        self.renew_ours(suite, owner, ciphers)
    }

    #[inline]
    fn seal_one(
        &mut self,
        ciphers: &mut Ciphers,
        owner: u64,
        suite: Suite,
        kind: u8,
        content: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let start = out.len();
        let len = u16::try_from(content.len() + 1 + TAG).map_err(|_| Fault::Exhausted)?;
        let [high, low] = len.to_be_bytes();
        let header = [DATA, 3, 3, high, low];
        out.reserve(content.len() + OVERHEAD);
        out.extend_from_slice(&header);
        out.extend_from_slice(content);
        out.push(kind);
        let sequence = self.sealed();
        let cipher =
            ciphers.sealing(owner, suite, self.our_secret(suite)).map_err(|_| Fault::Exhausted)?;
        let nonce = cipher.nonce(sequence);
        let inner = out.get_mut(start + HEADER..).unwrap_or_default();
        match cipher.key.seal_in_place_separate_tag(nonce, Aad::from(&header), inner) {
            Ok(tag) => out.extend_from_slice(tag.as_ref()),
            Err(_) => {
                out.truncate(start);
                return Err(Fault::Exhausted);
            }
        }
        self.count_sealed();
        ciphers.counts.records_out += 1;
        Ok(())
    }
}

/// The length of what follows a record's header, once the handshake is over.
#[inline]
fn sealed_len(header: &[u8; HEADER]) -> Result<usize, Fault> {
    let [kind, major, _minor, high, low] = *header;
    if kind != DATA {
        return Err(other_kind(kind));
    }
    if major != 3 {
        return Err(Fault::DecodeError);
    }
    let len = usize::from(u16::from_be_bytes([high, low]));
    if len > MOST_SEALED { Err(Fault::RecordOverflow) } else { Ok(len) }
}

/// A record that is not encrypted came where all must be.
#[cold]
fn other_kind(kind: u8) -> Fault {
    match kind {
        CHANGE_CIPHER_SPEC | ALERT | HANDSHAKE => Fault::UnexpectedMessage,
        _ => Fault::NotARecord,
    }
}

/// How many bytes [`Asleep::seal`] appends for so many bytes of data at most.
///
/// ```
/// assert_eq!(myriapod_tls::sealed_room(100), 100 + 22 + 27, "one record, and a KeyUpdate");
/// ```
#[must_use]
pub const fn sealed_room(plain: usize) -> usize {
    plain + plain.div_ceil(MOST_PLAIN) * OVERHEAD + OVERHEAD + 5
}

#[cfg(test)]
mod tests;
