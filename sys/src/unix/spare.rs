//! [`SpareDescriptor`]: one descriptor kept back for when there are none left.

use std::os::fd::AsFd;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::{Descriptor, Errno, Result, SystemError, accept};

/// An open descriptor of no use, to be given up when `accept` says `EMFILE`.
///
/// A peer that cannot be accepted because no descriptor is free would wait in the backlog without a
/// word. With the spare's place free for a moment, it can be accepted and closed.
#[derive(Debug)]
pub struct SpareDescriptor(Option<Descriptor>);

impl SpareDescriptor {
    /// `int open("/dev/null", O_RDONLY | O_CLOEXEC)`
    ///
    /// # Errors
    ///
    /// [`SystemError::Call`], such as `EMFILE`.
    pub fn open() -> Result<Self> {
        let spare = open_null().map_err(|errno| SystemError::call("open", errno, "/dev/null"))?;
        Ok(Self(Some(spare)))
    }

    /// Whether a descriptor is kept back at the moment.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        self.0.is_some()
    }

    /// Accepts one peer in the spare's place and closes it at once: `true` if there was one,
    /// `false` if nobody waits.
    ///
    /// The spare is then opened anew. Should another thread have taken its place meanwhile, that
    /// fails, and is tried again by the next call.
    ///
    /// # Errors
    ///
    /// Those of [`accept`]; `EMFILE` or `ENFILE` where no spare was held and no descriptor is free.
    pub fn turn_away(&mut self, listener: impl AsFd) -> Result<bool, Errno> {
        self.0 = None;
        let accepted = accept(listener).map(drop);
        self.0 = open_null().ok();
        match accepted {
            Ok(()) => Ok(true),
            Err(errno) if errno.would_block() => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}

fn open_null() -> Result<Descriptor, Errno> {
    Ok(open("/dev/null", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?)
}
