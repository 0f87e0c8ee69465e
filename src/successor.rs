//! [`Successor`]: takes the listeners and connections of a running process over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use myriapod_sys::{
    self as sys, Connecting, Descriptor, Errno, Listener, Socket, SocketAddr, SystemError, Time,
    UnixAddr,
};

use crate::error::Error;
use crate::handover::{Channel, Failure, Handover, Message, Parcel, Step, Summary, VERSION};
use crate::mailbox::{Item, Mailbox};
use crate::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// Connections that a loop takes over in one turn, which takes some 20 ms. In a busy server, each further
/// turn costs the last ones more than that.
const AT_ONCE: usize = 4096;

/// Listeners that one server has at the most: those of 1,024 loops at a few dozen addresses.
const MAX_LISTENERS: usize = 1 << 16;

/// Bytes of one parcel that comes later, at the most.
const MAX_LATE: usize = 32 << 20;

/// Bytes of all parcels together: a gibibyte.
const MAX_PARCELS: usize = 1 << 30;

/// Takes over from a running process.
pub(crate) struct Successor {
    path: String,
    channel: Channel,
    began: Time,
    process: u32,
    /// What is taken over at last.
    sockets: BTreeMap<(u16, u64), Descriptor>,
    parcels: Vec<u8>,
}

/// Connections are to come, for as long as this lives.
struct Expected(Arc<AtomicBool>);

impl Drop for Expected {
    fn drop(&mut self) {
        self.0.store(false, SeqCst);
    }
}

/// A listener of the predecessor.
#[derive(Debug)]
pub(crate) struct Inherited {
    pub(crate) listener: Listener,
    /// The place of its address among the server's, and the place that was asked for.
    pub(crate) number: u16,
    pub(crate) place: u16,
}

/// The predecessor's listeners, and the one at which successors knock.
pub(crate) type Listeners = (Vec<Inherited>, Listener);

impl Successor {
    /// Asks whether somebody serves at the path. `None`: nobody does.
    pub(crate) fn begin(
        handover: &Handover,
        configuration: &str,
    ) -> Result<Option<(Self, Listeners)>, Error> {
        let path = handover.path().display().to_string();
        let began = sys::now();
        let address = SocketAddr::Unix(UnixAddr::Path(handover.path().to_owned()));
        let socket: Descriptor = match Socket::connect_start(&address, None) {
            Ok(Connecting::Done(socket) | Connecting::InProgress(socket)) => socket.into(),
            Err(error) if is_nobody(&error) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let failed =
            |why: Failure| Error::Handover { path: path.clone().into(), why: why.0.into() };
        match sys::peer_user(&socket)? {
            user if user == sys::user() => {}
            user => {
                let why = Failure::new(format_args!("user {user} is served there, and not ours"));
                return Err(failed(why));
            }
        }
        // The predecessor is the one that gives up first: a loop of its may take a while.
        let patience = handover.patience() * 2 + Duration::from_secs(1);
        let mut channel = Channel::new(socket, patience);
        let (process, listeners) = meet(&mut channel, configuration).map_err(failed)?;
        let (sockets, parcels) = (BTreeMap::new(), Vec::new());
        Ok(Some((Self { path, channel, began, process, sockets, parcels }, listeners)))
    }

    /// Takes all connections over. `place` chooses a loop for each, and takes a place there. `expects`
    /// is true for as long as some are to come later.
    pub(crate) fn take_over(
        mut self,
        mailboxes: &Arc<[Arc<Mailbox>]>,
        place: impl Fn() -> usize + Send + 'static,
        expects: Arc<AtomicBool>,
    ) -> Result<Summary, Error> {
        let path = self.path.clone();
        let failed = |why: Failure| Error::Handover { path: path.into(), why: why.0.into() };
        let connections = self.receive_all().map_err(failed)?;
        // They are ours now, and nobody else's: nothing below may fail.
        let count = connections.len() as u64;
        let mut of_loops: Vec<Vec<_>> = mailboxes.iter().map(|_| Vec::new()).collect();
        for connection in connections {
            if let Some(of_loop) = of_loops.get_mut(place()) {
                of_loop.push(connection);
            }
        }
        for (mailbox, mut connections) in mailboxes.iter().zip(of_loops) {
            while !connections.is_empty() {
                let rest = connections.split_off(connections.len().min(AT_ONCE));
                // No mailbox is too full for this, and a loop that is not woken has not run yet.
                let step = Box::new(Step::Take { connections });
                let _ = mailbox.post(Item::Step(step));
                connections = rest;
            }
        }
        // Or it has ended, which is as well.
        let told = self.channel.receive();
        let took = sys::now().saturating_since(self.began);
        let summary = Summary { connections: count, process: self.process, took };
        // One that stands still says it later.
        let may_come = match told {
            Ok(Message::Told { late }) => late > 0,
            Ok(_) => false,
            Err(_) => true,
        };
        if may_come {
            let mailboxes = Arc::clone(mailboxes);
            expects.store(true, SeqCst);
            let expected = Expected(expects);
            // Without a thread, the predecessor keeps what would come later.
            let _ = sys::spawn("handover", move || {
                let _expected = expected;
                self.receive_late(&mailboxes, place);
            });
        }
        Ok(summary)
    }

    /// Receives the connections that come later, until the predecessor has ended.
    fn receive_late(&mut self, mailboxes: &[Arc<Mailbox>], place: impl Fn() -> usize) {
        let mut bytes = Vec::new();
        loop {
            match self.channel.receive_patiently() {
                Ok(Message::Told { late }) if late > 0 => {}
                Ok(Message::Parcels { bytes: piece }) if bytes.len() < MAX_LATE => {
                    bytes.extend_from_slice(&piece);
                }
                Ok(Message::Batch { keys, .. }) => {
                    let sockets = self.channel.take_descriptors(keys.len());
                    let parcels = Parcel::read_all(&std::mem::take(&mut bytes));
                    let (Ok(sockets), Ok(parcels)) = (sockets, parcels) else { return };
                    if sockets.len() != parcels.len() || self.channel.send(&Message::Ack).is_err() {
                        return;
                    }
                    // However long it takes: they are the predecessor's until it says so.
                    let Ok(Message::Commit) = self.channel.receive_patiently() else { return };
                    for connection in parcels.into_iter().zip(sockets) {
                        let step = Step::Take { connections: vec![connection] };
                        let mailbox = mailboxes.get(place());
                        let _ = mailbox.map(|to| to.post(Item::Step(Box::new(step))));
                    }
                }
                _ => return,
            }
        }
    }

    /// Receives descriptors and parcels until the predecessor has given all away.
    fn receive_all(&mut self) -> Result<Vec<(Parcel, Descriptor)>, Failure> {
        self.channel.send(&Message::Ready)?;
        loop {
            match self.channel.receive()? {
                Message::Batch { event_loop, keys } => {
                    let descriptors = self.channel.take_descriptors(keys.len())?;
                    let names = keys.into_iter().map(|key| (event_loop, key));
                    self.sockets.extend(names.zip(descriptors));
                    self.channel.send(&Message::Ack)?;
                }
                Message::Parcels { bytes } => {
                    if self.parcels.len() + bytes.len() > MAX_PARCELS {
                        return Err(Failure::new("more than a gibibyte was to be taken over"));
                    }
                    self.parcels.extend_from_slice(&bytes);
                }
                Message::Prepare { connections } => return self.prepare(connections),
                Message::Refused { why } => return Err(Failure(why)),
                _ => return Err(Failure::new("the predecessor says something out of turn")),
            }
        }
    }

    /// Understands all of it, says so, and waits for the word.
    fn prepare(&mut self, connections: u32) -> Result<Vec<(Parcel, Descriptor)>, Failure> {
        let parcels = Parcel::read_all(&std::mem::take(&mut self.parcels))?;
        if parcels.len() != connections as usize {
            return Err(Failure::new("connections were lost on the way"));
        }
        let mut whole = Vec::with_capacity(parcels.len());
        for parcel in parcels {
            let socket = self.sockets.remove(&parcel.name);
            let socket = socket.ok_or_else(|| Failure::new("a connection has no descriptor"))?;
            whole.push((parcel, socket));
        }
        // Those that are closed by now, or cannot go.
        self.sockets.clear();
        // Who has spoken last will most likely speak next: those are watched first.
        whole.sort_by_key(|(parcel, _)| parcel.idle);
        self.channel.send(&Message::Prepared)?;
        // However long it takes: only the predecessor knows whose they are.
        match self.channel.receive_patiently()? {
            Message::Commit => Ok(whole),
            Message::Refused { why } => Err(Failure(why)),
            _ => Err(Failure::new("the predecessor says something out of turn")),
        }
    }
}

/// Whether nobody serves at a path: there is no file, or one that a process has left behind.
fn is_nobody(error: &SystemError) -> bool {
    matches!(error.errno(), Some(Errno::ENOENT | Errno::ECONNREFUSED))
}

/// Says who we are, and gets the listeners.
fn meet(channel: &mut Channel, configuration: &str) -> Result<(u32, Listeners), Failure> {
    let configuration = configuration.to_owned();
    channel.send(&Message::Hello { version: VERSION, process: sys::pid(), configuration })?;
    let process = match channel.receive()? {
        Message::Welcome { process } => process,
        Message::Refused { why } => return Err(Failure(why)),
        _ => return Err(Failure::new("nobody there hands over")),
    };
    let mut listeners = Vec::new();
    loop {
        let numbers = match channel.receive()? {
            Message::Listeners { numbers } => numbers,
            Message::Refused { why } => return Err(Failure(why)),
            _ => return Err(Failure::new("the predecessor says something out of turn")),
        };
        if listeners.len() + numbers.len() > MAX_LISTENERS {
            return Err(Failure::new("the predecessor has too many listeners"));
        }
        let descriptors = channel.take_descriptors(numbers.len())?;
        channel.send(&Message::Ack)?;
        for ((number, place), descriptor) in numbers.into_iter().zip(descriptors) {
            let listener = Listener::adopt(descriptor).map_err(Failure::new)?;
            if number == u16::MAX {
                return Ok((process, (listeners, listener)));
            }
            listeners.push(Inherited { listener, number, place });
        }
    }
}
