//! What is set on every descriptor, and the pipes that some of us need.

use std::os::fd::BorrowedFd;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};

use crate::Errno;

/// An open descriptor and the duty to close it. The rest of the project says this name, so that
/// a simulated system can stand in for the real one.
pub type Descriptor = std::os::fd::OwnedFd;

/// `int fcntl(int fd, F_SETFL, int flags)`: switches `O_NONBLOCK`, leaving the other flags alone.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>, on: bool) -> Result<(), Errno> {
    let before = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    let mut after = before;
    after.set(OFlag::O_NONBLOCK, on);
    if after != before {
        fcntl(fd, FcntlArg::F_SETFL(after))?;
    }
    Ok(())
}

/// `int fcntl(int fd, F_SETFD, int flags)`: the descriptor will not survive an exec.
pub(crate) fn set_close_on_exec(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let before = FdFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFD)?);
    if !before.contains(FdFlag::FD_CLOEXEC) {
        fcntl(fd, FcntlArg::F_SETFD(before | FdFlag::FD_CLOEXEC))?;
    }
    Ok(())
}

/// `int pipe2(int fds[2], int flags)`: reading and writing end, non-blocking and close-on-exec.
#[cfg(not(target_vendor = "apple"))]
pub(crate) fn pipe() -> Result<(Descriptor, Descriptor), Errno> {
    Ok(nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?)
}

/// `int pipe(int fds[2])`: reading and writing end, made non-blocking and close-on-exec.
#[cfg(target_vendor = "apple")]
pub(crate) fn pipe() -> Result<(Descriptor, Descriptor), Errno> {
    use std::os::fd::AsFd;

    let ends = nix::unistd::pipe()?;
    for end in [ends.0.as_fd(), ends.1.as_fd()] {
        set_close_on_exec(end)?;
        set_nonblocking(end, true)?;
    }
    Ok(ends)
}

/// Calls again for as long as a signal interrupts; a negative result becomes the error number.
#[inline]
pub(crate) fn retry(mut call: impl FnMut() -> isize) -> Result<usize, Errno> {
    loop {
        if let Ok(done) = usize::try_from(call()) {
            return Ok(done);
        }
        let errno = Errno::last();
        if errno != Errno::EINTR {
            return Err(errno);
        }
    }
}
