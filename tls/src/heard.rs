//! How the traffic secrets of a handshake are heard: as rustls tells them to a log of keys.

use std::cell::RefCell;
use std::sync::Arc;

use rustls::KeyLog;
use zeroize::Zeroize;

use crate::schedule::MOST_SECRET;

/// One secret; overwritten when it is dropped.
pub(crate) struct Secret {
    bytes: [u8; MOST_SECRET],
    len: usize,
}

impl Secret {
    const NONE: Self = Self { bytes: [0; MOST_SECRET], len: 0 };

    fn set(&mut self, secret: &[u8]) {
        if let Some(to) = self.bytes.get_mut(..secret.len()) {
            to.copy_from_slice(secret);
            self.len = secret.len();
        }
    }

    /// One of this length, to be filled.
    pub(crate) fn of_len(len: usize) -> Self {
        Self { bytes: [0; MOST_SECRET], len: len.min(MOST_SECRET) }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.len).unwrap_or_default()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

/// What was heard in one handshake.
pub(crate) struct Heard {
    pub(crate) from_client: Secret,
    pub(crate) from_server: Secret,
    pub(crate) exporter: Secret,
}

impl Heard {
    pub(crate) const NOTHING: Self =
        Self { from_client: Secret::NONE, from_server: Secret::NONE, exporter: Secret::NONE };
}

thread_local! {
    /// Where what is heard on this thread goes. rustls tells of secrets on the thread that works on
    /// the handshake, while it does.
    static EAR: RefCell<Heard> = const { RefCell::new(Heard::NOTHING) };
}

/// Hears the secrets that rustls tells while `work` runs.
pub(crate) fn listen<R>(heard: &mut Heard, work: impl FnOnce() -> R) -> R {
    let swap = |heard: &mut Heard| {
        EAR.with(|ear| {
            if let Ok(mut ear) = ear.try_borrow_mut() {
                std::mem::swap(&mut *ear, heard);
            }
        });
    };
    swap(heard);
    let result = work();
    swap(heard);
    result
}

/// A log of keys that hears what this crate needs, and tells the one that was there before what that
/// one wants to know.
#[derive(Debug)]
pub(crate) struct Ear {
    before: Arc<dyn KeyLog>,
}

impl Ear {
    pub(crate) fn before(log: &Arc<dyn KeyLog>) -> Arc<dyn KeyLog> {
        Arc::new(Self { before: Arc::clone(log) })
    }
}

const OF_CLIENT: &str = "CLIENT_TRAFFIC_SECRET_0";
const OF_SERVER: &str = "SERVER_TRAFFIC_SECRET_0";
const EXPORTER: &str = "EXPORTER_SECRET";

impl KeyLog for Ear {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        EAR.with(|ear| {
            if let Ok(mut heard) = ear.try_borrow_mut() {
                match label {
                    OF_CLIENT => heard.from_client.set(secret),
                    OF_SERVER => heard.from_server.set(secret),
                    EXPORTER => heard.exporter.set(secret),
                    _ => {}
                }
            }
        });
        if self.before.will_log(label) {
            self.before.log(label, client_random, secret);
        }
    }

    fn will_log(&self, label: &str) -> bool {
        matches!(label, OF_CLIENT | OF_SERVER | EXPORTER) || self.before.will_log(label)
    }
}
