//! `serve --config FILE`: the flags of `serve` from a file of TOML.
//!
//! Its keys are the flags without their dashes, and `host` and `port`. A flag of the command line
//! wins. What the file says becomes arguments, so that both mean the same and are refused for the
//! same reasons.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, CommandFactory as _, FromArgMatches as _, Parser};
use toml::de::{DeTable, DeValue};

use crate::failure::Failure;
use crate::serve::{Args, DEFAULT_HOST};

/// The arguments of `serve` alone.
#[derive(Debug, Parser)]
#[command(name = "myriapod serve")]
struct Alone {
    #[command(flatten)]
    args: Args,
}

/// The arguments of `serve`, and all of them by their names as they were given.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) args: Args,
    pub(crate) values: BTreeMap<String, Vec<OsString>>,
}

/// The arguments behind `myriapod serve`.
pub(crate) fn given() -> Vec<OsString> {
    std::env::args_os().skip(2).collect()
}

impl Settings {
    /// Those of the command line and, where it names one, of the file.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or says what cannot be; the line is named.
    pub(crate) fn read(given: &[OsString], path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else { return Self::merge(given, "", Path::new("")) };
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::io("read", path.display(), &error))?;
        Self::merge(given, &text, path)
    }

    fn merge(given: &[OsString], text: &str, path: &Path) -> Result<Self, Failure> {
        let wrong = |at: usize, why: &dyn fmt::Display| {
            let line = text.get(..at).unwrap_or_default().matches('\n').count() + 1;
            Failure::usage(format_args!("{}:{line}: {why}", path.display()))
        };
        let table = DeTable::parse(text)
            .map_err(|error| wrong(error.span().map_or(0, |span| span.start), &error.message()))?;
        let command = Alone::command();
        let before = parse(given.iter().cloned())?;
        let mut all = Vec::new();
        let (mut host, mut port) = (None, None);
        for (key, value) in table.get_ref() {
            let (name, at) = (key.get_ref().as_ref(), key.span().start);
            let of_this = |arg: &&Arg| match name {
                "host" | "port" => arg.get_id() == name,
                "config" => false,
                _ => arg.get_long() == Some(name) && !arg.is_hide_set(),
            };
            let Some(arg) = command.get_arguments().find(of_this) else {
                return Err(wrong(at, &format_args!("there is no setting {name:?}"))
                    .with_next_step("`myriapod serve --help` lists them all"));
            };
            let texts = texts(arg, value.get_ref())
                .map_err(|why| wrong(at, &format_args!("{name}: {why}")))?;
            let alone = match (name, texts.first()) {
                ("host", Some(value)) => vec![OsString::from("--"), value.into()],
                ("port", Some(value)) => vec!["--".into(), "".into(), value.into()],
                _ => texts.iter().map(OsString::from).collect(),
            };
            parse(alone.iter().cloned())
                .map_err(|failure| wrong(at, &format_args!("{name}: {}", failure.message)))?;
            if before.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine) {
                continue;
            }
            match name {
                "host" => host = alone.last().cloned(),
                "port" => port = alone.last().cloned(),
                _ => all.extend(alone),
            }
        }
        all.extend(given.iter().cloned());
        // What stands by its place comes last.
        let is_given = |id| before.value_source(id) == Some(ValueSource::CommandLine);
        if !is_given("host") && (host.is_some() || port.is_some()) {
            all.push(host.unwrap_or_else(|| DEFAULT_HOST.into()));
        }
        all.extend(port);
        let matches = parse(all)?;
        let values = command
            .get_arguments()
            .map(|arg| {
                let id = arg.get_id().as_str();
                let raw = matches.get_raw(id).into_iter().flatten().map(OsString::from);
                (arg.get_long().unwrap_or(id).to_owned(), raw.collect())
            })
            .collect();
        let args = Alone::from_arg_matches(&matches).map_err(|error| refused(&error))?.args;
        Ok(Self { args, values })
    }
}

fn parse(args: impl IntoIterator<Item = OsString>) -> Result<ArgMatches, Failure> {
    let args = std::iter::once(OsString::from("serve")).chain(args);
    Alone::command().try_get_matches_from(args).map_err(|error| refused(&error))
}

/// The first line of what clap says.
fn refused(error: &clap::Error) -> Failure {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    Failure::usage(line.strip_prefix("error: ").unwrap_or(line))
}

/// A value as arguments: none for a switch that is off.
fn texts(arg: &Arg, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let takes_value = arg.get_action().takes_values();
    let flag = |value: &str| match arg.get_long() {
        Some(long) => format!("--{long}={value}"),
        None => value.to_owned(),
    };
    let is_time =
        arg.get_value_names().is_some_and(|names| names.iter().any(|name| name.as_str() == "TIME"));
    match value {
        DeValue::Boolean(on) if !takes_value => {
            let long = arg.get_long().filter(|_| *on);
            Ok(long.map(|long| format!("--{long}")).into_iter().collect())
        }
        DeValue::String(text) if takes_value => Ok(vec![flag(text)]),
        // A time without a unit is in seconds.
        DeValue::Integer(number) if is_time && number.radix() == 10 => {
            Ok(vec![flag(&format!("{}s", number.as_str()))])
        }
        DeValue::Integer(number) if takes_value && number.radix() == 10 => {
            Ok(vec![flag(number.as_str())])
        }
        DeValue::Array(values) if matches!(arg.get_action(), clap::ArgAction::Append) => {
            let each = values.iter().map(|value| texts(arg, value.get_ref()));
            Ok(each.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
        }
        _ if takes_value => Err("expected a string or a whole number".to_owned()),
        _ => Err("expected true or false".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(given: &[&str], text: &str) -> Result<Settings, String> {
        let given: Vec<OsString> = given.iter().map(OsString::from).collect();
        Settings::merge(&given, text, Path::new("file")).map_err(|failure| failure.message)
    }

    fn value(settings: &Settings, name: &str) -> Vec<String> {
        let values = settings.values[name].iter();
        values.map(|value| value.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn is_each_setting_of_the_file_a_flag() {
        let text = "# all kinds\nhost = \"::1\"\nport = 0\nmax-content-len = \"1KiB\"\n\
                    max-connections = 5\nidle-timeout = 30\nheader-timeout = \"250ms\"\n\
                    verbose = true\none-shot = false\nlisten-fd = [3, 4]\nservice = \"echo\"\n";
        let settings = merge(&[], text).unwrap();
        for (name, expected) in [
            ("host", "::1"),
            ("port", "0"),
            ("max-content-len", "1KiB"),
            ("max-connections", "5"),
            ("idle-timeout", "30s"),
            ("header-timeout", "250ms"),
            ("service", "echo"),
            ("verbose", "true"),
            ("one-shot", "false"),
        ] {
            assert_eq!(value(&settings, name), [expected], "{name}");
        }
        assert_eq!(value(&settings, "listen-fd"), ["3", "4"]);
        let port_alone = merge(&[], "port = 7").unwrap();
        assert_eq!(
            (value(&port_alone, "host"), value(&port_alone, "port")),
            (vec![DEFAULT_HOST.to_owned()], vec!["7".to_owned()])
        );
    }

    #[test]
    fn does_the_command_line_win() {
        let text = "host = \"::1\"\nport = 1\nservice = \"echo\"\nlisten-fd = [3]\n";
        let settings = merge(&["--service", "raw", "--listen-fd=5", "localhost"], text).unwrap();
        assert_eq!(value(&settings, "service"), ["raw"]);
        assert_eq!(value(&settings, "listen-fd"), ["5"]);
        assert_eq!(
            (value(&settings, "host"), value(&settings, "port")),
            (vec!["localhost".to_owned()], vec!["1".to_owned()])
        );
        let settings = merge(&["localhost", "2"], text).unwrap();
        assert_eq!(value(&settings, "port"), ["2"]);
    }

    #[test]
    fn is_what_is_wrong_named_with_its_line() {
        for (text, expected) in [
            ("\nmax-conten-len = 5", "file:2: there is no setting \"max-conten-len\""),
            ("config = \"x\"", "file:1: there is no setting \"config\""),
            ("end-with-parent = true", "file:1: there is no setting"),
            ("help = true", "file:1: there is no setting"),
            ("[serve]\nport = 1", "file:1: there is no setting \"serve\""),
            ("\n\nmax-content-len = \"5 apples\"", "file:3: max-content-len: invalid value"),
            ("max-content-len = 0", "file:1: max-content-len: invalid value"),
            ("port = 65536", "file:1: port: invalid value"),
            ("port = -1", "file:1: port: invalid value"),
            ("one-shot = 1", "file:1: one-shot: expected true or false"),
            ("service = true", "file:1: service: expected a string or a whole number"),
            ("service = \"search\"\nservice = \"echo\"", "file:2: "),
            ("a = ", "file:1: "),
        ] {
            let said = merge(&[], text).unwrap_err();
            assert!(said.starts_with(expected), "{text}: {said}");
        }
        // Also where the command line wins.
        assert!(merge(&["--max-content-len=1"], "max-content-len = 0").is_err());
    }
}
