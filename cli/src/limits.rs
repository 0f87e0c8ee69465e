//! [`LimitArgs`]: every bound of the engine as a flag, with the engine's own defaults.

use myriapod::Limits;

use crate::failure::Failure;
use crate::units::{Count, OverflowPolicy, Rate, Size, Timeout};

const LIMITS: &str = "Limits (sizes in bytes, also as 64KiB or 1MiB)";
const TIMEOUTS: &str = "Timeouts (such as 250ms, 30s or 5m; 0 for none)";

/// The field of [`Limits`] that the macro's caller names, as it is by default.
macro_rules! default {
    ($field:ident) => {
        Limits::default().$field
    };
}

/// The bounds on what peers can make the server hold, wait for or do.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LimitArgs {
    /// Connections open at once [default: what descriptors allow, less 64]
    #[arg(long, value_name = "N", help_heading = LIMITS)]
    max_connections: Option<Count>,
    /// At that number, close one that has been idle this long to let a new one
    /// in [default: new ones wait]
    #[arg(long, value_name = "TIME", help_heading = LIMITS)]
    shed_idle: Option<Timeout>,
    /// Connections from one IPv4 address or IPv6 /64 [default: 1024 but for
    /// loopback and Unix]
    #[arg(long, value_name = "N", help_heading = LIMITS)]
    max_connections_per_address: Option<Count>,
    /// Bytes of a JSON header
    #[arg(long, value_name = "SIZE", help_heading = LIMITS,
        default_value_t = Size(default!(max_header_len)))]
    max_header_len: Size,
    /// Bytes of a content
    #[arg(long, value_name = "SIZE", help_heading = LIMITS,
        default_value_t = Size(default!(max_content_len)))]
    max_content_len: Size,
    /// Bytes of all buffers together
    #[arg(long, value_name = "SIZE", help_heading = LIMITS,
        default_value_t = Size(default!(max_buffer_bytes)))]
    max_buffer_bytes: Size,
    /// Bytes of the buffers of one IPv4 address or IPv6 /64 [default: an eighth
    /// of all but for loopback and Unix]
    #[arg(long, value_name = "SIZE", help_heading = LIMITS)]
    max_buffer_bytes_per_address: Option<Size>,
    /// Unsent bytes above which a connection is not read
    #[arg(long, value_name = "SIZE", help_heading = LIMITS,
        default_value_t = Size(default!(high_water)))]
    high_water: Size,
    /// Unsent bytes below which it is read again
    #[arg(long, value_name = "SIZE", help_heading = LIMITS,
        default_value_t = Size(default!(low_water)))]
    low_water: Size,
    /// What happens to a message pushed above it: drop-newest, drop-oldest or
    /// close-after=TIME
    #[arg(long, value_name = "POLICY", help_heading = LIMITS,
        default_value_t = OverflowPolicy(default!(overflow)))]
    overflow: OverflowPolicy,
    /// Bytes read and dropped after our close
    #[arg(long, value_name = "SIZE", help_heading = LIMITS,
        default_value_t = Size(default!(linger_bytes) as usize))]
    linger_bytes: Size,
    /// Messages of one connection before others' turn
    #[arg(long, value_name = "N", help_heading = LIMITS,
        default_value_t = Count(default!(messages_per_event)))]
    messages_per_event: Count,
    /// Most connections accepted before others' turn
    #[arg(long, value_name = "N", help_heading = LIMITS,
        default_value_t = Count(default!(accept_batch)))]
    accept_batch: Count,
    /// Handshakes of TLS under way at once, in each event loop
    #[arg(long, value_name = "N", help_heading = LIMITS,
        default_value_t = Count(default!(max_handshakes)))]
    max_handshakes: Count,
    /// From accepting a client to its whole PROXY header, and the end of its handshake
    #[arg(long, value_name = "TIME", help_heading = TIMEOUTS,
        default_value_t = Timeout(default!(arrival_timeout)))]
    arrival_timeout: Timeout,
    /// From a message's first byte to its whole header
    #[arg(long, value_name = "TIME", help_heading = TIMEOUTS,
        default_value_t = Timeout(default!(header_timeout)))]
    header_timeout: Timeout,
    /// From the header to the last byte of the content
    #[arg(long, value_name = "TIME", help_heading = TIMEOUTS,
        default_value_t = Timeout(default!(content_timeout)))]
    content_timeout: Timeout,
    /// Bytes a second at which content has to come; 0 for none
    #[arg(long, value_name = "SIZE", help_heading = LIMITS,
        default_value_t = Rate(default!(min_content_rate)))]
    min_content_rate: Rate,
    /// Bytes a second that have to be read while some wait; 0 for none
    #[arg(long, value_name = "SIZE", help_heading = LIMITS,
        default_value_t = Rate(default!(min_read_rate)))]
    min_read_rate: Rate,
    /// Over which both are measured
    #[arg(long, value_name = "TIME", help_heading = TIMEOUTS,
        default_value_t = Timeout(default!(rate_window)))]
    rate_window: Timeout,
    /// Without any message
    #[arg(long, value_name = "TIME", help_heading = TIMEOUTS,
        default_value_t = Timeout(default!(idle_timeout)))]
    idle_timeout: Timeout,
    /// Without progress in sending
    #[arg(long, value_name = "TIME", help_heading = TIMEOUTS,
        default_value_t = Timeout(default!(write_timeout)))]
    write_timeout: Timeout,
    /// Reading on after our close
    #[arg(long, value_name = "TIME", help_heading = TIMEOUTS,
        default_value_t = Timeout(default!(linger_timeout)))]
    linger_timeout: Timeout,
    /// Finishing what is in flight when told to stop
    #[arg(long, value_name = "TIME", help_heading = TIMEOUTS,
        default_value_t = Timeout(default!(drain_timeout)))]
    drain_timeout: Timeout,
}

impl LimitArgs {
    /// Whether a flag is one of these.
    pub(crate) fn is_one(name: &str) -> bool {
        let command = <Self as clap::Args>::augment_args(clap::Command::new("limits"));
        command.get_arguments().any(|arg| arg.get_long() == Some(name))
    }

    /// Connections asked for, if any.
    pub(crate) fn max_connections(&self) -> Option<u64> {
        self.max_connections.map(|count| count.0 as u64)
    }

    /// The limits, not yet checked against each other.
    pub(crate) fn to_limits(&self) -> Result<Limits, Failure> {
        let linger_bytes = u32::try_from(self.linger_bytes.0).map_err(|_| {
            Failure::usage(format_args!(
                "--linger-bytes ({}) must be at most {}",
                self.linger_bytes,
                u32::MAX
            ))
        })?;
        // No service of the command streams contents.
        let Limits { max_stream_len, max_streams, .. } = Limits::default();
        // No `..`: a new limit has to become a flag.
        Ok(Limits {
            max_stream_len,
            max_streams,
            max_header_len: self.max_header_len.0,
            max_content_len: self.max_content_len.0,
            max_connections: self.max_connections.map(|count| count.0),
            shed_idle: self.shed_idle.map(|idle| idle.0).filter(|idle| !idle.is_zero()),
            max_connections_per_address: self.max_connections_per_address.map(|count| count.0),
            messages_per_event: self.messages_per_event.0,
            high_water: self.high_water.0,
            low_water: self.low_water.0,
            overflow: self.overflow.0,
            max_buffer_bytes: self.max_buffer_bytes.0,
            arrival_timeout: self.arrival_timeout.0,
            max_buffer_bytes_per_address: self.max_buffer_bytes_per_address.map(|size| size.0),
            header_timeout: self.header_timeout.0,
            content_timeout: self.content_timeout.0,
            min_content_rate: self.min_content_rate.0,
            min_read_rate: self.min_read_rate.0,
            rate_window: self.rate_window.0,
            idle_timeout: self.idle_timeout.0,
            write_timeout: self.write_timeout.0,
            linger_timeout: self.linger_timeout.0,
            linger_bytes,
            drain_timeout: self.drain_timeout.0,
            accept_batch: self.accept_batch.0,
            max_handshakes: self.max_handshakes.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        limits: LimitArgs,
    }

    fn limits(args: &[&str]) -> Limits {
        let command = Command::try_parse_from([&["test"], args].concat()).unwrap();
        command.limits.to_limits().unwrap()
    }

    #[test]
    fn are_the_defaults_those_of_the_engine() {
        assert_eq!(limits(&[]), Limits::default());
    }

    #[test]
    fn does_each_flag_set_its_own_limit() {
        let args = [
            "--max-header-len=1",
            "--max-content-len=2",
            "--max-connections=3",
            "--max-connections-per-address=4",
            "--messages-per-event=5",
            "--high-water=6",
            "--low-water=7",
            "--overflow=close-after=17s",
            "--shed-idle=18s",
            "--max-buffer-bytes=8",
            "--arrival-timeout=19s",
            "--max-buffer-bytes-per-address=19",
            "--header-timeout=9s",
            "--content-timeout=10s",
            "--min-content-rate=20",
            "--min-read-rate=21",
            "--rate-window=22s",
            "--idle-timeout=11s",
            "--write-timeout=12s",
            "--linger-timeout=13s",
            "--linger-bytes=14",
            "--drain-timeout=15s",
            "--accept-batch=16",
            "--max-handshakes=20",
        ];
        let seconds = std::time::Duration::from_secs;
        let expected = Limits {
            max_header_len: 1,
            max_content_len: 2,
            max_connections: Some(3),
            max_connections_per_address: Some(4),
            messages_per_event: 5,
            high_water: 6,
            low_water: 7,
            overflow: myriapod::Overflow::CloseAfter(seconds(17)),
            shed_idle: Some(seconds(18)),
            max_buffer_bytes: 8,
            arrival_timeout: seconds(19),
            max_buffer_bytes_per_address: Some(19),
            header_timeout: seconds(9),
            content_timeout: seconds(10),
            min_content_rate: 20,
            min_read_rate: 21,
            rate_window: seconds(22),
            idle_timeout: seconds(11),
            write_timeout: seconds(12),
            linger_timeout: seconds(13),
            linger_bytes: 14,
            drain_timeout: seconds(15),
            accept_batch: 16,
            max_handshakes: 20,
            ..Limits::default()
        };
        assert_eq!(limits(&args), expected);
    }
}
