//! [`Signal`]: the signals by name, whatever delivers them.

use std::fmt;

/// The signals that a server is told things by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// `SIGINT`: the user pressed Ctrl-C.
    Interrupt,
    /// `SIGTERM`: end in good order.
    Terminate,
    /// `SIGHUP`: the terminal is gone; to a server, read your configuration again.
    Hangup,
    /// `SIGUSR1`: whatever the program makes of it.
    User1,
}

/// `SIGINT`, `SIGTERM`, `SIGHUP`, `SIGUSR1`.
impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
            Self::Hangup => "SIGHUP",
            Self::User1 => "SIGUSR1",
        })
    }
}
