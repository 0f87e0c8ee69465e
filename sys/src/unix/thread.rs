//! [`spawn`]: threads with a name, and the processors that they may run on.

use std::panic;
use std::thread;
use std::time::Duration;

use crate::{Errno, Result, SystemError};

/// A thread that was started, and the duty to wait for it: dropping this leaves it running.
#[derive(Debug)]
pub struct JoinHandle<T>(thread::JoinHandle<T>);

impl<T> JoinHandle<T> {
    /// Waits until the thread has ended, and returns its result.
    ///
    /// # Panics
    ///
    /// If the thread panicked: its panic goes on here.
    pub fn join(self) -> T {
        match self.0.join() {
            Ok(result) => result,
            Err(payload) => panic::resume_unwind(payload),
        }
    }

    /// Waits until the thread has ended; `None` if it panicked.
    pub fn wait(self) -> Option<T> {
        self.0.join().ok()
    }

    /// Whether the thread has ended, so that [`join`](Self::join) does not wait.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

/// `int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument)`
///
/// Starts a thread. Linux shows the first 15 bytes of its name.
///
/// ```
/// let thread = myriapod_sys::spawn("adder", || 1 + 1)?;
/// assert_eq!(thread.join(), 2);
/// # Ok::<(), myriapod_sys::SystemError>(())
/// ```
///
/// # Errors
///
/// [`SystemError::Call`] with `pthread_create`: `EAGAIN` where the system has no room for another thread;
/// `EINVAL` for a name with a zero byte.
///
/// Source: `pthread_create(3)`.
pub fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    if name.contains('\0') {
        return Err(SystemError::call("pthread_create", Errno::EINVAL, format_args!("{name:?}")));
    }
    match thread::Builder::new().name(name.to_owned()).spawn(run) {
        Ok(handle) => Ok(JoinHandle(handle)),
        Err(error) => {
            let errno = error.raw_os_error().map_or(Errno::EAGAIN, Errno::from_raw);
            Err(SystemError::call("pthread_create", errno, name))
        }
    }
}

/// `int nanosleep(const struct timespec *time, struct timespec *left)`
///
/// Keeps the calling thread waiting for at least this long, whatever signals come.
///
/// ```
/// use std::time::Duration;
///
/// let before = myriapod_sys::now();
/// myriapod_sys::pause(Duration::from_millis(1));
/// assert!(myriapod_sys::now().saturating_since(before) >= Duration::from_millis(1));
/// ```
///
/// Source: nanosleep(2).
pub fn pause(time: Duration) {
    thread::sleep(time);
}

/// How many processors this process can use at once, at least 1: affinity and, on Linux, the quota
/// of a control group are taken into account.
///
/// ```
/// assert!(myriapod_sys::available_cpus() >= 1);
/// ```
#[must_use]
pub fn available_cpus() -> usize {
    thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// `int sched_getaffinity(pid_t pid, size_t cpusetsize, cpu_set_t *mask)`
///
/// `int sched_getaffinity(pid_t 0, size_t size, cpu_set_t *set)`
///
/// The numbers of the processors that the calling thread may run on, in ascending order.
///
/// # Errors
///
/// [`SystemError::Call`] with `sched_getaffinity`; [`SystemError::Unsupported`] on systems other than Linux.
///
/// Source: `sched_getaffinity(2)`.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn thread_cpus() -> Result<Vec<usize>> {
    use nix::sched::{CpuSet, sched_getaffinity};

    let set = sched_getaffinity(nix::unistd::Pid::from_raw(0))
        .map_err(|errno| SystemError::call("sched_getaffinity", errno.into(), ""))?;
    Ok((0..CpuSet::count()).filter(|&cpu| set.is_set(cpu) == Ok(true)).collect())
}

/// `int sched_setaffinity(pid_t pid, size_t cpusetsize, const cpu_set_t *mask)`
///
/// `int sched_setaffinity(pid_t 0, size_t size, const cpu_set_t *set)`
///
/// Lets the calling thread run on these processors and no others; threads that it starts begin
/// with the same.
///
/// ```
/// # #[cfg(target_os = "linux")] {
/// use myriapod_sys::{set_thread_cpus, thread_cpus};
///
/// let before = thread_cpus()?;
/// set_thread_cpus(&before[..1])?;
/// assert_eq!(thread_cpus()?, before[..1]);
/// set_thread_cpus(&before)?;
/// # }
/// # Ok::<(), myriapod_sys::SystemError>(())
/// ```
///
/// # Errors
///
/// [`SystemError::Call`] with `sched_setaffinity`: `EINVAL` where none of them may be used, or a number
/// is beyond what the set holds (1,024). [`SystemError::Unsupported`] on systems other than Linux.
///
/// Source: `sched_setaffinity(2)`.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn set_thread_cpus(cpus: &[usize]) -> Result<()> {
    use nix::sched::{CpuSet, sched_setaffinity};

    let failed = |errno: nix::Error| {
        SystemError::call("sched_setaffinity", errno.into(), format_args!("processors {cpus:?}"))
    };
    let mut set = CpuSet::new();
    cpus.iter().try_for_each(|&cpu| set.set(cpu)).map_err(failed)?;
    sched_setaffinity(nix::unistd::Pid::from_raw(0), &set).map_err(failed)
}

/// The processors that the calling thread may run on: Linux has this.
///
/// # Errors
///
/// [`SystemError::Unsupported`].
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn thread_cpus() -> Result<Vec<usize>> {
    Err(SystemError::Unsupported { what: "sched_getaffinity", by: std::env::consts::OS })
}

/// Lets the calling thread run on these processors and no others: Linux has this.
///
/// # Errors
///
/// [`SystemError::Unsupported`].
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn set_thread_cpus(_: &[usize]) -> Result<()> {
    Err(SystemError::Unsupported { what: "sched_setaffinity", by: std::env::consts::OS })
}
