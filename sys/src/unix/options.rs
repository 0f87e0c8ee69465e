//! Socket options, and what the kernel tells of a socket.
//!
//! Cold calls, typed by nix where it knows the option. Each error names its call and option, such
//! as `setsockopt TCP_NODELAY: EOPNOTSUPP (…)`.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::sys::socket::{GetSockOpt, SetSockOpt, getsockopt, setsockopt, sockopt};

use crate::{Result, SystemError};

fn set<O: SetSockOpt>(
    fd: BorrowedFd<'_>,
    option: O,
    value: &O::Val,
    call: &'static str,
) -> Result<()> {
    setsockopt(&fd, option, value).map_err(|errno| SystemError::call(call, errno.into(), ""))
}

fn get<O: GetSockOpt>(fd: BorrowedFd<'_>, option: O, call: &'static str) -> Result<O::Val> {
    getsockopt(&fd, option).map_err(|errno| SystemError::call(call, errno.into(), ""))
}

/// Where this system lacks what was asked for.
#[allow(dead_code, reason = "some systems lack nothing")]
fn unsupported<T>(what: &'static str) -> Result<T> {
    Err(SystemError::Unsupported { what, by: std::env::consts::OS })
}

/// The number, for the calls that nix does not have.
#[allow(dead_code, reason = "some systems have no such calls")]
fn raw(fd: BorrowedFd<'_>) -> libc::c_int {
    std::os::fd::AsRawFd::as_raw_fd(&fd)
}

/// Whole seconds, rounded up, at least one.
fn seconds(duration: Duration) -> u32 {
    let seconds = duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0));
    u32::try_from(seconds).unwrap_or(u32::MAX).max(1)
}

/// When a silent connection is asked whether it is still there.
///
/// Whole seconds, rounded up, at least one; Linux takes at most 32,767 s and a count of 127.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe (`TCP_KEEPIDLE`; `TCP_KEEPALIVE` on Apple's systems).
    pub idle: Duration,
    /// Time between probes (`TCP_KEEPINTVL`).
    pub interval: Duration,
    /// Unanswered probes until the connection is given up with `ETIMEDOUT` (`TCP_KEEPCNT`).
    pub count: u32,
}

/// `int setsockopt(int sockfd, int level, int optname, const void *optval, socklen_t optlen)`
///
/// `SO_KEEPALIVE`: switches keep-alive probes on with these times, or off.
///
/// ```
/// use std::time::Duration;
/// use myriapod_sys::{Keepalive, ListenOptions, Listener, SocketAddr, set_keepalive};
///
/// let listener =
///     Listener::bind(&SocketAddr::from(([127, 0, 0, 1], 0)), &ListenOptions::default())?;
/// let probes =
///     Keepalive { idle: Duration::from_secs(60), interval: Duration::from_secs(10), count: 3 };
/// set_keepalive(&listener, Some(probes))?;
/// set_keepalive(&listener, None)?;
/// # Ok::<(), myriapod_sys::SystemError>(())
/// ```
///
/// # Errors
///
/// [`SystemError::Call`]; `EINVAL` for times or counts that the system does not take.
/// [`SystemError::Unsupported`] where it cannot set the times of one socket.
///
/// Source: socket(7), tcp(7).
pub fn set_keepalive(fd: impl AsFd, keepalive: Option<Keepalive>) -> Result<()> {
    let fd = fd.as_fd();
    if let Some(Keepalive { idle, interval, count }) = keepalive {
        set_keepalive_times(fd, seconds(idle), seconds(interval), count)?;
    }
    set(fd, sockopt::KeepAlive, &keepalive.is_some(), "setsockopt SO_KEEPALIVE")
}

#[cfg(not(target_os = "openbsd"))]
fn set_keepalive_times(fd: BorrowedFd<'_>, idle: u32, interval: u32, count: u32) -> Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    set(fd, sockopt::TcpKeepIdle, &idle, "setsockopt TCP_KEEPIDLE")?;
    #[cfg(target_vendor = "apple")]
    set(fd, sockopt::TcpKeepAlive, &idle, "setsockopt TCP_KEEPALIVE")?;
    #[cfg(any(target_os = "netbsd", target_os = "illumos"))]
    raw_set_int(fd, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, i32::try_from(idle).unwrap_or(i32::MAX))
        .map_err(|errno| SystemError::call("setsockopt TCP_KEEPIDLE", errno, ""))?;
    set(fd, sockopt::TcpKeepInterval, &interval, "setsockopt TCP_KEEPINTVL")?;
    set(fd, sockopt::TcpKeepCount, &count, "setsockopt TCP_KEEPCNT")
}

#[cfg(target_os = "openbsd")]
fn set_keepalive_times(_: BorrowedFd<'_>, _: u32, _: u32, _: u32) -> Result<()> {
    unsupported("keep-alive times of one socket")
}

/// `int setsockopt(int sockfd, int level, int optname, const void *optval, socklen_t optlen)`
///
/// `TCP_USER_TIMEOUT`: how long sent data may stay unacknowledged before the connection is given up
/// with `ETIMEDOUT`. Milliseconds, rounded up; zero means the system's default.
///
/// # Errors
///
/// [`SystemError::Call`]; [`SystemError::Unsupported`] on systems other than Linux.
///
/// Source: tcp(7), RFC 5482.
pub fn set_tcp_user_timeout(fd: impl AsFd, timeout: Duration) -> Result<()> {
    #[cfg(target_os = "linux")]
    {
        // The kernel holds it in a signed int.
        let millis = timeout.as_nanos().div_ceil(1_000_000);
        let millis = i32::try_from(millis).unwrap_or(i32::MAX).unsigned_abs();
        set(fd.as_fd(), sockopt::TcpUserTimeout, &millis, "setsockopt TCP_USER_TIMEOUT")
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (fd, timeout);
        unsupported("TCP_USER_TIMEOUT")
    }
}

/// `int setsockopt(int sockfd, int level, int optname, const void *optval, socklen_t optlen)`
///
/// `TCP_NODELAY`: sends small messages at once instead of gathering them (Nagle's algorithm).
///
/// # Errors
///
/// [`SystemError::Call`]; among them `EOPNOTSUPP` for a Unix socket.
///
/// Source: tcp(7), RFC 896.
pub fn set_nodelay(fd: impl AsFd, on: bool) -> Result<()> {
    set(fd.as_fd(), sockopt::TcpNoDelay, &on, "setsockopt TCP_NODELAY")
}

/// `int getsockopt(int sockfd, int level, int optname, void *optval, socklen_t *optlen)`
///
/// Whether `TCP_NODELAY` is set.
///
/// # Errors
///
/// [`SystemError::Call`].
pub fn nodelay(fd: impl AsFd) -> Result<bool> {
    get(fd.as_fd(), sockopt::TcpNoDelay, "getsockopt TCP_NODELAY")
}

/// `TCP_NOTSENT_LOWAT`: how many bytes the kernel may hold that it has not sent yet. Beyond that it
/// takes no more, whatever the size of the send buffer is, which the kernel tunes by what is sent and
/// not acknowledged. Set on a listener, accepted sockets inherit it.
///
/// # Errors
///
/// [`SystemError::Call`]; [`SystemError::Unsupported`] on systems other than Linux and Apple's.
///
/// Source: tcp(7); `TCP_NOTSENT_LOWAT`, `Documentation/networking/ip-sysctl.rst` of Linux.
pub(super) fn set_max_unsent(fd: impl AsFd, bytes: u32) -> Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    {
        // Of Apple's <netinet/tcp.h>; the crate libc has it for Linux alone.
        #[cfg(target_vendor = "apple")]
        const TCP_NOTSENT_LOWAT: libc::c_int = 0x201;
        #[cfg(not(target_vendor = "apple"))]
        use libc::TCP_NOTSENT_LOWAT;

        // The kernels read an int.
        let value = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
        let len = libc::socklen_t::try_from(size_of_val(&value)).unwrap_or_default();
        // SAFETY: the call reads `len` bytes of `value`, which is ours and lives as long.
        let result = unsafe {
            libc::setsockopt(
                raw(fd.as_fd()),
                libc::IPPROTO_TCP,
                TCP_NOTSENT_LOWAT,
                (&raw const value).cast(),
                len,
            )
        };
        super::socket::check(result)
            .map_err(|errno| SystemError::call("setsockopt TCP_NOTSENT_LOWAT", errno, ""))
    }
    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    {
        let _ = (fd, bytes);
        unsupported("TCP_NOTSENT_LOWAT")
    }
}

/// `int setsockopt(int sockfd, int level, int optname, const void *optval, socklen_t optlen)`
///
/// `SO_LINGER`: what closing does with data that is not sent yet. `None` sends it in the
/// background; a zero duration drops it and resets the connection; any other blocks the close for
/// so long at most. Whole seconds, rounded up.
///
/// # Errors
///
/// [`SystemError::Call`].
///
/// Source: socket(7).
pub fn set_linger(fd: impl AsFd, linger: Option<Duration>) -> Result<()> {
    let time = linger.filter(|time| !time.is_zero()).map_or(0, seconds);
    let value = libc::linger {
        l_onoff: linger.is_some().into(),
        // The kernels hold it in an int or a short.
        l_linger: i16::try_from(time).unwrap_or(i16::MAX).into(),
    };
    set(fd.as_fd(), sockopt::Linger, &value, "setsockopt SO_LINGER")
}

/// `int fcntl(int fd, F_SETFL, int flags)`: switches `O_NONBLOCK`, leaving the other flags alone.
///
/// # Errors
///
/// [`SystemError::Call`].
///
/// Source: fcntl(2).
pub fn set_nonblocking(fd: impl AsFd, on: bool) -> Result<()> {
    super::descriptor::set_nonblocking(fd.as_fd(), on)
        .map_err(|errno| SystemError::call("fcntl", errno, "O_NONBLOCK"))
}

/// `int setsockopt(int sockfd, int level, int optname, const void *optval, socklen_t optlen)`
///
/// `SO_RCVBUF`: the bytes that may wait to be received. Linux doubles the number for its own
/// bookkeeping, keeps it between 2,304 and `net.core.rmem_max` doubled, and stops tuning the buffer
/// by itself.
///
/// # Errors
///
/// [`SystemError::Call`].
///
/// Source: socket(7).
pub fn set_recv_buffer_size(fd: impl AsFd, bytes: usize) -> Result<()> {
    set(fd.as_fd(), sockopt::RcvBuf, &int_sized(bytes), "setsockopt SO_RCVBUF")
}

/// `int getsockopt(int sockfd, int level, int optname, void *optval, socklen_t *optlen)`
///
/// `SO_RCVBUF` as the kernel has it, in bytes; on Linux twice what was set.
///
/// # Errors
///
/// [`SystemError::Call`].
pub fn recv_buffer_size(fd: impl AsFd) -> Result<usize> {
    get(fd.as_fd(), sockopt::RcvBuf, "getsockopt SO_RCVBUF")
}

/// `int setsockopt(int sockfd, int level, int optname, const void *optval, socklen_t optlen)`
///
/// `SO_SNDBUF`: the bytes that may wait to be sent. Linux doubles the number for its own
/// bookkeeping, keeps it between 4,608 and `net.core.wmem_max` doubled, and stops tuning the buffer
/// by itself.
///
/// # Errors
///
/// [`SystemError::Call`].
///
/// Source: socket(7).
pub fn set_send_buffer_size(fd: impl AsFd, bytes: usize) -> Result<()> {
    set(fd.as_fd(), sockopt::SndBuf, &int_sized(bytes), "setsockopt SO_SNDBUF")
}

/// `int getsockopt(int sockfd, int level, int optname, void *optval, socklen_t *optlen)`
///
/// `SO_SNDBUF` as the kernel has it, in bytes; on Linux twice what was set.
///
/// # Errors
///
/// [`SystemError::Call`].
pub fn send_buffer_size(fd: impl AsFd) -> Result<usize> {
    get(fd.as_fd(), sockopt::SndBuf, "getsockopt SO_SNDBUF")
}

/// The kernel reads these sizes as an int.
fn int_sized(bytes: usize) -> usize {
    bytes.min(i32::MAX as usize)
}

/// `int setsockopt(int sockfd, int level, int optname, const void *optval, socklen_t optlen)`
///
/// `SO_REUSEADDR`: binding succeeds although connections of an earlier socket linger.
///
/// # Errors
///
/// [`SystemError::Call`].
///
/// Source: socket(7), ip(7).
pub fn set_reuse_address(fd: impl AsFd, on: bool) -> Result<()> {
    set(fd.as_fd(), sockopt::ReuseAddr, &on, "setsockopt SO_REUSEADDR")
}

/// `int getsockopt(int sockfd, int level, int optname, void *optval, socklen_t *optlen)`
///
/// Whether `SO_REUSEADDR` is set.
///
/// # Errors
///
/// [`SystemError::Call`].
pub fn reuse_address(fd: impl AsFd) -> Result<bool> {
    get(fd.as_fd(), sockopt::ReuseAddr, "getsockopt SO_REUSEADDR")
}

/// Whether the kernel spreads connections over the listeners that share a port with
/// [`set_reuse_port`]. Elsewhere all of them go to the one that listened last, or first.
///
/// Source: socket(7), "`SO_REUSEPORT` (since Linux 3.9)".
pub const REUSE_PORT_BALANCES: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// `int setsockopt(int sockfd, int level, int optname, const void *optval, socklen_t optlen)`
///
/// `SO_REUSEPORT`: several sockets, all with this option, may bind the same address. Set it before
/// binding.
///
/// # Errors
///
/// [`SystemError::Call`]; [`SystemError::Unsupported`] where nix does not know it (illumos).
///
/// Source: socket(7).
pub fn set_reuse_port(fd: impl AsFd, on: bool) -> Result<()> {
    #[cfg(not(any(target_os = "illumos", target_os = "solaris")))]
    {
        set(fd.as_fd(), sockopt::ReusePort, &on, "setsockopt SO_REUSEPORT")
    }
    #[cfg(any(target_os = "illumos", target_os = "solaris"))]
    {
        let _ = (fd, on);
        unsupported("SO_REUSEPORT")
    }
}

/// `int getsockopt(int sockfd, int level, int optname, void *optval, socklen_t *optlen)`
///
/// Whether `SO_REUSEPORT` is set.
///
/// # Errors
///
/// As [`set_reuse_port`].
pub fn reuse_port(fd: impl AsFd) -> Result<bool> {
    #[cfg(not(any(target_os = "illumos", target_os = "solaris")))]
    {
        get(fd.as_fd(), sockopt::ReusePort, "getsockopt SO_REUSEPORT")
    }
    #[cfg(any(target_os = "illumos", target_os = "solaris"))]
    {
        let _ = fd;
        unsupported("SO_REUSEPORT")
    }
}

/// `int setsockopt(int sockfd, int level, int optname, const void *optval, socklen_t optlen)`
///
/// `IPV6_V6ONLY`: whether an IPv6 socket leaves IPv4 alone. Set it before binding.
///
/// # Errors
///
/// [`SystemError::Call`].
///
/// Source: ipv6(7), RFC 3493 section 5.3.
pub fn set_v6_only(fd: impl AsFd, on: bool) -> Result<()> {
    set(fd.as_fd(), sockopt::Ipv6V6Only, &on, "setsockopt IPV6_V6ONLY")
}

/// `int getsockopt(int sockfd, int level, int optname, void *optval, socklen_t *optlen)`
///
/// Whether `IPV6_V6ONLY` is set.
///
/// # Errors
///
/// [`SystemError::Call`].
pub fn v6_only(fd: impl AsFd) -> Result<bool> {
    get(fd.as_fd(), sockopt::Ipv6V6Only, "getsockopt IPV6_V6ONLY")
}

/// `SO_NOSIGPIPE`: sending to a peer that is gone is an error and no signal.
#[cfg(target_vendor = "apple")]
pub(crate) fn set_no_sigpipe(fd: BorrowedFd<'_>) -> Result<(), crate::Errno> {
    raw_set_int(fd, libc::SOL_SOCKET, libc::SO_NOSIGPIPE, 1)
}

/// `IP_BIND_ADDRESS_NO_PORT`: binding to port 0 leaves the choice of a port to connect, which then
/// knows both ends.
///
/// Only a saving, so a system that lacks it or refuses it is left alone.
pub(crate) fn set_bind_address_no_port(fd: BorrowedFd<'_>) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = setsockopt(&fd, sockopt::IpBindAddressNoPort, &true);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = fd;
}

/// `int ioctl(int fd, SIOCINQ, int *bytes)` and `int ioctl(int fd, SIOCOUTQ, int *bytes)`
///
/// The bytes received but not yet read, and those sent but, for TCP, not yet acknowledged. For a
/// Unix socket Linux counts the kernel's memory rather than bytes on the sending side.
///
/// ```
/// # #[cfg(target_os = "linux")] {
/// use myriapod_sys::{Socket, queue_sizes};
///
/// let (ours, theirs) = Socket::pair()?;
/// ours.send(b"hello")?;
/// assert_eq!(queue_sizes(&theirs)?, (5, 0));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`SystemError::Call`], among them `EINVAL` for a listener; [`SystemError::Unsupported`] on systems other
/// than Linux, macOS, FreeBSD and NetBSD.
///
/// Source: tcp(7), unix(7).
pub fn queue_sizes(fd: impl AsFd) -> Result<(usize, usize)> {
    queue_sizes_raw(fd.as_fd())
}

#[cfg(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "netbsd"
))]
fn queue_sizes_raw(fd: BorrowedFd<'_>) -> Result<(usize, usize)> {
    #[cfg(any(target_os = "freebsd", target_os = "netbsd"))]
    use libc::{FIONREAD as RECEIVED, FIONWRITE as SENT};
    #[cfg(any(target_os = "linux", target_os = "android"))]
    use libc::{TIOCINQ as RECEIVED, TIOCOUTQ as SENT};

    let (mut received, mut sent): (libc::c_int, libc::c_int) = (0, 0);
    // SAFETY: these requests write one int, which is ours.
    let result = unsafe { libc::ioctl(raw(fd), RECEIVED, &raw mut received) };
    super::socket::check(result).map_err(|errno| SystemError::call("ioctl SIOCINQ", errno, ""))?;
    // SAFETY: as above.
    let result = unsafe { libc::ioctl(raw(fd), SENT, &raw mut sent) };
    super::socket::check(result).map_err(|errno| SystemError::call("ioctl SIOCOUTQ", errno, ""))?;
    Ok((usize::try_from(received).unwrap_or(0), usize::try_from(sent).unwrap_or(0)))
}

#[cfg(target_vendor = "apple")]
fn queue_sizes_raw(fd: BorrowedFd<'_>) -> Result<(usize, usize)> {
    let received = raw_get_int(fd, libc::SOL_SOCKET, libc::SO_NREAD)
        .map_err(|errno| SystemError::call("getsockopt SO_NREAD", errno, ""))?;
    let sent = raw_get_int(fd, libc::SOL_SOCKET, libc::SO_NWRITE)
        .map_err(|errno| SystemError::call("getsockopt SO_NWRITE", errno, ""))?;
    Ok((usize::try_from(received).unwrap_or(0), usize::try_from(sent).unwrap_or(0)))
}

#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "netbsd",
    target_vendor = "apple"
)))]
fn queue_sizes_raw(_: BorrowedFd<'_>) -> Result<(usize, usize)> {
    unsupported("sizes of a socket's queues")
}

/// An option that nix does not know.
#[cfg(any(target_vendor = "apple", target_os = "netbsd", target_os = "illumos"))]
fn raw_set_int(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> Result<(), crate::Errno> {
    let len = size_of_val(&value) as libc::socklen_t;
    let value = (&raw const value).cast();
    // SAFETY: `value` is one int, and `len` its size.
    super::socket::check(unsafe { libc::setsockopt(raw(fd), level, name, value, len) })
}

/// An option that nix does not know.
#[cfg(target_vendor = "apple")]
fn raw_get_int(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
) -> Result<libc::c_int, crate::Errno> {
    let mut value: libc::c_int = 0;
    let mut len = size_of_val(&value) as libc::socklen_t;
    let to = (&raw mut value).cast();
    // SAFETY: `to` is one int of ours, and `len` its size.
    super::socket::check(unsafe { libc::getsockopt(raw(fd), level, name, to, &raw mut len) })?;
    Ok(value)
}

/// The states of RFC 793 (RFC 9293 section 3.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TcpState {
    /// Connected, both directions open.
    Established,
    /// Connecting.
    SynSent,
    /// Being connected to.
    SynReceived,
    /// We have shut down sending; the peer has not acknowledged that.
    FinWait1,
    /// We have shut down sending.
    FinWait2,
    /// Closed by us first; waits for stray segments.
    TimeWait,
    /// Not connected.
    Closed,
    /// The peer has shut down sending.
    CloseWait,
    /// Both have; the peer has not acknowledged ours.
    LastAck,
    /// Listening.
    Listen,
    /// Both have shut down at once.
    Closing,
    /// A number that we do not know.
    Other(u8),
}

impl TcpState {
    /// The state that Linux has this number for, in `TCP_INFO`, `sock_diag(7)` and `/proc/net/tcp`.
    ///
    /// Source: the kernel's `include/net/tcp_states.h`.
    #[must_use]
    pub const fn from_linux(number: u8) -> Self {
        match number {
            1 => Self::Established,
            2 => Self::SynSent,
            // 12 is a connection of which only the first segment has come.
            3 | 12 => Self::SynReceived,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            7 => Self::Closed,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            10 => Self::Listen,
            11 => Self::Closing,
            other => Self::Other(other),
        }
    }
}

/// As `ss` and `netstat` write it: `ESTABLISHED`, `SYN-SENT`, …
impl fmt::Display for TcpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN-SENT",
            Self::SynReceived => "SYN-RECEIVED",
            Self::FinWait1 => "FIN-WAIT-1",
            Self::FinWait2 => "FIN-WAIT-2",
            Self::TimeWait => "TIME-WAIT",
            Self::Closed => "CLOSED",
            Self::CloseWait => "CLOSE-WAIT",
            Self::LastAck => "LAST-ACK",
            Self::Listen => "LISTEN",
            Self::Closing => "CLOSING",
            Self::Other(number) => return write!(f, "state {number}"),
        })
    }
}

/// What the kernel knows of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpInfo {
    /// Its state.
    pub state: TcpState,
    /// The smoothed round-trip time.
    pub rtt: Duration,
    /// Its mean deviation.
    pub rtt_variance: Duration,
    /// Segments sent again, since the connection began.
    pub retransmits: u32,
}

/// `int getsockopt(int fd, IPPROTO_TCP, TCP_INFO, struct tcp_info *info, socklen_t *len)`
///
/// # Errors
///
/// [`SystemError::Call`]; [`SystemError::Unsupported`] on systems other than Linux.
///
/// Source: tcp(7).
pub fn tcp_info(fd: impl AsFd) -> Result<TcpInfo> {
    tcp_info_raw(fd.as_fd())
}

#[cfg(target_os = "linux")]
fn tcp_info_raw(fd: BorrowedFd<'_>) -> Result<TcpInfo> {
    // SAFETY: the structure consists of integers, for which zero is a value; so a kernel that
    // fills less of it leaves the rest at zero.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    #[expect(clippy::cast_possible_truncation, reason = "some hundred bytes")]
    let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
    let to = (&raw mut info).cast();
    // SAFETY: `to` is ours to write, and `len` its size.
    super::socket::check(unsafe {
        libc::getsockopt(raw(fd), libc::IPPROTO_TCP, libc::TCP_INFO, to, &raw mut len)
    })
    .map_err(|errno| SystemError::call("getsockopt TCP_INFO", errno, ""))?;
    Ok(TcpInfo {
        state: TcpState::from_linux(info.tcpi_state),
        rtt: Duration::from_micros(info.tcpi_rtt.into()),
        rtt_variance: Duration::from_micros(info.tcpi_rttvar.into()),
        retransmits: info.tcpi_total_retrans,
    })
}

#[cfg(not(target_os = "linux"))]
fn tcp_info_raw(_: BorrowedFd<'_>) -> Result<TcpInfo> {
    unsupported("TCP_INFO")
}
