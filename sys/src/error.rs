//! [`SystemError`]: which call failed, why, and on what.

use std::{fmt, io};

use crate::Errno;

/// What the operating system refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SystemError {
    /// A system call failed.
    Call {
        /// The call's name, such as `bind`.
        call: &'static str,
        /// Why.
        errno: Errno,
        /// What it was done to, such as `127.0.0.1:65432`; empty where there is nothing to name.
        on: Box<str>,
    },
    /// This backend or system has no such thing.
    Unsupported {
        /// What was asked for, such as `edge-triggered mode`.
        what: &'static str,
        /// Who was asked, such as `select`.
        by: &'static str,
    },
    /// `select` cannot watch a descriptor this large.
    DescriptorTooLarge {
        /// The descriptor's number.
        descriptor: i32,
        /// The first number that does not fit: `FD_SETSIZE`.
        limit: usize,
    },
    /// The descriptor has an owner within this process already.
    DescriptorOwned {
        /// The descriptor's number.
        descriptor: i32,
    },
    /// Signals are caught already; they belong to the whole process.
    SignalsInstalled,
    /// A host name has no address.
    Resolve {
        /// The name as it was given.
        host: Box<str>,
        /// What getaddrinfo said, such as `EAI_NONAME (Name or service not known)`.
        reason: Box<str>,
    },
    /// Text or bytes that are no address of any family we know.
    InvalidAddress {
        /// What was given.
        given: Box<str>,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl SystemError {
    /// A failed `call` that was done to `on`; an empty `on` is left out of the message.
    #[must_use]
    pub fn call(call: &'static str, errno: Errno, on: impl fmt::Display) -> Self {
        Self::Call { call, errno, on: on.to_string().into() }
    }

    /// The error number, where a system call failed.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Call { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    /// The kind that the standard library has for it: that of the error number, where a system call
    /// failed.
    ///
    /// ```
    /// use std::io::ErrorKind;
    /// use myriapod_sys::{Errno, SystemError};
    ///
    /// let error = SystemError::call("connect", Errno::ECONNREFUSED, "127.0.0.1:65432");
    /// assert_eq!(error.io_kind(), ErrorKind::ConnectionRefused);
    /// ```
    #[must_use]
    pub fn io_kind(&self) -> io::ErrorKind {
        match self {
            Self::Call { errno, .. } => io::Error::from_raw_os_error(errno.raw()).kind(),
            Self::Unsupported { .. } | Self::DescriptorTooLarge { .. } => {
                io::ErrorKind::Unsupported
            }
            Self::DescriptorOwned { .. } | Self::SignalsInstalled => io::ErrorKind::ResourceBusy,
            Self::Resolve { .. } => io::ErrorKind::NotFound,
            Self::InvalidAddress { .. } => io::ErrorKind::InvalidInput,
        }
    }

    /// What to do about it, where that is known of the number and the call: [`Explanation`] speaks
    /// of sockets, and a file or a process that is refused wants something else.
    ///
    /// [`Explanation`]: crate::Explanation
    ///
    /// ```
    /// use myriapod_sys::{Errno, SystemError};
    ///
    /// let error = SystemError::call("accept", Errno::EMFILE, "127.0.0.1:65432");
    /// assert!(error.advice().is_some_and(|advice| advice.contains("ulimit -n")));
    /// ```
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        let Self::Call { call, errno, .. } = self else { return None };
        Some(match (*call, *errno) {
            // The table is about sockets.
            ("pthread_create", Errno::EAGAIN) => {
                "allow more threads (`ulimit -u`, or pids.max of the control group), or run fewer"
            }
            ("pthread_create", Errno::ENOMEM) => "free memory, or run fewer threads",
            ("pthread_create", Errno::EINVAL) => "give a name without a zero byte",
            ("sched_setaffinity", Errno::EPERM) => {
                "a sandbox or a missing privilege forbids it: run without choosing processors"
            }
            ("sched_setaffinity", Errno::EINVAL) => {
                "choose processors that this process may run on: `taskset -p $$` shows them"
            }
            ("pthread_create" | "sched_setaffinity" | "sched_getaffinity", _) => return None,
            _ => errno.explanation().filter(|one| one.is_about(call))?.advice,
        })
    }
}

impl fmt::Display for SystemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call { call, errno, on } if on.is_empty() => write!(f, "{call}: {errno}"),
            Self::Call { call, errno, on } => write!(f, "{call} {on}: {errno}"),
            Self::Unsupported { what, by } => write!(f, "{by} has no {what}"),
            Self::DescriptorTooLarge { descriptor, limit } => write!(
                f,
                "select cannot watch descriptor {descriptor}: it must be below FD_SETSIZE ({limit}); \
                 poll and epoll have no such limit"
            ),
            Self::DescriptorOwned { descriptor } => {
                write!(f, "descriptor {descriptor} has an owner in this process already")
            }
            Self::SignalsInstalled => f.write_str("signals are caught already in this process"),
            Self::Resolve { host, reason } => write!(f, "getaddrinfo {host}: {reason}"),
            Self::InvalidAddress { given, reason } => write!(f, "address {given:?}: {reason}"),
        }
    }
}

impl std::error::Error for SystemError {}

/// Of the kind that [`io_kind`](SystemError::io_kind) says, with the whole error inside.
///
/// ```
/// use std::io;
/// use myriapod_sys::{Errno, SystemError};
///
/// let error = io::Error::from(SystemError::call("bind", Errno::EADDRINUSE, "127.0.0.1:65432"));
/// assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
/// assert_eq!(error.to_string(), "bind 127.0.0.1:65432: EADDRINUSE (Address already in use)");
/// let inside = error.get_ref().and_then(|inside| inside.downcast_ref::<SystemError>());
/// assert_eq!(inside.and_then(SystemError::errno), Some(Errno::EADDRINUSE));
/// ```
impl From<SystemError> for io::Error {
    fn from(error: SystemError) -> Self {
        Self::new(error.io_kind(), error)
    }
}

/// A result whose error names the call.
pub type Result<T, E = SystemError> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_advice_on_files_and_signals_not_about_sockets() {
        for (call, errno) in [
            ("unlink", Errno::EACCES),
            ("unlink", Errno::EISDIR),
            ("open", Errno::ENODEV),
            ("fcntl F_SETFL", Errno::EPERM),
            ("write", Errno::EAGAIN),
            ("setrlimit", Errno::EPERM),
        ] {
            assert_eq!(SystemError::call(call, errno, "").advice(), None, "{call} {errno}");
        }
        for (call, errno, word) in [
            ("open", Errno::EMFILE, "RLIMIT_NOFILE"),
            ("pipe", Errno::ENFILE, "fs.file-max"),
            ("eventfd", Errno::ENOMEM, "free"),
            ("setsockopt TCP_KEEPIDLE", Errno::ENOPROTOOPT, "option"),
            ("epoll_create1", Errno::EMFILE, "RLIMIT_NOFILE"),
            ("sendmsg", Errno::EPIPE, "closed"),
        ] {
            let advice = SystemError::call(call, errno, "").advice();
            assert!(
                advice.is_some_and(|advice| advice.contains(word)),
                "{call} {errno}: {advice:?}"
            );
        }
    }

    #[test]
    fn does_every_errno_keep_its_kind_on_the_way_to_std() {
        for explanation in Errno::explanations() {
            let errno = explanation.errno;
            let error = io::Error::from(SystemError::call("recv", errno, ""));
            assert_eq!(error.kind(), io::Error::from_raw_os_error(errno.raw()).kind());
            let inside = error.into_inner().unwrap().downcast::<SystemError>().unwrap();
            assert_eq!(*inside, SystemError::call("recv", errno, ""));
        }
        assert_eq!(
            io::Error::from(SystemError::SignalsInstalled).kind(),
            io::ErrorKind::ResourceBusy
        );
    }

    #[test]
    fn is_advice_on_threads_not_about_sockets() {
        for call in ["pthread_create", "sched_setaffinity", "sched_getaffinity"] {
            for explanation in Errno::explanations() {
                let advice = SystemError::call(call, explanation.errno, "").advice();
                assert_ne!(advice, Some(explanation.advice), "{call} {}", explanation.name);
            }
        }
        for (call, errno, word) in [
            ("pthread_create", Errno::EAGAIN, "threads"),
            ("pthread_create", Errno::ENOMEM, "threads"),
            ("pthread_create", Errno::EINVAL, "name"),
            ("sched_setaffinity", Errno::EPERM, "privilege"),
            ("sched_setaffinity", Errno::EINVAL, "processors"),
            ("recv", Errno::EAGAIN, "poller"),
            ("connect", Errno::EPERM, "firewall"),
        ] {
            let advice = SystemError::call(call, errno, "").advice();
            assert!(
                advice.is_some_and(|advice| advice.contains(word)),
                "{call} {errno}: {advice:?}"
            );
        }
    }
}
