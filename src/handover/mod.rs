//! The hand-over: a server is replaced by another process, and no connection is lost.
//!
//! Two processes talk over a Unix socket. The one that serves is the *predecessor*, the other one its
//! *successor*:
//!
//! ```text
//! successor                                predecessor
//!   Hello: version, configuration  ─────▶
//!                                  ◀─────  Welcome, or Refused
//!                                  ◀─────  Listeners, with their descriptors
//!   Ready: all is built            ─────▶
//!                                  ◀─────  Batch: names of connections, with their descriptors
//!   Ack                            ─────▶  (so many times; the connections are still served)
//!                                          it stops to read and to accept
//!                                  ◀─────  Batch … of those that have come since
//!                                  ◀─────  Parcels: what is to be known of each connection
//!                                  ◀─────  Prepare: so many there were
//!   Prepared: all is understood    ─────▶
//!                                  ◀─────  Commit: they are yours
//!                                  ◀─────  Told: who watches over us knows of you
//!                                  ◀─────  Parcels, Batch: one that waited for a deferred reply
//!   Ack                            ─────▶
//!                                  ◀─────  Commit: it is yours (so many times)
//! ```
//!
//! Until `Commit` is sent, the predecessor has its own copy of every descriptor and has changed
//! nothing: whatever goes wrong, it serves on. The successor touches no connection before `Commit` has
//! come. So each is read and written by one process at every moment.
//!
//! This room has the messages, sans-IO, and the channel that carries them. Who talks is in the rooms
//! `predecessor` and `successor`.

mod channel;
mod message;
mod parcel;
mod step;
mod wire;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use self::channel::{Channel, Failure, pass};
pub(crate) use self::message::Message;
pub(crate) use self::parcel::{Parcel, Unread, Unsent};
pub(crate) use self::step::{Batch, Described, Late, Order, Passed, Step, Summary};

/// The version of what is said. Another one is refused.
pub(crate) const VERSION: u16 = 1;

/// Descriptors in one batch. Those on their way count against a limit of the user's, so each batch
/// waits until the last one has arrived.
pub(crate) const BATCH: usize = 250;

/// How a server is replaced by another process while it serves; see
/// [`ServerBuilder::handover`](crate::ServerBuilder::handover).
///
/// ```
/// use std::time::Duration;
/// use myriapod::Handover;
///
/// let handover = Handover::at("/run/chat/handover").identity("chat 2").timeout(Duration::from_secs(2));
/// assert_eq!(handover.path().to_str(), Some("/run/chat/handover"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    path: PathBuf,
    identity: String,
    timeout: Duration,
}

impl Handover {
    /// The shortest time that one step may be given: 10 ms.
    pub const MIN_TIMEOUT: Duration = Duration::from_millis(10);

    /// The longest time that one step may take: a minute.
    pub const MAX_TIMEOUT: Duration = Duration::from_secs(60);

    /// The most bytes of an identity: 4 KiB.
    pub const MAX_IDENTITY: usize = 4 << 10;

    /// With a Unix socket at this path, whose file has mode 0600.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), identity: String::new(), timeout: Duration::from_secs(5) }
    }

    /// What predecessor and successor must have in common, besides where they listen: a framing and
    /// the version of what the handler saves, for example. A successor that says something else is
    /// refused. At most [`MAX_IDENTITY`](Self::MAX_IDENTITY) bytes; what is beyond that is left out.
    #[must_use]
    pub fn identity(mut self, identity: impl Into<String>) -> Self {
        self.identity = identity.into();
        let mut end = self.identity.len().min(Self::MAX_IDENTITY);
        while !self.identity.is_char_boundary(end) {
            end -= 1;
        }
        self.identity.truncate(end);
        self
    }

    /// How long one process waits for the other at each step; 5 s unless set, from
    /// [`MIN_TIMEOUT`](Self::MIN_TIMEOUT) to [`MAX_TIMEOUT`](Self::MAX_TIMEOUT). All that happens while
    /// nothing is served has this time together.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.clamp(Self::MIN_TIMEOUT, Self::MAX_TIMEOUT);
        self
    }

    /// Where the socket is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn patience(&self) -> Duration {
        self.timeout
    }

    /// All that both must have in common, a line each.
    pub(crate) fn configuration(&self, rest: &[String]) -> String {
        let mut text = self.identity.clone();
        for line in rest {
            text.push('\n');
            text.push_str(line);
        }
        text
    }
}

impl<P: Into<PathBuf>> From<P> for Handover {
    fn from(path: P) -> Self {
        Self::at(path)
    }
}

/// Where two configurations differ first: the line of ours and that of the other.
pub(crate) fn difference<'a>(ours: &'a str, theirs: &'a str) -> Option<(&'a str, &'a str)> {
    let (mut ours, mut theirs) = (ours.lines(), theirs.lines());
    loop {
        match (ours.next(), theirs.next()) {
            (None, None) => return None,
            (one, other) if one == other => {}
            (one, other) => return Some((one.unwrap_or("nothing"), other.unwrap_or("nothing"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_first_difference_of_two_configurations_named() {
        assert_eq!(difference("a\nb", "a\nc"), Some(("b", "c")));
        assert_eq!(difference("a", "a\nc"), Some(("nothing", "c")));
        assert_eq!(difference("a\nb", "a\nb"), None);
    }

    #[test]
    fn is_an_identity_cut_between_characters() {
        let handover = Handover::at("x").identity("ü".repeat(Handover::MAX_IDENTITY));
        assert_eq!(handover.identity.len(), Handover::MAX_IDENTITY);
        assert_eq!(handover.configuration(&["y".to_owned()]).lines().nth(1), Some("y"));
    }
}
