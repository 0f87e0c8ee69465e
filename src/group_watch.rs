//! [`GroupWatch`]: who is told which groups exist, and what is sent to them.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::outgoing::Outgoing;

/// Is told when groups come and go in the event loops of a server, and what is broadcast to them:
/// what carries groups to other servers needs to know. See
/// [`Handle::watch_groups`](crate::Handle::watch_groups).
///
/// The loops wait while it is told something, so it must not wait itself.
pub trait GroupWatch: Send + Sync + fmt::Debug {
    /// An event loop has its first member of a group. Each loop says so for itself.
    fn first_in(&self, group: &str);

    /// An event loop's last member of a group is gone.
    fn last_out(&self, group: &str);

    /// A message was given to [`Handle::broadcast`](crate::Handle::broadcast) or
    /// [`broadcast_except`](crate::Handle::broadcast_except), on any thread.
    fn broadcast(&self, group: &str, outgoing: &Outgoing);
}

/// The one who watches the groups of a server, if anybody does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched(Arc<OnceLock<Arc<dyn GroupWatch>>>);

impl Watched {
    pub(crate) fn get(&self) -> Option<&Arc<dyn GroupWatch>> {
        self.0.get()
    }

    /// Says whether nobody watched before.
    pub(crate) fn set(&self, watch: Arc<dyn GroupWatch>) -> bool {
        self.0.set(watch).is_ok()
    }
}
