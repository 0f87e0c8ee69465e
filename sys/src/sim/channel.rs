//! [`channel`]: as the standard library's, between threads of which one runs at a time.

use std::collections::VecDeque;
use std::fmt;
use std::sync::mpsc::{RecvError, RecvTimeoutError, SendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::descriptor::call_number;
use super::kernel::Kernel;
use super::threads::{Awaited, block, call, call_if_there};

/// A channel: what one thread sends, another receives.
#[must_use]
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let number = call(Kernel::new_id);
    let inner = Inner { queue: VecDeque::new(), senders: 1, has_receiver: true };
    let inner = Arc::new(Mutex::new(inner));
    (Sender { number, inner: Arc::clone(&inner) }, Receiver { number, inner })
}

struct Inner<T> {
    queue: VecDeque<T>,
    senders: usize,
    has_receiver: bool,
}

impl<T> Inner<T> {
    /// Whether a receiver need not wait.
    fn has_come(&self) -> bool {
        !self.queue.is_empty() || self.senders == 0
    }
}

fn lock<T>(inner: &Mutex<Inner<T>>) -> MutexGuard<'_, Inner<T>> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The end that sends.
pub struct Sender<T> {
    number: u64,
    inner: Arc<Mutex<Inner<T>>>,
}

impl<T> Sender<T> {
    /// Sends a value, which the receiver finds whenever it looks.
    ///
    /// # Errors
    ///
    /// There is no receiver any more.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        {
            let mut inner = lock(&self.inner);
            if !inner.has_receiver {
                return Err(SendError(value));
            }
            inner.queue.push_back(value);
        }
        call(|kernel| {
            kernel.enter(call_number::CHANNEL);
            kernel.channels.insert(self.number, true);
        });
        Ok(())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        lock(&self.inner).senders += 1;
        Self { number: self.number, inner: Arc::clone(&self.inner) }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let is_last = {
            let mut inner = lock(&self.inner);
            inner.senders -= 1;
            inner.senders == 0
        };
        if is_last {
            call_if_there(|kernel| {
                kernel.channels.insert(self.number, true);
            });
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

/// The end that receives.
pub struct Receiver<T> {
    number: u64,
    inner: Arc<Mutex<Inner<T>>>,
}

impl<T> Receiver<T> {
    /// Waits for the next value.
    ///
    /// # Errors
    ///
    /// There is no sender any more.
    pub fn recv(&self) -> Result<T, RecvError> {
        self.wait(None).map_err(|_| RecvError)
    }

    /// Waits for the next value, for so long at the most.
    ///
    /// # Errors
    ///
    /// None has come, or there is no sender any more.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        let nanos = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        let until = call(|kernel| {
            kernel.enter(call_number::CHANNEL);
            kernel.now.saturating_add(nanos)
        });
        self.wait(Some(until))
    }

    fn wait(&self, until: Option<u64>) -> Result<T, RecvTimeoutError> {
        let received = block(Awaited::Channel(self.number), until, |kernel| {
            let mut inner = lock(&self.inner);
            let next = match inner.queue.pop_front() {
                None if inner.senders > 0 => None,
                None => Some(Err(RecvTimeoutError::Disconnected)),
                Some(value) => Some(Ok(value)),
            };
            kernel.channels.insert(self.number, inner.has_come());
            next
        });
        received.unwrap_or(Err(RecvTimeoutError::Timeout))
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let unseen = {
            let mut inner = lock(&self.inner);
            inner.has_receiver = false;
            std::mem::take(&mut inner.queue)
        };
        // They may close descriptors.
        drop(unseen);
        call_if_there(|kernel| {
            kernel.channels.remove(&self.number);
        });
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}
