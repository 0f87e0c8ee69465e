//! [`Remote`]: a peer far away, played by the test.

use super::descriptor::{Descriptor, call_number};
use super::end::{End, EndId, Owner, State};
use super::kernel::{Kernel, Object};
use super::net::ListeningId;
use super::socket::Socket;
use super::threads::{call, call_if_there};
use super::wire::Carried;
use crate::{Errno, SocketAddr};

/// One end of a connection, on another machine.
///
/// Its functions cannot be interrupted, take what they can, and say at once what there is.
#[derive(Debug)]
pub struct Remote(EndId);

impl Remote {
    /// Starts to connect from `from` to `to`.
    #[must_use]
    pub fn connect(from: &SocketAddr, to: &SocketAddr) -> Self {
        call(|kernel| {
            kernel.enter(call_number::REMOTE);
            let end = kernel.new_end(Owner::Remote, from.clone(), to.clone());
            kernel.begin_connect(end);
            Self(end)
        })
    }

    /// One that is connected already, and the end of the program under test, which somebody else has
    /// made for it.
    ///
    /// # Errors
    ///
    /// `EMFILE` and its like.
    pub fn connected(from: &SocketAddr, to: &SocketAddr) -> Result<(Self, Socket), Errno> {
        call(|kernel| {
            kernel.enter(call_number::REMOTE);
            let far = kernel.new_end(Owner::Remote, from.clone(), to.clone());
            let near = kernel.new_end(Owner::Descriptor, to.clone(), from.clone());
            kernel.join(far, near);
            kernel.carry(far, || Carried::Opened);
            let number = kernel.open(Object::Stream(near)).inspect_err(|_| {
                kernel.drop_end(far);
                kernel.drop_end(near);
            })?;
            Ok((Self(far), Socket::from(Descriptor::new(number))))
        })
    }

    fn look<R>(&self, look: impl FnOnce(&End) -> R, otherwise: R) -> R {
        call(|kernel| match kernel.ends.get(&self.0) {
            Some(end) => look(end),
            None => otherwise,
        })
    }

    /// Whether the connect is still under way.
    #[must_use]
    pub fn is_connecting(&self) -> bool {
        self.look(|end| end.state == State::Connecting, false)
    }

    /// Whether it is connected, and was not reset.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.look(|end| end.state == State::Connected, false)
    }

    /// Whether the other side has ended its stream, or the connection is broken.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.look(|end| end.end_seen || end.state == State::Broken, true)
    }

    /// Whether the other side is a descriptor: it has been accepted.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        let other = self.look(|end| end.other, None);
        other.is_some_and(|other| {
            call(|kernel| kernel.ends.get(&other).is_some_and(|end| end.owner == Owner::Descriptor))
        })
    }

    /// Bytes that were sent and that the other side has not read.
    #[must_use]
    pub fn unread(&self) -> usize {
        let (sent, other) = self.look(|end| (end.outbox.len(), end.other), (0, None));
        let arrived = |kernel: &mut Kernel| {
            let other = other.and_then(|other| kernel.ends.get(&other));
            other.map_or(0, |end| end.inbox.len())
        };
        sent + call(arrived)
    }

    /// Bytes that were sent and have not arrived at the other side.
    #[must_use]
    pub fn on_its_way(&self) -> usize {
        self.look(|end| end.outbox.len(), 0)
    }

    /// Bytes that the other side has sent and that were not received here.
    #[must_use]
    pub fn unreceived(&self) -> usize {
        let (arrived, other) = self.look(|end| (end.inbox.len(), end.other), (0, None));
        let sent = |kernel: &mut Kernel| {
            let other = other.and_then(|other| kernel.ends.get(&other));
            other.map_or(0, |end| end.outbox.len())
        };
        arrived + call(sent)
    }

    /// Whether bytes, the end of the stream or an error wait to be received.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.look(|end| !end.inbox.is_empty() || end.end_seen || end.error.is_some(), false)
    }

    /// Sends as much as there is room for.
    ///
    /// # Errors
    ///
    /// `EAGAIN`, or what broke the connection.
    pub fn send(&self, bytes: &[u8]) -> Result<usize, Errno> {
        call(|kernel| {
            kernel.enter(call_number::REMOTE);
            kernel.tell(self.0);
            kernel.give(self.0, std::iter::once(bytes))
        })
    }

    /// Receives what is there, `len` bytes at most; nothing is the end.
    ///
    /// # Errors
    ///
    /// `EAGAIN`, or what broke the connection.
    pub fn recv(&self, len: usize) -> Result<Vec<u8>, Errno> {
        call(|kernel| {
            kernel.enter(call_number::REMOTE);
            kernel.tell(self.0);
            kernel.take(self.0, len)
        })
    }

    /// Ends its side of the stream.
    pub fn finish(&self) {
        // One that is not connected has no stream to end.
        let _ = call(|kernel| {
            kernel.enter(call_number::REMOTE);
            kernel.tell(self.0);
            kernel.finish(self.0)
        });
    }

    /// Closes by a reset.
    pub fn reset(self) {
        call(|kernel| {
            kernel.enter(call_number::REMOTE);
            kernel.tell(self.0);
            kernel.abort(self.0);
        });
    }

    /// Pulls the cable: the other side never hears of it again.
    pub fn vanish(&self) {
        call(|kernel| {
            kernel.enter(call_number::REMOTE);
            kernel.tell(self.0);
            let other = kernel.ends.get(&self.0).and_then(|end| end.other);
            for end in [Some(self.0), other].into_iter().flatten() {
                if let Some(end) = kernel.ends.get_mut(&end) {
                    end.silent = true;
                }
            }
        });
    }
}

/// Closes in good order, or by a reset where something was not received.
impl Drop for Remote {
    fn drop(&mut self) {
        call_if_there(|kernel| kernel.close_end(self.0));
    }
}

/// A listening socket on another machine, to which the program under test may connect.
#[derive(Debug)]
pub struct RemoteListener(ListeningId);

impl RemoteListener {
    /// Listens at `address`.
    ///
    /// # Errors
    ///
    /// `EADDRINUSE`.
    pub fn bind(address: &SocketAddr, backlog: u32) -> Result<Self, Errno> {
        call(|kernel| kernel.listen(address, backlog, false)).map(Self)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        call(|kernel| kernel.listenings.get(&self.0).map(|at| at.address.clone()))
    }

    /// The next peer that waits.
    #[must_use]
    pub fn accept(&self) -> Option<Remote> {
        call(|kernel| {
            let end = kernel.listenings.get(&self.0)?.queue.front().copied()?;
            kernel.leave_backlog(self.0);
            kernel.ends.get_mut(&end)?.owner = Owner::Remote;
            Some(Remote(end))
        })
    }
}

impl Drop for RemoteListener {
    fn drop(&mut self) {
        call_if_there(|kernel| kernel.close_listening(self.0));
    }
}
