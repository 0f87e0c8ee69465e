//! [`Shared`]: rooms that several servers share, by a broker.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use myriapod::{ConnectionId, Handle};
use myriapod_cluster::{Arrival, Node, NodeStats};

use super::args::RoomArgs;
use super::hall::{Afar, Hall};
use myriapod_command::failure::Failure;
use myriapod_command::terminal::tell;

/// The way to the other servers, until it is closed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared {
    node: Arc<RwLock<Option<Node>>>,
    /// What it had done when it was closed.
    last: Arc<OnceLock<NodeStats>>,
}

impl Shared {
    /// Shares the rooms of this server, if a broker is named.
    pub(crate) fn begin(
        args: &RoomArgs,
        hall: &Arc<Hall<ConnectionId>>,
        handle: Handle,
    ) -> Result<Option<Self>, Failure> {
        let Some(remote) = args.remote()? else { return Ok(None) };
        let shared = Self::default();
        // Not the node itself, which would then never go.
        let (rooms, node) = (Arc::downgrade(hall), Arc::downgrade(&shared.node));
        let hears = move |arrival: Arrival<'_>| match arrival {
            Arrival::Message { group, payload } => {
                let heard = rooms.upgrade().is_some_and(|hall| hall.hear(&handle, group, payload));
                if !heard
                    && let Some(node) = node.upgrade()
                    && let Some(node) = &*node.read().unwrap_or_else(PoisonError::into_inner)
                {
                    node.count_undelivered();
                }
            }
            Arrival::Note(text) => tell(format_args!("broker: {text}")),
            _ => {}
        };
        let prefix = args.cluster_prefix.clone().unwrap_or_default();
        let node = Node::start(remote, prefix, hears)?;
        *shared.node.write().unwrap_or_else(PoisonError::into_inner) = Some(node);
        hall.share(Box::new(shared.clone()));
        Ok(Some(shared))
    }

    /// What it has done.
    pub(crate) fn stats(&self) -> NodeStats {
        let node = self.node.read().unwrap_or_else(PoisonError::into_inner);
        let last = || self.last.get().copied().unwrap_or_default();
        node.as_ref().map_or_else(last, Node::stats)
    }

    /// Sends what was published, and ends.
    pub(crate) fn close(&self) {
        let node = self.node.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(node) = &node {
            let _ = self.last.set(node.stats());
        }
    }

    fn with(&self, ask: impl FnOnce(&Node)) {
        if let Some(node) = &*self.node.read().unwrap_or_else(PoisonError::into_inner) {
            ask(node);
        }
    }
}

impl Afar for Shared {
    fn subscribe(&self, room: &str) {
        self.with(|node| node.subscribe(room));
    }

    fn unsubscribe(&self, room: &str) {
        self.with(|node| node.unsubscribe(room));
    }

    fn publish(&self, room: &str, payload: &[u8]) {
        self.with(|node| {
            // The node counts what is lost.
            let _ = node.publish(room, payload);
        });
    }
}
