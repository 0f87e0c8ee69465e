//! [`Audit`]: what an event loop holds at a moment, for tests and simulations to check.

use myriapod_sys::Interest;

use super::arrive::Arriving;
use super::{EventLoop, Role};
use crate::connection::Lingering;
use crate::handler::Handler;
use crate::link::Link;
use crate::protocol::Framing;

/// What an event loop holds at a moment: for tests and simulations. An operator reads
/// [`Stats`](crate::Stats).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Audit {
    /// Entries of the slab: connections, connects under way, listeners, signals.
    pub entries: usize,
    /// Connections among them.
    pub connections: usize,
    /// Entries that are read and dropped after the end of their conversation.
    pub lingering: usize,
    /// Entries that are watched for something.
    pub watched: usize,
    /// Listeners that are still served.
    pub listeners: usize,
    /// Armed timers of connections, as the wheel counts them.
    pub timers: usize,
    /// Armed timers of connections, counted one by one.
    pub armed: usize,
    /// Connections whose timer would fire after their deadline, but for those that are worked on in
    /// the next turn, once all are set by the limits in force.
    pub overdue: usize,
    /// Timers that were set and connects that are under way.
    pub alarms: usize,
    /// Places on the ready list.
    pub ready: usize,
    /// Peers' addresses that are counted.
    pub addresses: usize,
    /// Received bytes that wait in buffers.
    pub buffered: u64,
    /// The largest capacity that a receive buffer has.
    pub largest_buffer: usize,
    /// Unsent bytes that wait in queues.
    pub queued: u64,
    /// Unsent bytes of the longest queue.
    pub longest_queue: usize,
    /// The most capacity that the buffers of all connections have had.
    pub most_lent: usize,
    /// What other threads have asked for and the loop has not looked at.
    pub unheard: usize,
}

impl<H: Handler, F: Framing, L: Link> EventLoop<H, F, L> {
    /// Looks at everything, for tests and simulations: it takes time for each connection.
    #[must_use]
    pub fn audit(&self) -> Audit {
        let mut audit = Audit {
            entries: self.selector.len(),
            listeners: self.acceptor.listeners.len(),
            timers: self.wheel.len(),
            alarms: self.shared.alarms.len() + self.arrivals.len(),
            ready: self.shared.ready.len(),
            addresses: self.acceptor.addresses.len(),
            most_lent: self.shared.pool.most_lent(),
            unheard: self.mailbox.len(),
            ..Audit::default()
        };
        for (key, role) in self.selector.iter() {
            let interest = self.selector.interest(key).unwrap_or(Interest::NONE);
            audit.watched += usize::from(!interest.is_empty());
            let connection = match role {
                Role::Connection(connection) => connection,
                Role::Lingering(Lingering { timer, .. }) => {
                    audit.lingering += 1;
                    audit.armed += usize::from(timer.expires().is_some());
                    continue;
                }
                Role::Arriving(Arriving { timer, .. }) => {
                    audit.armed += usize::from(timer.expires().is_some());
                    continue;
                }
                Role::Listener(_) | Role::Signals => continue,
            };
            audit.connections += 1;
            audit.armed += usize::from(connection.timer.expires().is_some());
            // What is ready is worked on in the next turn, which then looks at its deadline.
            let is_settled = !connection.is_ready() && self.rearming.is_none();
            let is_overdue = is_settled && self.shared.sooner(connection).is_some();
            audit.overdue += usize::from(is_overdue);
            if let Some(buffer) = self.shared.pool.recv(connection.recv) {
                audit.buffered += buffer.unread().len() as u64;
                audit.largest_buffer = audit.largest_buffer.max(buffer.bytes.capacity());
            }
            let queued = self.shared.pool.queued(connection.send);
            audit.queued += queued as u64;
            audit.longest_queue = audit.longest_queue.max(queued);
        }
        audit
    }
}
