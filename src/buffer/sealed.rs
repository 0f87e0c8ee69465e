//! What buffers hold of records, where something stands between a socket and its messages.

use super::{Lent, Pool, PoolFull, count};
use crate::timer::Tick;

impl Pool {
    /// Appends part of a record, of which `record` bytes must be there in all, behind the plain bytes of
    /// a receive buffer.
    pub(crate) fn append_sealed(
        &mut self,
        handle: Lent,
        sealed: &[u8],
        record: usize,
    ) -> Result<(), PoolFull> {
        let Some((_, buffer)) = self.recv.at_mut(handle.0) else { return Ok(()) };
        let (len, capacity) = (buffer.bytes.len(), buffer.bytes.capacity());
        let (loan, wanted) = (buffer.loan, len + record.max(sealed.len()));
        if wanted > capacity {
            self.make_way(loan, wanted - capacity)?;
        }
        let Some((_, buffer)) = self.recv.at_mut(handle.0) else { return Ok(()) };
        buffer.bytes.reserve_exact(wanted - len);
        buffer.bytes.extend_from_slice(sealed);
        (buffer.sealed, buffer.record) = (sealed.len(), record);
        let grown = buffer.bytes.capacity() - capacity;
        self.note_lent(loan, grown);
        Ok(())
    }

    /// Puts records in front of all that a send queue holds, which has none of them.
    pub(crate) fn queue_sealed(&mut self, to: Lent, records: &[u8]) -> Result<(), PoolFull> {
        let Some((_, queue)) = self.send.at_mut(to.0) else { return Ok(()) };
        let loan = queue.loan;
        let mut buffer = self.take(loan, records.len(), records.len())?;
        buffer.extend_from_slice(records);
        let Some((_, queue)) = self.send.at_mut(to.0) else {
            self.put(loan, buffer);
            return Ok(());
        };
        debug_assert!(queue.sealed.is_empty(), "they went out first");
        queue.len += buffer.len();
        (queue.sealed, queue.sealed_sent) = (buffer, 0);
        Ok(())
    }

    /// Marks `sent` bytes of the records of a queue as sent `now`.
    pub(crate) fn advance_sealed(&mut self, handle: Lent, sent: usize, now: Tick) {
        let Some((_, queue)) = self.send.at_mut(handle.0) else { return };
        if sent > 0 {
            queue.stalled_since = now;
        }
        queue.len -= sent.min(queue.len);
        queue.sealed_sent += sent;
        queue.given += count(sent);
        let loan = queue.loan;
        if queue.sealed_sent >= queue.sealed.len() {
            queue.sealed_sent = 0;
            let buffer = std::mem::take(&mut queue.sealed);
            self.put(loan, buffer);
        }
    }
}
