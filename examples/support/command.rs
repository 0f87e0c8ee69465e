//! How every example starts and ends: its usage line, its errors, its exit status.

#![allow(dead_code, reason = "no program needs all of it")]
#![allow(clippy::print_stderr, reason = "programs for the terminal")]
#![allow(unused_macros, reason = "no program needs all of it")]

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use myriapod::sys::{Errno, SystemError};

/// In place of the standard library's, which panics where nobody reads any more (`… | head -1`). A
/// server has peers to serve, so it goes on, and says nothing more.
macro_rules! println {
    () => { $crate::command::print(format_args!("\n")) };
    ($($text:tt)*) => { $crate::command::print(format_args!("{}\n", format_args!($($text)*))) };
}

/// The same without a line feed.
macro_rules! print {
    ($($text:tt)*) => { $crate::command::print(format_args!($($text)*)) };
}

/// Writes to standard output. That its reader has left is no error; anything else is.
pub(crate) fn print(text: Arguments<'_>) {
    match std::io::stdout().write_fmt(text) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("write standard output: {error}");
            std::process::exit(1);
        }
        _ => {}
    }
}

/// Why a program ends early.
pub(crate) enum Stop {
    /// Wrong arguments: the usage line says it all.
    Usage,
    /// An argument that cannot be meant, in words.
    Argument(String),
    /// What failed, in words that name the call and the errno.
    Failed(String),
}

/// `ERROR; NEXT STEP`, where there is one.
impl From<SystemError> for Stop {
    fn from(error: SystemError) -> Self {
        match error.advice() {
            Some(advice) => Self::Failed(format!("{error}; {advice}")),
            None => Self::Failed(error.to_string()),
        }
    }
}

impl From<myriapod::Error> for Stop {
    fn from(error: myriapod::Error) -> Self {
        match error {
            myriapod::Error::System(error) => error.into(),
            error => Self::Failed(error.to_string()),
        }
    }
}

/// Errors that name their call by themselves. A bare `Errno` does not, so it has no place here.
macro_rules! fails_with {
    ($($error:ty)*) => {
        $(impl From<$error> for Stop {
            fn from(error: $error) -> Self {
                Self::Failed(error.to_string())
            }
        })*
    };
}

fails_with! {
    myriapod::HandleError std::io::Error
    myriapod::protocol::EncodeError myriapod::protocol::ProtocolError
}

/// The text at the top of the program that this is compiled into: its purpose, how it is started, what
/// stands beside it, and what to watch.
const SOURCE: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/examples/",
    env!("CARGO_CRATE_NAME"),
    ".rs"
));

/// Runs a program with its arguments. `--help` prints the usage line and the text at the top of the
/// program; wrong usage is status 2 and a failure status 1, each with one line on stderr.
pub(crate) fn run(usage: &str, main: impl FnOnce(&[&str]) -> Result<(), Stop>) -> ExitCode {
    let lossy = |argument: std::ffi::OsString| argument.to_string_lossy().into_owned();
    let arguments: Vec<String> = std::env::args_os().map(lossy).collect();
    let (program, arguments) = arguments.split_first().map_or(("", &[][..]), |(p, a)| (p, a));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let usage = format!("usage: {program} {usage}");
    if matches!(arguments[..], ["--help" | "-h"]) {
        println!("{}", usage.trim_end());
        for line in SOURCE.lines().map_while(|line| line.strip_prefix("//!")) {
            if !line.trim_start().starts_with("```") {
                println!("{}", line.strip_prefix(' ').unwrap_or(line));
            }
        }
        return ExitCode::SUCCESS;
    }
    let (line, status) = match main(&arguments) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Stop::Usage) => (usage.trim_end().to_owned(), 2),
        Err(Stop::Argument(text)) => (format!("{text}; {}", usage.trim_end()), 2),
        Err(Stop::Failed(text)) => (text, 1),
    };
    eprintln!("{line}");
    ExitCode::from(status)
}

/// Runs a program that takes no arguments.
pub(crate) fn lesson(main: impl FnOnce() -> Result<(), Stop>) -> ExitCode {
    run("", |arguments| if arguments.is_empty() { main() } else { Err(Stop::Usage) })
}

/// The number of a port.
pub(crate) fn port(text: &str) -> Result<u16, Stop> {
    number(text, "port")
}

/// A number of whatever size, called `what`.
pub(crate) fn number<N: std::str::FromStr>(text: &str, what: &str) -> Result<N, Stop> {
    text.parse().map_err(|_| Stop::Argument(format!("{what} {text:?}: no such number")))
}

/// A failed call, where there is nothing to name that it was done to.
pub(crate) fn failed(call: &'static str) -> impl Fn(Errno) -> SystemError {
    move |errno| SystemError::call(call, errno, "")
}
