//! [`HandlerError`]: why a handler could not answer, made of whatever its own calls return.

use std::error::Error as StdError;
use std::fmt;

use crate::protocol::{Fault, ProtocolError};

/// What a handler returns for a message.
pub type HandlerResult = Result<(), HandlerError>;

/// Why a handler could not answer. Made with `?` from any error, a text, a `Box<dyn Error>`, and
/// what can become one, such as the error of `anyhow` or `eyre`. A `Box<dyn Error + Send + Sync>`
/// needs [`boxed`](Self::boxed): the language allows one of the two boxes.
///
/// ```
/// use myriapod::{HandlerError, HandlerResult, Message, Reply};
/// use std::error::Error;
///
/// fn total(message: &Message<'_>) -> Result<i64, Box<dyn Error>> {
///     let prices: Vec<i64> = message.json_as()?;
///     prices.iter().try_fold(0_i64, |sum, price| sum.checked_add(*price)).ok_or("too dear".into())
/// }
///
/// fn stored(total: i64) -> Result<(), Box<dyn Error + Send + Sync>> {
///     # let _ = total;
///     Ok(())
/// }
///
/// fn answer(message: Message<'_>, reply: &mut Reply<'_>) -> HandlerResult {
///     let total = total(&message)?;
///     stored(total).map_err(HandlerError::boxed)?;
///     Ok(reply.json(&total)?)
/// }
/// ```
///
/// The peer is told: an error reply carries the text as `{"result": "Error: …"}` and the kind in
/// its `error` header.
///
/// Boxed, so that the result of a handler that could answer is one register.
#[derive(Debug)]
pub struct HandlerError(Box<HandlerErrorParts>);

#[derive(Debug)]
struct HandlerErrorParts {
    kind: HandlerErrorKind,
    text: String,
}

#[derive(Debug)]
enum HandlerErrorKind {
    Content(ProtocolError),
    Named(&'static str),
}

impl HandlerError {
    /// An error with a further kind, such as `NotFound`, and a text for people.
    pub fn new(kind: &'static str, text: impl fmt::Display) -> Self {
        let kind = HandlerErrorKind::Named(kind);
        Self(Box::new(HandlerErrorParts { kind, text: text.to_string() }))
    }

    /// Of an error in a box that goes to other threads, for `map_err(HandlerError::boxed)`.
    #[must_use]
    #[cold]
    pub fn boxed(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::of(&*error.into())
    }

    fn of(error: &(dyn StdError + 'static)) -> Self {
        let text = error.to_string();
        let kind = match content_fault(error) {
            Some(fault) => HandlerErrorKind::Content(fault),
            None => HandlerErrorKind::Named("HandlerError"),
        };
        Self(Box::new(HandlerErrorParts { kind, text }))
    }

    /// The kind, as the error reply's `error` header says it.
    #[must_use]
    pub fn kind(&self) -> &str {
        match &self.0.kind {
            HandlerErrorKind::Content(error) => error.kind().name(),
            HandlerErrorKind::Named(name) => name,
        }
    }

    /// The fault of the peer's content, where that was the reason: where the error is a
    /// [`ProtocolError`], or has one about content among its sources. Under an
    /// [`Error`](crate::Error) it is the fault of somebody else, whose client the handler is.
    #[must_use]
    pub fn fault(&self) -> Option<&ProtocolError> {
        match &self.0.kind {
            HandlerErrorKind::Content(error) => Some(error),
            HandlerErrorKind::Named(_) => None,
        }
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

// `HandlerError` is no `std::error::Error` itself: only so can it be made from all that are. And
// every error can become a `Box<dyn Error>`, so that one implementation is for all of them; a second
// one, for the other box, would overlap if the standard library made that box an error some day.
impl<E: Into<Box<dyn StdError>>> From<E> for HandlerError {
    #[cold]
    fn from(error: E) -> Self {
        Self::of(&*error.into())
    }
}

/// The fault of the message's content that an error is, or that it came of.
fn content_fault(error: &(dyn StdError + 'static)) -> Option<ProtocolError> {
    if let Some(fault) = error.downcast_ref::<ProtocolError>() {
        return Some(fault.clone());
    }
    let mut next = Some(error);
    // A circle of sources must not hold the loop.
    for _ in 0..MOST_SOURCES {
        let source = next?;
        if source.is::<crate::Error>() {
            return None;
        }
        // Boxes of others hide what they hold, but not its source.
        let found = match (source.downcast_ref::<ProtocolError>(), source.downcast_ref::<Fault>()) {
            (Some(found), _) => found.clone(),
            (None, Some(fault)) => ProtocolError::new(*fault),
            (None, None) => {
                next = source.source();
                continue;
            }
        };
        // The framing has read the header: a fault of one is of another message than this.
        return (!found.kind().ends_connection()).then_some(found);
    }
    None
}

/// How far an error is followed to its sources.
const MOST_SOURCES: usize = 32;
