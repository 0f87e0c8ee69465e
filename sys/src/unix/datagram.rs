//! Datagram sockets: messages that arrive whole, or late, or twice, or not at all.
//!
//! Nobody sends again what is lost, and nobody puts in order what comes out of order: that is for the
//! program that uses them (udp(7), RFC 768). As with stream sockets, what runs once a message returns
//! the bare [`Errno`], retries after `EINTR` and raises no `SIGPIPE`.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sys::socket::SockType;

use super::descriptor::{retry, set_nonblocking};
use super::sockaddr::Sockaddr;
use super::socket::{SEND_FLAGS, bind, connect, local_address, open_socket, recv, send};
use crate::{Descriptor, Errno, Result, SocketAddr, SystemError, UnixAddr};

/// What [`recv_from`] received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// How many bytes of it are in the buffer. A datagram may have none, which is no end.
    pub len: usize,
    /// Whether it was longer than the buffer. The rest of it is gone: the next call receives the
    /// next datagram.
    pub is_truncated: bool,
    /// Who sent it; an unnamed Unix address for a Unix socket that was never bound.
    pub from: SocketAddr,
}

/// `ssize_t recvmsg(int fd, struct msghdr *message, int flags)`
///
/// Receives one datagram and says where it came from.
///
/// Where the datagram is longer than the buffer, the buffer is filled, the rest of the datagram is
/// dropped by the system, and [`Datagram::is_truncated`] says so. (That is why this is not
/// `recvfrom`, which would not tell.) For UDP over IPv4, 65,507 bytes hold any datagram.
///
/// ```
/// use myriapod_sys::{DatagramSocket, SocketAddr, recv_from, send_to};
/// # use myriapod_sys::{AsFd, Interest, poll::wait_one};
///
/// let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
/// let (ours, theirs) = (DatagramSocket::bind(&any_port)?, DatagramSocket::bind(&any_port)?);
/// send_to(&ours, b"Hello, world", &theirs.local_address()?)?;
/// send_to(&ours, b"again", &theirs.local_address()?)?;
///
/// # wait_one(theirs.as_fd(), Interest::READABLE, None)?;
/// let mut buffer = [0; 5];
/// let first = recv_from(&theirs, &mut buffer)?;
/// assert_eq!((&buffer, first.is_truncated), (b"Hello", true));
/// assert_eq!(first.from, ours.local_address()?);
/// # wait_one(theirs.as_fd(), Interest::READABLE, None)?;
/// let second = recv_from(&theirs, &mut buffer)?;
/// assert_eq!((&buffer, second.is_truncated), (b"again", false));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// Those of recvmsg(2): `EAGAIN` where nothing is there; on a
/// [connected](DatagramSocket::connect) socket `ECONNREFUSED`, where an earlier datagram came to a
/// port that nobody has. `EAFNOSUPPORT` for a sender of a family that we do not know.
pub fn recv_from(fd: impl AsFd, buffer: &mut [u8]) -> Result<Datagram, Errno> {
    recv_from_raw(fd.as_fd(), buffer)
}

fn recv_from_raw(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Datagram, Errno> {
    let mut from = Sockaddr::empty();
    let mut slice = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: the structure consists of integers and pointers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_namelen = from.len();
    message.msg_name = from.as_out().0.cast();
    message.msg_iov = &raw mut slice;
    message.msg_iovlen = 1;
    // SAFETY: `message` names the address's form and the one slice, both ours to write for the
    // call's length, with their sizes.
    let len = retry(|| unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, 0) })?;
    let from = match message.msg_namelen {
        // Only a Unix socket can be without a name.
        0 => UnixAddr::Unnamed.into(),
        name_len => from.with_len(name_len).decode().map_err(|_| Errno::EAFNOSUPPORT)?,
    };
    Ok(Datagram { len, is_truncated: message.msg_flags & libc::MSG_TRUNC != 0, from })
}

/// `ssize_t sendto(int fd, const void *bytes, size_t len, int flags, const struct sockaddr *to,
/// socklen_t to_len)`
///
/// Sends one datagram, whole or not at all, and returns its length. That it was sent says nothing
/// of whether it arrives: a receiver without room drops it, and so may anybody on the way.
///
/// # Errors
///
/// Those of sendto(2): `EMSGSIZE` where it is too long to be sent at once (for UDP over IPv4, more
/// than 65,507 bytes), `EAGAIN` where the socket is full (for a Unix socket, also where the
/// receiver is); `EINVAL` for a Unix address that the kernel's form has no room for.
pub fn send_to(fd: impl AsFd, bytes: &[u8], to: &SocketAddr) -> Result<usize, Errno> {
    let to = Sockaddr::encode(to).map_err(|_| Errno::EINVAL)?;
    send_to_raw(fd.as_fd(), bytes, &to)
}

fn send_to_raw(fd: BorrowedFd<'_>, bytes: &[u8], to: &Sockaddr) -> Result<usize, Errno> {
    let (start, len) = (bytes.as_ptr().cast(), bytes.len());
    // SAFETY: the slice and the address are borrowed for the call's length, with their sizes.
    retry(|| unsafe { libc::sendto(fd.as_raw_fd(), start, len, SEND_FLAGS, to.as_ptr(), to.len()) })
}

/// A datagram socket, UDP or Unix: non-blocking, close-on-exec.
///
/// Dropping it closes it; the file of a Unix socket stays.
#[derive(Debug)]
pub struct DatagramSocket(Descriptor);

impl DatagramSocket {
    /// `int socket(int domain, SOCK_DGRAM, int protocol)` and
    /// `int bind(int fd, const struct sockaddr *address, socklen_t len)`
    ///
    /// A socket that receives what is sent to `address`; port 0 takes any that is free.
    ///
    /// ```
    /// use myriapod_sys::{DatagramSocket, SocketAddr};
    ///
    /// let socket = DatagramSocket::bind(&SocketAddr::from(([127, 0, 0, 1], 0)))?;
    /// let taken = socket.local_address()?;
    /// assert_eq!(
    ///     DatagramSocket::bind(&taken).unwrap_err().to_string(),
    ///     format!("bind {taken}: EADDRINUSE (Address already in use)"),
    /// );
    /// # Ok::<(), myriapod_sys::SystemError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`SystemError::Call`] with `socket` or `bind`; [`SystemError::InvalidAddress`] for a Unix path that is
    /// too long.
    ///
    /// Source: socket(2), bind(2), udp(7).
    pub fn bind(address: &SocketAddr) -> Result<Self> {
        let target = Sockaddr::encode(address)?;
        let socket = open_socket(address, SockType::Datagram)?;
        bind(socket.as_fd(), &target).map_err(|errno| SystemError::call("bind", errno, address))?;
        Ok(Self(socket))
    }

    /// `int connect(int fd, const struct sockaddr *address, socklen_t len)`
    ///
    /// From now on [`send`] sends to `peer`, only its datagrams are received, and
    /// it is told where nobody has that port (`ECONNREFUSED` from the next call). Nothing is sent,
    /// so this does not wait, and it does not say whether anybody is there.
    ///
    /// ```
    /// use myriapod_sys::{DatagramSocket, Errno, SocketAddr};
    /// # use myriapod_sys::{AsFd, Interest, poll::wait_one};
    ///
    /// let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    /// let gone = DatagramSocket::bind(&any_port)?.local_address()?;
    /// let socket = DatagramSocket::bind(&any_port)?;
    /// socket.connect(&gone)?;
    /// socket.send(b"anybody there?")?;
    /// # wait_one(socket.as_fd(), Interest::READABLE, None)?;
    /// assert_eq!(socket.recv(&mut [0; 64]), Err(Errno::ECONNREFUSED));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`SystemError::Call`]; [`SystemError::InvalidAddress`] for a Unix path that is too long.
    ///
    /// Source: connect(2), udp(7).
    pub fn connect(&self, peer: &SocketAddr) -> Result<()> {
        let target = Sockaddr::encode(peer)?;
        connect(self.as_fd(), &target).map_err(|errno| SystemError::call("connect", errno, peer))
    }

    /// See [`recv_from`].
    ///
    /// # Errors
    ///
    /// Those of [`recv_from`].
    pub fn recv_from(&self, buffer: &mut [u8]) -> Result<Datagram, Errno> {
        recv_from(self, buffer)
    }

    /// See [`send_to`].
    ///
    /// # Errors
    ///
    /// Those of [`send_to`].
    pub fn send_to(&self, bytes: &[u8], to: &SocketAddr) -> Result<usize, Errno> {
        send_to(self, bytes, to)
    }

    /// See [`recv`]: one datagram, without saying who sent it or whether it was longer. Zero bytes
    /// are an empty datagram here, not an end.
    ///
    /// # Errors
    ///
    /// Those of [`recv`].
    pub fn recv(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        recv(self, buffer)
    }

    /// See [`send`]: one datagram to the peer that this socket is [connected](Self::connect) to.
    ///
    /// # Errors
    ///
    /// Those of [`send`]; `EDESTADDRREQ` where it is not connected.
    pub fn send(&self, bytes: &[u8]) -> Result<usize, Errno> {
        send(self, bytes)
    }

    /// Where it is bound, with the port that the kernel chose where 0 was asked for.
    ///
    /// # Errors
    ///
    /// Those of [`local_address`].
    pub fn local_address(&self) -> Result<SocketAddr> {
        local_address(self)
    }

    /// `int fcntl(int fd, F_SETFL, int flags)`: switches `O_NONBLOCK`.
    ///
    /// # Errors
    ///
    /// [`SystemError::Call`].
    pub fn set_nonblocking(&self, on: bool) -> Result<()> {
        set_nonblocking(self.as_fd(), on)
            .map_err(|errno| SystemError::call("fcntl", errno, "O_NONBLOCK"))
    }
}

/// Takes over a datagram socket as it is: it should be non-blocking.
impl From<Descriptor> for DatagramSocket {
    fn from(descriptor: Descriptor) -> Self {
        Self(descriptor)
    }
}

impl From<DatagramSocket> for Descriptor {
    fn from(socket: DatagramSocket) -> Self {
        socket.0
    }
}

impl AsFd for DatagramSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
