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
    /// Prefix and header as they were seen last; empty in a template that is none.
    header: Vec<u8>,
    /// Where the number is in it.
    digits: Range<usize>,
    /// The least number of so many digits: JSON has no leading zeros.
    least: u32,
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
            // No input is as long as that.
            frame: Frame::bare(FrameKind::JsonHeader, u32::MAX, u32::MAX),
            score: 0,
        };
        Self { templates: std::array::from_fn(|_| empty.clone()), latest: 0, hand: 0 }
    }
}

impl Template {
    /// The number in the header that `input` starts with, if all else is as in
    /// the template.
    fn content_len(&self, input: &[u8]) -> Option<u32> {
        let header = input.get(..self.frame.content_start as usize)?;
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
        (value >= self.least && header.ends_with(behind) && header.starts_with(before))
            .then_some(value)
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
        self.frame.content_len = content_len;
        true
    }

    fn learn(&mut self, header: &[u8], digits: Range<usize>, frame: &Frame) {
        // The old memory is used again: a header that is never seen twice costs a copy.
        self.header.clear();
        self.header.extend_from_slice(&frame.layout.header_len.to_be_bytes());
        self.header.extend_from_slice(header);
        self.least = least_of(digits.len());
        self.digits = PREFIX_LEN + digits.start..PREFIX_LEN + digits.end;
        self.frame = frame.clone();
        self.score = NEW;
    }
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
    pub(super) fn predict_by_another(&mut self, input: &[u8]) -> Option<(&Frame, u32)> {
        let prefix = input.first_chunk::<PREFIX_LEN>();
        let (index, content_len) =
            self.templates.iter().enumerate().find_map(|(index, template)| {
                // Most templates have another length.
                if template.header.first_chunk() != prefix {
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
