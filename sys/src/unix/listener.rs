//! [`Listener`] and [`accept`]: where connections come in.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::fcntl::AT_FDCWD;
use nix::sys::socket::{SockType, getsockopt, sockopt};
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat};

use super::descriptor::{retry, set_close_on_exec, set_nonblocking};
use super::options;
use super::sockaddr::Sockaddr;
use super::socket::{bind, check, connect, local_address, prepare, stream_socket};
use super::socket_file::identity;
use crate::{
    Descriptor, Errno, ListenOptions, Result, SocketAddr, SocketFile, SystemError, UnixAddr,
};

/// A listening stream socket: non-blocking, close-on-exec.
///
/// Dropping it closes it; the file of a Unix socket stays.
#[derive(Debug)]
pub struct Listener(Descriptor);

impl Listener {
    /// `int bind(int fd, const struct sockaddr *address, socklen_t len)` and
    /// `int listen(int fd, int backlog)`
    ///
    /// ```
    /// use myriapod_sys::{ListenOptions, Listener, SocketAddr};
    ///
    /// let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    /// let listener = Listener::bind(&any_port, &ListenOptions::default())?;
    /// let taken = listener.local_address()?;
    /// let error = Listener::bind(&taken, &ListenOptions::default()).unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     format!("bind {taken}: EADDRINUSE (Address already in use)"),
    /// );
    /// # Ok::<(), myriapod_sys::SystemError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`SystemError::Call`] with `socket`, `setsockopt`, `bind`, `listen` or, for a Unix socket,
    /// `unlink` of a stale file, `chmod`; [`SystemError::InvalidAddress`] for a Unix path that is too long.
    ///
    /// Source: bind(2), listen(2), unix(7).
    pub fn bind(address: &SocketAddr, options: &ListenOptions) -> Result<Self> {
        let socket = Self::bind_only(address, options)?;
        let backlog = i32::try_from(options.backlog).unwrap_or(i32::MAX);
        // SAFETY: no memory is involved; the descriptor is open.
        check(unsafe { libc::listen(socket.as_raw_fd(), backlog) })
            .map_err(|errno| SystemError::call("listen", errno, address))?;
        Ok(Self(socket))
    }

    /// Asks whether `address` can be bound, by binding it for a moment without listening: nobody
    /// can connect meanwhile. With `SO_REUSEPORT` a listener would silently share the port with
    /// another program of the same user; asked without it first, the port is known to be free.
    ///
    /// ```
    /// use myriapod_sys::{ListenOptions, Listener, SocketAddr};
    ///
    /// let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
    /// let listener = Listener::bind(&SocketAddr::from(([127, 0, 0, 1], 0)), &options)?;
    /// let taken = listener.local_address()?;
    /// assert!(Listener::bind(&taken, &options).is_ok(), "it would be shared");
    /// assert!(Listener::probe(&taken, &ListenOptions::default()).is_err());
    /// # Ok::<(), myriapod_sys::SystemError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`bind`](Self::bind). The address of a Unix socket cannot be asked about without
    /// making its file, so that is [`SystemError::Unsupported`].
    pub fn probe(address: &SocketAddr, options: &ListenOptions) -> Result<()> {
        if address.is_unix() {
            return Err(SystemError::Unsupported { what: "probe", by: "a Unix socket" });
        }
        Self::bind_only(address, options).map(drop)
    }

    fn bind_only(address: &SocketAddr, options: &ListenOptions) -> Result<Descriptor> {
        let target = Sockaddr::encode(address)?;
        let socket = stream_socket(address)?;
        if !address.is_unix() {
            if options.reuse_address {
                options::set_reuse_address(&socket, true)?;
            }
            if options.reuse_port {
                options::set_reuse_port(&socket, true)?;
            }
            if options.nodelay {
                options::set_nodelay(&socket, true)?;
            }
            if let Some(bytes) = options.max_unsent {
                match options::set_max_unsent(&socket, bytes) {
                    Err(SystemError::Unsupported { .. }) => {}
                    set => set?,
                }
            }
        }
        // Accepted sockets inherit both. The peer is told the window when it connects, so it has to
        // be known before.
        if let Some(bytes) = options.receive_buffer {
            options::set_recv_buffer_size(&socket, bytes)?;
        }
        if let Some(bytes) = options.send_buffer {
            options::set_send_buffer_size(&socket, bytes)?;
        }
        if let (SocketAddr::V6(_), Some(only)) = (address, options.v6_only) {
            options::set_v6_only(&socket, only)?;
        }
        let mode = options.unix_mode.map(|mode| mode & 0o777).filter(|_| address.is_unix());
        if let Some(mode) = mode {
            // On Linux the file begins with the mode of its socket, less the umask: never more than
            // was asked for. Other systems refuse, and there it is `chmod` alone.
            let _ = fchmod(&socket, permissions(mode));
        }
        let in_bind = |errno| SystemError::call("bind", errno, address);
        match bind(socket.as_fd(), &target) {
            Err(Errno::EADDRINUSE) if options.remove_stale_unix => {
                let SocketAddr::Unix(UnixAddr::Path(path)) = address else {
                    return Err(in_bind(Errno::EADDRINUSE));
                };
                remove_stale(path, address, &target)?;
                bind(socket.as_fd(), &target).map_err(in_bind)?;
            }
            bound => bound.map_err(in_bind)?,
        }
        if let (Some(mode), SocketAddr::Unix(UnixAddr::Path(path))) = (mode, address) {
            // Before it listens: a connect is still refused, whatever the file's mode is.
            set_mode(path, mode, address)?;
        }
        Ok(socket)
    }

    /// Takes over a socket that listens already, such as one that came from outside: makes it
    /// non-blocking (for every process that holds it) and close-on-exec.
    ///
    /// # Errors
    ///
    /// [`SystemError::Call`]: `ENOTSOCK` where it is no socket, `EINVAL` where it is no stream socket or
    /// does not listen; [`SystemError::InvalidAddress`] where it is of a family that we do not know.
    pub fn adopt(descriptor: Descriptor) -> Result<Self> {
        let in_call = |call| move |errno: nix::Error| SystemError::call(call, errno.into(), "");
        let kind =
            getsockopt(&descriptor, sockopt::SockType).map_err(in_call("getsockopt SO_TYPE"))?;
        if kind != SockType::Stream {
            return Err(SystemError::call("getsockopt SO_TYPE", Errno::EINVAL, "no stream socket"));
        }
        if !getsockopt(&descriptor, sockopt::AcceptConn)
            .map_err(in_call("getsockopt SO_ACCEPTCONN"))?
        {
            return Err(SystemError::call(
                "getsockopt SO_ACCEPTCONN",
                Errno::EINVAL,
                "a socket that does not listen",
            ));
        }
        local_address(&descriptor)?;
        set_nonblocking(descriptor.as_fd(), true)
            .and_then(|()| set_close_on_exec(descriptor.as_fd()))
            .map_err(|errno| SystemError::call("fcntl", errno, "listener"))?;
        Ok(Self(descriptor))
    }

    /// `int fcntl(int fd, F_SETFL, int flags)`: switches `O_NONBLOCK`. With it off,
    /// [`accept`](Self::accept) waits for a peer; what it returns is non-blocking all the same.
    ///
    /// # Errors
    ///
    /// [`SystemError::Call`].
    pub fn set_nonblocking(&self, on: bool) -> Result<()> {
        set_nonblocking(self.as_fd(), on)
            .map_err(|errno| SystemError::call("fcntl", errno, "O_NONBLOCK"))
    }

    /// See [`accept`].
    ///
    /// # Errors
    ///
    /// Those of [`accept`].
    pub fn accept(&self) -> Result<(Descriptor, SocketAddr), Errno> {
        accept(self)
    }

    /// Where it listens, with the port that the kernel chose where 0 was asked for.
    ///
    /// # Errors
    ///
    /// Those of [`local_address`].
    pub fn local_address(&self) -> Result<SocketAddr> {
        local_address(self)
    }
}

fn permissions(mode: u32) -> Mode {
    // The type has 16 bits on some systems, and these are nine.
    #[allow(clippy::useless_conversion, reason = "not on every system")]
    Mode::from_bits_truncate(mode.try_into().unwrap_or_default())
}

/// Gives the file of a Unix socket that was just bound these permissions. Where that fails, the file
/// goes.
fn set_mode(path: &Path, mode: u32, address: &SocketAddr) -> Result<()> {
    let file = SocketFile::of(address)?;
    let has_it = |found: fs::Metadata| found.permissions().mode() & 0o777 == mode;
    if !fs::symlink_metadata(path).is_ok_and(has_it) {
        // Somebody may have put a link in its place, which is not followed.
        fchmodat(AT_FDCWD, path, permissions(mode), FchmodatFlags::NoFollowSymlink)
            .map_err(|errno| SystemError::call("chmod", errno.into(), address))?;
    }
    if let Some(file) = file {
        file.keep();
    }
    Ok(())
}

/// Removes the file of a Unix socket that refuses connections; anything else stays `EADDRINUSE`.
///
/// Between the question and the removal somebody may bind the path anew; that the file is still
/// the same one makes this unlikely, and nothing makes it impossible.
fn remove_stale(path: &Path, address: &SocketAddr, target: &Sockaddr) -> Result<()> {
    let in_use = || SystemError::call("bind", Errno::EADDRINUSE, address);
    let socket_file = || identity(&fs::symlink_metadata(path).ok()?);
    let before = socket_file().ok_or_else(in_use)?;
    let probe = stream_socket(address)?;
    if connect(probe.as_fd(), target) != Err(Errno::ECONNREFUSED) || socket_file() != Some(before) {
        return Err(in_use());
    }
    nix::unistd::unlink(path).map_err(|errno| SystemError::call("unlink", errno.into(), address))
}

/// `int accept4(int fd, struct sockaddr *address, socklen_t *len, int flags)`
///
/// Accepts one connection, non-blocking and close-on-exec, with its peer's address. Allocates
/// nothing, except for a Unix peer that has a name.
///
/// # Errors
///
/// Those of accept(2); `EAGAIN` where nobody waits. `ECONNABORTED` also where the peer was gone
/// before its address could be told, and `EAFNOSUPPORT` where its family is none that we know; the
/// connection is then closed.
pub fn accept(listener: impl AsFd) -> Result<(Descriptor, SocketAddr), Errno> {
    accept_raw(listener.as_fd())
}

fn accept_raw(listener: BorrowedFd<'_>) -> Result<(Descriptor, SocketAddr), Errno> {
    let listener = listener.as_raw_fd();
    let mut address = Sockaddr::empty();
    let (to, len) = address.as_out();
    // SAFETY: both pointers are ours to write for the call's length, and `len` holds the room,
    // which an interrupted call leaves alone.
    #[cfg(not(target_vendor = "apple"))]
    let number = retry(|| unsafe {
        libc::accept4(listener, to, len, libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) as isize
    })?;
    // SAFETY: as above.
    #[cfg(target_vendor = "apple")]
    let number = retry(|| unsafe { libc::accept(listener, to, len) as isize })?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "was an int")]
    let number = number as libc::c_int;
    // SAFETY: the kernel has just opened it for us, and nobody else knows of it.
    let socket = prepare(unsafe { Descriptor::from_raw_fd(number) })?;
    // Apple's systems give no address for a peer that has left meanwhile.
    if address.len() == 0 {
        return Err(Errno::ECONNABORTED);
    }
    match address.decode() {
        Ok(peer) => Ok((socket, peer)),
        Err(_) => Err(Errno::EAFNOSUPPORT),
    }
}

/// Takes over a listening stream socket as it is: it should be non-blocking, as
/// [`adopt`](Listener::adopt) makes it.
impl From<Descriptor> for Listener {
    fn from(descriptor: Descriptor) -> Self {
        Self(descriptor)
    }
}

impl From<Listener> for Descriptor {
    fn from(listener: Listener) -> Self {
        listener.0
    }
}

impl AsFd for Listener {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
