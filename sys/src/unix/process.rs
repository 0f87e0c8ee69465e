//! The process: its descriptors, their limit, what it inherited, what it uses.

use std::collections::BTreeSet;
use std::env;
use std::os::fd::FromRawFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::fcntl::{OFlag, open};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, rlim_t, setrlimit};
use nix::sys::stat::Mode;
use nix::sys::time::TimeVal;

use crate::{Descriptor, DescriptorLimit, Errno, Result, SystemError};

/// `int getrlimit(RLIMIT_NOFILE, struct rlimit *limit)`
///
/// ```
/// let limit = myriapod_sys::descriptor_limit()?;
/// assert!(limit.soft <= limit.hard);
/// # Ok::<(), myriapod_sys::SystemError>(())
/// ```
///
/// # Errors
///
/// [`SystemError::Call`].
///
/// Source: getrlimit(2).
pub fn descriptor_limit() -> Result<DescriptorLimit> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)
        .map_err(|errno| SystemError::call("getrlimit", errno.into(), "RLIMIT_NOFILE"))?;
    Ok(DescriptorLimit { soft: count(soft), hard: count(hard) })
}

#[allow(clippy::useless_conversion, reason = "rlim_t is signed on FreeBSD")]
fn count(limit: rlim_t) -> u64 {
    u64::try_from(limit).unwrap_or(u64::MAX)
}

/// `int setrlimit(RLIMIT_NOFILE, const struct rlimit *limit)`
///
/// Raises the soft limit to the hard one, and on Linux both to `fs.nr_open` where the process has
/// the privilege (`CAP_SYS_RESOURCE`). Where `fs.nr_open` was lowered below the hard limit since,
/// that is the most, and the hard limit comes down to it. Returns the limit that holds then.
/// Processes started later inherit it; those that use `select` may not be prepared for large
/// numbers.
///
/// # Errors
///
/// [`SystemError::Call`].
///
/// Source: setrlimit(2), `proc_sys_fs(5)`.
pub fn raise_descriptor_limit() -> Result<DescriptorLimit> {
    let limit = descriptor_limit()?;
    let ceiling = system_ceiling().unwrap_or(limit.hard);
    if ceiling > limit.hard && set_limit(ceiling, ceiling).is_ok() {
        return descriptor_limit();
    }
    let most = limit.hard.min(ceiling);
    if limit.soft < most {
        let raised = set_limit(most, most);
        // macOS shows an unlimited hard limit, and takes no more than OPEN_MAX.
        let raised = if cfg!(target_vendor = "apple") && raised == Err(Errno::EINVAL) {
            set_limit(limit.hard.min(10_240).max(limit.soft), limit.hard)
        } else {
            raised
        };
        raised.map_err(|errno| SystemError::call("setrlimit", errno, "RLIMIT_NOFILE"))?;
    }
    descriptor_limit()
}

fn set_limit(soft: u64, hard: u64) -> Result<(), Errno> {
    #[allow(clippy::useless_conversion, reason = "rlim_t is signed on FreeBSD")]
    let clamped = |limit: u64| rlim_t::try_from(limit).unwrap_or(rlim_t::MAX);
    Ok(setrlimit(Resource::RLIMIT_NOFILE, clamped(soft), clamped(hard))?)
}

/// What even a privileged process cannot exceed, where the system says it.
fn system_ceiling() -> Option<u64> {
    if cfg!(target_os = "linux") {
        std::fs::read_to_string("/proc/sys/fs/nr_open").ok()?.trim().parse().ok()
    } else {
        None
    }
}

/// How many descriptors this process holds.
///
/// Read from `/proc/self/fd` (Linux) or `/dev/fd` (macOS); elsewhere, or where no descriptor is left
/// to read them with, every number below the soft limit is tried, up to about a million.
#[must_use]
pub fn open_descriptors() -> usize {
    let list = if cfg!(any(target_os = "linux", target_os = "android")) {
        std::fs::read_dir("/proc/self/fd").ok()
    } else if cfg!(target_vendor = "apple") {
        std::fs::read_dir("/dev/fd").ok()
    } else {
        None
    };
    if let Some(list) = list {
        // The one that reads the list is in it.
        return list.count().saturating_sub(1);
    }
    let end = descriptor_limit().map_or(1024, |limit| limit.soft.min(1 << 20));
    (0..i32::try_from(end).unwrap_or(i32::MAX)).filter(|&n| descriptor_flags(n).is_ok()).count()
}

/// `int fcntl(int fd, F_GETFD)`: `EBADF` where the number is not open.
fn descriptor_flags(number: i32) -> Result<i32, Errno> {
    // SAFETY: no memory is involved, and a number that is not open is an error.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 { Err(Errno::last()) } else { Ok(flags) }
}

/// The numbers that have been adopted. Each is adopted once, so that nobody serves a listener twice.
static ADOPTED: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Takes over the descriptor `number` that this process was started with: returns a duplicate, which
/// is close-on-exec.
///
/// The number itself stays open, for as long as the process lives, and is made close-on-exec. To
/// close it would be sound only if nobody else in the process owned it, and nobody can know that:
/// code without `unsafe` can own a descriptor that looks inherited (`dup` makes one). So a listener
/// that was adopted goes on listening after its [`Descriptor`] is closed, as it does anyway where
/// the service manager kept a copy. Who knows better has [`OwnedFd::from_raw_fd`], which is unsafe.
///
/// What Rust's standard library and this crate open is close-on-exec, and what was inherited cannot
/// be; so a descriptor that is close-on-exec has an owner and is refused, as is a number that was
/// adopted before. Number 0, where inetd puts its listener, is moved: `/dev/null` takes its place.
/// 1 and 2 belong to the standard streams and are refused.
///
/// [`OwnedFd::from_raw_fd`]: std::os::fd::FromRawFd::from_raw_fd
///
/// # Errors
///
/// [`SystemError::Call`] with `fcntl` and `EBADF` where it is not open, `EMFILE` where no number is free;
/// [`SystemError::DescriptorOwned`].
///
/// Source: fcntl(2).
pub fn adopt_descriptor(number: i32) -> Result<Descriptor> {
    let in_call = |call, errno| SystemError::call(call, errno, format_args!("descriptor {number}"));
    let owned = Err(SystemError::DescriptorOwned { descriptor: number });
    let mut adopted = ADOPTED.lock().unwrap_or_else(PoisonError::into_inner);
    let flags = descriptor_flags(number).map_err(|errno| in_call("fcntl", errno))?;
    if (1..=2).contains(&number) || flags & libc::FD_CLOEXEC != 0 || adopted.contains(&number) {
        return owned;
    }
    let duplicate = duplicate(number).map_err(|errno| in_call("fcntl F_DUPFD_CLOEXEC", errno))?;
    if number == 0 {
        give_up_standard_input()?;
    } else {
        // A program that is started later must not go on listening.
        // SAFETY: no memory is involved, and a number that is not open is an error.
        let set = unsafe { libc::fcntl(number, libc::F_SETFD, flags | libc::FD_CLOEXEC) };
        if set < 0 {
            return Err(in_call("fcntl F_SETFD", Errno::last()));
        }
    }
    adopted.insert(number);
    Ok(duplicate)
}

/// `int fcntl(int fd, F_DUPFD_CLOEXEC, int least)`
fn duplicate(number: i32) -> Result<Descriptor, Errno> {
    // Not one of the standard streams, even where one is closed.
    const LEAST: i32 = 3;
    // SAFETY: no memory is involved, and a number that is not open is an error.
    let duplicate = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, LEAST) };
    if duplicate < 0 {
        return Err(Errno::last());
    }
    // SAFETY: the kernel has just opened it for us, and nobody else knows of it.
    Ok(unsafe { Descriptor::from_raw_fd(duplicate) })
}

/// `int dup2(int from, int to)`: nobody owns standard input, so what it was may be closed.
fn give_up_standard_input() -> Result<()> {
    let in_call = |call, what| move |errno: nix::Error| SystemError::call(call, errno.into(), what);
    let null = open("/dev/null", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(in_call("open", "/dev/null"))?;
    nix::unistd::dup2_stdin(null).map_err(in_call("dup2", "/dev/null to descriptor 0"))
}

/// The listeners that a service manager started this process with: the descriptors from 3 on, as
/// many as `LISTEN_FDS` says, if `LISTEN_PID` is this process; else none. Each is
/// [adopted](adopt_descriptor), so a second call fails.
///
/// # Errors
///
/// [`SystemError::Call`] with `LISTEN_PID` or `LISTEN_FDS` and `EINVAL` where that is no number, and the
/// errors of [`adopt_descriptor`], such as `EBADF` where fewer descriptors are open.
///
/// Source: `sd_listen_fds(3)`.
pub fn inherited_listeners() -> Result<Vec<Descriptor>> {
    let read = |name: &'static str| -> Result<Option<i32>> {
        let Some(value) = env::var_os(name) else { return Ok(None) };
        match value.to_str().and_then(|value| value.parse::<i32>().ok()) {
            Some(number) if number >= 0 => Ok(Some(number)),
            _ => Err(SystemError::call(name, Errno::EINVAL, value.to_string_lossy())),
        }
    };
    let Some(owner) = read("LISTEN_PID")? else { return Ok(Vec::new()) };
    if u32::try_from(owner) != Ok(pid()) {
        return Ok(Vec::new());
    }
    let count = read("LISTEN_FDS")?.unwrap_or(0);
    (3..count.saturating_add(3)).map(adopt_descriptor).collect()
}

/// What the service manager calls each of the [`inherited_listeners`], in their order:
/// `LISTEN_FDNAMES`. Empty where it gives no names, or the listeners are another process's.
///
/// Source: `sd_listen_fds_with_names(3)`.
#[must_use]
pub fn inherited_listener_names() -> Vec<String> {
    let owner = env::var("LISTEN_PID").ok().and_then(|owner| owner.parse::<u32>().ok());
    let names = env::var("LISTEN_FDNAMES").ok().filter(|_| owner == Some(pid()));
    names.map_or_else(Vec::new, |names| names.split(':').map(str::to_owned).collect())
}

/// The memory of this process that is resident, in bytes: `/proc/self/statm`, which on kernels
/// before 6.2 may lag by some hundred KiB for each thread.
///
/// # Errors
///
/// [`SystemError::Call`] where the file cannot be read; [`SystemError::Unsupported`] on systems other than
/// Linux.
///
/// Source: `proc_pid_statm(5)`.
pub fn rss_bytes() -> Result<u64> {
    const STATM: &str = "/proc/self/statm";
    if !cfg!(any(target_os = "linux", target_os = "android")) {
        return Err(SystemError::Unsupported { what: "resident set size", by: env::consts::OS });
    }
    let statm = std::fs::read_to_string(STATM).map_err(|error| {
        SystemError::call("read", Errno::from_raw(error.raw_os_error().unwrap_or(0)), STATM)
    })?;
    let pages = statm.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.map(|pages| pages * page_size()).ok_or(SystemError::call("read", Errno::EINVAL, STATM))
}

/// `long sysconf(_SC_PAGESIZE)`
pub(crate) fn page_size() -> u64 {
    // SAFETY: no memory is involved.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    // It cannot fail; 4 KiB is what nearly all have.
    u64::try_from(page).unwrap_or(4096)
}

/// The time that all threads of this process have used, ended ones included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct CpuTime {
    /// In the program itself.
    pub user: Duration,
    /// In the kernel on its behalf.
    pub system: Duration,
}

/// `int getrusage(RUSAGE_SELF, struct rusage *usage)`
///
/// # Errors
///
/// [`SystemError::Call`].
///
/// Source: getrusage(2).
pub fn cpu_time() -> Result<CpuTime> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)
        .map_err(|errno| SystemError::call("getrusage", errno.into(), ""))?;
    Ok(CpuTime { user: duration(usage.user_time()), system: duration(usage.system_time()) })
}

fn duration(time: TimeVal) -> Duration {
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    let micros = u64::try_from(time.tv_usec()).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}

/// `pid_t getpid(void)`: the number of this process.
#[must_use]
pub fn pid() -> u32 {
    std::process::id()
}
