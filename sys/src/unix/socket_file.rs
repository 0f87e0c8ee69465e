//! [`SocketFile`]: the file of a Unix socket, which belongs to the process that bound it.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::{Errno, Result, SocketAddr, SystemError, UnixAddr};

/// The file of a Unix socket that this process has bound, and the duty to remove it.
///
/// Dropping it removes the file, but only if
///
/// - this is the process that bound it: after a fork, the child's copy does nothing;
/// - the path still leads to the same file (device and inode): where somebody removed it and
///   another server bound the path anew, that one's file stays.
///
/// Drop it before the listener is closed. A path on which nobody answers may be bound by another
/// server at any moment. Between the look at the file and its removal another program may still
/// exchange it; no system call does both at once.
///
/// ```
/// use myriapod_sys::{ListenOptions, Listener, SocketAddr, SocketFile, UnixAddr};
///
/// let path = std::env::temp_dir().join(format!("socket-file-{}", std::process::id()));
/// let address = SocketAddr::Unix(UnixAddr::Path(path.clone()));
/// let listener = Listener::bind(&address, &ListenOptions::default())?;
/// let file = SocketFile::of(&address)?.expect("a Unix socket with a path has a file");
/// assert!(path.exists());
/// drop(file);
/// assert!(!path.exists());
/// # drop(listener);
/// # Ok::<(), myriapod_sys::SystemError>(())
/// ```
///
/// Source: unix(7), stat(2), unlink(2).
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
    /// The process that bound it.
    process: u32,
}

impl SocketFile {
    /// The file of a listener that this process has just bound to `address`; `None` where the
    /// address has no file: TCP, an abstract name, an unnamed socket.
    ///
    /// A relative path is remembered as an absolute one, so the working directory may change.
    ///
    /// # Errors
    ///
    /// [`SystemError::Call`] with `stat`: `ENOENT` where somebody removed the file already, `ENOTSOCK`
    /// where something else has its place.
    pub fn of(address: &SocketAddr) -> Result<Option<Self>> {
        let SocketAddr::Unix(UnixAddr::Path(path)) = address else { return Ok(None) };
        let in_stat = |error: std::io::Error| {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or_default());
            SystemError::call("stat", errno, address)
        };
        let path = std::path::absolute(path).map_err(in_stat)?;
        let found = fs::symlink_metadata(&path).map_err(in_stat)?;
        let no_socket = || SystemError::call("stat", Errno::ENOTSOCK, address);
        let identity = identity(&found).ok_or_else(no_socket)?;
        Ok(Some(Self { path, identity, process: std::process::id() }))
    }

    /// Gives the duty up: the file stays, since another process serves its socket now.
    pub fn keep(mut self) {
        // No process has this number.
        self.process = 0;
    }

    /// Where it is, as an absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether dropping it would remove the file.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        let is_same = |found| identity(&found) == Some(self.identity);
        self.process == std::process::id() && fs::symlink_metadata(&self.path).is_ok_and(is_same)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_ours() {
            // Somebody may be faster, which is as well.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Device and inode of a socket's file; `None` for any other file.
pub(crate) fn identity(found: &fs::Metadata) -> Option<(u64, u64)> {
    found.file_type().is_socket().then(|| (found.dev(), found.ino()))
}
