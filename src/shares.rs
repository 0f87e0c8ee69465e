//! [`Shares`]: who holds how much of a pool, by address and by age; and who gives way where it is
//! full.
//!
//! Each buffer that is lent is a [`Loan`] in a list of its address, the oldest first. The addresses
//! stand in lists by the size of what they hold, each twice the one before, so that nothing is
//! allocated or searched when a loan grows.

use std::sync::Arc;

use crate::slab::{Key, Slab};
use crate::usage::Usage;

/// No loan, and no holder.
const NONE: u32 = u32::MAX;

/// Holders that are looked at to find the one that holds most, of those that hold about as much.
const LOOKS: usize = 16;

/// Whose a buffer is: a connection, and its entry in the table of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) connection: Key,
    pub(crate) address: u32,
}

/// What a loan is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// The receive buffer at this place.
    Receiving(u32),
    /// The send queue at this place.
    Sending(u32),
}

/// A buffer that is lent.
#[derive(Debug)]
struct Loan {
    owner: Owner,
    of: Of,
    bytes: usize,
    /// The next older and the next younger one of the same address.
    older: u32,
    younger: u32,
    /// It can give way still.
    is_listed: bool,
}

/// All that the connections of one address hold.
#[derive(Debug)]
struct Holder {
    bytes: usize,
    oldest: u32,
    youngest: u32,
    /// Its neighbours among those that hold about as much.
    previous: u32,
    next: u32,
    /// What it has in all loops.
    usage: Option<Arc<Usage>>,
    /// A peer on this machine, or one that we connected to.
    is_near: bool,
}

impl Holder {
    const fn new() -> Self {
        Self {
            bytes: 0,
            oldest: NONE,
            youngest: NONE,
            previous: NONE,
            next: NONE,
            usage: None,
            is_near: true,
        }
    }
}

/// Who has to give way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) loan: u32,
    pub(crate) owner: Owner,
    pub(crate) of: Of,
}

/// The most that one address may hold in all loops together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AddressLimit {
    pub(crate) near: usize,
    pub(crate) others: usize,
}

/// Who holds what of a pool.
#[derive(Debug)]
pub(crate) struct Shares {
    loans: Slab<Loan>,
    /// By entry of the table of addresses, from 1 on; those without an entry share the first.
    holders: Vec<Holder>,
    /// The first of the holders that hold less than so many bits can say.
    sizes: [u32; usize::BITS as usize + 1],
    limit: AddressLimit,
}

/// The place of an address among the holders. The largest entry is that of peers without one.
fn place(address: u32) -> u32 {
    address.wrapping_add(1)
}

/// About how much a holder has.
fn size(bytes: usize) -> usize {
    (usize::BITS - bytes.leading_zeros()) as usize
}

impl Shares {
    pub(crate) const fn new(limit: AddressLimit) -> Self {
        Self {
            loans: Slab::new(),
            holders: Vec::new(),
            sizes: [NONE; usize::BITS as usize + 1],
            limit,
        }
    }

    pub(crate) fn set_limit(&mut self, limit: AddressLimit) {
        self.limit = limit;
    }

    /// An address has its first connection here.
    pub(crate) fn open(&mut self, address: u32, usage: Arc<Usage>, is_near: bool) {
        let holder = self.holder_mut(address);
        holder.usage = Some(usage);
        holder.is_near = is_near;
    }

    fn holder_mut(&mut self, address: u32) -> &mut Holder {
        let place = place(address) as usize;
        if place >= self.holders.len() {
            self.holders.resize_with(place + 1, Holder::new);
        }
        &mut self.holders[place]
    }

    fn holder(&self, address: u32) -> Option<&Holder> {
        self.holders.get(place(address) as usize)
    }

    /// A loan of nothing, the youngest of its address. `None` where there are too many loans.
    pub(crate) fn lend(&mut self, owner: Owner, of: Of) -> Option<u32> {
        let older = self.holder_mut(owner.address).youngest;
        let loan = Loan { owner, of, bytes: 0, older, younger: NONE, is_listed: true };
        let loan = self.loans.insert(loan).ok()?.index();
        if let Some((_, before)) = self.loans.at_mut(older) {
            before.younger = loan;
        }
        let holder = self.holder_mut(owner.address);
        holder.youngest = loan;
        if older == NONE {
            holder.oldest = loan;
        }
        Some(loan)
    }

    /// The loan grew.
    pub(crate) fn grow(&mut self, loan: u32, bytes: usize) {
        let Some((_, loan)) = self.loans.at_mut(loan) else { return };
        loan.bytes += bytes;
        let address = loan.owner.address;
        let holder = self.holder_mut(address);
        if let Some(usage) = &holder.usage {
            usage.lend(bytes);
        }
        let held = holder.bytes + bytes;
        self.set_held(address, held);
    }

    /// The loan shrank.
    pub(crate) fn shrink(&mut self, loan: u32, bytes: usize) {
        let Some((_, loan)) = self.loans.at_mut(loan) else { return };
        debug_assert!(bytes <= loan.bytes, "{bytes} of {}", loan.bytes);
        loan.bytes -= bytes;
        let address = loan.owner.address;
        let holder = self.holder_mut(address);
        if let Some(usage) = &holder.usage {
            usage.take_back(bytes);
        }
        let held = holder.bytes - bytes;
        self.set_held(address, held);
    }

    fn set_held(&mut self, address: u32, held: usize) {
        let holder = self.holder_mut(address);
        let (before, now) = (size(holder.bytes), size(held));
        holder.bytes = held;
        if before != now {
            self.leave_size(address, before);
            self.enter_size(address, now);
        }
    }

    fn leave_size(&mut self, address: u32, size: usize) {
        if size == 0 {
            return;
        }
        let holder = self.holder_mut(address);
        let (previous, next) = (holder.previous, holder.next);
        (holder.previous, holder.next) = (NONE, NONE);
        match self.holders.get_mut(previous as usize) {
            Some(holder) => holder.next = next,
            None => self.sizes[size] = next,
        }
        if let Some(holder) = self.holders.get_mut(next as usize) {
            holder.previous = previous;
        }
    }

    fn enter_size(&mut self, address: u32, size: usize) {
        if size == 0 {
            return;
        }
        let (here, next) = (place(address), self.sizes[size]);
        self.sizes[size] = here;
        self.holder_mut(address).next = next;
        if let Some(holder) = self.holders.get_mut(next as usize) {
            holder.previous = here;
        }
    }

    /// Takes a loan out of the list of those that can give way.
    pub(crate) fn unlist(&mut self, loan: u32) {
        let Some((_, this)) = self.loans.at_mut(loan) else { return };
        if !std::mem::take(&mut this.is_listed) {
            return;
        }
        let (older, younger, address) = (this.older, this.younger, this.owner.address);
        match self.loans.at_mut(older) {
            Some((_, older)) => older.younger = younger,
            None => self.holder_mut(address).oldest = younger,
        }
        match self.loans.at_mut(younger) {
            Some((_, younger)) => younger.older = older,
            None => self.holder_mut(address).youngest = older,
        }
    }

    /// The loan is over; it is of nothing any more.
    pub(crate) fn end(&mut self, loan: u32) {
        self.unlist(loan);
        if let Some(key) = self.loans.at_mut(loan).map(|(key, _)| key) {
            let ended = self.loans.remove(key);
            debug_assert!(ended.is_none_or(|loan| loan.bytes == 0), "a loan ends empty");
        }
    }

    /// Whose a loan is, and how large it is.
    pub(crate) fn loan(&self, loan: u32) -> Option<(Owner, usize)> {
        self.loans.at(loan).map(|loan| (loan.owner, loan.bytes))
    }

    /// Bytes that an address holds here.
    pub(crate) fn held(&self, address: u32) -> usize {
        self.holder(address).map_or(0, |holder| holder.bytes)
    }

    /// Whether an address may hold so many bytes more, all loops together.
    pub(crate) fn may_hold(&self, address: u32, more: usize) -> bool {
        let usage = self.holder(address).and_then(|holder| holder.usage.as_ref());
        usage.is_none_or(|usage| usage.bytes().saturating_add(more) <= self.most(address))
    }

    /// The most that an address may hold.
    pub(crate) fn most(&self, address: u32) -> usize {
        let is_near = self.holder(address).is_none_or(|holder| holder.is_near);
        if is_near { self.limit.near } else { self.limit.others }
    }

    /// The address that holds most here, or nearly so; `None` where nobody holds anything.
    pub(crate) fn largest(&self) -> Option<u32> {
        let first = self.sizes.iter().rev().find(|first| **first != NONE)?;
        let mut most = (0, NONE);
        let mut here = *first;
        for _ in 0..LOOKS {
            let Some(holder) = self.holders.get(here as usize) else { break };
            most = most.max((holder.bytes, here));
            here = holder.next;
        }
        Some(most.1.wrapping_sub(1))
    }

    /// The oldest loan of an address.
    pub(crate) fn oldest(&self, address: u32) -> Option<Candidate> {
        let oldest = self.holder(address)?.oldest;
        let Loan { owner, of, .. } = self.loans.at(oldest)?;
        Some(Candidate { loan: oldest, owner: *owner, of: *of })
    }

    /// Gives back the memory of places that nobody needs.
    pub(crate) fn drop_spare_segment(&mut self) {
        self.loans.drop_spare_segment();
    }

    pub(crate) fn has_spare_segment(&self) -> bool {
        self.loans.has_spare_segment()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: AddressLimit = AddressLimit { near: usize::MAX, others: usize::MAX };

    fn owner(connection: u64, address: u32) -> Owner {
        Owner { connection: Key::from_bits(connection), address }
    }

    fn lend(shares: &mut Shares, connection: u64, address: u32, bytes: usize) -> u32 {
        let place = u32::try_from(connection).unwrap();
        let loan = shares.lend(owner(connection, address), Of::Receiving(place)).unwrap();
        shares.grow(loan, bytes);
        loan
    }

    fn who(shares: &Shares, address: u32) -> u64 {
        shares.oldest(address).unwrap().owner.connection.to_bits()
    }

    #[test]
    fn does_the_address_that_holds_most_come_first_and_its_oldest() {
        let mut shares = Shares::new(LIMIT);
        assert_eq!(shares.largest(), None);
        let one = lend(&mut shares, 1, 7, 1_000);
        let two = lend(&mut shares, 2, 8, 900);
        lend(&mut shares, 3, 8, 900);
        assert_eq!(shares.largest(), Some(8));
        assert_eq!(who(&shares, 8), 2);
        shares.shrink(two, 900);
        shares.end(two);
        assert_eq!(shares.largest(), Some(7), "of two in one list, the larger");
        shares.grow(one, 100_000);
        assert_eq!(shares.largest(), Some(7));
        shares.shrink(one, 101_000);
        shares.end(one);
        assert_eq!((shares.largest(), who(&shares, 8)), (Some(8), 3));
        assert_eq!(shares.oldest(7), None);
    }

    #[test]
    fn do_peers_without_an_entry_share_one_place() {
        let mut shares = Shares::new(LIMIT);
        let first = lend(&mut shares, 1, NONE, 10);
        lend(&mut shares, 2, NONE, 10);
        assert_eq!((shares.largest(), shares.held(NONE)), (Some(NONE), 20));
        shares.unlist(first);
        assert_eq!(who(&shares, NONE), 2, "who gave way once does not again");
        shares.unlist(first);
        shares.shrink(first, 10);
        shares.end(first);
        assert_eq!(shares.held(NONE), 10);
    }

    #[test]
    fn is_what_an_address_has_in_other_loops_counted() {
        let limit = AddressLimit { near: usize::MAX, others: 1_000 };
        let usages = crate::usage::Usages::new();
        let network = "192.0.2.1".parse().unwrap();
        let usage = usages.enter(network, 10).unwrap();
        let (mut here, mut there) = (Shares::new(limit), Shares::new(limit));
        here.open(0, Arc::clone(&usage), false);
        there.open(5, Arc::clone(&usage), false);
        let loan = lend(&mut here, 1, 0, 600);
        assert!(there.may_hold(5, 400));
        assert!(!there.may_hold(5, 401));
        here.shrink(loan, 600);
        here.end(loan);
        assert!(there.may_hold(5, 1_000));
        usages.leave(network, &usage);
        assert_eq!(usages.len(), 0);
    }
}
