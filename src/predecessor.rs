//! [`Predecessor`]: talks to a process that wants to take over, on a thread of its own, and orders the
//! event loops what to do.

use std::fmt;
use std::sync::Arc;

use std::time::Duration;

use myriapod_sys::{self as sys, AsFd, BorrowedFd, Descriptor, Receiver, Sender, Time, channel};

use crate::handover::{
    BATCH, Batch, Channel, Failure, Handover, Late, Message, Order, Parcel, Passed, Step, Summary,
    VERSION, difference,
};
use crate::mailbox::{Item, Mailbox};
use crate::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// What is known of a server before anybody wants to take it over.
pub(crate) struct Predecessor {
    handover: Handover,
    configuration: String,
    mailboxes: Arc<[Arc<Mailbox>]>,
    /// Which place each listener's address came from, by its number.
    places: Vec<u16>,
    /// Connections of our own predecessor are to come still.
    expects: Arc<AtomicBool>,
}

impl Predecessor {
    pub(crate) fn new(
        handover: Handover,
        configuration: String,
        mailboxes: Arc<[Arc<Mailbox>]>,
        places: Vec<u16>,
        expects: Arc<AtomicBool>,
    ) -> Self {
        Self { handover, configuration, mailboxes, places, expects }
    }

    pub(crate) fn patience(&self) -> Duration {
        self.handover.patience()
    }

    /// Hands over to the process at the other end, or leaves everything as it is. `knock` is where
    /// successors knock.
    pub(crate) fn hand_over(&self, socket: Descriptor, knock: &Descriptor) {
        let mut talk = Talk {
            of: self,
            channel: Channel::new(socket, self.patience()),
            began: sys::now(),
            process: None,
        };
        let why = match talk.run(knock) {
            Ok(late) => return talk.send_late(&late),
            Err(Failure(why)) => why,
        };
        // It may be gone, or stand still.
        let _ = talk.channel.send(&Message::Refused { why: why.clone() });
        for mailbox in self.mailboxes.iter() {
            let _ = post(mailbox, Step::Release);
        }
        if let Some(first) = self.mailboxes.first() {
            let _ = post(first, Step::Failed { process: talk.process, why });
        }
    }
}

impl fmt::Debug for Predecessor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Predecessor").field("handover", &self.handover).finish_non_exhaustive()
    }
}

/// Asks a loop for a step.
fn post(mailbox: &Mailbox, step: Step) -> Result<(), Failure> {
    mailbox.post(Item::Step(Box::new(step))).map_err(Failure::new)
}

/// One conversation with a successor.
struct Talk<'a> {
    of: &'a Predecessor,
    channel: Channel,
    began: Time,
    process: Option<u32>,
}

/// A loop that has stopped, until its orders end.
struct Frozen {
    orders: Sender<Order>,
}

impl Talk<'_> {
    /// Returns where connections come from that go later.
    fn run(&mut self, knock: &Descriptor) -> Result<Receiver<Late>, Failure> {
        let process = self.agree()?;
        self.send_listeners(knock)?;
        self.channel.wait_for(&Message::Ready)?;
        // Ahead, while all are served; the second time those that have come meanwhile.
        for _ in 0..2 {
            for mailbox in self.of.mailboxes.iter() {
                self.pass(|batch| post(mailbox, Step::Ahead { batch }))?;
            }
        }
        // Nothing waits for anybody while they stand still, so all of that has one limit.
        self.channel.end_by(sys::now() + self.of.patience());
        let frozen = self.freeze()?;
        for frozen in &frozen {
            self.pass(|batch| frozen.order(Order::Pass { batch }))?;
        }
        let (connections, late) = self.describe(&frozen)?;
        self.channel.send(&Message::Prepare { connections })?;
        self.channel.wait_for(&Message::Prepared)?;
        self.channel.send(&Message::Commit)?;
        // From here on, nothing can fail: the connections are the successor's.
        let connections = u64::from(connections);
        let took = sys::now().saturating_since(self.began);
        Ok(self.go(&frozen, Summary { connections, process, took }, late))
    }

    /// Whether the other process serves the same as we do.
    fn agree(&mut self) -> Result<u32, Failure> {
        let Message::Hello { version, process, configuration } = self.channel.receive()? else {
            return Err(Failure::new("it does not say who it is"));
        };
        self.process = Some(process);
        if version != VERSION {
            return Err(Failure::new(format_args!(
                "it hands over as version {version}, and we as version {VERSION}"
            )));
        }
        if let Some((ours, theirs)) = difference(&self.of.configuration, &configuration) {
            return Err(Failure::new(format_args!(
                "it would serve something else: {theirs} in place of {ours}"
            )));
        }
        if self.of.expects.load(SeqCst) {
            // They would come when all is given away.
            return Err(Failure::new("connections of the process before are to come still"));
        }
        self.channel.send(&Message::Welcome { process: sys::pid() })?;
        Ok(process)
    }

    fn send_listeners(&mut self, knock: &Descriptor) -> Result<(), Failure> {
        let mut all = Vec::new();
        for mailbox in self.of.mailboxes.iter() {
            let (to, from) = channel();
            post(mailbox, Step::Listeners { to })?;
            all.extend(self.answer(&from)??);
        }
        for some in all.chunks(BATCH) {
            let place = |number: u16| self.of.places.get(usize::from(number)).copied();
            let numbers =
                some.iter().map(|(_, number)| (*number, place(*number).unwrap_or(u16::MAX)));
            let message = Message::Listeners { numbers: numbers.collect() };
            let descriptors: Vec<BorrowedFd<'_>> =
                some.iter().map(|(descriptor, _)| descriptor.as_fd()).collect();
            self.channel.send_with(&message, &descriptors)?;
            self.channel.wait_for(&Message::Ack)?;
        }
        // The last one is where successors knock.
        let message = Message::Listeners { numbers: vec![(u16::MAX, u16::MAX)] };
        self.channel.send_with(&message, &[knock.as_fd()])?;
        self.channel.wait_for(&Message::Ack)
    }

    /// What a loop answers in time.
    fn answer<T>(&self, from: &Receiver<T>) -> Result<T, Failure> {
        let late = |_| Failure::new("an event loop stood still");
        from.recv_timeout(self.channel.patience()).map_err(late)
    }

    /// Has a loop pass its connections, a batch after the other.
    fn pass(&mut self, ask: impl Fn(Batch) -> Result<(), Failure>) -> Result<(), Failure> {
        let mut from = Some(0);
        while let Some(first) = from {
            let (to, answered) = channel();
            ask(Batch { from: first, socket: self.channel.socket(), to })?;
            let Passed { count, next } = self.answer(&answered)??;
            if count > 0 {
                self.channel.wait_for(&Message::Ack)?;
            }
            from = next;
        }
        Ok(())
    }

    /// Stops all loops. First nobody accepts any more: a loop that has stopped is given no socket that
    /// another one has accepted.
    fn freeze(&mut self) -> Result<Vec<Frozen>, Failure> {
        let mut held = Vec::new();
        for mailbox in self.of.mailboxes.iter() {
            let (to, from) = channel();
            post(mailbox, Step::Hold { to })?;
            held.push(from);
        }
        held.iter().try_for_each(|from| self.answer(from))?;
        let (mut frozen, mut stopped) = (Vec::new(), Vec::new());
        for mailbox in self.of.mailboxes.iter() {
            let ((to, from), (orders, ordered)) = (channel(), channel());
            post(mailbox, Step::Freeze { orders: ordered, to })?;
            frozen.push(Frozen { orders });
            stopped.push(from);
        }
        stopped.iter().try_for_each(|from| self.answer(from)?)?;
        Ok(frozen)
    }

    /// Sends what is to be known of each connection. Returns how many there are, and how many go later.
    fn describe(&mut self, frozen: &[Frozen]) -> Result<(u32, u32), Failure> {
        let mut asked = Vec::new();
        for frozen in frozen {
            let (to, from) = channel();
            frozen.order(Order::Describe { to })?;
            asked.push(from);
        }
        let (mut connections, mut late) = (0, 0);
        for from in &asked {
            let described = self.answer(from)?;
            connections += described.connections;
            late += described.late;
            for piece in described.bytes.chunks(Message::PIECE) {
                self.channel.send(&Message::Parcels { bytes: piece.to_vec() })?;
            }
        }
        Ok((connections, late))
    }

    /// Lets all loops forget what they have given away. The first one tells the log before that, and
    /// only then the successor goes on: who watches over us has to know of it first.
    fn go(&mut self, frozen: &[Frozen], summary: Summary, late: u32) -> Receiver<Late> {
        let ((to, told), (sender, coming)) = (channel(), channel());
        let _ = frozen.first().map(|first| first.order(Order::Tell { summary, to }));
        let _ = self.answer(&told);
        let _ = self.channel.send(&Message::Told { late });
        // Only now: to forget many connections takes a while, and a processor.
        for frozen in frozen {
            let _ = frozen.order(Order::Go { late: sender.clone() });
        }
        self.channel.end_never();
        coming
    }

    /// Sends connections that go later, each when its reply is out, until no loop has any more.
    fn send_late(&mut self, coming: &Receiver<Late>) {
        let mut goes_on = true;
        while let Ok(Late { parcel, socket }) = coming.recv() {
            let mailbox = self.of.mailboxes.get(usize::from(parcel.name.0));
            let Some(mailbox) = mailbox else { continue };
            let is_back = !goes_on || self.send_one(&parcel, &socket).is_err();
            if is_back && std::mem::take(&mut goes_on) {
                // Nothing more is said, so the successor never hears that the connection is its own.
                self.channel.end();
            }
            if is_back {
                // It ends here, then.
                let _ = post(mailbox, Step::Take { connections: vec![(parcel, socket)] });
            }
            let _ = post(mailbox, Step::Arrived { is_back });
        }
    }

    fn send_one(&mut self, parcel: &Parcel, socket: &Descriptor) -> Result<(), Failure> {
        let mut bytes = Vec::new();
        parcel.write(&mut bytes);
        for piece in bytes.chunks(Message::PIECE) {
            self.channel.send(&Message::Parcels { bytes: piece.to_vec() })?;
        }
        let (event_loop, key) = parcel.name;
        let batch = Message::Batch { event_loop, keys: vec![key] };
        self.channel.send_with(&batch, &[socket.as_fd()])?;
        self.channel.wait_for(&Message::Ack)?;
        self.channel.send(&Message::Commit)
    }
}

impl Frozen {
    fn order(&self, order: Order) -> Result<(), Failure> {
        self.orders.send(order).map_err(|_| Failure::new("an event loop has ended"))
    }
}
