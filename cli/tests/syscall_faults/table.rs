//! The table: every call that the server makes, every errno of its manual page, and what must come
//! of it.

use crate::peers::PEERS;
use crate::traced::{self, Scenario};

/// What must come of a call that fails once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Expected {
    /// All peers get all their answers.
    Unnoticed,
    /// Accepting pauses; one peer may be turned away with the spare descriptor.
    Pauses,
    /// The connection it was about is closed, and no other.
    Closes,
    /// The server does not start, and says why.
    Refuses,
    /// The server cannot go on, says why, and ends with status 1.
    Ends,
}

/// Which of the calls of that name it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Call {
    Accept,
    Recv,
    RecvInContent,
    Send,
    SendQueued,
    AddConnection,
    WatchWriting,
    WatchReading,
    ParkListener,
    ResumeListener,
    Wait,
    Shutdown,
    Close,
    OpenSpare,
    ReopenSpare,
    ReadSignal,
    Socket,
    ReuseAddress,
    NoDelay,
    Bind,
    Listen,
    Getsockname,
    EpollCreate,
    Eventfd,
    Pipe,
    Sigaction,
    Duplicate,
    AddWaker,
    AddListener,
    AddSignals,
    LimitGet,
    LimitSet,
    Announce,
    Log,
    Unlink,
    FirstWait,
    Clone,
    Affinity,
}

impl Call {
    /// What it is called in the table.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Accept => "accept4",
            Self::Recv => "recvfrom",
            Self::RecvInContent => "recvfrom, within a content",
            Self::Send => "sendto",
            Self::SendQueued => "sendmsg, of what was queued",
            Self::AddConnection => "epoll_ctl ADD, a connection",
            Self::WatchWriting => "epoll_ctl MOD, to wait for room",
            Self::WatchReading => "epoll_ctl MOD, back to reading",
            Self::ParkListener => "epoll_ctl DEL, accepting pauses",
            Self::ResumeListener => "epoll_ctl ADD, accepting goes on",
            Self::Wait => "epoll_pwait2",
            Self::FirstWait => "epoll_pwait2, the first",
            Self::Shutdown => "shutdown",
            Self::Close => "close, a connection",
            Self::OpenSpare => "openat, the spare descriptor",
            Self::ReopenSpare => "openat, the spare descriptor again",
            Self::ReadSignal => "read, of a signal's pipe",
            Self::Socket => "socket",
            Self::ReuseAddress => "setsockopt SO_REUSEADDR",
            Self::NoDelay => "setsockopt TCP_NODELAY",
            Self::Bind => "bind",
            Self::Listen => "listen",
            Self::Getsockname => "getsockname",
            Self::EpollCreate => "epoll_create1",
            Self::Eventfd => "eventfd2",
            Self::Pipe => "pipe2",
            Self::Sigaction => "rt_sigaction, SIGINT",
            Self::Duplicate => "fcntl F_DUPFD_CLOEXEC",
            Self::AddWaker => "epoll_ctl ADD, the waker",
            Self::AddListener => "epoll_ctl ADD, a listener",
            Self::AddSignals => "epoll_ctl ADD, the signals",
            Self::LimitGet => "prlimit64, reading RLIMIT_NOFILE",
            Self::LimitSet => "prlimit64, raising RLIMIT_NOFILE",
            Self::Announce => "write, where it listens",
            Self::Log => "write, a line of the log",
            Self::Unlink => "unlink, the socket's file",
            Self::Clone => "clone3, a thread",
            Self::Affinity => "sched_setaffinity",
        }
    }

    /// The system call.
    pub(crate) fn name(self) -> &'static str {
        let title = self.title();
        title.split([' ', ',']).next().unwrap_or(title)
    }

    /// Whether this line of a trace is it; `serving` says whether the peers have begun.
    fn is(self, line: &str, serving: bool) -> bool {
        let has = |text: &str| line.contains(text);
        match self {
            Self::Accept | Self::Recv | Self::Send | Self::Wait => serving,
            Self::SendQueued | Self::Shutdown => serving,
            Self::Close => serving && has("= 0"),
            // Into a buffer of its own, whose length is not that of the shared one.
            Self::RecvInContent => serving && has(", 131072, 0,"),
            Self::AddConnection => serving && has("EPOLL_CTL_ADD"),
            Self::WatchWriting => serving && has("EPOLL_CTL_MOD") && has("EPOLLOUT"),
            Self::WatchReading => serving && has("EPOLL_CTL_MOD") && !has("EPOLLOUT"),
            Self::ParkListener => has("EPOLL_CTL_DEL"),
            // Its token never changes.
            Self::ResumeListener => serving && has("EPOLL_CTL_ADD") && has("u64=0}"),
            Self::FirstWait => true,
            Self::OpenSpare => has("/dev/null"),
            Self::ReopenSpare => serving && has("/dev/null"),
            Self::ReadSignal => has("\"\\17\""),
            Self::ReuseAddress => has("SO_REUSEADDR"),
            Self::NoDelay => has("TCP_NODELAY"),
            Self::Sigaction => has("SIGINT"),
            Self::Duplicate => has("F_DUPFD_CLOEXEC"),
            Self::AddWaker => has("u64=18446744073709551615"),
            Self::AddListener => has("u64=0}"),
            Self::AddSignals => has("u64=1}"),
            Self::LimitGet => has("RLIMIT_NOFILE, NULL"),
            Self::LimitSet => has("RLIMIT_NOFILE, {"),
            Self::Announce => has("(1, \"listening"),
            Self::Log => has("(2, \"stopping"),
            Self::Socket
            | Self::Bind
            | Self::Listen
            | Self::Getsockname
            | Self::EpollCreate
            | Self::Eventfd
            | Self::Pipe
            | Self::Unlink
            | Self::Clone
            | Self::Affinity => true,
        }
    }
}

/// A scenario's calls, in order, as they are when nothing fails.
pub(crate) struct Place(Vec<(bool, String)>);

impl Place {
    pub(crate) fn of(scenario: Scenario) -> Self {
        let run = traced::run(scenario, None).unwrap();
        assert_eq!((run.status, &run.wrong), (Some(0), &None), "{run:?}");
        assert!(run.cut_off.len() <= usize::from(scenario == Scenario::Exhausted), "{run:?}");
        let mut accepted = 0;
        let calls = run.calls.into_iter().map(|line| {
            // strace counts for each thread. The first one's calls are enough.
            let call = line.split_once(' ').map_or("", |(_, call)| call.trim()).to_owned();
            accepted += usize::from(call.starts_with("accept4("));
            // The bystander is accepted first.
            (accepted > 1, call)
        });
        Self(calls.collect())
    }

    /// How many calls of that name there are up to the one that is meant.
    pub(crate) fn when(&self, call: Call) -> Option<usize> {
        let open = format!("{}(", call.name());
        let named = self.0.iter().filter(|(_, line)| line.starts_with(&open));
        // Of the closes that of the peer which does not wait for it: strace withholds it.
        let skipped = if call == Call::Close { PEERS.len() - 1 } else { 0 };
        let is_meant = |(_, (serving, line)): &(usize, &(bool, String))| call.is(line, *serving);
        let (at, _) = named.enumerate().filter(is_meant).nth(skipped)?;
        Some(at + 1)
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) scenario: Scenario,
    pub(crate) call: Call,
    pub(crate) errno: &'static str,
    pub(crate) expected: Expected,
}

/// All of it.
pub(crate) fn cases() -> Vec<Case> {
    use Expected::{Closes, Ends, Pauses, Refuses, Unnoticed};
    use Scenario::{Exhausted, Serving, Starting, Threads};

    let rows: &[(Scenario, Call, Expected, &str)] = &[
        // accept(2): what is wrong with one peer or its network, then what is wrong with us.
        (
            Serving,
            Call::Accept,
            Unnoticed,
            "EAGAIN EINTR ECONNABORTED EPROTO EPERM ENETDOWN ENOPROTOOPT EHOSTDOWN ENONET \
             EHOSTUNREACH EOPNOTSUPP ENETUNREACH ETIMEDOUT",
        ),
        (Serving, Call::Accept, Pauses, "EMFILE ENFILE ENOBUFS ENOMEM"),
        (
            Serving,
            Call::Accept,
            Pauses,
            "EBADF EFAULT EINVAL ENOTSOCK ENOSR ESOCKTNOSUPPORT EPROTONOSUPPORT",
        ),
        // recv(2), tcp(7), ip(7).
        (Serving, Call::Recv, Unnoticed, "EAGAIN EINTR"),
        (
            Serving,
            Call::Recv,
            Closes,
            "EBADF ECONNREFUSED ECONNRESET EFAULT EINVAL ENOMEM ENOBUFS ENOTCONN ENOTSOCK EPIPE \
             ETIMEDOUT EHOSTUNREACH ENETUNREACH ENETDOWN EIO",
        ),
        (Serving, Call::RecvInContent, Unnoticed, "EAGAIN EINTR"),
        (Serving, Call::RecvInContent, Closes, "ECONNRESET ETIMEDOUT EHOSTUNREACH ENOMEM"),
        // send(2), tcp(7), ip(7).
        (Serving, Call::Send, Unnoticed, "EAGAIN EINTR"),
        (
            Serving,
            Call::Send,
            Closes,
            "EACCES EALREADY EBADF ECONNRESET EDESTADDRREQ EFAULT EINVAL EISCONN EMSGSIZE ENOBUFS \
             ENOMEM ENOTCONN ENOTSOCK EOPNOTSUPP EPIPE ETIMEDOUT EHOSTUNREACH ENETUNREACH \
             ENETDOWN EPERM",
        ),
        (Serving, Call::SendQueued, Unnoticed, "EAGAIN EINTR"),
        (
            Serving,
            Call::SendQueued,
            Closes,
            "EACCES EBADF ECONNRESET EFAULT EINVAL EMSGSIZE ENOBUFS ENOMEM ENOTCONN ENOTSOCK \
             EOPNOTSUPP EPIPE ETIMEDOUT EHOSTUNREACH ENETUNREACH ENETDOWN EPERM",
        ),
        // epoll_ctl(2).
        (
            Serving,
            Call::AddConnection,
            Closes,
            "EBADF EEXIST EINVAL ELOOP ENOENT ENOMEM ENOSPC EPERM",
        ),
        (Serving, Call::WatchWriting, Closes, "EBADF EINVAL ENOENT ENOMEM EPERM"),
        (Serving, Call::WatchReading, Closes, "EBADF EINVAL ENOENT ENOMEM EPERM"),
        (Exhausted, Call::ParkListener, Pauses, "EBADF EINVAL ENOENT ENOMEM EPERM"),
        (
            Exhausted,
            Call::ResumeListener,
            Pauses,
            "EBADF EEXIST EINVAL ELOOP ENOENT ENOMEM ENOSPC EPERM",
        ),
        (Exhausted, Call::ReopenSpare, Pauses, "EMFILE ENFILE ENOMEM EACCES EINTR ENOENT"),
        // epoll_wait(2). A kernel or a filter that does not know epoll_pwait2 says so at first.
        (Serving, Call::FirstWait, Unnoticed, "ENOSYS EPERM EINTR"),
        (Serving, Call::Wait, Unnoticed, "EINTR"),
        (Serving, Call::Wait, Ends, "EBADF EFAULT EINVAL"),
        // shutdown(2), close(2).
        (Serving, Call::Shutdown, Unnoticed, "EBADF EINVAL ENOTCONN ENOTSOCK ENOBUFS"),
        (Serving, Call::Close, Unnoticed, "EBADF EINTR EIO ENOSPC EDQUOT"),
        // What ends: a signal's pipe, the log, the socket's file.
        (Serving, Call::ReadSignal, Unnoticed, "EAGAIN EINTR"),
        (Serving, Call::Log, Unnoticed, "EAGAIN EBADF EDQUOT EINTR EIO ENOSPC EPIPE"),
        (
            Serving,
            Call::Unlink,
            Unnoticed,
            "EACCES EBUSY EIO EISDIR ELOOP ENOENT ENOMEM ENOTDIR EPERM EROFS",
        ),
        // socket(2), setsockopt(2), ip(7), bind(2), listen(2), getsockname(2).
        (
            Starting,
            Call::Socket,
            Refuses,
            "EACCES EAFNOSUPPORT EINVAL EMFILE ENFILE ENOBUFS ENOMEM EPROTONOSUPPORT",
        ),
        (Starting, Call::ReuseAddress, Refuses, "EBADF EFAULT EINVAL ENOPROTOOPT ENOTSOCK ENOMEM"),
        (
            Starting,
            Call::NoDelay,
            Refuses,
            "EBADF EFAULT EINVAL ENOPROTOOPT ENOTSOCK ENOMEM ENOBUFS",
        ),
        (
            Starting,
            Call::Bind,
            Refuses,
            "EACCES EADDRINUSE EBADF EINVAL ENOTSOCK EADDRNOTAVAIL EFAULT ENOMEM ENOBUFS EPERM",
        ),
        (
            Serving,
            Call::Bind,
            Refuses,
            "EACCES EINVAL ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR EROFS EPERM",
        ),
        (Starting, Call::Listen, Refuses, "EADDRINUSE EBADF ENOTSOCK EOPNOTSUPP"),
        (Starting, Call::Getsockname, Refuses, "EBADF EFAULT EINVAL ENOBUFS ENOTSOCK"),
        // epoll_create(2), eventfd(2), pipe(2), sigaction(2), fcntl(2).
        (Starting, Call::EpollCreate, Refuses, "EINVAL EMFILE ENFILE ENOMEM"),
        (Starting, Call::Eventfd, Refuses, "EINVAL EMFILE ENFILE ENODEV ENOMEM"),
        (Starting, Call::Pipe, Refuses, "EFAULT EINVAL EMFILE ENFILE ENOPKG"),
        (Starting, Call::Sigaction, Refuses, "EFAULT EINVAL"),
        (Starting, Call::Duplicate, Refuses, "EBADF EINVAL EMFILE"),
        (Starting, Call::AddWaker, Refuses, "EBADF EEXIST EINVAL ELOOP ENOENT ENOMEM ENOSPC EPERM"),
        (
            Starting,
            Call::AddListener,
            Refuses,
            "EBADF EEXIST EINVAL ELOOP ENOENT ENOMEM ENOSPC EPERM",
        ),
        (
            Starting,
            Call::AddSignals,
            Refuses,
            "EBADF EEXIST EINVAL ELOOP ENOENT ENOMEM ENOSPC EPERM",
        ),
        // What is wanted, but not needed.
        (Starting, Call::OpenSpare, Unnoticed, "EACCES EINTR EMFILE ENFILE ENOENT ENOMEM EPERM"),
        (Starting, Call::LimitSet, Unnoticed, "EFAULT EINVAL EPERM ESRCH"),
        (Starting, Call::LimitGet, Unnoticed, "EFAULT EINVAL EPERM ESRCH"),
        (Starting, Call::Announce, Unnoticed, "EINTR"),
        // Not EBADF: the standard library takes that for a wish to print nothing.
        (Starting, Call::Announce, Refuses, "EIO ENOSPC EDQUOT"),
        // clone(2), sched_setaffinity(2).
        (Threads, Call::Clone, Ends, "EAGAIN ENOMEM EPERM"),
        (Threads, Call::Affinity, Ends, "EFAULT EINVAL EPERM ESRCH"),
    ];
    let mut cases = Vec::new();
    for &(scenario, call, expected, errnos) in rows {
        for errno in errnos.split_whitespace() {
            cases.push(Case { scenario, call, errno, expected });
        }
    }
    cases
}
