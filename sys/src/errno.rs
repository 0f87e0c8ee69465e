//! [`Errno`]: a system error number, and what it means to a program that uses sockets.

use std::fmt;

/// A system error number.
///
/// ```
/// use myriapod_sys::Errno;
///
/// assert_eq!(Errno::EADDRINUSE.to_string(), "EADDRINUSE (Address already in use)");
/// assert_eq!(Errno::from_name("EWOULDBLOCK"), Some(Errno::EAGAIN));
/// ```
///
/// Source: errno(3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Errno(i32);

/// What an error number means to a program that uses sockets, and what the program or its user can
/// do about it. The one source for messages, documentation and `myriapod errors`.
///
/// ```
/// use myriapod_sys::Errno;
///
/// let refused = Errno::ECONNREFUSED.explanation().expect("connect returns it");
/// assert!(refused.calls.contains(&"connect"));
/// println!("{}: {}", refused.meaning, refused.advice);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// The number.
    pub errno: Errno,
    /// Its name.
    pub name: &'static str,
    /// The calls that return it; `send` and `recv` stand for their relatives too.
    pub calls: &'static [&'static str],
    /// What it means, as the part of a sentence.
    pub meaning: &'static str,
    /// What to do, as the part of a sentence.
    pub advice: &'static str,
}

impl Explanation {
    /// Whether it speaks of `call`, behind which may stand what was asked of it.
    pub(crate) fn is_about(&self, call: &str) -> bool {
        // Whatever opens a descriptor may find none left.
        let is_of_all =
            self.calls.len() == EVERY.len() || matches!(self.errno, Errno::EMFILE | Errno::ENFILE);
        is_of_all || self.calls.iter().any(|known| call.starts_with(known))
    }
}

/// The calls that an [`Explanation`] may name.
const EVERY: &[&str] = &[
    "accept",
    "bind",
    "close",
    "connect",
    "dup",
    "epoll_create",
    "epoll_ctl",
    "epoll_wait",
    "getpeername",
    "getsockname",
    "getsockopt",
    "kevent",
    "listen",
    "poll",
    "recv",
    "select",
    "send",
    "setsockopt",
    "shutdown",
    "socket",
    "socketpair",
];

macro_rules! errnos {
    ($($(#[$gate:meta])* $name:ident $calls:expr, $meaning:literal, $advice:literal;)*) => {
        impl Errno {
            $($(#[$gate])*
            #[doc = concat!("`", stringify!($name), "`: ", $meaning, ".\n\nWhat to do: ", $advice, ".")]
            pub const $name: Self = Self(libc::$name);)*
        }

        /// In the order of their names.
        const EXPLANATIONS: &[Explanation] = &[
            $($(#[$gate])* Explanation {
                errno: Errno::$name,
                name: stringify!($name),
                calls: $calls,
                meaning: $meaning,
                advice: $advice,
            },)*
        ];
    };
}

#[rustfmt::skip]
errnos! {
    EACCES &["socket", "bind", "connect", "listen", "send", "getsockopt"],
        "this is forbidden: a port below 1024, a path that you may not use, or a broadcast without SO_BROADCAST",
        "choose a port above 1023 or another path, or run with the privilege";
    EADDRINUSE &["bind", "listen", "connect"],
        "another socket has this address: a running server, or, without SO_REUSEADDR, connections of an earlier one in TIME-WAIT",
        "`myriapod sockets --port N` shows who has it; set SO_REUSEADDR, choose another port, or 0 for any";
    EADDRNOTAVAIL &["bind", "connect"],
        "no interface of this machine has that address; for connect, no local port may be left",
        "bind to 127.0.0.1, or to '' for every interface; connect from more than one source address";
    EAFNOSUPPORT &["socket", "bind", "connect", "send", "socketpair"],
        "the system has no such address family (is IPv6 off?), or the address is of another family than the socket",
        "make each socket for the address that the name resolved to";
    EAGAIN &["accept", "connect", "recv", "send", "poll"],
        "the socket is non-blocking, and nothing has arrived yet or no room is left to send; EWOULDBLOCK is the same",
        "no failure: wait until the poller says that the socket is ready, then call again";
    EALREADY &["connect", "bind"],
        "an earlier connect on this socket is still under way",
        "wait until the socket is writable, then take its outcome from SO_ERROR";
    EBADF EVERY,
        "the number is no open descriptor: it was closed before, perhaps by another thread",
        "find who closed it; a descriptor should have one owner";
    ECONNABORTED &["accept", "recv", "send"],
        "the connection was given up before accept could hand it out",
        "accept the next one";
    ECONNREFUSED &["connect", "recv", "send"],
        "the host is there, and says that nothing listens on that port or path",
        "check host and port, and whether the server runs; a firewall may refuse too";
    ECONNRESET &["connect", "recv", "send", "accept"],
        "the peer ended the connection at once: it crashed, or closed with input unread",
        "take the connection for closed; the peer's log may say why";
    EDESTADDRREQ &["send", "bind", "listen"],
        "the socket is not connected or bound, and no address was given",
        "connect or bind it first, or name the address in sendto";
    EDOM &["setsockopt"],
        "the time given to SO_RCVTIMEO or SO_SNDTIMEO is out of range",
        "give less than 1,000,000 microseconds besides the seconds";
    EEXIST &["epoll_ctl"],
        "the descriptor is watched already",
        "modify it instead of adding it";
    EFAULT EVERY,
        "an address does not point into the program's memory",
        "a defect of the program: check the buffer and its length";
    EHOSTDOWN &["connect", "send", "recv"],
        "the next host on the way does not answer on its link",
        "is it switched on, and in this network?";
    EHOSTUNREACH &["connect", "send", "recv"],
        "no route leads to the host, or a router or firewall says that it cannot be reached",
        "check the address, the routes and the firewalls in between";
    EINPROGRESS &["connect", "bind"],
        "the socket is non-blocking, and the connection is being made",
        "no failure: wait until the socket is writable, then take the outcome from SO_ERROR";
    EINTR &["accept", "connect", "recv", "send", "poll", "select", "epoll_wait", "kevent", "close"],
        "a signal came before there was anything to return",
        "call again, with the time that is left; but close never, and connect goes on by itself";
    EINVAL EVERY,
        "the arguments do not fit together or the socket's state: bound already, not listening, a wrong length",
        "compare with the call's manual page";
    EIO &["bind", "connect", "recv", "send", "close"],
        "the disk or the device failed",
        "look into the system's log";
    EISCONN &["connect", "send", "bind", "setsockopt"],
        "the socket is connected already",
        "use it as it is, or make a new one";
    EISDIR &["bind", "connect"],
        "the path of a Unix socket is a directory",
        "name a file in it";
    ELOOP &["bind", "connect", "epoll_ctl"],
        "a path goes round in symbolic links, or epoll descriptors watch each other",
        "follow the links with `namei PATH`; watch no poller from within itself";
    EMFILE &["socket", "accept", "socketpair", "epoll_create", "dup"],
        "this process holds as many descriptors as its limit allows",
        "raise RLIMIT_NOFILE (`ulimit -n`), close idle connections; `accept` again when one has closed";
    EMSGSIZE &["send"],
        "the datagram is larger than the socket or the path carries",
        "send less at once; 1,200 bytes pass nearly everywhere";
    ENAMETOOLONG &["bind", "connect"],
        "the path of a Unix socket is too long",
        "choose a shorter one: Linux takes 107 bytes, the BSDs 103";
    ENETDOWN &["connect", "send", "accept"],
        "the network interface is down",
        "bring it up (`ip link`), or choose another";
    ENETRESET &["setsockopt", "recv", "send"],
        "a keep-alive probe found the connection dead, or the network dropped it",
        "connect again";
    ENETUNREACH &["connect", "send", "accept"],
        "no route leads to that network: no default route, or no IPv6 here",
        "check the routes (`ip route`), or try the host's other addresses";
    ENFILE &["socket", "accept", "socketpair", "epoll_create"],
        "the whole system has as many open files as it allows",
        "close some, or raise fs.file-max";
    ENOBUFS EVERY,
        "the kernel has no memory left for buffers, or a queue of an interface is full",
        "send less or later; look at the memory that sockets hold (`ss -s`)";
    ENODEV &["setsockopt", "bind"],
        "there is no interface of that name or number",
        "list them with `ip link`";
    ENOENT &["connect", "bind", "epoll_ctl"],
        "the path of a Unix socket, or its directory, does not exist; for epoll_ctl, the descriptor is not watched",
        "start the server first, or create the directory; add the descriptor before modifying it";
    ENOMEM EVERY,
        "the kernel has no memory left for this",
        "free some, or hold fewer connections";
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "illumos"))]
    ENONET &["accept"],
        "the machine is not on the network",
        "accept the next one";
    ENOPROTOOPT &["setsockopt", "getsockopt"],
        "the protocol or this kernel has no such option",
        "check the option and its level; do without it where it is only a saving";
    ENOSPC &["epoll_ctl", "bind"],
        "the user watches as many descriptors as allowed, or the disk of a Unix socket's path is full",
        "raise fs.epoll.max_user_watches, or free some space";
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "illumos"))]
    ENOSR &["accept", "socket"],
        "a stream has no resources left",
        "wait a little, then accept again";
    ENOSYS EVERY,
        "this kernel has no such call, or a sandbox hides it",
        "use an older call that does the same; look at the sandbox's rules";
    ENOTCONN &["recv", "send", "shutdown", "getpeername"],
        "the socket is not connected, or no longer",
        "connect it first; after a reset, take it for closed";
    ENOTDIR &["bind", "connect"],
        "a part of the path of a Unix socket is no directory",
        "check the path";
    ENOTSOCK &["accept", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen", "recv", "send", "setsockopt", "shutdown"],
        "the descriptor is a file, a pipe or something else, but no socket",
        "check which descriptor is passed: its number may have got a new owner";
    EOPNOTSUPP &["accept", "listen", "connect", "send", "recv", "setsockopt", "bind", "socketpair"],
        "this kind of socket cannot do that, such as accepting on a datagram socket; ENOTSUP is the same on Linux",
        "check the socket's type, and the flags of the call";
    EPERM &["connect", "send", "accept", "epoll_ctl", "setsockopt", "socket"],
        "a firewall rule or a missing privilege forbids it; for epoll_ctl, a regular file cannot be watched",
        "look at the firewall (`nft list ruleset`) and the privileges; do not watch files";
    EPFNOSUPPORT &["socket", "socketpair"],
        "the system has no such protocol family",
        "load the module, or use another family";
    EPIPE &["send"],
        "we have shut down sending, or the peer has closed and said so",
        "take the connection for closed; ignore SIGPIPE or send with MSG_NOSIGNAL";
    EPROTO &["accept", "socket"],
        "the protocol failed while the connection was being made",
        "accept the next one";
    EPROTONOSUPPORT &["socket", "socketpair", "accept"],
        "the system or the family has no such protocol",
        "give 0 for the protocol";
    EPROTOTYPE &["socket", "connect", "socketpair"],
        "the protocol does not fit the type of socket, such as a stream to a datagram's path",
        "use the same type on both sides";
    EROFS &["bind"],
        "the path of a Unix socket is on a read-only file system",
        "choose another directory, such as /run or /tmp";
    ESHUTDOWN &["send", "recv"],
        "the endpoint has been shut down",
        "take the connection for closed";
    ESOCKTNOSUPPORT &["socket", "accept"],
        "the family has no such type of socket",
        "use SOCK_STREAM or SOCK_DGRAM";
    ETIMEDOUT &["connect", "recv", "send", "accept"],
        "the peer's host did not answer in time: off, unreachable, or a firewall drops what we send",
        "is it up, does a firewall let you pass? set timeouts of your own, far shorter than the system's";
    ETOOMANYREFS &["send"],
        "too many descriptors are on their way in Unix sockets",
        "let the receiver take them first";
}

/// Names that are another's number on this system.
const ALIASES: [(&str, i32); 2] = [("EWOULDBLOCK", libc::EWOULDBLOCK), ("ENOTSUP", libc::ENOTSUP)];

/// No system's numbers reach this.
const END: i32 = 1024;

impl Errno {
    /// The number itself, as `errno` holds it.
    #[must_use]
    pub const fn raw(self) -> i32 {
        self.0
    }

    /// Wraps a number, whether the system knows it or not.
    #[must_use]
    pub const fn from_raw(raw: i32) -> Self {
        Self(raw)
    }

    /// What the last failed call of this thread left in `errno`.
    #[must_use]
    pub fn last() -> Self {
        Self(nix::errno::Errno::last_raw())
    }

    /// The symbolic name, such as `EADDRINUSE`, or `errno 12345` for a number without one.
    #[must_use]
    pub fn name(self) -> String {
        if let Some(explanation) = self.explanation() {
            return explanation.name.to_owned();
        }
        match nix::errno::Errno::from_raw(self.0) {
            nix::errno::Errno::UnknownErrno => format!("errno {}", self.0),
            known => format!("{known:?}"),
        }
    }

    /// The number that a name such as `EADDRINUSE` has on this system, whichever call returns it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let explained = Self::explanations().iter().find(|explanation| explanation.name == name);
        let alias = || ALIASES.iter().find(|(alias, _)| *alias == name).map(|&(_, raw)| Self(raw));
        let any = || (1..END).map(Self).find(|errno| errno.is_known() && errno.name() == name);
        explained.map(|explanation| explanation.errno).or_else(alias).or_else(any)
    }

    /// Whether this system has a name for it.
    #[must_use]
    pub fn is_known(self) -> bool {
        nix::errno::Errno::from_raw(self.0) != nix::errno::Errno::UnknownErrno
    }

    /// What it means to a program that uses sockets; `None` where no such call returns it.
    #[must_use]
    pub fn explanation(self) -> Option<&'static Explanation> {
        Self::explanations().iter().find(|explanation| explanation.errno == self)
    }

    /// Every number that calls on sockets and pollers return, in the order of their names.
    #[must_use]
    pub const fn explanations() -> &'static [Explanation] {
        EXPLANATIONS
    }

    /// What the system says of it, such as `Address already in use`.
    #[must_use]
    pub fn description(self) -> &'static str {
        nix::errno::Errno::from_raw(self.0).desc()
    }

    /// Whether the call would have blocked (`EAGAIN` or `EWOULDBLOCK`, one number on most systems).
    #[must_use]
    pub const fn would_block(self) -> bool {
        self.0 == libc::EAGAIN || self.0 == libc::EWOULDBLOCK
    }

    /// Whether accept(2) lists it among the network errors of a connection that Linux hands over in
    /// its place: that one is gone, and the next may be accepted.
    ///
    /// ```
    /// use myriapod_sys::Errno;
    ///
    /// assert!(Errno::EHOSTUNREACH.is_pending_network_error());
    /// assert!(!Errno::EMFILE.is_pending_network_error());
    /// ```
    #[must_use]
    pub const fn is_pending_network_error(self) -> bool {
        #[cfg(any(target_os = "linux", target_os = "android", target_os = "illumos"))]
        if self.0 == libc::ENONET {
            return true;
        }
        matches!(
            self,
            Self::ENETDOWN
                | Self::EPROTO
                | Self::ENOPROTOOPT
                | Self::EHOSTDOWN
                | Self::EHOSTUNREACH
                | Self::EOPNOTSUPP
                | Self::ENETUNREACH
        )
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.description())
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl std::error::Error for Errno {}

impl From<nix::errno::Errno> for Errno {
    fn from(errno: nix::errno::Errno) -> Self {
        Self(errno as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What POSIX.1-2024 and the manual pages of Linux say that these calls return.
    const DOCUMENTED: [(&str, &str); 12] = [
        (
            "socket",
            "EAFNOSUPPORT EMFILE ENFILE EPROTONOSUPPORT EPROTOTYPE EACCES ENOBUFS ENOMEM EINVAL",
        ),
        (
            "socketpair",
            "EAFNOSUPPORT EMFILE ENFILE EOPNOTSUPP EPROTONOSUPPORT EPROTOTYPE ENOBUFS ENOMEM",
        ),
        (
            "bind",
            "EACCES EADDRINUSE EADDRNOTAVAIL EAFNOSUPPORT EALREADY EBADF EDESTADDRREQ EFAULT EINPROGRESS \
             EINVAL EIO EISCONN EISDIR ELOOP ENAMETOOLONG ENOBUFS ENOENT ENOMEM ENOTDIR ENOTSOCK \
             EOPNOTSUPP EROFS",
        ),
        ("listen", "EACCES EADDRINUSE EBADF EDESTADDRREQ EINVAL ENOBUFS ENOTSOCK EOPNOTSUPP"),
        (
            "accept",
            "EAGAIN EBADF ECONNABORTED EFAULT EINTR EINVAL EMFILE ENFILE ENOBUFS ENOMEM ENOTSOCK \
             EOPNOTSUPP EPERM EPROTO ESOCKTNOSUPPORT EPROTONOSUPPORT ETIMEDOUT",
        ),
        (
            "connect",
            "EACCES EADDRINUSE EADDRNOTAVAIL EAFNOSUPPORT EAGAIN EALREADY EBADF ECONNREFUSED ECONNRESET \
             EFAULT EHOSTUNREACH EINPROGRESS EINTR EINVAL EIO EISCONN ELOOP ENAMETOOLONG ENETDOWN \
             ENETUNREACH ENOBUFS ENOENT ENOTDIR ENOTSOCK EOPNOTSUPP EPERM EPROTOTYPE ETIMEDOUT",
        ),
        (
            "send",
            "EACCES EAFNOSUPPORT EAGAIN EBADF ECONNRESET EDESTADDRREQ EFAULT EHOSTUNREACH EINTR EINVAL EIO \
             EISCONN EMSGSIZE ENETDOWN ENETUNREACH ENOBUFS ENOMEM ENOTCONN ENOTSOCK EOPNOTSUPP EPIPE",
        ),
        (
            "recv",
            "EAGAIN EBADF ECONNREFUSED ECONNRESET EFAULT EINTR EINVAL EIO ENOBUFS ENOMEM ENOTCONN \
             ENOTSOCK EOPNOTSUPP ETIMEDOUT",
        ),
        ("shutdown", "EBADF EINVAL ENOBUFS ENOTCONN ENOTSOCK"),
        ("setsockopt", "EBADF EDOM EFAULT EINVAL EISCONN ENOBUFS ENOMEM ENOPROTOOPT ENOTSOCK"),
        ("getsockopt", "EACCES EBADF EFAULT EINVAL ENOBUFS ENOPROTOOPT ENOTSOCK"),
        ("epoll_ctl", "EBADF EEXIST EINVAL ELOOP ENOENT ENOMEM ENOSPC EPERM"),
    ];

    #[test]
    fn is_every_number_explained_that_a_socket_call_returns() {
        for (call, names) in DOCUMENTED {
            for name in names.split_whitespace() {
                let errno = Errno::from_name(name).unwrap_or_else(|| panic!("{name}"));
                let explanation = errno.explanation().unwrap_or_else(|| panic!("{name}"));
                assert!(explanation.calls.contains(&call), "{call} returns {name}");
            }
        }
    }

    #[test]
    fn are_explanations_sorted_and_parts_of_sentences() {
        let names: Vec<_> = Errno::explanations().iter().map(|one| one.name).collect();
        assert!(names.is_sorted_by(|one, next| one < next), "{names:?}");
        for Explanation { errno, name, calls, meaning, advice } in Errno::explanations() {
            assert_eq!(format!("{:?}", nix::errno::Errno::from_raw(errno.raw())), *name);
            assert!(calls.iter().all(|call| EVERY.contains(call)), "{name}: {calls:?}");
            for text in [meaning, advice] {
                assert!(!text.is_empty() && !text.ends_with('.'), "{name}: {text}");
                assert!(!text.starts_with(|first: char| first.is_ascii_uppercase()), "{text}");
            }
        }
    }

    #[test]
    fn is_a_number_found_by_every_name_that_the_system_has() {
        for errno in (1..END).map(Errno::from_raw).filter(|errno| errno.is_known()) {
            assert_eq!(Errno::from_name(&errno.name()), Some(errno));
        }
        assert_eq!(Errno::from_name("EWOULDBLOCK"), Some(Errno::EAGAIN));
        assert_eq!(Errno::from_name("ENOTSUP").map(Errno::raw), Some(libc::ENOTSUP));
        for unknown in ["", "EWHATEVER", "errno 999", "UnknownErrno", "eagain"] {
            assert_eq!(Errno::from_name(unknown), None, "{unknown}");
        }
    }
}
