//! Simulated listeners.

use std::collections::VecDeque;

use super::descriptor::{AsFd, BorrowedFd, Descriptor, call_number};
use super::end::{Owner, State};
use super::faults::FaultKind;
use super::kernel::{Kernel, Object};
use super::net::{Listening, ListeningId};
use super::threads::call;
use crate::{Errno, ListenOptions, Result, SocketAddr, SystemError, UnixAddr};

/// The longest backlog.
const SOMAXCONN: u32 = 4096;

/// Whether the simulated kernel spreads connections over listeners of one port.
pub const REUSE_PORT_BALANCES: bool = true;

/// The file of a Unix socket. Those of the simulated system have none.
#[derive(Debug)]
pub struct SocketFile(std::convert::Infallible);

impl SocketFile {
    /// `None`, whatever the address.
    ///
    /// # Errors
    ///
    /// None.
    pub fn of(_: &SocketAddr) -> Result<Option<Self>> {
        Ok(None)
    }

    /// There is none to keep.
    pub fn keep(self) {}
}

/// A listening stream socket.
#[derive(Debug)]
pub struct Listener(Descriptor);

impl Listener {
    /// Binds and listens.
    ///
    /// # Errors
    ///
    /// [`SystemError::Call`] with `socket` or `bind`.
    pub fn bind(address: &SocketAddr, options: &ListenOptions) -> Result<Self> {
        let opened = call(|kernel| {
            kernel.enter(call_number::BIND);
            let listening = kernel.listen(address, options.backlog, options.reuse_port);
            let listening = kernel
                .tell_result(listening, |id| *id)
                .map_err(|errno| SystemError::call("bind", errno, address))?;
            kernel.open(Object::Listener(listening)).map_err(|errno| {
                kernel.close_listening(listening);
                SystemError::call("socket", errno, address)
            })
        });
        opened.map(|number| Self(Descriptor::new(number)))
    }

    /// Asks whether `address` can be bound.
    ///
    /// # Errors
    ///
    /// Those of [`bind`](Self::bind); [`SystemError::Unsupported`] for a Unix socket.
    pub fn probe(address: &SocketAddr, options: &ListenOptions) -> Result<()> {
        if address.is_unix() {
            return Err(SystemError::Unsupported { what: "probe", by: "a Unix socket" });
        }
        Self::bind(address, options).map(drop)
    }

    /// Takes over a socket that listens already.
    ///
    /// # Errors
    ///
    /// `EINVAL` where it does not listen.
    pub fn adopt(descriptor: Descriptor) -> Result<Self> {
        let number = descriptor.as_fd().number();
        match call(|kernel| matches!(kernel.object(number), Ok(Object::Listener(_)))) {
            true => Ok(Self(descriptor)),
            false => Err(SystemError::call("getsockopt SO_ACCEPTCONN", Errno::EINVAL, "")),
        }
    }

    /// See [`accept`].
    ///
    /// # Errors
    ///
    /// Those of [`accept`].
    pub fn accept(&self) -> Result<(Descriptor, SocketAddr), Errno> {
        accept(self)
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// Those of [`local_address`](crate::local_address).
    pub fn local_address(&self) -> Result<SocketAddr> {
        crate::local_address(self)
    }
}

impl From<Listener> for Descriptor {
    fn from(listener: Listener) -> Self {
        listener.0
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Accepts one connection.
///
/// # Errors
///
/// Those of accept(2); `EAGAIN` where nobody waits.
pub fn accept(listener: impl AsFd) -> Result<(Descriptor, SocketAddr), Errno> {
    let number = listener.as_fd().number();
    let accepted = call(|kernel| {
        kernel.enter_at(call_number::ACCEPT, number);
        let Object::Listener(listening) = kernel.object(number)? else {
            return Err(Errno::EINVAL);
        };
        let listening = *listening;
        let accepted = kernel.accept(listening);
        kernel.tell_result(accepted, |(_, peer)| peer.port().unwrap_or_default().into())
    });
    accepted.map(|(number, peer)| (Descriptor::new(number), peer))
}

impl Kernel {
    pub(super) fn listen(
        &mut self,
        address: &SocketAddr,
        backlog: u32,
        reuse_port: bool,
    ) -> Result<ListeningId, Errno> {
        let address = match address {
            SocketAddr::V4(v4) if v4.port() == 0 => {
                SocketAddr::from((v4.ip().octets(), self.any_port()))
            }
            SocketAddr::Unix(UnixAddr::Unnamed) => return Err(Errno::EINVAL),
            other => other.clone(),
        };
        let shared = |other: &Listening| reuse_port && other.reuse_port;
        if self.listenings.values().any(|other| other.address == address && !shared(other)) {
            return Err(Errno::EADDRINUSE);
        }
        let id = self.new_id();
        let backlog = usize::try_from(backlog.clamp(1, SOMAXCONN)).unwrap_or(1);
        let queue = VecDeque::new();
        self.listenings.insert(id, Listening { address, backlog, queue, reuse_port });
        Ok(id)
    }

    fn accept(&mut self, listening: ListeningId) -> Result<(i32, SocketAddr), Errno> {
        let at = self.listenings.get(&listening).ok_or(Errno::EBADF)?;
        let Some(end) = at.queue.front().copied() else { return Err(Errno::EAGAIN) };
        let known = self.ends.get(&end).map(|end| end.state);
        let gone = known != Some(State::Connected);
        let aborted = known.is_none() || self.fault(FaultKind::Aborted, self.faults.aborted);
        // Some systems hand out a connection that is reset already, some say so.
        if aborted || (gone && self.rng.chance(500)) {
            self.leave_backlog(listening);
            self.abort(end);
            return Err(if self.rng.chance(800) { Errno::ECONNABORTED } else { Errno::EPROTO });
        }
        let number = self.open(Object::Stream(end))?;
        self.leave_backlog(listening);
        let Some(accepted) = self.ends.get_mut(&end) else { return Err(Errno::ECONNABORTED) };
        accepted.owner = Owner::Descriptor;
        Ok((number, accepted.peer.clone()))
    }

    pub(super) fn leave_backlog(&mut self, listening: ListeningId) {
        if let Some(at) = self.listenings.get_mut(&listening) {
            at.queue.pop_front();
        }
    }
}
