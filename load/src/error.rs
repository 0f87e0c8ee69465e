//! [`Error`]: why a load could not be made or measured.

use std::fmt;
use std::io;

use myriapod::sys::{Errno, SystemError};

/// What came of it, where something can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a load could not be made. `Display` says what failed, and then what can be done about it,
/// where that is known.
///
/// What a server does wrong is no error: it is in the [`Report`](crate::Report).
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    next_step: Option<String>,
}

#[derive(Debug)]
enum Kind {
    System(SystemError),
    Usage(String),
    Other(String),
}

impl Error {
    pub(crate) fn new(what: impl fmt::Display) -> Self {
        Self { kind: Kind::Other(what.to_string()), next_step: None }
    }

    /// What is asked for cannot work. Options stand between backticks, as they are called here.
    pub(crate) fn usage(why: impl fmt::Display) -> Self {
        Self { kind: Kind::Usage(why.to_string()), next_step: None }
    }

    /// A call of the standard library failed.
    pub(crate) fn io(call: &str, on: impl fmt::Display, error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(raw) => Self::new(format_args!("{call} {on}: {}", Errno::from_raw(raw))),
            None => Self::new(format_args!("{call} {on}: {error}")),
        }
    }

    pub(crate) fn with_next_step(mut self, next_step: impl Into<String>) -> Self {
        self.next_step = Some(next_step.into());
        self
    }

    /// Whether what was asked for cannot work, here or at all.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(self.kind, Kind::Usage(_))
    }

    /// The system's error behind it, if that is what it is.
    #[must_use]
    pub const fn system(&self) -> Option<&SystemError> {
        match &self.kind {
            Kind::System(error) => Some(error),
            _ => None,
        }
    }

    /// What failed, without the next step.
    #[must_use]
    pub fn what(&self) -> String {
        match &self.kind {
            Kind::System(error) => error.to_string(),
            Kind::Usage(what) | Kind::Other(what) => what.clone(),
        }
    }

    /// What can be done about it, where that is known.
    #[must_use]
    pub fn next_step(&self) -> Option<&str> {
        self.next_step.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what())?;
        match &self.next_step {
            Some(next_step) => write!(f, "; {next_step}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            Kind::System(error) => Some(error),
            _ => None,
        }
    }
}

impl From<SystemError> for Error {
    fn from(error: SystemError) -> Self {
        Self { kind: Kind::System(error), next_step: None }
    }
}
