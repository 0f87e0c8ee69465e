//! Stream sockets: connect, receive, send, shut down.
//!
//! The functions here return the bare [`Errno`]: they run once a message or more, and what an error
//! is about is known to the caller. All of them retry after `EINTR`, and none raises `SIGPIPE`.
//! Datagram sockets are not covered.

use std::io::IoSlice;
use std::mem::size_of_val;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType};

use super::descriptor::{retry, set_nonblocking};
use super::poll::wait_one;
use super::sockaddr::Sockaddr;
use crate::{Descriptor, Errno, Interest, Result, Shutdown, SocketAddr, SystemError};

/// Not to be killed when the peer is gone. On Apple's systems `SO_NOSIGPIPE` does that, once for
/// each socket.
#[cfg(not(target_vendor = "apple"))]
pub(crate) const SEND_FLAGS: libc::c_int = libc::MSG_NOSIGNAL;
#[cfg(target_vendor = "apple")]
pub(crate) const SEND_FLAGS: libc::c_int = 0;

/// The most bytes that one call may ask for: Apple's systems refuse more than an `int` holds.
const MAX_LEN: usize =
    if cfg!(target_vendor = "apple") { i32::MAX as usize } else { isize::MAX as usize };

/// `IOV_MAX` where it is known, else the least that POSIX allows.
const MAX_SLICES: usize = if cfg!(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
)) {
    1024
} else {
    16
};

/// `ssize_t recv(int fd, void *buffer, size_t len, int flags)`
///
/// Receives what is there, at most `buffer.len()` bytes; `Ok(0)` is the end: the peer has shut down
/// its sending side. Fewer bytes than the buffer holds mean that the socket is drained for now.
///
/// ```
/// use myriapod_sys::{Socket, recv, send};
///
/// let (ours, theirs) = Socket::pair()?;
/// assert_eq!(send(&ours, b"hello")?, 5);
/// let mut buffer = [0; 16];
/// assert_eq!(recv(&theirs, &mut buffer)?, 5);
/// assert_eq!(&buffer[..5], b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// Those of recv(2); `EAGAIN` where nothing is there; `EINVAL` where `buffer` is empty, which could
/// not be told from the end.
#[inline]
pub fn recv(fd: impl AsFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the slice is ours to write for the call's length.
    unsafe { recv_raw(fd.as_fd(), buffer.as_mut_ptr(), buffer.len()) }
}

/// `ssize_t recv(int sockfd, void *buf, size_t len, int flags)`
///
/// As [`recv`], into the spare capacity of `buffer`, whose length then covers what was received.
///
/// The vector never grows and nothing is zeroed first.
///
/// ```
/// use myriapod_sys::{Errno, Socket, recv_append, send};
///
/// let (ours, theirs) = Socket::pair()?;
/// send(&ours, b"hello")?;
/// let mut buffer = Vec::with_capacity(64);
/// buffer.extend_from_slice(b"> ");
/// assert_eq!(recv_append(&theirs, &mut buffer)?, 5);
/// assert_eq!(buffer, b"> hello");
/// assert_eq!(recv_append(&theirs, &mut Vec::new()), Err(Errno::EINVAL));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// As [`recv`]; `EINVAL` where no capacity is spare. The vector is then as it was.
#[inline]
pub fn recv_append(fd: impl AsFd, buffer: &mut Vec<u8>) -> Result<usize, Errno> {
    let spare = buffer.spare_capacity_mut();
    // SAFETY: the spare capacity is ours to write for the call's length.
    let received = unsafe { recv_raw(fd.as_fd(), spare.as_mut_ptr().cast(), spare.len()) }?;
    // SAFETY: recv wrote that many bytes behind the old length, and no more than were spare.
    unsafe { buffer.set_len(buffer.len() + received) };
    Ok(received)
}

/// # Safety
///
/// `buffer` points to `len` writable bytes.
#[inline]
unsafe fn recv_raw(fd: BorrowedFd<'_>, buffer: *mut u8, len: usize) -> Result<usize, Errno> {
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    // SAFETY: the caller vouches for the buffer; the descriptor is borrowed, so it is open.
    retry(|| unsafe { libc::recv(fd.as_raw_fd(), buffer.cast(), len.min(MAX_LEN), 0) })
}

/// `ssize_t send(int fd, const void *bytes, size_t len, int flags)`
///
/// Sends as much as the socket takes, without `SIGPIPE`.
///
/// # Errors
///
/// Those of send(2); `EAGAIN` where the socket is full, `EPIPE` or `ECONNRESET` where the peer is
/// gone.
#[inline]
pub fn send(fd: impl AsFd, bytes: &[u8]) -> Result<usize, Errno> {
    send_raw(fd.as_fd(), bytes)
}

#[inline]
fn send_raw(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    let len = bytes.len().min(MAX_LEN);
    // SAFETY: `len` is within the slice, which nobody writes while it is borrowed.
    retry(|| unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), len, SEND_FLAGS) })
}

/// `ssize_t sendmsg(int fd, const struct msghdr *message, int flags)`
///
/// Sends the slices one behind the other, as much as the socket takes, without `SIGPIPE`. At most
/// `IOV_MAX` slices are looked at (1024 on most systems); the rest counts as not sent.
///
/// # Errors
///
/// As [`send`].
#[inline]
pub fn send_vectored(fd: impl AsFd, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
    send_vectored_raw(fd.as_fd(), slices)
}

fn send_vectored_raw(fd: BorrowedFd<'_>, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
    // SAFETY: the structure consists of integers and pointers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    // IoSlice has the layout of struct iovec; sendmsg writes neither it nor what it points to.
    message.msg_iov = slices.as_ptr().cast_mut().cast();
    message.msg_iovlen = slices.len().min(MAX_SLICES) as _;
    // SAFETY: `message` names that many slices, all of them borrowed for the call's length.
    retry(|| unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, SEND_FLAGS) })
}

/// `int shutdown(int fd, int how)`: ends one direction or both, for every holder of the socket.
///
/// # Errors
///
/// `ENOTCONN` where the socket is not connected, or no longer.
pub fn shutdown(fd: impl AsFd, how: Shutdown) -> Result<(), Errno> {
    let how = match how {
        Shutdown::Read => libc::SHUT_RD,
        Shutdown::Write => libc::SHUT_WR,
        Shutdown::Both => libc::SHUT_RDWR,
    };
    // SAFETY: no memory is involved; the descriptor is borrowed, so it is open.
    check(unsafe { libc::shutdown(fd.as_fd().as_raw_fd(), how) })
}

/// `int getsockopt(int fd, SOL_SOCKET, SO_ERROR, int *error, socklen_t *len)`
///
/// Takes the error that waits on the socket, such as the outcome of a
/// [connect](Socket::connect_start). Taking it clears it.
///
/// # Errors
///
/// The error that waited, or one of getsockopt(2).
pub fn take_error(fd: impl AsFd) -> Result<(), Errno> {
    let mut error: libc::c_int = 0;
    #[expect(clippy::cast_possible_truncation, reason = "an int's size")]
    let mut len = size_of_val(&error) as libc::socklen_t;
    // SAFETY: `error` and its length are ours to write for the call's length.
    check(unsafe {
        libc::getsockopt(
            fd.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ERROR,
            (&raw mut error).cast(),
            &raw mut len,
        )
    })?;
    if error == 0 { Ok(()) } else { Err(Errno::from_raw(error)) }
}

/// `int getsockname(int fd, struct sockaddr *address, socklen_t *len)`: where the socket is bound.
///
/// # Errors
///
/// [`SystemError::Call`], or [`SystemError::InvalidAddress`] for a family that we do not know.
pub fn local_address(fd: impl AsFd) -> Result<SocketAddr> {
    let mut address = Sockaddr::empty();
    let (to, len) = address.as_out();
    // SAFETY: both pointers are ours to write for the call's length, and `len` holds the room.
    check(unsafe { libc::getsockname(fd.as_fd().as_raw_fd(), to, len) })
        .map_err(|errno| SystemError::call("getsockname", errno, ""))?;
    address.decode()
}

/// `int getpeername(int fd, struct sockaddr *address, socklen_t *len)`: whom it is connected to.
///
/// # Errors
///
/// [`SystemError::Call`] (`ENOTCONN` where it is not connected, or no longer), or
/// [`SystemError::InvalidAddress`] for a family that we do not know.
pub fn peer_address(fd: impl AsFd) -> Result<SocketAddr> {
    let mut address = Sockaddr::empty();
    let (to, len) = address.as_out();
    // SAFETY: both pointers are ours to write for the call's length, and `len` holds the room.
    check(unsafe { libc::getpeername(fd.as_fd().as_raw_fd(), to, len) })
        .map_err(|errno| SystemError::call("getpeername", errno, ""))?;
    address.decode()
}

/// 0 or the error number, for calls that a signal does not interrupt.
pub(crate) fn check(result: libc::c_int) -> Result<(), Errno> {
    if result < 0 { Err(Errno::last()) } else { Ok(()) }
}

/// `int socket(int domain, SOCK_STREAM, int protocol)`: a stream socket for addresses such as this,
/// non-blocking and close-on-exec.
pub(crate) fn stream_socket(address: &SocketAddr) -> Result<Descriptor> {
    open_socket(address, SockType::Stream)
}

/// `int socket(int domain, int type, int protocol)`: a socket for addresses such as this,
/// non-blocking and close-on-exec.
pub(crate) fn open_socket(address: &SocketAddr, kind: SockType) -> Result<Descriptor> {
    let (family, name) = match address {
        SocketAddr::V4(_) => (AddressFamily::Inet, "AF_INET"),
        SocketAddr::V6(_) => (AddressFamily::Inet6, "AF_INET6"),
        SocketAddr::Unix(_) => (AddressFamily::Unix, "AF_UNIX"),
    };
    nix::sys::socket::socket(family, kind, SOCKET_FLAGS, None)
        .map_err(Errno::from)
        .and_then(prepare)
        .map_err(|errno| SystemError::call("socket", errno, format_args!("{name} for {address}")))
}

/// How a socket is made non-blocking and close-on-exec; where the call takes no such flags,
/// [`prepare`] does it.
#[cfg(not(target_vendor = "apple"))]
const SOCKET_FLAGS: SockFlag = SockFlag::SOCK_NONBLOCK.union(SockFlag::SOCK_CLOEXEC);
#[cfg(target_vendor = "apple")]
const SOCKET_FLAGS: SockFlag = SockFlag::empty();

#[cfg(not(target_vendor = "apple"))]
#[expect(clippy::unnecessary_wraps, reason = "other systems have something to do here")]
#[inline]
pub(crate) fn prepare(socket: Descriptor) -> Result<Descriptor, Errno> {
    Ok(socket)
}

/// What other systems do by flags: non-blocking, close-on-exec, no `SIGPIPE`.
#[cfg(target_vendor = "apple")]
pub(crate) fn prepare(socket: Descriptor) -> Result<Descriptor, Errno> {
    super::descriptor::set_close_on_exec(socket.as_fd())?;
    set_nonblocking(socket.as_fd(), true)?;
    super::options::set_no_sigpipe(socket.as_fd())?;
    Ok(socket)
}

/// A connected or connecting stream socket: non-blocking, close-on-exec.
///
/// The functions of this module take anything that is a descriptor; this is their owned handle.
/// Dropping it closes it; with unread input that resets a TCP connection, see tcp(7).
#[derive(Debug)]
pub struct Socket(Descriptor);

/// What became of [`Socket::connect_start`].
#[derive(Debug)]
pub enum Connecting {
    /// Connected at once, as Unix sockets are, and TCP on some systems within one machine.
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
    /// `int connect(int fd, const struct sockaddr *address, socklen_t len)`
    ///
    /// Starts to connect to `address`, from `source` where one is given. A source with port 0 lets
    /// the kernel choose the port when it connects, knowing both ends, so that more connections
    /// than there are ports can leave one address (`IP_BIND_ADDRESS_NO_PORT`, Linux); a source with
    /// a port of its own is bound with `SO_REUSEADDR`.
    ///
    /// ```
    /// use myriapod_sys::{ListenOptions, Listener, Socket, SocketAddr};
    ///
    /// let listener =
    ///     Listener::bind(&SocketAddr::from(([127, 0, 0, 1], 0)), &ListenOptions::default())?;
    /// let connecting = Socket::connect_start(&listener.local_address()?, None)?;
    /// // Wait until the socket is writable, then ask it for the outcome.
    /// myriapod_sys::take_error(&connecting.into_socket())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`SystemError::Call`] with `socket`, `bind` or `connect` and the address; among them `EAGAIN` from
    /// a Unix socket whose backlog is full, which nothing will report later: try again after a
    /// while. [`SystemError::InvalidAddress`] for a Unix path that is too long.
    ///
    /// Source: connect(2), ip(7), unix(7).
    pub fn connect_start(address: &SocketAddr, source: Option<&SocketAddr>) -> Result<Connecting> {
        Self::connect_prepared(address, source, None)
    }

    /// The same with `SO_RCVBUF` set to `recv_buffer` bytes before connecting, as
    /// [`set_recv_buffer_size`](crate::set_recv_buffer_size) does: the window that the peer is
    /// offered is small from the start. Set later, a small one can hardly be widened again.
    ///
    /// # Errors
    ///
    /// Those of [`connect_start`](Self::connect_start), and of setting the option.
    ///
    /// Source: tcp(7), "Socket buffer sizes must be set before … connect(2)".
    pub fn connect_start_buffered(address: &SocketAddr, recv_buffer: usize) -> Result<Connecting> {
        Self::connect_prepared(address, None, Some(recv_buffer))
    }

    fn connect_prepared(
        address: &SocketAddr,
        source: Option<&SocketAddr>,
        recv_buffer: Option<usize>,
    ) -> Result<Connecting> {
        let target = Sockaddr::encode(address)?;
        let socket = stream_socket(address)?;
        if let Some(bytes) = recv_buffer {
            super::options::set_recv_buffer_size(&socket, bytes)?;
        }
        if let Some(source) = source {
            if source.port() == Some(0) {
                super::options::set_bind_address_no_port(socket.as_fd());
            } else if source.port().is_some() {
                super::options::set_reuse_address(&socket, true)?;
            }
            bind(socket.as_fd(), &Sockaddr::encode(source)?)
                .map_err(|errno| SystemError::call("bind", errno, source))?;
        }
        match connect(socket.as_fd(), &target) {
            Ok(()) => Ok(Connecting::Done(Self(socket))),
            // An interrupted connect goes on by itself; a second call would not wait for it.
            Err(Errno::EINPROGRESS | Errno::EINTR) => Ok(Connecting::InProgress(Self(socket))),
            Err(errno) => Err(SystemError::call("connect", errno, address)),
        }
    }

    /// `int connect(int fd, const struct sockaddr *address, socklen_t len)`
    ///
    /// Connects to `address` and waits for the outcome, as long as the system has patience (on
    /// Linux about two minutes for a peer that says nothing). The socket is then **blocking**: its
    /// calls wait, unlike those of [`connect_start`](Self::connect_start)'s.
    ///
    /// ```
    /// use myriapod_sys::{ListenOptions, Listener, Socket, SocketAddr};
    ///
    /// let listener =
    ///     Listener::bind(&SocketAddr::from(([127, 0, 0, 1], 0)), &ListenOptions::default())?;
    /// let socket = Socket::connect(&listener.local_address()?)?;
    /// assert_eq!(socket.peer_address()?, listener.local_address()?);
    /// # Ok::<(), myriapod_sys::SystemError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`SystemError::Call`] with `socket`, `fcntl` or `connect` and the address;
    /// [`SystemError::InvalidAddress`] for a Unix path that is too long.
    ///
    /// Source: connect(2).
    pub fn connect(address: &SocketAddr) -> Result<Self> {
        let target = Sockaddr::encode(address)?;
        let socket = Self(stream_socket(address)?);
        socket.set_nonblocking(false)?;
        let connected = match connect(socket.as_fd(), &target) {
            // It goes on by itself; a second call would not wait for it.
            Err(Errno::EINTR) => {
                wait_one(socket.as_fd(), Interest::WRITABLE, None).and_then(|_| socket.take_error())
            }
            connected => connected,
        };
        connected.map_err(|errno| SystemError::call("connect", errno, address))?;
        Ok(socket)
    }

    /// `int socketpair(int domain, int type, int protocol, int fds[2])`: two Unix sockets connected
    /// to each other.
    ///
    /// # Errors
    ///
    /// [`SystemError::Call`], such as `EMFILE`.
    pub fn pair() -> Result<(Self, Self)> {
        nix::sys::socket::socketpair(AddressFamily::Unix, SockType::Stream, None, SOCKET_FLAGS)
            .map_err(Errno::from)
            .and_then(|(one, other)| Ok((Self(prepare(one)?), Self(prepare(other)?))))
            .map_err(|errno| SystemError::call("socketpair", errno, ""))
    }

    /// See [`recv`].
    ///
    /// # Errors
    ///
    /// Those of [`recv`].
    #[inline]
    pub fn recv(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        recv(self, buffer)
    }

    /// See [`recv_append`].
    ///
    /// # Errors
    ///
    /// Those of [`recv_append`].
    #[inline]
    pub fn recv_append(&self, buffer: &mut Vec<u8>) -> Result<usize, Errno> {
        recv_append(self, buffer)
    }

    /// See [`send`].
    ///
    /// # Errors
    ///
    /// Those of [`send`].
    #[inline]
    pub fn send(&self, bytes: &[u8]) -> Result<usize, Errno> {
        send(self, bytes)
    }

    /// See [`send_vectored`].
    ///
    /// # Errors
    ///
    /// Those of [`send_vectored`].
    #[inline]
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

    /// `int fcntl(int fd, F_SETFL, int flags)`: switches `O_NONBLOCK`. A blocking client wants it
    /// off once it is connected.
    ///
    /// # Errors
    ///
    /// [`SystemError::Call`].
    pub fn set_nonblocking(&self, on: bool) -> Result<()> {
        set_nonblocking(self.as_fd(), on)
            .map_err(|errno| SystemError::call("fcntl", errno, "O_NONBLOCK"))
    }
}

/// `int bind(int fd, const struct sockaddr *address, socklen_t len)`
pub(crate) fn bind(fd: BorrowedFd<'_>, address: &Sockaddr) -> Result<(), Errno> {
    // SAFETY: pointer and length are those of one address, borrowed for the call's length.
    check(unsafe { libc::bind(fd.as_raw_fd(), address.as_ptr(), address.len()) })
}

/// `int connect(int fd, const struct sockaddr *address, socklen_t len)`
pub(crate) fn connect(fd: BorrowedFd<'_>, address: &Sockaddr) -> Result<(), Errno> {
    // SAFETY: pointer and length are those of one address, borrowed for the call's length.
    check(unsafe { libc::connect(fd.as_raw_fd(), address.as_ptr(), address.len()) })
}

/// Takes over a connected stream socket as it is: it should be non-blocking.
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
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
