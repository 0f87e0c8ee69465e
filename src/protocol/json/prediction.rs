//! Header prediction, as TCP does it (Van Jacobson, 1990): nearly all headers of
//! one peer are the same bytes but for the digits of `content-length`.
//!
//! A template is a header that the full parse has accepted, cut at those digits.
//! A header of the same length, with the same bytes before and behind them and
//! with a canonical number between, is then valid too, and its parts are where
//! the template's are. Headers of another length, be it for one digit more, are
//! another template: so nothing has to be moved.
//!
//! Some peers never repeat a header: a request id that counts up is enough. They
//! must slow nobody, so a header replaces a template only once it was seen twice.

use std::ops::Range;

use crate::protocol::frame::{Frame, FrameKind};

/// Templates kept by one loop; a power of two, so that an index needs no check.
const TEMPLATES: usize = 8;
/// What a hit sets a template's score to, for the hand of the clock to halve:
/// a template in use is replaced after it has missed four rounds of the hand.
const IN_USE: u8 = 7;
/// What a template starts with that replaces another: it must prove itself within one round.
const NEW: u8 = 1;
/// More digits than that are left to the full parse: nine always fit 32 bits.
const MAX_DIGITS: usize = 9;
/// Bytes of the header's length in front of it.
const PREFIX_LEN: usize = 2;
/// Headers of which it is remembered that they were seen.
const SEEN: usize = 64;

/// The templates of one loop.
///
/// A valid header that none of them predicts takes the place of one that nobody
/// uses, if it was seen before. Where all are in use, it moves the hand of a clock
/// on by one, which halves the score of the template it stands on. So headers in use
/// stay, and a peer whose headers are all different replaces none.
#[derive(Debug, Clone)]
pub(super) struct Predictor {
    templates: [Template; TEMPLATES],
    /// The template that was right last.
    latest: usize,
    hand: usize,
    /// Hashes of the headers that were seen lately and not learnt, each at the place
    /// that it names. Empty until all templates are taken.
    seen: Vec<u32>,
}

#[derive(Debug, Clone)]
struct Template {
    /// Prefix and header as they were seen last; empty in a template that is none.
    header: Vec<u8>,
    /// Where the number is in it.
    digits: Range<usize>,
    /// The least number of so many digits: JSON has no leading zeros.
    least: u32,
    /// The last bytes of the header, and which of their bits are no digits of the number.
    /// Nearly all other headers differ there.
    tail: u64,
    tail_mask: u64,
    /// What `header` says.
    frame: Frame,
    score: u8,
}

impl Default for Predictor {
    fn default() -> Self {
        let empty = Template {
            header: Vec::new(),
            digits: 0..0,
            least: u32::MAX,
            tail: 0,
            tail_mask: 0,
            // No input is as long as that.
            frame: Frame::bare(FrameKind::JsonHeader, u32::MAX, u32::MAX),
            score: 0,
        };
        Self {
            templates: std::array::from_fn(|_| empty.clone()),
            latest: 0,
            hand: 0,
            seen: Vec::new(),
        }
    }
}

impl Template {
    /// The number in the header that `input` starts with, if all else is as in
    /// the template.
    #[inline]
    fn content_len(&self, input: &[u8]) -> Option<u32> {
        let header = input.get(..self.frame.content_start as usize)?;
        if tail_of(header) & self.tail_mask != self.tail {
            return None;
        }
        self.rest_of_content_len(header)
    }

    /// The same of a header with the same tail.
    #[inline]
    fn rest_of_content_len(&self, header: &[u8]) -> Option<u32> {
        let (before, behind) =
            (self.header.get(..self.digits.start)?, self.header.get(self.digits.end..)?);
        let mut value = 0;
        for byte in header.get(self.digits.clone())? {
            let digit = u32::from(byte.wrapping_sub(b'0'));
            if digit > 9 {
                return None;
            }
            value = value * 10 + digit;
        }
        // The tail has told already of what is as short as it.
        let is_same_behind = behind.len() <= TAIL || header.ends_with(behind);
        (value >= self.least && is_same_behind && header.starts_with(before)).then_some(value)
    }

    /// Whether `input` starts with a message as long as the one seen last, with the same header.
    #[inline(always)]
    fn is_repeated_by(&self, input: &[u8]) -> bool {
        input.len() >= self.frame.len() && input.starts_with(&self.header)
    }

    /// Takes another number over, if `input` starts with a whole message that has all else from the
    /// template.
    #[inline(never)]
    fn adapt_to(&mut self, input: &[u8]) -> bool {
        let Some(content_len) = self.content_len(input) else { return false };
        if self.frame.content_start as usize + content_len as usize > input.len() {
            return false;
        }
        let (Some(old), Some(new)) =
            (self.header.get_mut(self.digits.clone()), input.get(self.digits.clone()))
        else {
            return false;
        };
        old.copy_from_slice(new);
        self.frame.set_content_len(content_len);
        true
    }

    fn learn(&mut self, header: &[u8], digits: Range<usize>, frame: &Frame, score: u8) {
        // The old memory is used again.
        self.header.clear();
        self.header.reserve(PREFIX_LEN + header.len());
        self.header.extend_from_slice(&frame.layout.header_len.to_be_bytes());
        self.header.extend_from_slice(header);
        self.least = least_of(digits.len());
        self.digits = PREFIX_LEN + digits.start..PREFIX_LEN + digits.end;
        self.tail_mask = tail_mask(self.header.len() - self.digits.end, digits.len());
        self.tail = tail_of(&self.header) & self.tail_mask;
        self.frame.set_header(frame);
        self.score = score;
    }
}

/// The bytes of a tail.
const TAIL: usize = size_of::<u64>();

/// The last bytes, the very last in the highest bits. Every header has more.
fn tail_of(header: &[u8]) -> u64 {
    header.last_chunk().map_or(0, |tail| u64::from_le_bytes(*tail))
}

/// All bits of a tail but those of so many digits with so many bytes behind them.
fn tail_mask(behind: usize, digits: usize) -> u64 {
    let first = |bytes: usize| {
        u64::MAX.checked_shr(64 - 8 * u32::try_from(bytes).unwrap_or(8)).unwrap_or_default()
    };
    let end = TAIL.saturating_sub(behind);
    !(first(end) & !first(end.saturating_sub(digits)))
}

/// The same for headers that differ in nothing but the number, and never 0.
fn hash_of(header: &[u8], digits: &Range<usize>) -> u32 {
    let before = header.get(..digits.start).unwrap_or_default();
    let behind = header.get(digits.end..).unwrap_or_default();
    let mut hash = digits.len() as u64;
    for part in [before, behind] {
        let (words, _) = part.as_chunks();
        // The last word reaches back into the one before it.
        let last = part.last_chunk().unwrap_or(&[0; 8]);
        for word in words.iter().chain([last]) {
            let word = u64::from_le_bytes(*word);
            hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
    }
    // The highest bits of the product, which all bits of the header reach.
    u32::try_from(hash & 0x1fff_ffff).unwrap_or_default() | 1
}

/// The least number that is written with so many digits.
fn least_of(digits: usize) -> u32 {
    let exponent = u32::try_from(digits.saturating_sub(1)).unwrap_or(u32::MAX);
    if exponent == 0 { 0 } else { 10_u32.saturating_pow(exponent) }
}

impl Predictor {
    /// The frame and the content's length of the message that `input` starts with,
    /// if its header is there and is the one that was right last.
    pub(super) fn predict(&mut self, input: &[u8]) -> Option<(&Frame, u32)> {
        let template = self.templates.get_mut(self.latest % TEMPLATES)?;
        let content_len = template.content_len(input)?;
        template.score = IN_USE;
        Some((&template.frame, content_len))
    }

    /// The frame of the whole message that `input` starts with, if its header is the one that was
    /// right last. Where the content is as long as it was then, one comparison tells.
    #[inline(always)]
    pub(super) fn predict_whole(&mut self, input: &[u8]) -> Option<&Frame> {
        let template = self.templates.get_mut(self.latest % TEMPLATES)?;
        if !template.is_repeated_by(input) && !template.adapt_to(input) {
            return None;
        }
        template.score = IN_USE;
        Some(&template.frame)
    }

    /// As [`predict`](Self::predict), by all the other templates.
    #[inline(never)]
    pub(super) fn predict_by_another(&mut self, input: &[u8]) -> Option<(&Frame, u32)> {
        let header_len = u16::from_be_bytes(*input.first_chunk()?);
        let header = input.get(..PREFIX_LEN + usize::from(header_len))?;
        let tail = tail_of(header);
        let (index, content_len) =
            self.templates.iter().enumerate().find_map(|(index, template)| {
                // Most differ in this; those that are no templates have no length.
                let is_alike = template.frame.layout.header_len == header_len
                    && tail & template.tail_mask == template.tail
                    && !template.header.is_empty();
                Some((index, is_alike.then(|| template.rest_of_content_len(header))??))
            })?;
        self.latest = index;
        let template = self.templates.get_mut(index)?;
        template.score = IN_USE;
        Some((&template.frame, content_len))
    }

    /// Takes a header into account that was not predicted and turned out valid.
    /// `digits` is the place of the number, `frame` what the header says.
    #[inline(never)]
    pub(super) fn learn(&mut self, header: &[u8], digits: Range<usize>, frame: &Frame) {
        if digits.len() > MAX_DIGITS {
            return;
        }
        let hand = self.hand;
        if self.seen.is_empty() {
            if let Some(free) = self.templates.iter_mut().find(|one| one.header.is_empty()) {
                free.learn(header, digits, frame, 0);
                return;
            }
            self.seen.resize(SEEN, 0);
        }
        let hash = hash_of(header, &digits);
        let Some(seen) = self.seen.get_mut(usize::try_from(hash >> 8).unwrap_or_default() % SEEN)
        else {
            return;
        };
        if *seen != hash {
            *seen = hash;
            return;
        }
        let (behind, before) = self.templates.split_at_mut(hand);
        match before.iter_mut().chain(behind).find(|one| one.score == 0) {
            Some(unused) => unused.learn(header, digits, frame, NEW),
            None => {
                if let Some(template) = self.templates.get_mut(hand) {
                    template.score /= 2;
                }
            }
        }
        self.hand = (hand + 1) % TEMPLATES;
    }
}
