//! What is asked and answered where nothing is framed: each byte is a request, and its own answer.
//!
//! The server gets any number of them at once, and treats them alike however they are grouped.

use myriapod::sys::sim::Rng;

use crate::peer::Habits;
use crate::request::{Answer, Request, Verb};

/// Is not answered.
const SILENT: u8 = b' ';
/// Whatever it comes with is answered later.
const LATER: u8 = b'L';
/// The last byte of a stream, for some: the server is to answer and close, to promise an answer and
/// drop the promise, or to panic.
const CLOSE: u8 = b'C';
const ABANDON: u8 = b'A';
const PANIC: u8 = b'P';

/// As many bytes stand for a request of the other framings.
const BYTES: usize = 100;

/// What to do with all the bytes that came at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) verb: Verb,
    /// Answer later, and then do the rest.
    pub(crate) is_later: bool,
}

/// Everything that a peer will ever send.
pub(crate) fn wire(rng: &mut Rng, habits: Habits) -> Vec<u8> {
    let most = habits.most_requests * BYTES;
    let mut wire: Vec<u8> = (0..rng.len(0, most))
        .map(|_| match rng.below(1000) {
            0..=99 => SILENT,
            _ if rng.chance(habits.later / 40) => LATER,
            other => b'a' + u8::try_from(other % 26).unwrap_or_default(),
        })
        .collect();
    if rng.chance(habits.trouble * 3) {
        wire.extend(rng.pick(&[CLOSE, ABANDON, PANIC]));
    }
    wire
}

/// The most that is answered at once.
pub(crate) const fn longest_answer(habits: &Habits) -> usize {
    habits.most_requests * BYTES + 1
}

fn verb_of(byte: u8) -> Verb {
    match byte {
        SILENT => Verb::Nothing,
        LATER => Verb::Later,
        CLOSE => Verb::Close,
        ABANDON => Verb::Abandon,
        PANIC => Verb::Panic,
        _ => Verb::Echo,
    }
}

fn is_answered(verb: Verb) -> bool {
    matches!(verb, Verb::Echo | Verb::Later | Verb::Close)
}

/// One byte as a request.
pub(crate) fn request(byte: u8) -> Request {
    let verb = verb_of(byte);
    let answer = Answer::Bytes { content_type: "", content: vec![byte] };
    let answer = is_answered(verb).then_some(answer);
    let ends = matches!(verb, Verb::Close | Verb::Abandon | Verb::Panic);
    Request { verb, wire: vec![byte], header_len: 0, answer, ends }
}

/// The answers to bytes that came at once.
pub(crate) fn answer(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().filter(|byte| is_answered(verb_of(*byte))).collect()
}

/// What bytes that came at once ask for.
pub(crate) fn wish(bytes: &[u8]) -> Wish {
    let verb = bytes.last().map_or(Verb::Nothing, |last| verb_of(*last));
    Wish { verb, is_later: bytes.contains(&LATER) }
}
