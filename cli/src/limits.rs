//! [`LimitArgs`]: every bound of the engine as a flag, with the engine's own defaults.

use clap::builder::ValueParser;
use clap::{Arg, ArgMatches, Command, value_parser};
use myriapod::{Limit, LimitKind, LimitValue, Limits};

use crate::units::{Count, OverflowPolicy, Rate, Size, Timeout};

const LIMITS: &str = "Limits (sizes in bytes, also as 64KiB or 1MiB)";
const TIMEOUTS: &str = "Timeouts (such as 250ms, 30s or 5m; 0 for none)";

/// No service of the command streams contents.
const WITHOUT_A_FLAG: [&str; 2] = ["max_stream_len", "max_streams"];

/// The bounds on what peers can make the server hold, wait for or do: a flag for each row of
/// [`Limits::TABLE`].
#[derive(Clone, Debug, Default)]
pub(crate) struct LimitArgs {
    limits: Limits,
}

fn limits_with_flags() -> impl Iterator<Item = &'static Limit> {
    Limits::TABLE.iter().filter(|limit| !WITHOUT_A_FLAG.contains(&limit.name))
}

/// `max_header_len` is --max-header-len.
fn flag(limit: &Limit) -> String {
    limit.name.replace('_', "-")
}

fn arg(limit: &'static Limit) -> Arg {
    let (value_name, heading, parser): (_, _, ValueParser) = match limit.kind {
        LimitKind::Bytes => ("SIZE", LIMITS, ValueParser::new(move |text: &str| size(limit, text))),
        LimitKind::Rate => ("SIZE", LIMITS, value_parser!(Rate).into()),
        LimitKind::Time => ("TIME", TIMEOUTS, value_parser!(Timeout).into()),
        LimitKind::Policy => ("POLICY", LIMITS, value_parser!(OverflowPolicy).into()),
        _ => ("N", LIMITS, value_parser!(Count).into()),
    };
    let arg = Arg::new(limit.name)
        .long(flag(limit))
        .value_name(value_name)
        .help(limit.help)
        .help_heading(heading)
        .value_parser(parser);
    match limit.get(&Limits::default()) {
        Some(default) => arg.default_value(typed(limit.kind, default)),
        None => arg,
    }
}

/// A size that the limit can be.
fn size(limit: &Limit, text: &str) -> Result<Size, String> {
    let size: Size = text.parse()?;
    match limit.set(&mut Limits::default(), LimitValue::Number(size.0 as u64)) {
        true => Ok(size),
        false => Err("that is too large".to_owned()),
    }
}

/// A value as it is typed.
fn typed(kind: LimitKind, value: LimitValue) -> String {
    match value {
        LimitValue::Number(number) => {
            let number = usize::try_from(number).unwrap_or(usize::MAX);
            match kind {
                LimitKind::Bytes => Size(number).to_string(),
                LimitKind::Rate => Rate(number).to_string(),
                _ => Count(number).to_string(),
            }
        }
        LimitValue::Time(time) => Timeout(time).to_string(),
        LimitValue::Overflow(overflow) => OverflowPolicy(overflow).to_string(),
        _ => String::new(),
    }
}

/// What was typed, if anything was.
fn given(limit: &Limit, matches: &ArgMatches) -> Option<LimitValue> {
    let number = |number: usize| LimitValue::Number(number as u64);
    match limit.kind {
        LimitKind::Bytes => matches.get_one::<Size>(limit.name).map(|size| number(size.0)),
        LimitKind::Rate => matches.get_one::<Rate>(limit.name).map(|rate| number(rate.0)),
        LimitKind::Time => {
            let time = matches.get_one::<Timeout>(limit.name);
            // No time at all is none, where that is not a value of its own.
            let is_none =
                |time: &&Timeout| time.0.is_zero() && limit.get(&Limits::default()).is_none();
            time.filter(|time| !is_none(time)).map(|time| LimitValue::Time(time.0))
        }
        LimitKind::Policy => matches
            .get_one::<OverflowPolicy>(limit.name)
            .map(|policy| LimitValue::Overflow(policy.0)),
        _ => matches.get_one::<Count>(limit.name).map(|count| number(count.0)),
    }
}

impl clap::Args for LimitArgs {
    fn augment_args(command: Command) -> Command {
        command.args(limits_with_flags().map(arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for LimitArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = Self::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for limit in limits_with_flags() {
            // What does not fit was refused as it was read.
            let _fits =
                given(limit, matches).is_none_or(|value| limit.set(&mut self.limits, value));
        }
        Ok(())
    }
}

impl LimitArgs {
    /// Whether a flag is one of these.
    pub(crate) fn is_one(name: &str) -> bool {
        limits_with_flags().any(|limit| flag(limit) == name)
    }

    /// Connections asked for, if any.
    pub(crate) fn max_connections(&self) -> Option<u64> {
        self.limits.max_connections.map(|count| count as u64)
    }

    /// The limits, not yet checked against each other.
    pub(crate) fn to_limits(&self) -> Limits {
        self.limits.clone()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Typed {
        #[command(flatten)]
        limits: LimitArgs,
    }

    fn limits(args: &[&str]) -> Limits {
        let command = Typed::try_parse_from([&["test"], args].concat()).unwrap();
        command.limits.to_limits()
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
