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
    ReadAffinity,
    ReusePort,
    WakeOther,
    ClearWaker,
    OlderWait,
    ProbeStale,
    RemoveStale,
}

/// The call that waits where `epoll_pwait2` is not known.
const OLDER_WAIT: &str = if cfg!(target_arch = "x86_64") { "epoll_wait" } else { "epoll_pwait" };

/// Calls without a row, and why.
const WITHOUT_ROW: [(&str, &str); 5] = [
    (
        "the loader and the C library start and end the process and its threads",
        "execve arch_prctl set_tid_address set_robust_list rseq access faccessat faccessat2 mprotect \
         pread64 fstat newfstatat readlink readlinkat exit exit_group madvise futex gettid getpid \
         prctl uname",
    ),
    ("memory that is refused to Rust ends the process", "brk mmap munmap mremap getrandom"),
    ("the standard library looks at descriptors and stacks before main", "poll sigaltstack"),
    (
        "signals are blocked while a thread is made, and a handler returns",
        "rt_sigprocmask rt_sigreturn",
    ),
    (
        "files of the machine are read to say what it can do, which may fail",
        "statx lseek ioctl sysinfo",
    ),
];

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
            Self::ReadAffinity => "sched_getaffinity, before pinning",
            Self::ReusePort => "setsockopt SO_REUSEPORT",
            Self::WakeOther => "write, to wake another loop",
            Self::ClearWaker => "read, of the waker",
            Self::OlderWait => OLDER_WAIT,
            Self::ProbeStale => "connect, to a stale Unix socket",
            Self::RemoveStale => "unlink, of a stale Unix socket",
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
            Self::ReadAffinity => has("(0, "),
            Self::ReusePort => has("SO_REUSEPORT"),
            // A counter's eight bytes.
            Self::WakeOther => has(", 8)"),
            Self::ClearWaker => has(", 64)"),
            Self::OlderWait
            | Self::ProbeStale
            | Self::RemoveStale
            | Self::Socket
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

/// The calls of the first thread: strace counts for each thread. Where other threads' lines came in
/// between, a call is in two parts.
fn of_first_thread(lines: &[String]) -> Vec<String> {
    let split = |line: &'_ String| {
        line.split_once(' ').map(|(thread, call)| (thread.to_owned(), call.trim().to_owned()))
    };
    let mut lines = lines.iter().filter_map(split).peekable();
    let first = lines.peek().map(|(thread, _)| thread.clone());
    let mut calls: Vec<String> = Vec::new();
    for (_, call) in lines.filter(|(thread, _)| Some(thread) == first.as_ref()) {
        match (call.strip_prefix("<... "), calls.last_mut()) {
            (Some(rest), Some(begun)) if begun.ends_with("<unfinished ...>") => {
                let len = begun.trim_end_matches("<unfinished ...>").trim_end().len();
                begun.truncate(len);
                begun.push_str(rest.split_once("resumed>").map_or("", |(_, rest)| rest));
            }
            _ if call.starts_with("---") || call.starts_with("+++") => {}
            _ => calls.push(call),
        }
    }
    calls
}

impl Place {
    pub(crate) fn of(scenario: Scenario) -> Self {
        let run = traced::run(scenario, None).unwrap();
        assert_eq!((run.status, &run.wrong), (Some(0), &None), "{run:?}");
        assert!(run.cut_off.len() <= usize::from(scenario == Scenario::Exhausted), "{run:?}");
        let mut accepted = 0;
        let calls = of_first_thread(&run.calls).into_iter().map(|call| {
            accepted += usize::from(call.starts_with("accept4("));
            // The bystander is accepted first.
            (accepted > 1, call)
        });
        Self(calls.collect())
    }

    /// The names of calls that have neither a row nor a reason for that.
    pub(crate) fn unknown(&self, cases: &[Case]) -> Vec<String> {
        let is_known = |name: &str| {
            cases.iter().any(|case| case.call.name() == name)
                || WITHOUT_ROW
                    .iter()
                    .any(|(_, names)| names.split_whitespace().any(|one| one == name))
        };
        let names = self.0.iter().filter_map(|(_, line)| line.split_once('('));
        names.map(|(name, _)| name).filter(|name| !is_known(name)).map(str::to_owned).collect()
    }

    /// How many calls of that name there are up to the one that is meant.
    pub(crate) fn when(&self, call: Call) -> Option<usize> {
        let open = format!("{}(", call.name());
        let named = self.0.iter().filter(|(_, line)| line.starts_with(&open));
        // Of the closes that of the peer which does not wait for it: strace withholds it.
        let skipped = if call == Call::Close { PEERS.len() - 1 } else { 0 };
        let is_meant = |(_, (serving, line)): &(usize, &(bool, String))| call.is(line, *serving);
        let mut meant = named.enumerate().filter(is_meant);
        // The others are made to see how many processors there are.
        let is_last = call == Call::ReadAffinity;
        let (at, _) = if is_last { meant.last()? } else { meant.nth(skipped)? };
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
    use Scenario::{Exhausted, Older, Serving, Stale, Starting, Threads};

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
        (
            Serving,
            Call::RecvInContent,
            Closes,
            "EBADF ECONNREFUSED ECONNRESET EFAULT EINVAL ENOMEM ENOBUFS ENOTCONN ENOTSOCK EPIPE \
             ETIMEDOUT EHOSTUNREACH ENETUNREACH ENETDOWN EIO",
        ),
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
            "EACCES EALREADY EBADF ECONNRESET EDESTADDRREQ EFAULT EINVAL EISCONN EMSGSIZE ENOBUFS \
             ENOMEM ENOTCONN ENOTSOCK EOPNOTSUPP EPIPE ETIMEDOUT EHOSTUNREACH ENETUNREACH ENETDOWN EPERM",
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
        (
            Exhausted,
            Call::ReopenSpare,
            Pauses,
            "EMFILE ENFILE ENOMEM EACCES EINTR ENOENT ENODEV ENXIO ELOOP ENOTDIR EPERM",
        ),
        // epoll_wait(2). A kernel or a filter that does not know epoll_pwait2 says so at first.
        (Serving, Call::FirstWait, Unnoticed, "ENOSYS EPERM EINTR"),
        (Serving, Call::Wait, Unnoticed, "EINTR"),
        (Serving, Call::Wait, Ends, "EBADF EFAULT EINVAL"),
        // shutdown(2), close(2).
        (Serving, Call::Shutdown, Unnoticed, "EBADF EINVAL ENOTCONN ENOTSOCK ENOBUFS"),
        (Serving, Call::Close, Unnoticed, "EBADF EINTR EIO ENOSPC EDQUOT"),
        // What ends: a signal's pipe, the log, the socket's file.
        (Serving, Call::ReadSignal, Unnoticed, "EAGAIN EBADF EFAULT EINTR EINVAL EIO"),
        (
            Serving,
            Call::Log,
            Unnoticed,
            "EAGAIN EBADF EDQUOT EFAULT EFBIG EINTR EINVAL EIO ENOSPC EPERM EPIPE",
        ),
        (
            Serving,
            Call::Unlink,
            Unnoticed,
            "EACCES EBUSY EFAULT EIO EISDIR ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR EPERM EROFS",
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
            "EACCES EADDRINUSE EADDRNOTAVAIL EBADF EFAULT EINVAL ELOOP ENAMETOOLONG ENOENT ENOMEM \
             ENOTDIR ENOTSOCK EROFS EPERM",
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
        (
            Starting,
            Call::OpenSpare,
            Unnoticed,
            "EACCES EINTR ELOOP EMFILE ENFILE ENODEV ENOENT ENOMEM ENOTDIR ENXIO EPERM",
        ),
        (Starting, Call::LimitSet, Unnoticed, "EFAULT EINVAL EPERM ESRCH"),
        (Starting, Call::LimitGet, Unnoticed, "EFAULT EINVAL EPERM ESRCH"),
        (Starting, Call::Announce, Unnoticed, "EINTR"),
        // Not EBADF: the standard library takes that for a wish to print nothing. Nor EPIPE: a server
        // whose reader has gone serves on, and nobody here learns where.
        (Starting, Call::Announce, Refuses, "EAGAIN EDQUOT EFBIG EIO ENOSPC"),
        // clone(2), sched_setaffinity(2).
        (Threads, Call::Clone, Ends, "EAGAIN EINVAL ENOMEM ENOSPC EPERM"),
        // The C library makes the thread with clone(2) then.
        (Threads, Call::Clone, Unnoticed, "ENOSYS"),
        (Threads, Call::Affinity, Ends, "EFAULT EINVAL EPERM ESRCH"),
        (Threads, Call::ReadAffinity, Ends, "EFAULT EINVAL ESRCH"),
        (Threads, Call::ReusePort, Refuses, "EBADF EFAULT EINVAL ENOPROTOOPT ENOTSOCK ENOMEM"),
        // Between loops: eventfd(2), write(2), read(2). Not EAGAIN of the write: a counter that is
        // full has woken the loop, and nothing but strace says so of one that is not.
        (
            Threads,
            Call::WakeOther,
            Unnoticed,
            "EBADF EDESTADDRREQ EDQUOT EFAULT EFBIG EINTR EINVAL EIO ENOSPC EPERM EPIPE",
        ),
        (Threads, Call::ClearWaker, Unnoticed, "EAGAIN EBADF EFAULT EINTR EINVAL EIO EISDIR"),
        // epoll_wait(2), once epoll_pwait2 has said ENOSYS.
        (Older, Call::OlderWait, Unnoticed, "EINTR"),
        (Older, Call::OlderWait, Ends, "EBADF EFAULT EINVAL"),
        // The file of a server that is gone: whatever is in doubt, it stays.
        (
            Stale,
            Call::ProbeStale,
            Refuses,
            "EACCES EAGAIN EINTR ENOENT ENOTDIR ELOOP EPERM EPROTOTYPE EBADF EFAULT EINVAL ENOTSOCK",
        ),
        (
            Stale,
            Call::RemoveStale,
            Refuses,
            "EACCES EBUSY EFAULT EIO EISDIR ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR EPERM EROFS",
        ),
    ];
    let mut cases = Vec::new();
    for &(scenario, call, expected, errnos) in rows {
        for errno in errnos.split_whitespace() {
            cases.push(Case { scenario, call, errno, expected });
        }
    }
    cases
}
