//! Descriptors that pass to another process over a Unix socket, and who is at its other end.

use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};

use super::descriptor::{retry, set_close_on_exec};
use super::socket::SEND_FLAGS;
use crate::{Descriptor, Errno, Result, SystemError};

/// The most descriptors that [`send_descriptors`] passes at once: what Linux allows.
pub const MAX_PASSED: usize = 253;

/// Room for the control message of so many descriptors, aligned as the system wants it.
#[repr(align(16))]
struct Control([u8; CONTROL]);

/// Their bytes, and far more than the header of a control message takes on any system.
const CONTROL: usize = MAX_PASSED * size_of::<libc::c_int>() + 64;

/// `ssize_t sendmsg(int fd, const struct msghdr *message, int flags)` with `SCM_RIGHTS`
///
/// Sends bytes, and duplicates of descriptors with the first of them, to the process at the other end
/// of a Unix stream socket. Our own stay open. The other end gets them with [`recv_descriptors`].
/// Returns how many bytes the socket took: at least one of them, and all descriptors, or nothing.
///
/// ```
/// use std::os::fd::AsFd;
/// use myriapod_sys::{Socket, recv_descriptors, send, send_descriptors};
///
/// let (ours, theirs) = Socket::pair()?;
/// let (passed, other_end) = Socket::pair()?;
/// assert_eq!(send_descriptors(&ours, b"take it", &[passed.as_fd()])?, 7);
///
/// let (mut bytes, mut descriptors) = (Vec::with_capacity(16), Vec::new());
/// recv_descriptors(&theirs, &mut bytes, &mut descriptors)?;
/// assert_eq!((&bytes[..], descriptors.len()), (&b"take it"[..], 1));
/// drop(passed);
/// send(&other_end, b"still open")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// Those of sendmsg(2); `EAGAIN` where the socket is full; `EINVAL` without bytes, or with more than
/// [`MAX_PASSED`] descriptors; `ETOOMANYREFS` where too many are on their way.
///
/// Source: unix(7), cmsg(3).
pub fn send_descriptors(
    fd: impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<usize, Errno> {
    if bytes.is_empty() || descriptors.len() > MAX_PASSED {
        return Err(Errno::EINVAL);
    }
    let numbers: Vec<libc::c_int> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let mut control = Control([0; CONTROL]);
    let mut piece =
        libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut message = message(&mut piece, &mut control);
    let payload = size_of_val(&numbers[..]);
    let (space, len) = (space(payload), length(payload));
    #[allow(clippy::useless_conversion, reason = "the type differs between systems")]
    {
        message.msg_controllen = space.try_into().map_err(|_| Errno::EINVAL)?;
    }
    if numbers.is_empty() {
        message.msg_control = std::ptr::null_mut();
        message.msg_controllen = 0;
    } else {
        // SAFETY: `message` has a control buffer, and its length is more than a header's.
        let first = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
        // SAFETY: the header lies in `control`, which is zeroed, aligned for it, and ours to write.
        let header = unsafe { first.as_mut() }.ok_or(Errno::EINVAL)?;
        header.cmsg_level = libc::SOL_SOCKET;
        header.cmsg_type = libc::SCM_RIGHTS;
        #[allow(clippy::useless_conversion, reason = "the type differs between systems")]
        {
            header.cmsg_len = len.try_into().map_err(|_| Errno::EINVAL)?;
        }
        // SAFETY: `first` is a header within `control`.
        let data = unsafe { libc::CMSG_DATA(first) };
        // SAFETY: `space` bytes of `control` belong to this message, so `payload` bytes fit at `data`;
        // `numbers` is as long and lies elsewhere.
        unsafe { data.copy_from_nonoverlapping(numbers.as_ptr().cast(), payload) };
    }
    // SAFETY: what `message` points to outlives the call, which only reads it; the descriptors are
    // borrowed, so they are open.
    retry(|| unsafe { libc::sendmsg(fd.as_fd().as_raw_fd(), &raw const message, SEND_FLAGS) })
}

/// `ssize_t recvmsg(int fd, struct msghdr *message, int flags)` with `SCM_RIGHTS`
///
/// Receives into the spare capacity of `bytes`, as [`recv_append`](crate::recv_append), and appends the
/// descriptors that came with them, close-on-exec. See [`send_descriptors`].
///
/// # Errors
///
/// Those of recvmsg(2); `EAGAIN` where nothing is there; `EINVAL` where no capacity is spare;
/// `EMFILE` where descriptors were lost on the way, most likely since this process has no room for
/// them. Those that came are closed then.
///
/// Source: unix(7), cmsg(3).
pub fn recv_descriptors(
    fd: impl AsFd,
    bytes: &mut Vec<u8>,
    descriptors: &mut Vec<Descriptor>,
) -> Result<usize, Errno> {
    let spare = bytes.spare_capacity_mut();
    if spare.is_empty() {
        return Err(Errno::EINVAL);
    }
    let mut control = Control([0; CONTROL]);
    let mut piece = libc::iovec { iov_base: spare.as_mut_ptr().cast(), iov_len: spare.len() };
    let mut message = message(&mut piece, &mut control);
    #[cfg(not(target_vendor = "apple"))]
    let flags = libc::MSG_CMSG_CLOEXEC;
    #[cfg(target_vendor = "apple")]
    let flags = 0;
    let number = fd.as_fd().as_raw_fd();
    // SAFETY: what `message` points to is ours to write for the call's length.
    let received = retry(|| unsafe { libc::recvmsg(number, &raw mut message, flags) })?;
    let before = descriptors.len();
    // SAFETY: recvmsg has filled `message`, whose control buffer is still there.
    let mut at = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: `at` is null or a header within `control`, as the two functions promise.
    while let Some(header) = unsafe { at.as_ref() } {
        if header.cmsg_level == libc::SOL_SOCKET && header.cmsg_type == libc::SCM_RIGHTS {
            #[allow(clippy::useless_conversion, reason = "the type differs between systems")]
            let whole: usize = header.cmsg_len.try_into().unwrap_or_default();
            let count = whole.saturating_sub(length(0)) / size_of::<libc::c_int>();
            // SAFETY: `at` is a header within `control`.
            let data = unsafe { libc::CMSG_DATA(at) }.cast::<libc::c_int>();
            for nth in 0..count {
                // SAFETY: the message holds `count` numbers, so the place lies within `control`.
                let place = unsafe { data.add(nth) };
                // SAFETY: as above; nothing is said of its alignment, so none is assumed.
                let number = unsafe { place.read_unaligned() };
                // SAFETY: the kernel has just opened it for us, and nobody else knows of it.
                descriptors.push(unsafe { Descriptor::from_raw_fd(number) });
            }
        }
        // SAFETY: both lie within what recvmsg has filled.
        at = unsafe { libc::CMSG_NXTHDR(&raw const message, at) };
    }
    // SAFETY: recvmsg wrote that many bytes behind the old length, and no more than were spare.
    unsafe { bytes.set_len(bytes.len() + received) };
    if message.msg_flags & libc::MSG_CTRUNC != 0 {
        descriptors.truncate(before);
        return Err(Errno::EMFILE);
    }
    if cfg!(target_vendor = "apple") {
        for descriptor in descriptors.iter().skip(before) {
            set_close_on_exec(descriptor.as_fd())?;
        }
    }
    Ok(received)
}

/// A message of one piece, with a control buffer.
fn message(piece: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: it is numbers and pointers, all of which may be zero.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = piece;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    #[allow(clippy::useless_conversion, reason = "the type differs between systems")]
    {
        message.msg_controllen = CONTROL.try_into().unwrap_or_default();
    }
    message
}

/// Bytes of a control message with a payload of so many, the padding behind it included.
fn space(payload: usize) -> usize {
    let payload = payload.try_into().unwrap_or(u32::MAX);
    // SAFETY: it computes with a number, and touches no memory.
    let space = unsafe { libc::CMSG_SPACE(payload) };
    space as usize
}

/// The same without the padding.
fn length(payload: usize) -> usize {
    let payload = payload.try_into().unwrap_or(u32::MAX);
    // SAFETY: it computes with a number, and touches no memory.
    let length = unsafe { libc::CMSG_LEN(payload) };
    length as usize
}

/// `int getsockopt(int sockfd, int level, int optname, void *optval, socklen_t *optlen)`
///
/// The user that the process at the other end of a Unix socket had when it connected or listened:
/// `SO_PEERCRED`, or `int getpeereid(int fd, uid_t *user, gid_t *group)`.
///
/// ```
/// use myriapod_sys::{Socket, peer_user, user};
///
/// let (ours, _theirs) = Socket::pair()?;
/// assert_eq!(peer_user(&ours)?, user());
/// # Ok::<(), myriapod_sys::SystemError>(())
/// ```
///
/// # Errors
///
/// [`SystemError::Call`]; [`SystemError::Unsupported`] where the system has neither.
///
/// Source: unix(7), getpeereid(3).
pub fn peer_user(fd: impl AsFd) -> Result<u32> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        nix::sys::socket::getsockopt(&fd, nix::sys::socket::sockopt::PeerCredentials)
            .map(|credentials| credentials.uid())
            .map_err(|errno| SystemError::call("getsockopt SO_PEERCRED", errno.into(), ""))
    }
    #[cfg(any(
        target_vendor = "apple",
        target_os = "freebsd",
        target_os = "netbsd",
        target_os = "openbsd",
        target_os = "dragonfly",
    ))]
    {
        let (mut user, mut group) = (0, 0);
        let number = fd.as_fd().as_raw_fd();
        // SAFETY: both are ours to write for the call's length; the descriptor is borrowed.
        let done = unsafe { libc::getpeereid(number, &raw mut user, &raw mut group) };
        if done == 0 { Ok(user) } else { Err(SystemError::call("getpeereid", Errno::last(), "")) }
    }
    #[cfg(not(any(
        target_os = "linux",
        target_os = "android",
        target_vendor = "apple",
        target_os = "freebsd",
        target_os = "netbsd",
        target_os = "openbsd",
        target_os = "dragonfly",
    )))]
    {
        let _ = fd;
        Err(SystemError::Unsupported { what: "the user of a peer", by: std::env::consts::OS })
    }
}

/// `uid_t geteuid(void)`: the user whose rights this process has.
///
/// Source: geteuid(2).
#[must_use]
pub fn user() -> u32 {
    // SAFETY: it touches no memory and cannot fail.
    unsafe { libc::geteuid() }
}
