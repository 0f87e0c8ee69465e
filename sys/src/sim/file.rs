//! A simulated system has no files.

use super::descriptor::AsFd;
use crate::Errno;

/// See the real one.
///
/// # Errors
///
/// Always `ENOSYS`.
pub fn read_at(
    _file: impl AsFd,
    _offset: u64,
    _most: usize,
    _buffer: &mut Vec<u8>,
) -> Result<usize, Errno> {
    Err(Errno::ENOSYS)
}

/// See the real one.
///
/// # Errors
///
/// Always `ENOSYS`.
pub fn send_file(
    _socket: impl AsFd,
    _file: impl AsFd,
    _offset: u64,
    _len: usize,
) -> Result<usize, Errno> {
    Err(Errno::ENOSYS)
}
