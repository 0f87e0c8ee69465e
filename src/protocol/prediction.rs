//! Header prediction, as TCP does it (Van Jacobson, 1990): nearly all headers of
//! one peer are the same bytes but for the digits of `content-length`.
//!
//! A template is a header that the full parse has accepted, cut at those digits.
//! A header with the same bytes before and behind them, and with a canonical
//! number between, is then valid too, and its parts are where the template's are.

use std::ops::Range;

use super::frame::{Frame, Span};

/// Templates kept by one loop.
const TEMPLATES: usize = 4;
/// Hits that a template's score can remember. Small, so that a header nobody
/// sends any more gives way soon.
const MAX_SCORE: u8 = 64;
/// Nineteen digits always fit 64 bits; twenty are left to the full parse.
const MAX_DIGITS: usize = 19;

/// The templates of one loop. Those in use stay: each header that none of them
/// predicts halves the score of one (the next, as the hand of a clock moves), and
/// takes its place once that is used up.
#[derive(Debug, Default, Clone)]
pub(super) struct Predictor {
    templates: Vec<Template>,
    /// The template that was right last.
    latest: usize,
    hand: usize,
}

#[derive(Debug, Clone)]
struct Template {
    before: Vec<u8>,
    behind: Vec<u8>,
    /// Bytes of both.
    fixed_len: usize,
    /// Of the header that was learned.
    frame: Frame,
    score: u8,
}

/// What a predicted header says.
#[derive(Debug)]
pub(super) struct Prediction<'a> {
    template: &'a Template,
    header_len: u16,
    pub(super) content_len: u64,
}

impl Prediction<'_> {
    /// The frame of the message, whose content has been found to be within the limit.
    #[inline]
    pub(super) fn frame(&self, content_len: u32) -> Frame {
        let learned = &self.template.frame;
        let mut frame = learned.clone();
        frame.content_len = content_len;
        if self.header_len != learned.header_len {
            // Another number of digits moves all that stands behind them.
            let moved = self.header_len.wrapping_sub(learned.header_len);
            let digits_at = self.template.before.len();
            let shift = |span: &mut Span| {
                if usize::from(span.start) > digits_at {
                    span.start = span.start.wrapping_add(moved);
                }
            };
            shift(&mut frame.content_type);
            shift(&mut frame.content_encoding);
            frame.header_len = self.header_len;
            frame.content_start = 2 + u32::from(self.header_len);
        }
        frame
    }
}

impl Template {
    /// The number in `header`, if all else is as in the template.
    #[inline]
    fn content_len(&self, header: &[u8]) -> Option<u64> {
        let digits = header.len().wrapping_sub(self.fixed_len);
        if digits.wrapping_sub(1) >= MAX_DIGITS {
            return None;
        }
        let (before, rest) = header.split_at_checked(self.before.len())?;
        let (number, behind) = rest.split_at_checked(digits)?;
        if *behind != *self.behind || *before != *self.before {
            return None;
        }
        // JSON has no leading zeros.
        if number.first() == Some(&b'0') && digits > 1 {
            return None;
        }
        let mut value = 0_u64;
        for byte in number {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            value = value * 10 + u64::from(digit);
        }
        Some(value)
    }

    fn learn(&mut self, header: &[u8], digits: Range<usize>, frame: &Frame) {
        // The old vectors are filled again, so that unlearnable headers cost a copy.
        self.before.clear();
        self.before.extend_from_slice(&header[..digits.start]);
        self.behind.clear();
        self.behind.extend_from_slice(&header[digits.end..]);
        self.fixed_len = self.before.len() + self.behind.len();
        self.frame = frame.clone();
        self.score = 1;
    }
}

impl Predictor {
    /// What `header` says, if it is one of the templates.
    #[inline]
    pub(super) fn predict(&mut self, header: &[u8], header_len: u16) -> Option<Prediction<'_>> {
        let content_len = match self.templates.get(self.latest)?.content_len(header) {
            Some(content_len) => content_len,
            None => self.predict_by_another(header)?,
        };
        let template = self.templates.get_mut(self.latest)?;
        template.score = (template.score + 1).min(MAX_SCORE);
        Some(Prediction { template, header_len, content_len })
    }

    fn predict_by_another(&mut self, header: &[u8]) -> Option<u64> {
        for (index, template) in self.templates.iter().enumerate() {
            if index != self.latest
                && let Some(content_len) = template.content_len(header)
            {
                self.latest = index;
                return Some(content_len);
            }
        }
        None
    }

    /// Takes a header into account that was not predicted and turned out valid.
    /// `digits` is the place of the number, `frame` what the header says.
    pub(super) fn learn(&mut self, header: &[u8], digits: Range<usize>, frame: &Frame) {
        if digits.len() > MAX_DIGITS {
            return;
        }
        if self.templates.len() < TEMPLATES {
            self.templates.push(Template {
                before: Vec::new(),
                behind: Vec::new(),
                fixed_len: 0,
                frame: frame.clone(),
                score: 0,
            });
            self.hand = self.templates.len() - 1;
        }
        self.latest = self.latest.min(self.templates.len() - 1);
        let Some(template) = self.templates.get_mut(self.hand) else { return };
        if template.score == 0 {
            template.learn(header, digits, frame);
        } else {
            template.score /= 2;
        }
        self.hand = (self.hand + 1) % TEMPLATES;
    }
}
