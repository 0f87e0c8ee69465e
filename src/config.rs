//! [`Config`]: what a server is built with, and [`Limits`], the bounds that it keeps.

mod limits;

use std::fmt;
use std::time::Duration;

pub(crate) use self::limits::DEFAULT_PER_ADDRESS;
pub use self::limits::{Limit, LimitKind, LimitValue, Limits, Overflow};

/// What a server is built with, besides its handler.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Config {
    /// The bounds.
    pub limits: Limits,
    /// Whether every connection is closed after its first reply, as the tutorial's server does.
    pub one_shot: bool,
    /// How long an event loop looks for events before it blocks. Zero, the default: not at all.
    pub spin: Duration,
}

/// A configuration that cannot work.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A size or count is zero.
    Zero {
        /// The field's name.
        name: &'static str,
    },
    /// A size is more than the protocol or the engine can express.
    TooLarge {
        /// The field's name.
        name: &'static str,
        /// What it was set to.
        value: usize,
        /// The most it may be.
        ceiling: usize,
    },
    /// The low-water mark is not below the high-water mark.
    WaterMarks {
        /// The low-water mark in bytes.
        low: usize,
        /// The high-water mark in bytes.
        high: usize,
    },
    /// An event loop's share of all buffers could not hold one message of the largest size.
    ShareTooSmall {
        /// `max_buffer_bytes`.
        buffers: usize,
        /// How many event loops share it.
        threads: usize,
        /// Bytes of the largest message: prefix, header and content.
        message: usize,
    },
    /// An address' share of all buffers could not hold one message of the largest size.
    AddressShareTooSmall {
        /// `max_buffer_bytes_per_address`.
        buffers: usize,
        /// Bytes of the largest message: prefix, header and content.
        message: usize,
    },
    /// Listeners were secured by openers of different types, or there was no listener to secure.
    MixedLinks,
    /// Several event loops were asked for, and one handler was given.
    OneHandler {
        /// How many event loops.
        threads: usize,
    },
    /// All buffers together could not hold one message of the largest size.
    BuffersTooSmall {
        /// `max_buffer_bytes`.
        buffers: usize,
        /// Bytes of the largest message: prefix, header and content.
        message: usize,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero { name } => write!(f, "{name} must be at least 1"),
            Self::TooLarge { name, value, ceiling } => {
                write!(f, "{name} ({value}) must be at most {ceiling}")
            }
            Self::WaterMarks { low, high } => write!(
                f,
                "low_water ({low}) must be below high_water ({high}): \
                 reading would pause and resume at once"
            ),
            Self::BuffersTooSmall { buffers, message } => write!(
                f,
                "max_buffer_bytes ({buffers}) must be at least {message}: \
                 one message of the largest size has to fit"
            ),
            Self::AddressShareTooSmall { buffers, message } => write!(
                f,
                "max_buffer_bytes_per_address ({buffers}) must be at least {message}: \
                 one message of the largest size has to fit"
            ),
            Self::ShareTooSmall { buffers, threads, message } => write!(
                f,
                "max_buffer_bytes ({buffers}) must be at least {}: one message of the largest \
                 size has to fit into the share of each of {threads} event loops",
                message.saturating_mul(*threads)
            ),
            Self::MixedLinks => f.write_str(
                "secure() needs a listener before it, and openers of one type for all listeners",
            ),
            Self::OneHandler { threads } => write!(
                f,
                "threads ({threads}) needs a handler for each event loop: build_each makes them"
            ),
        }
    }
}

impl std::error::Error for ConfigError {}
