//! [`Channel`]: messages, and descriptors with them, over the socket between two processes.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use myriapod_sys::{self as sys, AsFd, BorrowedFd, Descriptor, Errno, Interest, MAX_PASSED, Time};

use super::message::Message;
use super::wire::Malformed;
use crate::link;

/// Why nothing came of a hand-over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure(pub(crate) String);

impl Failure {
    pub(crate) fn new(why: impl fmt::Display) -> Self {
        Self(why.to_string())
    }

    fn call(call: &str, errno: Errno) -> Self {
        Self(format!("{call}: {errno}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Malformed> for Failure {
    fn from(_: Malformed) -> Self {
        Self::new("what the other process says cannot be understood")
    }
}

/// One end of the channel. Nothing here waits for longer than it is told to.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: Arc<Descriptor>,
    patience: Duration,
    /// When all is to be over.
    end: Option<Time>,
    /// What has come and is not read.
    bytes: Vec<u8>,
    descriptors: Vec<Descriptor>,
    ready: VecDeque<Descriptor>,
}

impl Channel {
    /// Over a connected Unix socket, which is non-blocking.
    pub(crate) fn new(socket: Descriptor, patience: Duration) -> Self {
        let (bytes, descriptors, ready) = (Vec::new(), Vec::new(), VecDeque::new());
        Self { socket: Arc::new(socket), patience, end: None, bytes, descriptors, ready }
    }

    /// All that is waited for from now on has to come by then.
    pub(crate) fn end_by(&mut self, end: Time) {
        self.end = Some(end);
    }

    /// There is no such limit any more.
    pub(crate) fn end_never(&mut self) {
        self.end = None;
    }

    /// Nothing is said any more, in either direction.
    pub(crate) fn end(&self) {
        // Where it fails, the other process is gone.
        let _ = link::end(self.socket.as_fd());
    }

    /// For how long the next thing may be waited for.
    pub(crate) fn patience(&self) -> Duration {
        let left = self.end.map(|end| end.saturating_since(sys::now()));
        left.map_or(self.patience, |left| left.min(self.patience))
    }

    /// The socket, for those who [pass] connections by themselves.
    pub(crate) fn socket(&self) -> Arc<Descriptor> {
        Arc::clone(&self.socket)
    }

    fn wait(&self, interest: Interest, patience: Option<Duration>) -> Result<(), Failure> {
        match sys::poll::wait_one(self.socket.as_fd(), interest, patience) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(Failure::new(format_args!(
                "the other process stood still for {:?}",
                self.patience
            ))),
            Err(errno) => Err(Failure::call("poll", errno)),
        }
    }

    /// Sends a message.
    pub(crate) fn send(&self, message: &Message) -> Result<(), Failure> {
        self.send_with(message, &[])
    }

    /// Sends a message, with descriptors.
    pub(crate) fn send_with(
        &self,
        message: &Message,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), Failure> {
        let mut bytes = Vec::new();
        message.write(&mut bytes);
        self.send_bytes(&bytes, descriptors)
    }

    /// Sends bytes that are messages.
    pub(crate) fn send_bytes(
        &self,
        bytes: &[u8],
        mut descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), Failure> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match link::send_with(self.socket.as_fd(), rest, descriptors) {
                Ok(sent) => {
                    descriptors = &[];
                    rest = rest.get(sent..).unwrap_or_default();
                }
                Err(errno) if errno.would_block() => {
                    self.wait(Interest::WRITABLE, Some(self.patience()))?;
                }
                Err(errno) => return Err(Failure::call("sendmsg", errno)),
            }
        }
        Ok(())
    }

    /// The next message, which has to come in time.
    pub(crate) fn receive(&mut self) -> Result<Message, Failure> {
        self.receive_within(Some(self.patience()))
    }

    /// The next message, whenever it comes. The other process is the one that decides.
    pub(crate) fn receive_patiently(&mut self) -> Result<Message, Failure> {
        self.receive_within(None)
    }

    fn receive_within(&mut self, patience: Option<Duration>) -> Result<Message, Failure> {
        loop {
            let len = Message::len(&self.bytes)?;
            let wanted = len.unwrap_or(Message::HEAD);
            if len.is_some() && self.bytes.len() >= wanted {
                let message = Message::read(self.bytes.get(..wanted).unwrap_or_default())?;
                self.bytes.drain(..wanted);
                return Ok(message);
            }
            self.bytes.reserve(Message::MAX_LEN);
            match link::receive_with(self.socket.as_fd(), &mut self.bytes, &mut self.descriptors) {
                Ok(0) => return Err(Failure::new("the other process has ended")),
                // No message has more.
                Ok(_) if self.ready.len() > 2 * MAX_PASSED => return Err(Malformed.into()),
                Ok(_) => self.ready.extend(self.descriptors.drain(..)),
                Err(errno) if errno.would_block() => self.wait(Interest::READABLE, patience)?,
                Err(errno) => return Err(Failure::call("recvmsg", errno)),
            }
        }
    }

    /// So many descriptors that came with the message that was received last.
    pub(crate) fn take_descriptors(&mut self, count: usize) -> Result<Vec<Descriptor>, Failure> {
        if self.ready.len() < count {
            return Err(Failure::new("descriptors were lost on the way"));
        }
        Ok(self.ready.drain(..count).collect())
    }

    /// The next message has to be this one.
    pub(crate) fn wait_for(&mut self, wanted: &Message) -> Result<(), Failure> {
        match self.receive()? {
            Message::Refused { why } => Err(Failure(why)),
            message if message == *wanted => Ok(()),
            _ => Err(Malformed.into()),
        }
    }
}

/// Passes a batch of one loop's connections, without waiting: the last one has arrived, so there is
/// room.
pub(crate) fn pass(
    socket: &Descriptor,
    event_loop: u16,
    keys: Vec<u64>,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    Message::Batch { event_loop, keys }.write(&mut bytes);
    match link::send_with(socket.as_fd(), &bytes, descriptors) {
        Ok(sent) if sent == bytes.len() => Ok(()),
        Ok(_) => Err(Failure::new("sendmsg: a batch was sent in part")),
        Err(errno) => Err(Failure::call("sendmsg", errno)),
    }
}
