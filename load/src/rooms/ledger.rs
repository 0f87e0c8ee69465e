//! [`Ledger`]: what each member has heard of each speaker of its room.

/// Counts deliveries, and finds those that come twice or out of order.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    members: usize,
    /// The number of the last message, for each pair of a listener and a speaker.
    last: Vec<u32>,
    pub(super) delivered: u64,
    pub(super) duplicated: u64,
    pub(super) disordered: u64,
}

impl Ledger {
    /// Of `rooms` with so many members each.
    pub(super) fn new(rooms: usize, members: usize) -> Self {
        Self { members, last: vec![0; rooms * members * members], ..Self::default() }
    }

    /// `listener`, counted over all rooms, has heard message `number` of a speaker of its room; they
    /// count from 1.
    pub(super) fn heard(&mut self, listener: usize, speaker: usize, number: u32) {
        let Some(last) = self.last.get_mut(listener * self.members + speaker) else { return };
        match number.cmp(last) {
            std::cmp::Ordering::Greater => {
                *last = number;
                self.delivered += 1;
            }
            std::cmp::Ordering::Equal => self.duplicated += 1,
            // One that was skipped, or one that came before: either way not in order.
            std::cmp::Ordering::Less => self.disordered += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_each_pair_of_listener_and_speaker_counted_alone() {
        let mut ledger = Ledger::new(2, 3);
        for (listener, speaker, number) in
            [(0, 0, 1), (0, 1, 1), (0, 1, 3), (5, 2, 1), (5, 2, 1), (0, 1, 2), (0, 0, 2)]
        {
            ledger.heard(listener, speaker, number);
        }
        assert_eq!((ledger.delivered, ledger.duplicated, ledger.disordered), (5, 1, 1));
    }
}
