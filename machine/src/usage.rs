//! What processes, threads and the machine's processors have used: for those who measure a server.

use std::fs;
use std::io;
use std::time::Duration;

use myriapod_sys::{CpuTime, Errno, Result, SystemError};
use nix::unistd::SysconfVar;

use crate::{page_size, sysconf};

/// What a process has used since it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ProcessUsage {
    /// Time on a processor of the threads that it has now, to the nanosecond.
    pub running: Duration,
    /// The time of all its threads, ended ones included, in the program and in the kernel; counted
    /// in ticks, of 10 ms on most systems.
    pub cpu: CpuTime,
    /// Context switches of the threads that it has now: they waited for something.
    pub voluntary_switches: u64,
    /// The same: others had their turn.
    pub involuntary_switches: u64,
    /// Resident memory in bytes.
    pub rss_bytes: u64,
}

/// What the process `pid` has used: `/proc/PID/stat`, `statm` and, of each thread, `schedstat` and
/// `status`.
///
/// ```
/// # #[cfg(target_os = "linux")] {
/// let used = myriapod_machine::process_usage(myriapod_sys::pid())?;
/// assert!(used.rss_bytes > 0);
/// # }
/// # Ok::<(), myriapod_sys::SystemError>(())
/// ```
///
/// # Errors
///
/// [`SystemError::Call`] where a file cannot be read: `ENOENT` for a process that is not there;
/// [`SystemError::Unsupported`] on systems other than Linux.
///
/// Source: `proc_pid_stat(5)`, `proc_pid_statm(5)`, `proc_pid_status(5)`; the kernel's
/// Documentation/scheduler/sched-stats.rst.
pub fn process_usage(pid: u32) -> Result<ProcessUsage> {
    linux_only("the usage of a process")?;
    let stat = format!("/proc/{pid}/stat");
    let text = read(&stat)?;
    // The name in parentheses may hold anything; 11 fields on are utime and stime.
    let fields = text.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let ticks = |nth| fields.split(' ').nth(nth).and_then(|field| field.parse::<u64>().ok());
    let (Some(user), Some(system)) = (ticks(11), ticks(12)) else {
        return Err(SystemError::call("read", Errno::EINVAL, stat));
    };
    let statm = format!("/proc/{pid}/statm");
    let pages = read(&statm)?.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    let pages = pages.ok_or_else(|| SystemError::call("read", Errno::EINVAL, &statm))?;
    let mut usage = ProcessUsage {
        cpu: CpuTime { user: duration(user), system: duration(system) },
        rss_bytes: pages * page_size(),
        ..ProcessUsage::default()
    };
    let tasks = format!("/proc/{pid}/task");
    for thread in fs::read_dir(&tasks).map_err(|error| failed(&tasks, &error))? {
        let thread = thread.map_err(|error| failed(&tasks, &error))?.path();
        // A thread that has ended meanwhile is none.
        let Ok(schedstat) = fs::read_to_string(thread.join("schedstat")) else { continue };
        let Ok(status) = fs::read_to_string(thread.join("status")) else { continue };
        let nanos = schedstat.split(' ').next().and_then(|nanos| nanos.parse().ok());
        usage.running += Duration::from_nanos(nanos.unwrap_or(0));
        let count = |name| value(&status, name).and_then(|count| count.parse::<u64>().ok());
        usage.voluntary_switches += count("voluntary_ctxt_switches").unwrap_or(0);
        usage.involuntary_switches += count("nonvoluntary_ctxt_switches").unwrap_or(0);
    }
    Ok(usage)
}

/// The resident memory of the process `pid` in bytes: `/proc/PID/statm`.
///
/// # Errors
///
/// As [`process_usage`].
///
/// Source: `proc_pid_statm(5)`.
pub fn process_rss_bytes(pid: u32) -> Result<u64> {
    linux_only("the memory of a process")?;
    let statm = format!("/proc/{pid}/statm");
    let pages = read(&statm)?.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages
        .map(|pages| pages * page_size())
        .ok_or_else(|| SystemError::call("read", Errno::EINVAL, &statm))
}

/// The processors that the process `pid` may run on, as the kernel writes them: `0-1,4`.
///
/// # Errors
///
/// As [`process_usage`].
///
/// Source: `proc_pid_status(5)`, "`Cpus_allowed_list`".
pub fn process_cpus(pid: u32) -> Result<String> {
    linux_only("the processors of a process")?;
    let path = format!("/proc/{pid}/status");
    let status = read(&path)?;
    let cpus = value(&status, "Cpus_allowed_list").map(str::to_owned);
    cpus.ok_or_else(|| SystemError::call("read", Errno::EINVAL, &path))
}

/// The time that all processors together were busy since the machine started, with programs, the
/// kernel or interrupts: `/proc/stat`, in ticks. What the host took is not in it.
///
/// # Errors
///
/// [`SystemError::Call`]; [`SystemError::Unsupported`] on systems other than Linux.
///
/// Source: `proc_stat(5)`.
pub fn busy_time() -> Result<Duration> {
    linux_only("/proc/stat")?;
    let path = "/proc/stat";
    let stat = read(path)?;
    let fields = stat.lines().next().and_then(|line| line.strip_prefix("cpu "));
    let fields: Vec<u64> = fields
        .into_iter()
        .flat_map(str::split_ascii_whitespace)
        .map_while(|field| field.parse().ok())
        .collect();
    // user, nice, system; idle, iowait; irq, softirq; steal, and guests, who are in user and nice.
    match fields[..] {
        [user, nice, system, _, _, irq, softirq, ..] => {
            Ok(duration(user + nice + system + irq + softirq))
        }
        _ => Err(SystemError::call("read", Errno::EINVAL, path)),
    }
}

/// How many TCP sockets of this network namespace wait in `TIME_WAIT`: `/proc/net/sockstat`.
///
/// # Errors
///
/// [`SystemError::Call`]; [`SystemError::Unsupported`] on systems other than Linux.
///
/// Source: proc(5), "`/proc/net/sockstat`"; RFC 9293 section 3.6.1.
pub fn time_wait_sockets() -> Result<u64> {
    linux_only("/proc/net/sockstat")?;
    let path = "/proc/net/sockstat";
    let text = read(path)?;
    let tcp = text.lines().find_map(|line| line.strip_prefix("TCP: "));
    let mut fields = tcp.into_iter().flat_map(str::split_ascii_whitespace);
    fields.find(|&field| field == "tw");
    fields
        .next()
        .and_then(|count| count.parse().ok())
        .ok_or_else(|| SystemError::call("read", Errno::EINVAL, path))
}

/// `int clock_gettime(CLOCK_THREAD_CPUTIME_ID, struct timespec *time)`: the time that the calling
/// thread has used.
///
/// ```
/// let before = myriapod_machine::thread_cpu_time();
/// assert!(myriapod_machine::thread_cpu_time() >= before);
/// ```
///
/// Source: `clock_gettime(2)`.
#[must_use]
pub fn thread_cpu_time() -> Duration {
    // Where the system has no such clock, nothing is known.
    #[cfg(not(any(target_os = "illumos", target_os = "solaris")))]
    {
        let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
        clock.now().map_or(Duration::ZERO, Duration::from)
    }
    #[cfg(any(target_os = "illumos", target_os = "solaris"))]
    Duration::ZERO
}

/// `int prctl(PR_SET_TIMERSLACK, unsigned long nanoseconds)`: how much later than asked for a wait
/// of the calling thread may end, so that the kernel can gather wake-ups; 50 µs unless set. At
/// least 1 ns. Systems other than Linux are left alone.
///
/// Source: `PR_SET_TIMERSLACK(2const)`.
pub fn set_timer_slack(slack: Duration) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        let nanos = u64::try_from(slack.as_nanos()).unwrap_or(u64::MAX).max(1);
        // The kernel refuses no number but 0.
        let _ = nix::sys::prctl::set_timerslack(nanos);
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = slack;
}

/// `int prctl(PR_SET_PDEATHSIG, unsigned long signal)`: has this process terminated (`SIGTERM`) when
/// the one that started it ends, in whatever way.
///
/// # Errors
///
/// [`SystemError::Unsupported`] on systems other than Linux; [`SystemError::Call`] with `prctl`.
///
/// Source: `PR_SET_PDEATHSIG(2const)`.
pub fn end_with_parent() -> Result<()> {
    linux_only("PR_SET_PDEATHSIG")?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM).map_err(|errno| {
        SystemError::call("prctl", Errno::from_raw(errno as i32), "PR_SET_PDEATHSIG")
    })?;
    Ok(())
}

fn linux_only(what: &'static str) -> Result<()> {
    if cfg!(any(target_os = "linux", target_os = "android")) {
        return Ok(());
    }
    Err(SystemError::Unsupported { what, by: std::env::consts::OS })
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).map_err(|error| failed(path, &error))
}

fn failed(path: &str, error: &io::Error) -> SystemError {
    SystemError::call("read", Errno::from_raw(error.raw_os_error().unwrap_or(0)), path)
}

/// The value of a line `NAME:\tVALUE`.
fn value<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

/// Ticks of the kernel's clock for users.
fn duration(ticks: u64) -> Duration {
    Duration::from_nanos(ticks.saturating_mul(1_000_000_000 / sysconf(SysconfVar::CLK_TCK).max(1)))
}
