//! The one door of a connection: bytes come in, bytes go out, our side ends.
//!
//! Nothing else in this crate receives or sends. What stands between a socket and its messages (a
//! record layer, for example) has its place here.

use std::io::IoSlice;
use std::time::Duration;

use myriapod_sys::{self as sys, BorrowedFd, Errno, Shutdown};

/// Receives once, into the free capacity of `buffer`. 0 is the end of the stream, or a full buffer.
#[inline]
pub(crate) fn receive(source: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> Result<usize, Errno> {
    sys::recv_append(source, buffer)
}

/// Sends once; the system may take only a part.
#[inline]
pub(crate) fn send(source: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    sys::send(source, bytes)
}

/// Sends once from several pieces, in their order; the system may take only a part.
pub(crate) fn send_vectored(
    source: BorrowedFd<'_>,
    pieces: &[IoSlice<'_>],
) -> Result<usize, Errno> {
    sys::send_vectored(source, pieces)
}

/// Ends our side: the peer sees the end of the stream behind what was sent.
pub(crate) fn finish(source: BorrowedFd<'_>) -> Result<(), Errno> {
    sys::shutdown(source, Shutdown::Write)
}

/// Has the socket reset the connection when it is closed.
pub(crate) fn reset(source: BorrowedFd<'_>) -> sys::Result<()> {
    sys::set_linger(source, Some(Duration::ZERO))
}
