//! [`Member`]: what the event loops of one server know of each other.
//!
//! Nothing here is touched for a message. Opening and closing a connection costs its loop one
//! atomic operation on a cache line of its own.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use myriapod_sys::{Descriptor, SocketAddr};

use crate::group_watch::Watched;
use crate::handle::Handle;
use crate::handle_error::HandleError;
use crate::mailbox::{Item, Mailbox};
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use crate::sync::pause;
use crate::usage::Usages;

/// How long to wait before a loop that could not be woken is tried again.
const WAKE_PAUSE: Duration = Duration::from_millis(10);

/// How often a loop that ends tries to wake others: for about a second. In a model, where time does
/// not pass, a few times are enough.
const LAST_WAKES: usize = if cfg!(all(test, myriapod_loom)) { 2 } else { 100 };

/// What all loops share.
#[derive(Debug)]
struct Loops {
    mailboxes: Arc<[Arc<Mailbox>]>,
    places: Box<[Places]>,
    /// Loops that may still accept, and so hand sockets over.
    accepting: AtomicUsize,
    /// Loops that exist.
    alive: AtomicUsize,
    /// A loop has peers in its backlog for which there was no place.
    wanted: AtomicBool,
    /// A loop has peers in its backlog for which there was no descriptor.
    starved: AtomicBool,
    /// A loop cannot go on, so that the others need not wait for it.
    broken: AtomicBool,
    /// What the peers of each address have.
    usages: Arc<Usages>,
    watched: Watched,
}

/// The connections of one loop, those on their way to it included.
#[derive(Debug)]
#[repr(align(128))]
struct Places {
    taken: AtomicUsize,
    share: AtomicUsize,
}

/// One loop's membership. Dropping it tells the others to stop: a server is whole or not at all.
pub(crate) struct Member {
    loops: Arc<Loops>,
    index: u16,
    accepting: bool,
    /// Another loop could not be woken for what this one told it.
    unwoken: Cell<bool>,
}

/// Makes the members of a server in the order of their indices; `max_connections` is divided among
/// them.
pub(crate) fn members_of(mailboxes: Vec<Arc<Mailbox>>, max_connections: usize) -> Vec<Member> {
    let count = mailboxes.len();
    let places = (0..count).map(|nth| Places {
        taken: AtomicUsize::new(0),
        share: AtomicUsize::new(share(max_connections, nth, count)),
    });
    let loops = Arc::new(Loops {
        places: places.collect(),
        mailboxes: mailboxes.into(),
        accepting: AtomicUsize::new(count),
        alive: AtomicUsize::new(count),
        wanted: AtomicBool::new(false),
        starved: AtomicBool::new(false),
        broken: AtomicBool::new(false),
        usages: Arc::new(Usages::new()),
        watched: Watched::default(),
    });
    let indices = (0..count).filter_map(|nth| u16::try_from(nth).ok());
    let member = |index| Member {
        loops: Arc::clone(&loops),
        index,
        accepting: true,
        unwoken: Cell::new(false),
    };
    indices.map(member).collect()
}

/// How many of all connections the loop with this number may have.
fn share(max_connections: usize, nth: usize, count: usize) -> usize {
    max_connections / count + usize::from(nth < max_connections % count)
}

impl Member {
    /// All loops together may have so many connections from now on. Those that are open stay.
    pub(crate) fn set_max_connections(&self, max_connections: usize) {
        let count = self.loops.places.len();
        for (nth, places) in self.loops.places.iter().enumerate() {
            places.share.store(share(max_connections, nth, count), SeqCst);
        }
    }

    pub(crate) fn index(&self) -> u16 {
        self.index
    }

    pub(crate) fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.loops.mailboxes), self.loops.watched.clone())
    }

    pub(crate) fn stop_all(&self) -> StopAll {
        StopAll(Arc::clone(&self.loops))
    }

    /// How many loops the server was built with.
    pub(crate) fn loops(&self) -> usize {
        self.loops.places.len()
    }

    /// What the peers of each address have in all loops.
    pub(crate) fn usages(&self) -> Arc<Usages> {
        Arc::clone(&self.loops.usages)
    }

    /// Whether there is no other loop.
    fn is_alone(&self) -> bool {
        self.loops() == 1
    }

    /// How many connections all loops may have together.
    pub(crate) fn max_connections(&self) -> usize {
        self.loops.places.iter().map(|places| places.share.load(SeqCst)).sum()
    }

    /// How many connections all loops have together.
    pub(crate) fn open(&self) -> u64 {
        self.loops.places.iter().map(|places| places.taken.load(SeqCst) as u64).sum()
    }

    fn reserve_at(&self, at: u16) -> Option<u16> {
        let places = self.loops.places.get(usize::from(at))?;
        let share = places.share.load(SeqCst);
        let next = |taken: usize| (taken < share).then_some(taken + 1);
        places.taken.fetch_update(SeqCst, SeqCst, next).ok().map(|_| at)
    }

    /// The loop with the fewest connections of those that have a place, which is taken.
    fn reserve_fewest(&self) -> Option<u16> {
        // Again where another loop was faster.
        loop {
            let free = self.loops.places.iter().enumerate().filter_map(|(at, places)| {
                let taken = places.taken.load(SeqCst);
                (taken < places.share.load(SeqCst)).then_some((taken, u16::try_from(at).ok()?))
            });
            let (_, at) = free.min()?;
            if let Some(at) = self.reserve_at(at) {
                return Some(at);
            }
        }
    }

    /// Takes a place for a connection: in this loop if there is one, unless connections are to be
    /// spread; else in the loop with the fewest.
    pub(crate) fn reserve(&self, spread: bool) -> Option<u16> {
        let own = if spread && !self.is_alone() { None } else { self.reserve_at(self.index) };
        own.or_else(|| self.reserve_fewest())
    }

    /// As [`reserve`](Self::reserve), but where there is no place, this loop is told as soon as
    /// there may be one.
    pub(crate) fn reserve_or_want(&self, spread: bool) -> Option<u16> {
        self.reserve(spread).or_else(|| {
            if !self.is_alone() {
                // A swap: the one that swapped before had given a place back, which is seen now.
                self.loops.wanted.swap(true, SeqCst);
            }
            // A place that became free just before that was told nobody.
            self.reserve(spread)
        })
    }

    /// There was no descriptor for a peer: asks to be told when a connection of any loop closes.
    pub(crate) fn starve(&self) {
        if !self.is_alone() {
            self.loops.starved.store(true, SeqCst);
        }
    }

    /// What every loop is asked through.
    pub(crate) fn mailboxes(&self) -> Arc<[Arc<Mailbox>]> {
        Arc::clone(&self.loops.mailboxes)
    }

    /// What takes places in the loop with the fewest connections, whether there is one or not, and says
    /// in which.
    pub(crate) fn usher(&self) -> impl Fn() -> usize + Send + 'static {
        let loops = Arc::clone(&self.loops);
        move || {
            let taken = |places: &Places| places.taken.load(SeqCst);
            let fewest = loops.places.iter().enumerate().min_by_key(|(_, places)| taken(places));
            let Some((at, places)) = fewest else { return 0 };
            places.taken.fetch_add(1, SeqCst);
            at
        }
    }

    /// Takes a place in this loop, whether there is one or not.
    pub(crate) fn enter(&self) {
        if let Some(places) = self.loops.places.get(usize::from(self.index)) {
            places.taken.fetch_add(1, SeqCst);
        }
    }

    /// Gives back a place in this loop: its connection is closed.
    pub(crate) fn release(&self) {
        self.release_at(self.index);
        if !self.is_alone() && self.loops.starved.swap(false, SeqCst) {
            self.resume_all();
        }
    }

    /// Gives back a place in a loop. Where it was never used, that frees no descriptor: loops that
    /// lack one would wake each other without end.
    pub(crate) fn release_at(&self, at: u16) {
        if let Some(places) = self.loops.places.get(usize::from(at)) {
            places.taken.fetch_sub(1, SeqCst);
        }
        if !self.is_alone() && self.loops.wanted.swap(false, SeqCst) {
            self.resume_all();
        }
    }

    /// Gives a socket to the loop whose place it has.
    pub(crate) fn hand_over(
        &self,
        to: u16,
        socket: Descriptor,
        peer: SocketAddr,
        listener: Option<u16>,
    ) -> Result<(), HandleError> {
        let mailbox = self.loops.mailboxes.get(usize::from(to)).ok_or(HandleError::Gone)?;
        match self.post(mailbox, Item::HandOver { socket, peer, listener }) {
            // It is there, and will be seen.
            Ok(()) | Err(HandleError::NotWoken) => Ok(()),
            Err(error) => {
                self.release_at(to);
                Err(error)
            }
        }
    }

    /// Tells the other loops to stop, gracefully or at once.
    pub(crate) fn stop_others(&self, at_once: bool) {
        self.tell_others(|| if at_once { Item::CutOff } else { Item::Shutdown });
    }

    /// This loop has no listeners any more.
    pub(crate) fn stop_accepting(&mut self) {
        if std::mem::take(&mut self.accepting)
            && self.loops.accepting.fetch_sub(1, SeqCst) == 1
            && !self.is_alone()
        {
            // Those that wait for this.
            self.tell_others(|| Item::Shutdown);
        }
    }

    /// Whether a loop that has stopped and has no connection may end: nobody can hand it a socket
    /// any more, and the first loop, which has the signals, outlasts all others.
    pub(crate) fn may_end(&self) -> bool {
        let taken = || {
            let places = self.loops.places.get(usize::from(self.index));
            places.is_some_and(|places| places.taken.load(SeqCst) > 0)
        };
        self.is_alone()
            || self.loops.broken.load(SeqCst)
            || (self.loops.accepting.load(SeqCst) == 0
                && !taken()
                && (self.index != 0 || self.loops.alive.load(SeqCst) == 1))
    }

    fn tell_others(&self, item: impl Fn() -> Item) {
        for (at, mailbox) in self.loops.mailboxes.iter().enumerate() {
            if at != usize::from(self.index) {
                // One that is gone need not be told, and one with a full mailbox will wake.
                let _ = self.post(mailbox, item());
            }
        }
    }

    fn post(&self, mailbox: &Mailbox, item: Item) -> Result<(), HandleError> {
        let posted = mailbox.post(item);
        if posted == Err(HandleError::NotWoken) {
            self.unwoken.set(true);
        }
        posted
    }

    /// Whether another loop is to be [woken](Self::wake_others) still.
    pub(crate) fn owes_a_wake(&self) -> bool {
        self.unwoken.get()
    }

    /// Tries again to wake the loops that could not be woken for what this one told them.
    pub(crate) fn wake_others(&self) {
        if !self.unwoken.take() {
            return;
        }
        for mailbox in self.loops.mailboxes.iter().filter(|mailbox| mailbox.is_unheard()) {
            if mailbox.wake() == Err(HandleError::NotWoken) {
                self.unwoken.set(true);
            }
        }
    }

    fn resume_all(&self) {
        for mailbox in self.loops.mailboxes.iter() {
            // One that is gone accepts nobody. No mailbox is too full for this.
            let _ = self.post(mailbox, Item::Resume);
        }
    }
}

/// Stops all loops of a server, of which one cannot go on.
pub(crate) struct StopAll(Arc<Loops>);

impl StopAll {
    pub(crate) fn now(&self) {
        self.0.broken.store(true, SeqCst);
        // All are told before any is told again. A stop counts once, and one that is gone needs none.
        let tell =
            |mailbox: &&Arc<Mailbox>| mailbox.post(Item::Shutdown) == Err(HandleError::NotWoken);
        let mut unwoken: Vec<_> = self.0.mailboxes.iter().filter(tell).collect();
        // The caller only waits for the others after that, and nothing else may ever wake them.
        while !unwoken.is_empty() {
            pause(WAKE_PAUSE);
            unwoken.retain(tell);
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(mailbox) = self.loops.mailboxes.get(usize::from(self.index)) {
            // Sockets that were handed over and are closed here had places.
            let sockets = |item: &Item| match item {
                Item::HandOver { .. } => 1,
                Item::Step(step) => step.connections(),
                _ => 0,
            };
            let sockets: usize = mailbox.close().iter().map(sockets).sum();
            (0..sockets).for_each(|_| self.release());
        }
        self.stop_accepting();
        self.loops.alive.fetch_sub(1, SeqCst);
        self.stop_others(false);
        // Nobody is here later to try again. A loop that cannot be woken in all this time looks in
        // its next turn, whatever that is for.
        for _ in 0..LAST_WAKES {
            self.wake_others();
            if !self.owes_a_wake() {
                return;
            }
            pause(WAKE_PAUSE);
        }
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("index", &self.index)
            .field("places", &self.loops.places)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selector::{poller, waker_of};

    fn loops(count: usize, max_connections: usize) -> Vec<Member> {
        let mailboxes = (0..count).map(|_| {
            let mut poller = poller(myriapod_sys::Backend::Poll).unwrap();
            Arc::new(Mailbox::new(waker_of(&mut poller).unwrap()))
        });
        members_of(mailboxes.collect(), max_connections)
    }

    fn items(member: &Member) -> Vec<Item> {
        member.loops.mailboxes[usize::from(member.index)].take()
    }

    #[test]
    fn do_all_loops_together_have_exactly_the_places_there_are() {
        let loops = loops(3, 5);
        assert_eq!(loops[0].max_connections(), 5);
        let got: Vec<_> = (0..6).map(|_| loops[1].reserve(false)).collect();
        // Its own two first, then wherever there are fewest.
        assert_eq!(got, [Some(1), Some(1), Some(0), Some(2), Some(0), None]);
    }

    #[test]
    fn are_connections_spread_to_the_loop_with_the_fewest() {
        let loops = loops(2, 100);
        let got: Vec<_> = (0..4).map(|_| loops[0].reserve(true)).collect();
        assert_eq!(got, [Some(0), Some(1), Some(0), Some(1)]);
        loops[1].release();
        assert_eq!(loops[0].reserve(true), Some(1));
    }

    #[test]
    fn is_a_loop_without_a_place_told_when_another_has_one() {
        let loops = loops(2, 2);
        assert!(loops[0].reserve(false).is_some() && loops[0].reserve(false).is_some());
        assert_eq!(loops[0].reserve_or_want(false), None);
        assert!(items(&loops[0]).is_empty());
        loops[1].release();
        assert!(matches!(items(&loops[0])[..], [Item::Resume]));
        loops[0].release();
        assert!(items(&loops[0]).is_empty(), "told once");
    }

    #[test]
    fn is_a_loop_with_a_full_mailbox_told_of_a_place() {
        let loops = loops(2, 1);
        assert!(loops[0].reserve(false).is_some());
        assert_eq!(loops[0].reserve_or_want(false), None);
        let mailbox = &loops[0].loops.mailboxes[0];
        let key = crate::slab::Key::from_bits(1);
        while mailbox.post(Item::Close { key }) != Err(HandleError::Full) {}
        loops[1].release_at(0);
        loops[1].resume_all();
        let told = items(&loops[0]);
        assert_eq!(told.iter().filter(|item| matches!(item, Item::Resume)).count(), 1);
    }

    #[test]
    fn does_the_first_loop_end_last_and_none_while_one_accepts() {
        let mut loops = loops(2, 2);
        loops[1].stop_accepting();
        assert!(!loops[1].may_end());
        loops[0].stop_accepting();
        assert!(matches!(items(&loops[1])[..], [Item::Shutdown]));
        assert!(loops[1].may_end() && !loops[0].may_end());
        loops[1].enter();
        assert!(!loops[1].may_end(), "a socket is on its way to it");
        drop(loops.pop());
        assert!(matches!(items(&loops[0])[..], [Item::Shutdown]));
        assert!(loops[0].may_end());
    }
}
