//! What fuzzing has to reach and nobody else: compiled under `--cfg fuzzing` alone, which
//! cargo-fuzz sets.

use super::sockaddr::Sockaddr;
use crate::{Result, SocketAddr};

/// The address that a kernel would mean by these bytes.
///
/// # Errors
///
/// [`SystemError::InvalidAddress`](crate::SystemError::InvalidAddress) where they are no address.
pub fn from_the_kernels_form(bytes: &[u8]) -> Result<SocketAddr> {
    let len = libc::socklen_t::try_from(bytes.len()).unwrap_or(libc::socklen_t::MAX);
    // SAFETY: the slice is as long as its length says.
    unsafe { Sockaddr::copy_from(bytes.as_ptr().cast(), len) }.decode()
}

/// The address, written in the kernel's form and read again.
///
/// # Errors
///
/// [`SystemError::InvalidAddress`](crate::SystemError::InvalidAddress) where it has no such form.
pub fn through_the_kernels_form(address: &SocketAddr) -> Result<SocketAddr> {
    Sockaddr::encode(address)?.decode()
}
