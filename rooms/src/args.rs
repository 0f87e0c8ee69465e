//! [`RoomArgs`]: every bound of the rooms as a flag.

use std::str::FromStr;

use myriapod_cluster::{BrokerError, Prefix, Remote};

use myriapod_command::failure::Failure;
use myriapod_command::units::{Count, Size};

use crate::broker_tls::{BrokerTls, ROOMS};

/// The bounds on what clients can make the rooms hold or do. Without a flag, each is its default.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct RoomArgs {
    /// Rooms that have members [default: 10000]
    #[arg(long, value_name = "N", help_heading = ROOMS)]
    max_rooms: Option<Count>,
    /// Rooms that one connection may be in [default: 64]
    #[arg(long, value_name = "N", help_heading = ROOMS)]
    max_rooms_per_connection: Option<Count>,
    /// Members of one room [default: 100000]
    #[arg(long, value_name = "N", help_heading = ROOMS)]
    max_members: Option<Count>,
    /// Bytes of a text that is said or told [default: 4KiB]
    #[arg(long, value_name = "SIZE", help_heading = ROOMS)]
    max_text: Option<Size>,
    /// The last messages that a room keeps [default: 100]
    #[arg(long, value_name = "N", help_heading = ROOMS)]
    history: Option<Count>,
    /// Bytes that they may have in one room [default: 256KiB]
    #[arg(long, value_name = "SIZE", help_heading = ROOMS)]
    history_bytes: Option<Size>,
    /// Bytes that they may have in all rooms together [default: 64MiB]
    #[arg(long, value_name = "SIZE", help_heading = ROOMS)]
    history_total: Option<Size>,
    /// Requests a second from one connection [default: 20]
    #[arg(long, value_name = "N", help_heading = ROOMS)]
    request_rate: Option<Count>,
    /// Requests at once, after a time without any [default: 40]
    #[arg(long, value_name = "N", help_heading = ROOMS)]
    request_burst: Option<Count>,
    /// With more members than this, a room does not tell who comes and goes,
    /// and lists only so many [default: 1000]
    #[arg(long, value_name = "N", help_heading = ROOMS)]
    presence_max: Option<Count>,
    /// Share the rooms with other servers: redis://[USER:PASSWORD@]HOST:PORT[/DB]
    /// or nats://[USER:PASSWORD@]HOST:PORT, rediss:// or tls:// with TLS 1.3; of
    /// several with commas between them, the next is tried where one is away. A
    /// file of --config keeps a password out of the list of processes
    #[arg(long, value_name = "URL", help_heading = ROOMS)]
    pub(super) broker: Option<Brokers>,
    /// What the channels of these servers begin with [default: myriapod.]
    #[arg(long, value_name = "TEXT", help_heading = ROOMS, requires = "broker")]
    pub(super) cluster_prefix: Option<Prefix>,
    #[command(flatten)]
    broker_tls: BrokerTls,
}

/// What names brokers.
#[derive(Clone)]
pub(crate) struct Brokers(String);

impl FromStr for Brokers {
    type Err = BrokerError;

    fn from_str(text: &str) -> Result<Self, BrokerError> {
        match text.parse::<Remote>() {
            // Other flags say whom to trust.
            Ok(_) | Err(BrokerError::Tls { .. }) => Ok(Self(text.to_owned())),
            Err(error) => Err(error),
        }
    }
}

/// Without passwords.
impl std::fmt::Debug for Brokers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Brokers")
    }
}

impl RoomArgs {
    /// The first flag that was given.
    #[must_use]
    pub fn given(&self) -> Option<&'static str> {
        let given = [
            ("--max-rooms", self.max_rooms.is_some()),
            ("--max-rooms-per-connection", self.max_rooms_per_connection.is_some()),
            ("--max-members", self.max_members.is_some()),
            ("--max-text", self.max_text.is_some()),
            ("--history", self.history.is_some()),
            ("--history-bytes", self.history_bytes.is_some()),
            ("--history-total", self.history_total.is_some()),
            ("--request-rate", self.request_rate.is_some()),
            ("--request-burst", self.request_burst.is_some()),
            ("--presence-max", self.presence_max.is_some()),
            ("--broker", self.broker.is_some()),
        ];
        given.iter().find(|(_, is_given)| *is_given).map(|(name, _)| *name)
    }

    /// The brokers, if any are named.
    pub(super) fn remote(&self) -> Result<Option<Remote>, Failure> {
        let Some(Brokers(text)) = &self.broker else { return Ok(None) };
        let remote = match text.parse::<Remote>() {
            Ok(_) if self.broker_tls.is_given() => {
                return Err(Failure::usage("--broker-tls flags need rediss:// or tls://"));
            }
            Ok(remote) => remote,
            Err(BrokerError::Tls { .. }) => {
                let (connector, name) = self.broker_tls.connector()?;
                Remote::secure(text, &connector, name).map_err(Failure::usage)?
            }
            Err(error) => return Err(Failure::usage(error)),
        };
        Ok(Some(remote))
    }

    pub(super) fn to_bounds(&self) -> Bounds {
        let count = |given: Option<Count>, default| given.map_or(default, |count| count.0);
        let size = |given: Option<Size>, default| given.map_or(default, |size| size.0);
        let defaults = Bounds::default();
        Bounds {
            rooms: count(self.max_rooms, defaults.rooms),
            rooms_of_connection: count(self.max_rooms_per_connection, defaults.rooms_of_connection),
            members: count(self.max_members, defaults.members),
            text: size(self.max_text, defaults.text),
            history: count(self.history, defaults.history),
            history_bytes: size(self.history_bytes, defaults.history_bytes),
            history_total: size(self.history_total, defaults.history_total),
            request_rate: count(self.request_rate, defaults.request_rate),
            request_burst: count(self.request_burst, defaults.request_burst),
            presence: count(self.presence_max, defaults.presence),
        }
    }
}

/// The bounds in force.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) rooms: usize,
    pub(super) rooms_of_connection: usize,
    pub(super) members: usize,
    /// Bytes.
    pub(super) text: usize,
    pub(super) history: usize,
    /// Bytes in one room.
    pub(super) history_bytes: usize,
    /// Bytes in all rooms.
    pub(super) history_total: usize,
    /// A second.
    pub(super) request_rate: usize,
    pub(super) request_burst: usize,
    /// Members up to which a room tells who comes and goes, and lists all.
    pub(super) presence: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            rooms: 10_000,
            rooms_of_connection: 64,
            members: 100_000,
            text: 4 << 10,
            history: 100,
            history_bytes: 256 << 10,
            history_total: 64 << 20,
            request_rate: 20,
            request_burst: 40,
            presence: 1000,
        }
    }
}
