//! [`Backend`]: the readiness APIs by name.

use std::fmt;
use std::str::FromStr;

use crate::Result;
use crate::world::HAS_PORTABLE;

/// A readiness API.
///
/// ```
/// use myriapod_sys::Backend;
///
/// assert!(Backend::available().contains(&Backend::native()));
/// assert_eq!("poll".parse(), Ok(Backend::Poll));
/// assert_eq!(Backend::Poll.to_string(), "poll");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// Linux's.
    Epoll,
    /// That of macOS and the BSDs.
    Kqueue,
    /// POSIX's; every system has it.
    Poll,
    /// The granddaddy: every system has it, for descriptors below `FD_SETSIZE`.
    Select,
    /// Whatever the crate `polling` finds, for systems with neither epoll nor kqueue. It is there
    /// with the feature `portable`.
    Portable,
}

impl Backend {
    const ALL: [Self; 5] = [Self::Epoll, Self::Kqueue, Self::Poll, Self::Select, Self::Portable];

    /// The best that this system has.
    #[must_use]
    pub const fn native() -> Self {
        if cfg!(has_epoll) {
            Self::Epoll
        } else if cfg!(has_kqueue) {
            Self::Kqueue
        } else if HAS_PORTABLE {
            Self::Portable
        } else {
            Self::Poll
        }
    }

    /// All that this system has, and that are built.
    #[must_use]
    pub const fn available() -> &'static [Self] {
        let all: &[Self] = &[
            #[cfg(has_epoll)]
            Self::Epoll,
            #[cfg(has_kqueue)]
            Self::Kqueue,
            Self::Poll,
            Self::Select,
            Self::Portable,
        ];
        match all {
            [others @ .., Self::Portable] if !HAS_PORTABLE => others,
            all => all,
        }
    }

    /// The name, such as `epoll`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Epoll => "epoll",
            Self::Kqueue => "kqueue",
            Self::Poll => "poll",
            Self::Select => "select",
            Self::Portable => "portable",
        }
    }
}

impl Default for Backend {
    /// The [native](Self::native) one.
    fn default() -> Self {
        Self::native()
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Backend {
    type Err = UnknownBackend;

    /// Finds a backend that this system has by its name.
    fn from_str(name: &str) -> Result<Self, UnknownBackend> {
        let found = Self::available().iter().find(|backend| backend.name() == name);
        found.copied().ok_or_else(|| UnknownBackend {
            name: name.into(),
            elsewhere: Self::ALL.iter().any(|backend| backend.name() == name),
        })
    }
}

/// A name that is no backend of this system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownBackend {
    name: Box<str>,
    /// Whether other systems have it.
    elsewhere: bool,
}

impl fmt::Display for UnknownBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.elsewhere {
            write!(f, "this system has no {}; it has", self.name)?;
        } else {
            write!(f, "unknown backend {:?}; this system has", self.name)?;
        }
        for (nth, backend) in Backend::available().iter().enumerate() {
            f.write_str(if nth == 0 { " " } else { ", " })?;
            f.write_str(backend.name())?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownBackend {}
