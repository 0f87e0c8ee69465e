//! [`Limits`] and [`Config`]: every bound the engine keeps, each with a default that is on.

use std::fmt;
use std::time::Duration;

use crate::protocol::DecodeLimits;

/// The bounds on what peers can make the engine hold, wait for or do.
///
/// All are on by default. A duration of zero switches that timeout off; a size or count of zero is
/// refused when the server is built.
///
/// ```
/// use myriapod::Limits;
///
/// let limits = Limits { max_content_len: 64 * 1024, ..Limits::default() };
/// assert!(limits.validate().is_ok());
///
/// let confused = Limits { low_water: 1024, high_water: 512, ..Limits::default() };
/// assert_eq!(
///     confused.validate().unwrap_err().to_string(),
///     "low_water (1024) must be below high_water (512): reading would pause and resume at once",
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a JSON header; 65,535 at most, since two bytes hold the length. Default 4,096.
    pub max_header_len: usize,
    /// Bytes of a message's content. Default 1 MiB.
    pub max_content_len: usize,
    /// Connections open at once. `None`, the default: what the descriptors allow, less 64.
    pub max_connections: Option<usize>,
    /// At the limit, close a connection that has been idle for this long to make room for a new
    /// one, the longest idle of those that a short look finds. One that owes or is owed anything is
    /// never closed for that. `None`, the default: new peers wait in the backlog.
    pub shed_idle: Option<Duration>,
    /// Connections from one IPv4 address or one IPv6 /64 network. `None`, the default: 1,024, and
    /// no limit for loopback addresses and Unix sockets; a number that is set holds for all.
    pub max_connections_per_address: Option<usize>,
    /// Messages of one connection that are handled before the others get their turn. Default 64.
    pub messages_per_event: usize,
    /// Bytes of unsent replies above which a connection is no longer read from. Default 256 KiB.
    pub high_water: usize,
    /// Bytes of unsent replies below which it is read from again. Default 64 KiB.
    pub low_water: usize,
    /// What happens to a message that is pushed to a connection above its high-water mark. Replies
    /// pause reading instead, and are never dropped. Default: the new message is dropped.
    pub overflow: Overflow,
    /// Capacity of all pooled buffers together, in bytes. Where it is used up, others give way to a
    /// connection that needs more: those of the address that holds most, the oldest first. Who would
    /// have to give way to itself is refused. Either is closed, with an error reply where that is
    /// possible. Beyond this, and up to an eighth more, each buffer may have 4 KiB. Default 256 MiB.
    pub max_buffer_bytes: usize,
    /// From accepting a socket to its whole PROXY header, where one is required; it holds for those
    /// that arrive from then on. Default 10 s.
    pub arrival_timeout: Duration,
    /// How much of that the connections of one IPv4 address or one IPv6 /64 network may hold, all
    /// event loops together. `None`, the default: an eighth, or two messages of the largest size if
    /// that is more, and no limit for loopback addresses and Unix sockets; a number that is set holds
    /// for all.
    pub max_buffer_bytes_per_address: Option<usize>,
    /// From the first byte of a message to its whole header. Default 10 s.
    pub header_timeout: Duration,
    /// From the whole header to the last byte of the content. Default 60 s.
    pub content_timeout: Duration,
    /// Bytes a second at which content has to come, measured over `rate_window` and judged from its
    /// end on. 0 switches that off. Default 512.
    pub min_content_rate: usize,
    /// Bytes a second that a peer has to take while something waits unsent, measured over
    /// `rate_window`. What the system holds for it is not taken yet, where the system says how much
    /// that is; so the first window is not judged. 0 switches that off. Default 512.
    pub min_read_rate: usize,
    /// The time over which both rates are measured; 0 switches both off. Default 10 s.
    pub rate_window: Duration,
    /// Without a byte in either direction. Default 5 min.
    pub idle_timeout: Duration,
    /// Without any progress in sending what is queued. Default 30 s.
    pub write_timeout: Duration,
    /// After our side of a connection is shut down, how long we read on so that the last reply is
    /// not lost to a reset. With 0, only `linger_bytes` and the peer's own close end it. Default 2 s.
    pub linger_timeout: Duration,
    /// How many bytes are read and dropped meanwhile. Default 64 KiB.
    pub linger_bytes: u32,
    /// How long a graceful stop waits for what is in flight. Connections that we made end after the
    /// others, within the same time. 0 waits for ever. Default 10 s.
    pub drain_timeout: Duration,
    /// The most connections accepted before others get their turn; the batch adapts between 1 and
    /// this. Default 64.
    pub accept_batch: usize,
    /// Bytes of a content that a handler streams ([`Handler::on_head`](crate::Handler::on_head)).
    /// Default 16 GiB.
    pub max_stream_len: u64,
    /// Contents that are streamed at once in each event loop, in both directions together. One that
    /// comes beyond them is refused with an error reply; one that is to go out is not begun
    /// ([`ReplyError::TooManyStreams`](crate::ReplyError::TooManyStreams)). Default 1,024.
    pub max_streams: usize,
    /// Handshakes that are under way at once, in each event loop. Further peers are closed. Default
    /// 1,024.
    pub max_handshakes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_header_len: 4096,
            max_content_len: 1 << 20,
            max_connections: None,
            shed_idle: None,
            max_connections_per_address: None,
            messages_per_event: 64,
            high_water: 256 << 10,
            low_water: 64 << 10,
            overflow: Overflow::DropNewest,
            max_buffer_bytes: 256 << 20,
            arrival_timeout: Duration::from_secs(10),
            max_buffer_bytes_per_address: None,
            header_timeout: Duration::from_secs(10),
            content_timeout: Duration::from_secs(60),
            min_content_rate: 512,
            min_read_rate: 512,
            rate_window: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(300),
            write_timeout: Duration::from_secs(30),
            linger_timeout: Duration::from_secs(2),
            linger_bytes: 64 << 10,
            drain_timeout: Duration::from_secs(10),
            accept_batch: 64,
            max_stream_len: 16 << 30,
            max_streams: 1024,
            max_handshakes: 1024,
        }
    }
}

/// What happens to a message that is pushed to a connection which has too much to send already.
/// Whatever is dropped is counted (`Stats::dropped_pushes`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Overflow {
    /// The message is dropped.
    #[default]
    DropNewest,
    /// The oldest pushed messages of which nothing is sent yet make room for it.
    DropOldest,
    /// It is queued all the same, and the connection is closed if its queue stays above the
    /// high-water mark for this long.
    CloseAfter(Duration),
}

/// Connections from one address where nothing else is set.
pub(crate) const DEFAULT_PER_ADDRESS: usize = 1024;

/// The part of all buffers that one address may hold where nothing else is set.
const ADDRESS_PART: usize = 8;

impl Limits {
    /// The largest value that `max_header_len` may have.
    pub const HEADER_LEN_CEILING: usize = u16::MAX as usize;

    /// The largest value that `max_content_len` may have: 1 GiB.
    pub const CONTENT_LEN_CEILING: usize = 1 << 30;

    /// Checks that a server can work with these.
    ///
    /// # Errors
    ///
    /// The first bound that cannot work, and why.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let counts = [
            ("max_header_len", self.max_header_len),
            ("max_content_len", self.max_content_len),
            ("max_connections", self.max_connections.unwrap_or(1)),
            ("max_connections_per_address", self.max_connections_per_address.unwrap_or(1)),
            ("messages_per_event", self.messages_per_event),
            ("high_water", self.high_water),
            ("low_water", self.low_water),
            ("max_buffer_bytes", self.max_buffer_bytes),
            ("max_buffer_bytes_per_address", self.max_buffer_bytes_per_address.unwrap_or(1)),
            ("linger_bytes", self.linger_bytes as usize),
            ("accept_batch", self.accept_batch),
            ("max_handshakes", self.max_handshakes),
            ("max_streams", self.max_streams),
            ("max_stream_len", usize::from(self.max_stream_len > 0)),
        ];
        for (name, value) in counts {
            if value == 0 {
                return Err(ConfigError::Zero { name });
            }
        }
        let ceilings = [
            ("max_header_len", self.max_header_len, Self::HEADER_LEN_CEILING),
            ("max_content_len", self.max_content_len, Self::CONTENT_LEN_CEILING),
        ];
        for (name, value, ceiling) in ceilings {
            if value > ceiling {
                return Err(ConfigError::TooLarge { name, value, ceiling });
            }
        }
        if self.low_water >= self.high_water {
            return Err(ConfigError::WaterMarks { low: self.low_water, high: self.high_water });
        }
        let message = 2 + self.max_header_len + self.max_content_len;
        if self.max_buffer_bytes < message {
            return Err(ConfigError::BuffersTooSmall { buffers: self.max_buffer_bytes, message });
        }
        if let Some(buffers) = self.max_buffer_bytes_per_address.filter(|set| *set < message) {
            return Err(ConfigError::AddressShareTooSmall { buffers, message });
        }
        Ok(())
    }

    /// What one of `threads` event loops may use of what is for all of them together.
    pub(crate) fn share_of(&self, threads: usize) -> Result<Self, ConfigError> {
        let share = Self { max_buffer_bytes: self.max_buffer_bytes / threads, ..self.clone() };
        share.validate().map_err(|error| match error {
            ConfigError::BuffersTooSmall { message, .. } => {
                let buffers = self.max_buffer_bytes;
                ConfigError::ShareTooSmall { buffers, threads, message }
            }
            error => error,
        })?;
        Ok(share)
    }

    /// What the peers of one address may hold of the buffers of all `loops`, where these are the
    /// limits of one of them: an address of this machine, and another.
    pub(crate) fn buffer_bytes_per_address(&self, loops: usize) -> (usize, usize) {
        let part = self.max_buffer_bytes.saturating_mul(loops) / ADDRESS_PART;
        let default = part.max(2 * self.longest_message());
        let set = self.max_buffer_bytes_per_address;
        (set.unwrap_or(usize::MAX), set.unwrap_or(default))
    }

    /// Bytes of the longest message: prefix, header and content. A padded header has 64 bytes.
    pub(crate) fn longest_message(&self) -> usize {
        2 + self.max_header_len.max(64) + self.max_content_len
    }

    /// The part of the limits that concerns decoding.
    #[must_use]
    pub fn decode(&self) -> DecodeLimits {
        DecodeLimits { max_header_len: self.max_header_len, max_content_len: self.max_content_len }
    }
}

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
