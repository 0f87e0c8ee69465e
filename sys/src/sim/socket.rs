//! Simulated stream sockets: connect, receive, send, shut down.

use std::io::IoSlice;

use super::descriptor::{AsFd, BorrowedFd, Descriptor, call_number};
use super::end::{Owner, State};
use super::kernel::{Kernel, Object};
use super::threads::call;
use crate::{Errno, Result, Shutdown, SocketAddr, SystemError, UnixAddr};

/// See the real one.
///
/// # Errors
///
/// `EAGAIN` where nothing is there, `EINVAL` for an empty buffer, what broke the connection.
pub fn recv(fd: impl AsFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    let received = receive(fd.as_fd(), buffer.len())?;
    if let Some(start) = buffer.get_mut(..received.len()) {
        start.copy_from_slice(&received);
    }
    Ok(received.len())
}

/// As [`recv`], into the spare capacity of `buffer`.
///
/// # Errors
///
/// As [`recv`].
pub fn recv_append(fd: impl AsFd, buffer: &mut Vec<u8>) -> Result<usize, Errno> {
    let received = receive(fd.as_fd(), buffer.capacity() - buffer.len())?;
    buffer.extend_from_slice(&received);
    Ok(received.len())
}

fn receive(fd: BorrowedFd<'_>, len: usize) -> Result<Vec<u8>, Errno> {
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    call(|kernel| {
        kernel.enter_at(call_number::RECV, fd.number());
        let end = kernel.stream(fd.number())?;
        let received = kernel.take(end, len);
        kernel.received += received.as_ref().map_or(0, Vec::len) as u64;
        received
    })
}

/// Sends as much as the socket takes.
///
/// # Errors
///
/// `EAGAIN` where the socket is full, `EPIPE` or `ECONNRESET` where the peer is gone.
pub fn send(fd: impl AsFd, bytes: &[u8]) -> Result<usize, Errno> {
    transmit(fd.as_fd(), &[bytes])
}

/// Sends the slices one behind the other, as much as the socket takes.
///
/// # Errors
///
/// As [`send`].
pub fn send_vectored(fd: impl AsFd, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
    let slices: Vec<&[u8]> = slices.iter().map(|slice| &**slice).collect();
    transmit(fd.as_fd(), &slices)
}

fn transmit(fd: BorrowedFd<'_>, slices: &[&[u8]]) -> Result<usize, Errno> {
    call(|kernel| {
        kernel.enter_at(call_number::SEND, fd.number());
        let end = kernel.stream(fd.number())?;
        let sent = kernel.give(end, slices.iter().copied());
        kernel.sent += sent.as_ref().copied().unwrap_or_default() as u64;
        sent
    })
}

/// Ends one direction or both.
///
/// # Errors
///
/// `ENOTCONN` where the socket is not connected, or no longer; `ENOBUFS`.
pub fn shutdown(fd: impl AsFd, how: Shutdown) -> Result<(), Errno> {
    let number = fd.as_fd().number();
    call(|kernel| {
        kernel.enter_at(call_number::SHUTDOWN, number);
        let end = kernel.stream(number)?;
        let shut = match how {
            // What still comes is not refused; nobody here reads on after that.
            Shutdown::Read => Ok(()),
            Shutdown::Write | Shutdown::Both => kernel.shut(end),
        };
        kernel.tell_result(shut, |()| 0)
    })
}

/// Takes the error that waits on the socket.
///
/// # Errors
///
/// The error that waited.
pub fn take_error(fd: impl AsFd) -> Result<(), Errno> {
    let number = fd.as_fd().number();
    call(|kernel| {
        kernel.enter_at(call_number::SOCKET_ERROR, number);
        let end = kernel.stream(number)?;
        let error = kernel.ends.get_mut(&end).and_then(|end| end.error.take());
        kernel.tell_result(error.map_or(Ok(()), Err), |()| 0)
    })
}

/// Where the socket is bound.
///
/// # Errors
///
/// `EBADF`, `ENOTSOCK`.
pub fn local_address(fd: impl AsFd) -> Result<SocketAddr> {
    let number = fd.as_fd().number();
    let found = call(|kernel| {
        kernel.enter_at(call_number::NAME, number);
        match kernel.object(number)? {
            Object::Stream(end) => {
                let end = *end;
                kernel.ends.get(&end).map(|end| end.local.clone()).ok_or(Errno::ENOTCONN)
            }
            Object::Listener(at) => {
                let at = *at;
                kernel.listenings.get(&at).map(|at| at.address.clone()).ok_or(Errno::EBADF)
            }
            _ => Err(Errno::ENOTSOCK),
        }
    });
    found.map_err(|errno| SystemError::call("getsockname", errno, ""))
}

/// Whom it is connected to.
///
/// # Errors
///
/// `ENOTCONN` where it is not connected, or no longer.
pub fn peer_address(fd: impl AsFd) -> Result<SocketAddr> {
    let number = fd.as_fd().number();
    let found = call(|kernel| {
        kernel.enter_at(call_number::NAME, number);
        let end = kernel.stream(number)?;
        let end = kernel.ends.get(&end).filter(|end| end.state == State::Connected);
        end.map(|end| end.peer.clone()).ok_or(Errno::ENOTCONN)
    });
    found.map_err(|errno| SystemError::call("getpeername", errno, ""))
}

/// A connected or connecting stream socket.
#[derive(Debug)]
pub struct Socket(Descriptor);

/// What became of [`Socket::connect_start`].
#[derive(Debug)]
pub enum Connecting {
    /// Connected at once.
    Done(Socket),
    /// Under way: when the socket is writable, [`take_error`] has the outcome.
    InProgress(Socket),
}

impl Connecting {
    /// The socket, connected or not.
    #[must_use]
    pub fn into_socket(self) -> Socket {
        match self {
            Self::Done(socket) | Self::InProgress(socket) => socket,
        }
    }

    /// Whether it is connected already.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }
}

impl Socket {
    /// Starts to connect to `address`, from `source` where one is given.
    ///
    /// # Errors
    ///
    /// [`SystemError::Call`] with `socket` or `connect`.
    pub fn connect_start(address: &SocketAddr, source: Option<&SocketAddr>) -> Result<Connecting> {
        let opened = call(|kernel| {
            kernel.enter(call_number::CONNECT);
            let local = match source {
                Some(source) => source.clone(),
                None => kernel.any_local(address),
            };
            let end = kernel.new_end(Owner::Descriptor, local, address.clone());
            let number = kernel.open(Object::Stream(end)).inspect_err(|_| {
                kernel.ends.remove(&end);
            })?;
            kernel.begin_connect(end);
            Ok((number, end))
        });
        let (number, end) = opened.map_err(|errno| SystemError::call("socket", errno, address))?;
        let socket = Self(Descriptor::new(number));
        let (state, error) = call(|kernel| {
            // Within one machine it may be done before the call returns.
            kernel.pass(0);
            let Some(end) = kernel.ends.get_mut(&end) else { return (State::Broken, None) };
            let state = end.state;
            let error = if state == State::Broken { end.error.take() } else { None };
            kernel.tell(state as u64);
            (state, error)
        });
        match state {
            State::Connecting => Ok(Connecting::InProgress(socket)),
            State::Connected => Ok(Connecting::Done(socket)),
            State::Broken => {
                let errno = error.unwrap_or(Errno::ECONNREFUSED);
                Err(SystemError::call("connect", errno, address))
            }
        }
    }

    /// Two sockets connected to each other.
    ///
    /// # Errors
    ///
    /// [`SystemError::Call`], such as `EMFILE`.
    pub fn pair() -> Result<(Self, Self)> {
        let opened = call(|kernel| {
            kernel.enter(call_number::OPEN);
            let unnamed = SocketAddr::Unix(UnixAddr::Unnamed);
            let mut new = || kernel.new_end(Owner::Descriptor, unnamed.clone(), unnamed.clone());
            let (one, other) = (new(), new());
            kernel.join(one, other);
            let first = kernel.open(Object::Stream(one))?;
            match kernel.open(Object::Stream(other)) {
                Ok(second) => Ok((first, second)),
                Err(errno) => {
                    kernel.close(first);
                    kernel.abort(other);
                    Err(errno)
                }
            }
        });
        let (first, second) = opened.map_err(|errno| SystemError::call("socketpair", errno, ""))?;
        Ok((Self(Descriptor::new(first)), Self(Descriptor::new(second))))
    }

    /// See [`recv`].
    ///
    /// # Errors
    ///
    /// Those of [`recv`].
    pub fn recv(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        recv(self, buffer)
    }

    /// See [`recv_append`].
    ///
    /// # Errors
    ///
    /// Those of [`recv_append`].
    pub fn recv_append(&self, buffer: &mut Vec<u8>) -> Result<usize, Errno> {
        recv_append(self, buffer)
    }

    /// See [`send`].
    ///
    /// # Errors
    ///
    /// Those of [`send`].
    pub fn send(&self, bytes: &[u8]) -> Result<usize, Errno> {
        send(self, bytes)
    }

    /// See [`send_vectored`].
    ///
    /// # Errors
    ///
    /// Those of [`send_vectored`].
    pub fn send_vectored(&self, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
        send_vectored(self, slices)
    }

    /// See [`shutdown`].
    ///
    /// # Errors
    ///
    /// Those of [`shutdown`].
    pub fn shutdown(&self, how: Shutdown) -> Result<(), Errno> {
        shutdown(self, how)
    }

    /// See [`take_error`].
    ///
    /// # Errors
    ///
    /// Those of [`take_error`].
    pub fn take_error(&self) -> Result<(), Errno> {
        take_error(self)
    }

    /// See [`local_address`].
    ///
    /// # Errors
    ///
    /// Those of [`local_address`].
    pub fn local_address(&self) -> Result<SocketAddr> {
        local_address(self)
    }

    /// See [`peer_address`].
    ///
    /// # Errors
    ///
    /// Those of [`peer_address`].
    pub fn peer_address(&self) -> Result<SocketAddr> {
        peer_address(self)
    }

    /// Simulated sockets never block.
    ///
    /// # Errors
    ///
    /// [`SystemError::Unsupported`] where blocking is asked for.
    pub fn set_nonblocking(&self, on: bool) -> Result<()> {
        let what = "blocking sockets";
        on.then_some(()).ok_or(SystemError::Unsupported { what, by: "the simulated system" })
    }
}

impl From<Descriptor> for Socket {
    fn from(descriptor: Descriptor) -> Self {
        Self(descriptor)
    }
}

impl From<Socket> for Descriptor {
    fn from(socket: Socket) -> Self {
        socket.0
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Kernel {
    /// An address for the near end of a connection that goes to `to`.
    pub(super) fn any_local(&mut self, to: &SocketAddr) -> SocketAddr {
        match to {
            SocketAddr::Unix(_) => SocketAddr::Unix(UnixAddr::Unnamed),
            _ => SocketAddr::from(([127, 0, 0, 1], self.any_port())),
        }
    }

    pub(super) fn any_port(&mut self) -> u16 {
        self.next_port = self.next_port.checked_add(1).unwrap_or(32_768);
        self.next_port
    }
}
