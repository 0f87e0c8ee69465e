//! Does the pool agree with a counter of bytes and the plainest queues, over any history?

use proptest::collection::vec;
use proptest::prelude::*;

use super::tests::{FREE, OWNER};
use super::*;

/// What is lent at most, so that it is refused now and then.
const LIMIT: usize = 1 << 20;

#[derive(Clone, Debug)]
enum Step {
    LendRecv {
        bytes: usize,
        more: usize,
    },
    /// Makes room, and fills a share of it.
    Receive(usize, f64),
    /// A share of what is unread is done with.
    Decode(usize, f64),
    ReturnRecv(usize),
    LendSend,
    Queue(usize, usize),
    /// A push, of which a share is sent already where nothing is before it.
    Push(usize, usize),
    DropOldest(usize),
    Advance(usize, f64),
    ReturnSend(usize),
    GiveBack,
}

/// Short, as large as segments are, and large.
fn length() -> impl Strategy<Value = usize> {
    prop_oneof![1..100_usize, 1..40_000_usize, 1..200_000_usize]
}

fn step() -> impl Strategy<Value = Step> {
    let at = any::<usize>;
    let share = || 0.0..=1.0;
    prop_oneof![
        2 => (length(), length()).prop_map(|(bytes, more)| Step::LendRecv { bytes, more }),
        3 => (at(), share()).prop_map(|(at, share)| Step::Receive(at, share)),
        2 => (at(), share()).prop_map(|(at, share)| Step::Decode(at, share)),
        1 => at().prop_map(Step::ReturnRecv),
        2 => Just(Step::LendSend),
        4 => (at(), length()).prop_map(|(at, len)| Step::Queue(at, len)),
        3 => (at(), length()).prop_map(|(at, len)| Step::Push(at, len)),
        1 => at().prop_map(Step::DropOldest),
        4 => (at(), share()).prop_map(|(at, share)| Step::Advance(at, share)),
        1 => at().prop_map(Step::ReturnSend),
        1 => Just(Step::GiveBack),
    ]
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "shares of small numbers"
)]
fn part(of: usize, share: f64) -> usize {
    (of as f64 * share) as usize
}

/// No divisor of any capacity.
const PERIOD: u8 = 251;

/// The bytes that a message of this length has, other ones each time.
#[derive(Default)]
struct Source(u8);

impl Source {
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        self.0 = (self.0 + 1) % PERIOD;
        let period: Vec<u8> = (self.0..PERIOD).chain(0..self.0).collect();
        let mut bytes = period.repeat(len / period.len() + 1);
        bytes.truncate(len);
        bytes
    }
}

/// Messages in the order in which they were queued, and whether each is a push.
#[derive(Default)]
struct ModelQueue {
    messages: VecDeque<(Vec<u8>, bool)>,
    /// Bytes of the first that are sent.
    sent: usize,
}

impl ModelQueue {
    fn unsent(&self) -> Vec<u8> {
        let all: Vec<&[u8]> = self.messages.iter().map(|(bytes, _)| &bytes[..]).collect();
        all.concat().split_off(self.sent)
    }

    /// Pushes of which nothing is sent.
    fn droppable(&self) -> impl Iterator<Item = (usize, usize)> {
        let begun = usize::from(self.sent > 0);
        let all = self.messages.iter().enumerate().skip(begun);
        all.filter(|(_, (_, pushed))| *pushed).map(|(at, (bytes, _))| (at, bytes.len()))
    }

    fn advance(&mut self, sent: usize) {
        self.sent += sent;
        while let Some((first, _)) = self.messages.front()
            && self.sent >= first.len()
        {
            self.sent -= first.len();
            self.messages.pop_front();
        }
    }
}

struct History {
    pool: Pool,
    source: Source,
    receiving: Vec<(Lent, Vec<u8>)>,
    sending: Vec<(Lent, ModelQueue)>,
}

impl History {
    fn new() -> Self {
        let pool = Pool::new(LIMIT, FREE, |_| 0);
        Self { pool, source: Source::default(), receiving: Vec::new(), sending: Vec::new() }
    }

    /// The buffer or queue that a step means, if there is any.
    fn index(&self, step: &Step) -> Option<usize> {
        let (at, len) = match step {
            Step::Receive(at, _) | Step::Decode(at, _) | Step::ReturnRecv(at) => {
                (at, self.receiving.len())
            }
            Step::Queue(at, _)
            | Step::Push(at, ..)
            | Step::DropOldest(at)
            | Step::Advance(at, _)
            | Step::ReturnSend(at) => (at, self.sending.len()),
            Step::LendRecv { .. } | Step::LendSend | Step::GiveBack => return Some(0),
        };
        at.checked_rem(len)
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let Some(at) = self.index(step) else { return Ok(()) };
        let pool = &mut self.pool;
        match *step {
            Step::LendRecv { bytes, more } => {
                let bytes = self.source.bytes(bytes);
                let needed = bytes.len() + more;
                match pool.lend_recv(OWNER, &bytes, Missing::new(needed, false), (0, true)) {
                    Ok(handle) => self.receiving.push((handle, bytes)),
                    Err(PoolFull) => {
                        let least = needed.min(FIRST_CAPACITY).max(bytes.len());
                        prop_assert!(pool.lent() + least > LIMIT, "refused though there is room");
                    }
                }
            }
            Step::Receive(_, share) => {
                let (handle, model) = &mut self.receiving[at];
                if pool.make_room(*handle).is_ok() {
                    let mut bytes = pool.take_bytes(*handle);
                    let room = bytes.capacity() - bytes.len();
                    prop_assert!(room > 0, "no room was made");
                    let new = self.source.bytes(part(room, share));
                    bytes.extend_from_slice(&new);
                    model.extend_from_slice(&new);
                    prop_assert!(pool.put_bytes(*handle, bytes));
                } else {
                    let capacity = pool.recv(*handle).expect("it is lent").bytes.capacity();
                    let most = 2 * capacity.max(FIRST_CAPACITY / 2);
                    prop_assert!(
                        pool.lent() - capacity + most > LIMIT,
                        "refused though there is room"
                    );
                }
            }
            Step::Decode(_, share) => {
                let (handle, model) = &mut self.receiving[at];
                let done = part(model.len(), share);
                pool.recv_mut(*handle).expect("it is lent").start += done;
                model.drain(..done);
            }
            Step::ReturnRecv(_) => pool.return_recv(self.receiving.swap_remove(at).0),
            Step::LendSend => {
                let queue = pool.lend_send(OWNER, 0).expect("queues themselves are not counted");
                self.sending.push((queue, ModelQueue::default()));
            }
            Step::Queue(_, len) => {
                let (handle, model) = &mut self.sending[at];
                let bytes = self.source.bytes(len);
                if pool.queue(*handle, &bytes).is_ok() {
                    model.messages.push_back((bytes, false));
                } else {
                    prop_assert!(pool.lent() + len > LIMIT, "refused though there is room");
                }
            }
            Step::Push(_, len) => {
                let (handle, model) = &mut self.sending[at];
                let bytes = self.source.bytes(len);
                if pool.queue_shared(*handle, &Arc::from(&bytes[..]), 7).is_ok() {
                    model.messages.push_back((bytes, true));
                } else {
                    prop_assert!(pool.lent() + len > LIMIT, "refused though there is room");
                }
            }
            Step::DropOldest(_) => {
                let (handle, model) = &mut self.sending[at];
                let oldest = model.droppable().next();
                prop_assert_eq!(pool.drop_oldest_push(*handle), oldest.map(|(_, len)| (len, 7)));
                if let Some((at, _)) = oldest {
                    model.messages.remove(at);
                }
            }
            Step::Advance(_, share) => {
                let (handle, model) = &mut self.sending[at];
                let offered: usize =
                    pool.send(*handle).expect("it is lent").slices().map(<[u8]>::len).sum();
                let sent = part(offered, share);
                pool.advance(*handle, sent, 7);
                model.advance(sent);
            }
            Step::ReturnSend(_) => {
                let (handle, model) = self.sending.swap_remove(at);
                prop_assert_eq!(pool.return_send(handle), model.unsent().len());
            }
            Step::GiveBack => pool.give_back(),
        }
        Ok(())
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let mut lent = 0;
        for (handle, model) in &self.receiving {
            let buffer = self.pool.recv(*handle).expect("it is lent");
            prop_assert!(buffer.unread() == model, "other bytes than were received");
            lent += buffer.bytes.capacity();
        }
        for (handle, model) in &self.sending {
            let queue = self.pool.send(*handle).expect("it is lent");
            let unsent = model.unsent();
            let slices = queue.slices().collect::<Vec<_>>().concat();
            prop_assert!(unsent.starts_with(&slices), "other bytes than were queued");
            prop_assert_eq!(slices.is_empty(), unsent.is_empty());
            prop_assert_eq!(queue.len(), unsent.len());
            let droppable: usize = model.droppable().map(|(_, len)| len).sum();
            prop_assert_eq!(self.pool.droppable(*handle), droppable);
            lent += queue
                .segments
                .iter()
                .map(|segment| match segment {
                    Segment::Own(bytes) => bytes.capacity(),
                    Segment::Shared(bytes, _) => bytes.len(),
                    Segment::Body(_) => 0,
                })
                .sum::<usize>();
        }
        prop_assert_eq!(self.pool.lent(), lent);
        prop_assert!(lent <= LIMIT + LIMIT / RESERVED_PART, "{} bytes are lent", lent);
        prop_assert_eq!(self.pool.shares.held(OWNER.address), lent);
        prop_assert_eq!(self.pool.held(), self.receiving.len() + self.sending.len());
        Ok(())
    }

    /// Everything is given back.
    fn end(mut self) -> Result<(), TestCaseError> {
        for (handle, _) in self.receiving.drain(..) {
            self.pool.return_recv(handle);
        }
        for (handle, model) in self.sending.drain(..) {
            prop_assert_eq!(self.pool.return_send(handle), model.unsent().len());
        }
        prop_assert_eq!((self.pool.lent(), self.pool.held()), (0, 0));
        // By single steps, and not for ever.
        for _ in 0..1_000 {
            if !self.pool.holds_spare_memory() {
                return Ok(());
            }
            self.pool.give_back();
        }
        Err(TestCaseError::fail("spare memory is never given back"))
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 3 } else { 20 },
        // Miri has no files.
        failure_persistence: ProptestConfig::default().failure_persistence.filter(|_| !cfg!(miri)),
        ..ProptestConfig::default()
    })]

    #[test]
    fn does_a_pool_agree_with_a_counter_and_plain_queues(steps in vec(step(), 0..60)) {
        let mut history = History::new();
        for step in &steps {
            history.take(step)?;
            history.check()?;
        }
        history.end()?;
    }
}
