//! `serve --handover`: what the command does besides, where a server replaces another.

use std::path::PathBuf;
use std::time::Duration;

use myriapod::Handover;
use myriapod::sys::{self, JoinHandle};

use crate::failure::Failure;
use crate::terminal::tell;
use crate::units::Timeout;

/// How often a place is tried that the predecessor may still have, and how long to wait in between.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(50);

/// How this server is replaced by another, or replaces one.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct HandoverArgs {
    /// Be replaced without losing a connection: a second server with the same PATH
    /// (a Unix socket) takes over all of them, and the first one ends
    #[arg(long, value_name = "PATH")]
    handover: Option<PathBuf>,
    /// How long the first waits for the second at each step
    #[arg(long, value_name = "TIME", default_value_t = Timeout(Duration::from_secs(5)))]
    handover_timeout: Timeout,
}

impl HandoverArgs {
    /// `served`: what both servers must have in common.
    ///
    /// # Errors
    ///
    /// A time that is none.
    pub(crate) fn to_handover(&self, served: &str) -> Result<Option<Handover>, Failure> {
        let timeout = self.handover_timeout.0;
        if !(Handover::MIN_TIMEOUT..=Handover::MAX_TIMEOUT).contains(&timeout) {
            return Err(Failure::usage("--handover-timeout must be from 10ms to 1m"));
        }
        let at = |path: &PathBuf| Handover::at(path).identity(served).timeout(timeout);
        Ok(self.handover.as_ref().map(at))
    }
}

/// Something that is served besides: at once, or as soon as the predecessor has left its place.
pub(crate) enum Besides<T> {
    Now(T),
    Soon(JoinHandle<Option<T>>),
}

impl<T: Send + 'static> Besides<T> {
    /// Starts it. `took_over`: there are connections to serve, whatever becomes of this; so it is tried
    /// again for a while, and where it fails, that is told.
    ///
    /// # Errors
    ///
    /// What `start` says, unless connections were taken over.
    pub(crate) fn start(
        took_over: bool,
        name: &'static str,
        start: impl Fn() -> Result<T, Failure> + Send + 'static,
    ) -> Result<Self, Failure> {
        if !took_over {
            return start().map(Self::Now);
        }
        let thread = sys::spawn(name, move || {
            for left in (0..TRIES).rev() {
                match start() {
                    Ok(started) => return Some(started),
                    Err(failure) if left == 0 => {
                        tell(format_args!("{}; serving without {name}", failure.message));
                    }
                    Err(_) => std::thread::sleep(PAUSE),
                }
            }
            None
        })?;
        Ok(Self::Soon(thread))
    }

    /// What was started, if it was.
    pub(crate) fn started(self) -> Option<T> {
        match self {
            Self::Now(started) => Some(started),
            Self::Soon(thread) => thread.wait().flatten(),
        }
    }
}
