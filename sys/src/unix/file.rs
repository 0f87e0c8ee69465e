//! Regular files: what a socket sends of one, and what is read from one at some place.

use std::os::fd::AsRawFd;

use super::AsFd;
use super::descriptor::retry;
use crate::Errno;

/// `ssize_t pread(int fd, void *buffer, size_t len, off_t offset)`
///
/// Reads from a file at `offset`, at most `most` bytes and no more than `buffer` has spare capacity
/// for, and appends them. `Ok(0)` is the end of the file. The file's own position stays.
///
/// ```
/// use myriapod_sys::read_at;
///
/// let file = std::fs::File::open(std::env::current_exe()?)?;
/// let mut buffer = Vec::with_capacity(64);
/// assert_eq!(read_at(&file, 0, 64, &mut buffer)?, 64);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// Those of pread(2); `EINVAL` where nothing can be read: `most` is 0, or no capacity is spare, or
/// no file has such an offset.
pub fn read_at(
    file: impl AsFd,
    offset: u64,
    most: usize,
    buffer: &mut Vec<u8>,
) -> Result<usize, Errno> {
    let offset = libc::off_t::try_from(offset).map_err(|_| Errno::EINVAL)?;
    let spare = buffer.spare_capacity_mut();
    let (start, len) = (spare.as_mut_ptr(), spare.len().min(most).min(MOST));
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    // SAFETY: `len` bytes of the spare capacity are ours to write for the call's length.
    let read =
        retry(|| unsafe { libc::pread(file.as_fd().as_raw_fd(), start.cast(), len, offset) })?;
    // SAFETY: pread wrote that many bytes behind the old length, and no more than were spare.
    unsafe { buffer.set_len(buffer.len() + read) };
    Ok(read)
}

/// The most that one call asks for: Linux moves a little less than 2 GiB at once, and Apple's systems
/// refuse more than an `int` holds.
const MOST: usize = 0x7fff_f000;

/// `ssize_t sendfile(int socket, int file, off_t *offset, size_t len)`
///
/// Sends a piece of a file, as much as the socket takes of `len` bytes from `offset` on, without
/// `SIGPIPE`. `Ok(0)` is the end of the file. On Linux the bytes do not go through this process;
/// elsewhere they are read and sent, 64 KiB at once.
///
/// # Errors
///
/// Those of sendfile(2): `EAGAIN` where the socket is full, `EPIPE` or `ECONNRESET` where the peer is
/// gone, `EIO`, and `EINVAL` for a file that cannot be sent so.
///
/// Source: sendfile(2).
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn send_file(
    socket: impl AsFd,
    file: impl AsFd,
    offset: u64,
    len: usize,
) -> Result<usize, Errno> {
    let mut offset = libc::off_t::try_from(offset).map_err(|_| Errno::EINVAL)?;
    let (to, from) = (socket.as_fd().as_raw_fd(), file.as_fd().as_raw_fd());
    let _quiet = sigpipe::Blocked::new();
    // SAFETY: `offset` is ours to write for the call's length; both descriptors are borrowed.
    retry(|| unsafe { libc::sendfile(to, from, &raw mut offset, len.min(MOST)) })
}

/// As on Linux, but the bytes are read and sent, 64 KiB at once.
///
/// # Errors
///
/// Those of pread(2) and send(2).
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn send_file(
    socket: impl AsFd,
    file: impl AsFd,
    offset: u64,
    len: usize,
) -> Result<usize, Errno> {
    let mut piece = Vec::with_capacity(len.min(64 << 10));
    if read_at(file, offset, len, &mut piece)? == 0 {
        return Ok(0);
    }
    super::send(socket, &piece)
}

/// sendfile(2) has no `MSG_NOSIGNAL`.
#[cfg(any(target_os = "linux", target_os = "android"))]
mod sigpipe {
    use std::mem::zeroed;
    use std::ptr::null_mut;

    /// `SIGPIPE` is blocked for this thread. One that comes meanwhile is taken away.
    pub(super) struct Blocked {
        before: libc::sigset_t,
        was_pending: bool,
    }

    fn only_sigpipe() -> libc::sigset_t {
        // SAFETY: a set of signals is an array of integers, for which zero is a value.
        let mut set: libc::sigset_t = unsafe { zeroed() };
        // SAFETY: the set is ours to write.
        unsafe { libc::sigemptyset(&raw mut set) };
        // SAFETY: as before; SIGPIPE is a signal.
        unsafe { libc::sigaddset(&raw mut set, libc::SIGPIPE) };
        set
    }

    fn is_pending() -> bool {
        // SAFETY: a set of signals is an array of integers, for which zero is a value.
        let mut pending: libc::sigset_t = unsafe { zeroed() };
        // SAFETY: the set is ours to write.
        unsafe { libc::sigpending(&raw mut pending) };
        // SAFETY: the set was filled in.
        unsafe { libc::sigismember(&raw const pending, libc::SIGPIPE) == 1 }
    }

    impl Blocked {
        pub(super) fn new() -> Self {
            let set = only_sigpipe();
            let was_pending = is_pending();
            // SAFETY: a set of signals is an array of integers, for which zero is a value.
            let mut before: libc::sigset_t = unsafe { zeroed() };
            // SAFETY: both sets live for the call's length, and `before` is ours to write.
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, &raw mut before) };
            Self { before, was_pending }
        }
    }

    impl Drop for Blocked {
        fn drop(&mut self) {
            if !self.was_pending && is_pending() {
                let (set, at_once) = (only_sigpipe(), libc::timespec { tv_sec: 0, tv_nsec: 0 });
                // SAFETY: the set and the time live for the call's length; nobody asks for details.
                unsafe { libc::sigtimedwait(&raw const set, null_mut(), &raw const at_once) };
            }
            // SAFETY: the set is the one that `new` was given by the system.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, null_mut()) };
        }
    }
}
