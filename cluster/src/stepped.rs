//! [`Stepped`]: a broker whose event loop is run one turn at a time, in a simulated world.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use myriapod::Server;
use myriapod_tls::Tls;

use crate::broker::{Broker, BrokerStats, Inbox};
use crate::dialect::Wire;
use crate::link::Talker;
use crate::remote::Remote;

/// A [`Remote`] without a thread. Clones are one and the same.
#[derive(Clone)]
pub struct Stepped {
    remote: Arc<Remote>,
    server: Arc<Mutex<Option<Server<Talker, Wire, Tls>>>>,
}

impl Stepped {
    /// One that is run by the caller of [`turn`](Self::turn).
    #[must_use]
    pub fn new(remote: Remote) -> Self {
        Self { remote: Arc::new(remote), server: Arc::default() }
    }

    /// One turn of its loop, without waiting.
    ///
    /// # Errors
    ///
    /// What the system says to a wait.
    pub fn turn(&self) -> Result<(), myriapod::Error> {
        if let Some(server) = &mut *self.server.lock().unwrap_or_else(PoisonError::into_inner) {
            server.event_loop().run_once(Some(Duration::ZERO))?;
        }
        Ok(())
    }
}

impl Broker for Stepped {
    fn start(&self, inbox: Inbox) -> Result<(), myriapod::Error> {
        let server = self.remote.build(inbox)?;
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
        Ok(())
    }

    fn publish(&self, channel: &str, payload: &[u8]) -> bool {
        self.remote.publish(channel, payload)
    }

    fn subscribe(&self, channel: &str) {
        self.remote.subscribe(channel);
    }

    fn unsubscribe(&self, channel: &str) {
        self.remote.unsubscribe(channel);
    }

    fn stats(&self) -> BrokerStats {
        self.remote.stats()
    }
}

impl From<Stepped> for Box<dyn Broker> {
    fn from(stepped: Stepped) -> Self {
        Box::new(stepped)
    }
}

impl std::fmt::Debug for Stepped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stepped").field("remote", &self.remote).finish_non_exhaustive()
    }
}
