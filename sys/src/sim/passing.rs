//! Other processes. A simulated machine has none yet, so nothing can be passed to them.

use super::descriptor::{AsFd, BorrowedFd, Descriptor};
use crate::{Errno, Result, SystemError};

/// The most descriptors that would be passed at once.
pub const MAX_PASSED: usize = 253;

/// `EOPNOTSUPP`: there is nobody to pass them to.
///
/// # Errors
///
/// Always.
pub fn send_descriptors(
    _fd: impl AsFd,
    _bytes: &[u8],
    _descriptors: &[BorrowedFd<'_>],
) -> Result<usize, Errno> {
    Err(Errno::EOPNOTSUPP)
}

/// `EOPNOTSUPP`: nobody passes any.
///
/// # Errors
///
/// Always.
pub fn recv_descriptors(
    _fd: impl AsFd,
    _bytes: &mut Vec<u8>,
    _descriptors: &mut Vec<Descriptor>,
) -> Result<usize, Errno> {
    Err(Errno::EOPNOTSUPP)
}

/// Nobody is at the other end.
///
/// # Errors
///
/// Always.
pub fn peer_user(_fd: impl AsFd) -> Result<u32> {
    Err(SystemError::Unsupported { what: "the user of a peer", by: "the simulated system" })
}

/// The only user.
#[must_use]
pub fn user() -> u32 {
    0
}

/// The only process.
#[must_use]
pub fn pid() -> u32 {
    1
}
