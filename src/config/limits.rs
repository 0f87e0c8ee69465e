//! [`Limits`]: every bound the engine keeps, each with a default that is on.
//!
//! Each is one row of [`limits!`]: its field, its default, its flag and its place on the page about
//! limits come from there.

use std::time::Duration;

use super::ConfigError;
use crate::protocol::DecodeLimits;

/// What a limit is a number of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitKind {
    /// Bytes; at least 1.
    Bytes,
    /// Things; at least 1.
    Count,
    /// Bytes a second; 0 for none.
    Rate,
    /// A time; 0 for none.
    Time,
    /// What is done where another limit is reached.
    Policy,
}

/// The value of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitValue {
    /// Bytes, things, or bytes a second.
    Number(u64),
    /// A time.
    Time(Duration),
    /// What happens to a message that is pushed above the high-water mark.
    Overflow(Overflow),
}

/// One of the [`Limits`], for programs that take all of them from elsewhere: flags, a file.
///
/// ```
/// use myriapod::{LimitValue, Limits};
///
/// let mut limits = Limits::default();
/// let limit = Limits::TABLE.iter().find(|limit| limit.name == "max_content_len").unwrap();
/// assert!(limit.set(&mut limits, LimitValue::Number(4096)));
/// assert_eq!(limits.max_content_len, 4096);
/// assert_eq!(limit.get(&limits), Some(LimitValue::Number(4096)));
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limit {
    /// The field's name.
    pub name: &'static str,
    /// What it is a number of.
    pub kind: LimitKind,
    /// What it bounds, in a few words.
    pub help: &'static str,
    get: fn(&Limits) -> Option<LimitValue>,
    set: fn(&mut Limits, LimitValue) -> bool,
}

impl Limit {
    /// Its value; `None` where it follows from others or from the machine.
    #[must_use]
    pub fn get(&self, limits: &Limits) -> Option<LimitValue> {
        (self.get)(limits)
    }

    /// Sets it, unless the value is of another type or too large for the field; whether that was so
    /// is returned as `false`. [`Limits::validate`] checks what all of them are together.
    #[must_use]
    pub fn set(&self, limits: &mut Limits, value: LimitValue) -> bool {
        (self.set)(limits, value)
    }
}

/// What a limit is kept as.
trait Field: Sized {
    fn value(&self) -> Option<LimitValue>;

    fn from_value(value: LimitValue) -> Option<Self>;
}

macro_rules! numbers {
    ($($number:ty),+) => {
        $(impl Field for $number {
            fn value(&self) -> Option<LimitValue> {
                u64::try_from(*self).ok().map(LimitValue::Number)
            }

            fn from_value(value: LimitValue) -> Option<Self> {
                let LimitValue::Number(number) = value else { return None };
                number.try_into().ok()
            }
        })+
    };
}

numbers!(usize, u32, u64);

impl Field for Duration {
    fn value(&self) -> Option<LimitValue> {
        Some(LimitValue::Time(*self))
    }

    fn from_value(value: LimitValue) -> Option<Self> {
        match value {
            LimitValue::Time(time) => Some(time),
            _ => None,
        }
    }
}

impl Field for Overflow {
    fn value(&self) -> Option<LimitValue> {
        Some(LimitValue::Overflow(*self))
    }

    fn from_value(value: LimitValue) -> Option<Self> {
        match value {
            LimitValue::Overflow(overflow) => Some(overflow),
            _ => None,
        }
    }
}

impl<T: Field> Field for Option<T> {
    fn value(&self) -> Option<LimitValue> {
        self.as_ref().and_then(Field::value)
    }

    fn from_value(value: LimitValue) -> Option<Self> {
        T::from_value(value).map(Some)
    }
}

macro_rules! limits {
    (
        $($(#[doc = $doc:literal])+
        $field:ident: $type:ty = $default:expr, $kind:ident, $help:literal;)+
    ) => {
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
            $($(#[doc = $doc])+ pub $field: $type,)+
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl Limits {
            /// All of them.
            pub const TABLE: &'static [Limit] = &[
                $(Limit {
                    name: stringify!($field),
                    kind: LimitKind::$kind,
                    help: $help,
                    get: |limits| limits.$field.value(),
                    set: |limits, value| match Field::from_value(value) {
                        Some(value) => {
                            limits.$field = value;
                            true
                        }
                        None => false,
                    },
                },)+
            ];
        }
    };
}

// A further limit is one row here, and the place where it bites. docs/limits.md lists them, and a test
// holds it to this.
limits! {
    /// Bytes of a JSON header; 65,535 at most, since two bytes hold the length. Default 4,096.
    max_header_len: usize = 4096, Bytes, "Bytes of a JSON header";
    /// Bytes of a message's content. Default 1 MiB.
    max_content_len: usize = 1 << 20, Bytes, "Bytes of a content";
    /// Connections open at once. `None`, the default: what the descriptors allow, less 64.
    max_connections: Option<usize> = None, Count, "Connections open at once [default: what descriptors allow, less 64]";
    /// At the limit, close a connection that has been idle for this long to make room for a new
    /// one, the longest idle of those that a short look finds. One that owes or is owed anything is
    /// never closed for that. `None`, the default: new peers wait in the backlog.
    shed_idle: Option<Duration> = None, Time, "Where --max-connections are open, close one that has been idle this long to let a new one in [default: new ones wait]";
    /// Connections from one IPv4 address or one IPv6 /64 network. `None`, the default: 1,024, and
    /// no limit for loopback addresses and Unix sockets; a number that is set holds for all.
    max_connections_per_address: Option<usize> = None, Count, "Connections from one IPv4 address or IPv6 /64 [default: 1024 but for loopback and Unix]";
    /// Messages of one connection that are handled before the others get their turn. Default 64.
    messages_per_event: usize = 64, Count, "Messages of one connection before others' turn";
    /// Bytes of unsent replies above which a connection is no longer read from. Default 256 KiB.
    high_water: usize = 256 << 10, Bytes, "Unsent bytes above which a connection is not read";
    /// Bytes of unsent replies below which it is read from again. Default 64 KiB.
    low_water: usize = 64 << 10, Bytes, "Unsent bytes below which it is read again";
    /// What happens to a message that is pushed to a connection above its high-water mark. Replies
    /// pause reading instead, and are never dropped. Default: the new message is dropped.
    overflow: Overflow = Overflow::DropNewest, Policy, "What happens to a message pushed above --high-water: drop-newest, drop-oldest or close-after=TIME";
    /// Capacity of all pooled buffers together, in bytes. Where it is used up, others give way to a
    /// connection that needs more: those of the address that holds most, the oldest first. Who would
    /// have to give way to itself is refused. Either is closed, with an error reply where that is
    /// possible. Beyond this, and up to an eighth more, each buffer may have 4 KiB. Default 256 MiB.
    max_buffer_bytes: usize = 256 << 20, Bytes, "Bytes of all buffers together";
    /// From accepting a socket to its whole PROXY header, where one is required; it holds for those
    /// that arrive from then on. Default 10 s.
    arrival_timeout: Duration = Duration::from_secs(10), Time, "From accepting a client to its whole PROXY header, and the end of its handshake";
    /// How much of that the connections of one IPv4 address or one IPv6 /64 network may hold, all
    /// event loops together. `None`, the default: an eighth, or two messages of the largest size if
    /// that is more, and no limit for loopback addresses and Unix sockets; a number that is set holds
    /// for all.
    max_buffer_bytes_per_address: Option<usize> = None, Bytes, "Bytes of the buffers of one IPv4 address or IPv6 /64 [default: an eighth of all but for loopback and Unix]";
    /// From the first byte of a message to its whole header. Default 10 s.
    header_timeout: Duration = Duration::from_secs(10), Time, "From a message's first byte to its whole header";
    /// From the whole header to the last byte of the content. Default 60 s.
    content_timeout: Duration = Duration::from_secs(60), Time, "From the header to the last byte of the content";
    /// Bytes a second at which content has to come, measured over `rate_window` and judged from its
    /// end on. 0 switches that off. Default 512.
    min_content_rate: usize = 512, Rate, "Bytes a second at which content has to come; 0 for none";
    /// Bytes a second that a peer has to take while something waits unsent, measured over
    /// `rate_window`. What the system holds for it is not taken yet, where the system says how much
    /// that is; so the first window is not judged. 0 switches that off. Default 512.
    min_read_rate: usize = 512, Rate, "Bytes a second that have to be read while some wait; 0 for none";
    /// The time over which both rates are measured; 0 switches both off. Default 10 s.
    rate_window: Duration = Duration::from_secs(10), Time, "Over which the two rates are measured";
    /// Without a byte in either direction. Default 5 min.
    idle_timeout: Duration = Duration::from_secs(300), Time, "Without any message";
    /// Without any progress in sending what is queued. Default 30 s.
    write_timeout: Duration = Duration::from_secs(30), Time, "Without progress in sending";
    /// After our side of a connection is shut down, how long we read on so that the last reply is
    /// not lost to a reset. With 0, only `linger_bytes` and the peer's own close end it. Default 2 s.
    linger_timeout: Duration = Duration::from_secs(2), Time, "Reading on after our close";
    /// How many bytes are read and dropped meanwhile. Default 64 KiB.
    linger_bytes: u32 = 64 << 10, Bytes, "Bytes read and dropped after our close";
    /// How long a graceful stop waits for what is in flight. Connections that we made end after the
    /// others, within the same time. 0 waits for ever. Default 10 s.
    drain_timeout: Duration = Duration::from_secs(10), Time, "Finishing what is in flight when told to stop";
    /// The most connections accepted before others get their turn; the batch adapts between 1 and
    /// this. Default 64.
    accept_batch: usize = 64, Count, "Most connections accepted before others' turn";
    /// Bytes of a content that a handler streams ([`Handler::on_head`](crate::Handler::on_head)).
    /// Default 16 GiB.
    max_stream_len: u64 = 16 << 30, Bytes, "Bytes of a content that is streamed";
    /// Contents that are streamed at once in each event loop, in both directions together. One that
    /// comes beyond them is refused with an error reply; one that is to go out is not begun
    /// ([`ReplyError::TooManyStreams`](crate::ReplyError::TooManyStreams)). Default 1,024.
    max_streams: usize = 1024, Count, "Contents that are streamed at once, in each event loop";
    /// Handshakes that are under way at once, in each event loop. Further peers are closed. Default
    /// 1,024.
    max_handshakes: usize = 1024, Count, "Handshakes under way at once, in each event loop";
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
        for limit in Self::TABLE {
            let is_zero = limit.get(self) == Some(LimitValue::Number(0));
            if is_zero && matches!(limit.kind, LimitKind::Bytes | LimitKind::Count) {
                return Err(ConfigError::Zero { name: limit.name });
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
