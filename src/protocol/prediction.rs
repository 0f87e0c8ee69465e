//! Header prediction, as TCP does it (Van Jacobson, 1990): nearly all headers of
//! one peer are the same bytes but for the digits of `content-length`.
//!
//! A template is a header that the full parse has accepted, cut at those digits.
//! A header of the same length, with the same bytes before and behind them and
//! with a canonical number between, is then valid too, and its parts are where
//! the template's are. Headers of another length, be it for one digit more, are
//! another template: so nothing has to be moved.

use std::ops::Range;

use super::frame::{Frame, FrameKind};

/// Templates kept by one loop; a power of two, so that an index needs no check.
const TEMPLATES: usize = 8;
/// What a hit sets a template's score to, for the hand of the clock to halve:
/// a template in use is replaced after it has missed four rounds of the hand.
const IN_USE: u8 = 7;
/// What a template starts with: it must prove itself within one round.
const NEW: u8 = 1;
/// More digits than that are left to the full parse: nine always fit 32 bits.
const MAX_DIGITS: usize = 9;
/// Bytes of the header's length in front of it.
const PREFIX_LEN: usize = 2;

/// The templates of one loop.
///
/// Each valid header that none of them predicts moves the hand of a clock on by
/// one. The hand halves the score of the template it stands on, and replaces it
/// once that is used up. So headers in use stay, and a peer whose headers are all
/// different makes others miss only where it sends much more than they do.
#[derive(Debug, Clone)]
pub(super) struct Predictor {
    templates: [Template; TEMPLATES],
    /// The template that was right last.
    latest: usize,
    hand: usize,
}

#[derive(Debug, Clone)]
struct Template {
    /// Prefix and header up to the digits; empty in a template that is none.
    before: Vec<u8>,
    digits_end: usize,
    behind: Vec<u8>,
    /// Of the header that was learned; `content_len` varies.
    frame: Frame,
    score: u8,
}

impl Default for Predictor {
    fn default() -> Self {
        let empty = Template {
            before: Vec::new(),
            digits_end: 0,
            behind: Vec::new(),
            // No input is as long as that.
            frame: Frame::bare(FrameKind::JsonHeader, u32::MAX, 0),
            score: 0,
        };
        Self { templates: std::array::from_fn(|_| empty.clone()), latest: 0, hand: 0 }
    }
}

impl Template {
    /// The number in the header that `input` starts with, if all else is as in
    /// the template.
    #[inline]
    fn content_len(&self, input: &[u8]) -> Option<u32> {
        let header = input.get(..self.frame.content_start as usize)?;
        let (rest, behind) = header.split_at_checked(self.digits_end)?;
        let (before, number) = rest.split_at_checked(self.before.len())?;
        let (&first, more) = number.split_first()?;
        let mut value = u32::from(first.wrapping_sub(b'0'));
        // JSON has no leading zeros.
        if value > 9 || (value == 0 && !more.is_empty()) {
            return None;
        }
        for byte in more {
            let digit = u32::from(byte.wrapping_sub(b'0'));
            if digit > 9 {
                return None;
            }
            value = value * 10 + digit;
        }
        // The one call comes last, so that little must be kept across it.
        (same_tail(behind, &self.behind) && *before == *self.before).then_some(value)
    }

    fn learn(&mut self, header: &[u8], digits: Range<usize>, frame: &Frame) {
        let (Some(before), Some(behind)) = (header.get(..digits.start), header.get(digits.end..))
        else {
            return;
        };
        // The old memory is used again: a header that is never seen twice costs a copy.
        self.before.clear();
        self.before.extend_from_slice(&frame.layout.header_len.to_be_bytes());
        self.before.extend_from_slice(before);
        self.behind.clear();
        self.behind.extend_from_slice(behind);
        self.digits_end = PREFIX_LEN + digits.end;
        self.frame = frame.clone();
        self.score = NEW;
    }
}

/// Compares what stands behind the digits: one brace, mostly.
#[inline]
fn same_tail(left: &[u8], right: &[u8]) -> bool {
    match (left, right) {
        ([left], [right]) => left == right,
        _ => left == right,
    }
}

impl Predictor {
    /// The frame and the content's length of the message that `input` starts with,
    /// if its header is there and is the one that was right last.
    #[inline]
    pub(super) fn predict(&mut self, input: &[u8]) -> Option<(&Frame, u32)> {
        let template = self.templates.get_mut(self.latest % TEMPLATES)?;
        let content_len = template.content_len(input)?;
        template.score = IN_USE;
        Some((&template.frame, content_len))
    }

    /// As [`predict`](Self::predict), by all the other templates.
    pub(super) fn predict_by_another(&mut self, input: &[u8]) -> Option<(&Frame, u32)> {
        let prefix = input.first_chunk::<PREFIX_LEN>();
        let (index, content_len) =
            self.templates.iter().enumerate().find_map(|(index, template)| {
                // Most templates have another length.
                if template.before.first_chunk() != prefix {
                    return None;
                }
                Some((index, template.content_len(input)?))
            })?;
        self.latest = index;
        let template = self.templates.get_mut(index)?;
        template.score = IN_USE;
        Some((&template.frame, content_len))
    }

    /// Takes a header into account that was not predicted and turned out valid.
    /// `digits` is the place of the number, `frame` what the header says.
    pub(super) fn learn(&mut self, header: &[u8], digits: Range<usize>, frame: &Frame) {
        if digits.len() > MAX_DIGITS {
            return;
        }
        let Some(template) = self.templates.get_mut(self.hand % TEMPLATES) else { return };
        if template.score == 0 {
            template.learn(header, digits, frame);
        } else {
            template.score /= 2;
        }
        self.hand = (self.hand + 1) % TEMPLATES;
    }
}
