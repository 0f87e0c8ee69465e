//! [`HandleError`]: why an event loop was not asked.

use std::fmt;

/// Why a loop was not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandleError {
    /// The event loop is gone.
    Gone,
    /// 65,536 items or 64 MiB of messages wait for it already.
    Full,
    /// It could not be woken, which was tried again; the item waits until it wakes for another
    /// reason.
    NotWoken,
    /// It is the event loop's own thread that asks, which would wait for itself.
    OwnLoop,
}

impl fmt::Display for HandleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => "the event loop is gone",
            Self::Full => "65536 items or 64 MiB wait for the event loop already",
            Self::NotWoken => "the event loop could not be woken",
            Self::OwnLoop => "the event loop would have to wait for itself",
        })
    }
}

impl std::error::Error for HandleError {}
