//! The small rest of a simulated system: the clock, threads, signals, limits, names, options.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::panic;
use std::time::Duration;

use super::descriptor::{AsFd, BorrowedFd, Descriptor, call_number};
use super::faults::FaultKind;
use super::kernel::{Kernel, Object};
use super::threads::{self, call};
use crate::{DescriptorLimit, Errno, Result, Signal, SocketAddr, SystemError, Time, UnixAddr};

/// The time now, of the simulated clock.
#[must_use]
pub fn now() -> Time {
    call(|kernel| {
        kernel.enter(call_number::CLOCK);
        Time::from_nanos(kernel.now)
    })
}

/// A thread that was started, and the duty to wait for it.
#[derive(Debug)]
pub struct JoinHandle<T> {
    handle: std::thread::JoinHandle<T>,
    thread: usize,
}

impl<T> JoinHandle<T> {
    /// Waits until the thread has ended, and returns its result.
    ///
    /// # Panics
    ///
    /// If the thread panicked: its panic goes on here.
    pub fn join(self) -> T {
        threads::wait_for(self.thread);
        match self.handle.join() {
            Ok(result) => result,
            Err(payload) => panic::resume_unwind(payload),
        }
    }

    /// Waits until the thread has ended; `None` if it panicked.
    pub fn wait(self) -> Option<T> {
        threads::wait_for(self.thread);
        self.handle.join().ok()
    }

    /// Whether the thread has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        call(|kernel| kernel.threads.get(self.thread).is_none_or(threads::Thread::has_ended))
    }
}

/// Starts a thread, which runs when it is its turn.
///
/// # Errors
///
/// [`SystemError::Call`] with `pthread_create`.
pub fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    let refused = call(|kernel| {
        kernel.enter(call_number::SPAWN);
        kernel.fault(FaultKind::Threadless, kernel.faults.threadless)
    });
    let started = (!refused).then(|| threads::spawn(name, false, run).ok()).flatten();
    match started {
        Some((handle, thread)) => Ok(JoinHandle { handle, thread }),
        None => Err(SystemError::call("pthread_create", Errno::EAGAIN, name)),
    }
}

/// Starts another process, whose first thread this is.
pub(super) fn start_process<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Option<JoinHandle<T>> {
    call(|kernel| kernel.enter(call_number::SPAWN));
    let (handle, thread) = threads::spawn(name, true, run).ok()?;
    Some(JoinHandle { handle, thread })
}

/// Time passes in waits alone, so this takes none.
pub fn pause(_: Duration) {}

/// A simulated machine has one processor.
#[must_use]
pub fn available_cpus() -> usize {
    1
}

/// The numbers of the processors that the calling thread may run on.
///
/// # Errors
///
/// None.
pub fn thread_cpus() -> Result<Vec<usize>> {
    Ok(vec![0])
}

/// Lets the calling thread run on these processors and no others.
///
/// # Errors
///
/// `EINVAL` where the one that there is is not among them.
pub fn set_thread_cpus(cpus: &[usize]) -> Result<()> {
    let failed = || SystemError::call("sched_setaffinity", Errno::EINVAL, format_args!("{cpus:?}"));
    cpus.contains(&0).then_some(()).ok_or_else(failed)
}

/// How many descriptors the program may hold.
///
/// # Errors
///
/// None.
pub fn descriptor_limit() -> Result<DescriptorLimit> {
    let limit = call(|kernel| kernel.descriptor_limit) as u64;
    Ok(DescriptorLimit { soft: limit, hard: limit })
}

/// As [`descriptor_limit`]: there is nothing to raise.
///
/// # Errors
///
/// None.
pub fn raise_descriptor_limit() -> Result<DescriptorLimit> {
    descriptor_limit()
}

/// How many descriptors the program holds.
#[must_use]
pub fn open_descriptors() -> usize {
    call(|kernel| kernel.open_count())
}

/// One descriptor kept back for when there are none left.
#[derive(Debug)]
pub struct SpareDescriptor(Option<Descriptor>);

impl SpareDescriptor {
    /// Opens it.
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

    /// Accepts one peer in the spare's place and closes it at once.
    ///
    /// # Errors
    ///
    /// Those of [`accept`](crate::accept).
    pub fn turn_away(&mut self, listener: impl AsFd) -> Result<bool, Errno> {
        self.0 = None;
        let accepted = crate::accept(listener).map(drop);
        self.0 = open_null().ok();
        match accepted {
            Ok(()) => Ok(true),
            Err(errno) if errno.would_block() => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}

fn open_null() -> Result<Descriptor, Errno> {
    call(|kernel| {
        kernel.enter(call_number::OPEN);
        kernel.open(Object::Null)
    })
    .map(Descriptor::new)
}

/// The signals of the program, delivered through a descriptor; the world raises them.
#[derive(Debug)]
pub struct Signals(Descriptor);

impl Signals {
    /// Catches signals.
    ///
    /// # Errors
    ///
    /// [`SystemError::SignalsInstalled`] while another `Signals` lives; `EMFILE` and its like.
    pub fn install(_: &[Signal]) -> Result<Self> {
        let install = |kernel: &mut Kernel| {
            if kernel.signals_installed {
                return Err(SystemError::SignalsInstalled);
            }
            let opened = kernel.open(Object::Signals);
            let number = opened.map_err(|errno| SystemError::call("pipe", errno, ""))?;
            kernel.signals_installed = true;
            Ok(number)
        };
        call(install).map(|number| Self(Descriptor::new(number)))
    }

    /// The signal that arrived first and was not taken yet.
    pub fn take(&mut self) -> Option<Signal> {
        call(|kernel| kernel.signals.pop_front())
    }

    /// A simulated process never forks, so there is nothing to take over.
    ///
    /// # Errors
    ///
    /// None.
    pub fn take_over(&mut self) -> Result<bool> {
        Ok(false)
    }

    /// A second descriptor that is readable while a signal waits.
    ///
    /// # Errors
    ///
    /// `EMFILE` and its like.
    pub fn try_clone_descriptor(&self) -> Result<Descriptor> {
        self.as_fd().try_clone_to_owned().map_err(|error| {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or_default());
            SystemError::call("fcntl F_DUPFD_CLOEXEC", errno, "the signals' descriptor")
        })
    }

    /// None is ever lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        0
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        threads::call_if_there(|kernel| {
            kernel.signals_installed = false;
            kernel.signals.clear();
        });
    }
}

/// The addresses of `host`: numeric ones, Unix sockets, and the names that the world knows.
///
/// # Errors
///
/// [`SystemError::Resolve`] where the name has no address.
pub fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>> {
    if host.is_empty() {
        return Ok(vec![SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into()]);
    }
    if let Some(name) = host.strip_prefix("unix:") {
        let unix = match name.strip_prefix('@') {
            Some(name) => UnixAddr::Abstract(name.as_bytes().to_vec()),
            None => UnixAddr::Path(name.into()),
        };
        return Ok(vec![unix.into()]);
    }
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return Ok(vec![SocketAddrV4::new(ip, port).into()]);
    }
    if let Ok(ip) = host.parse::<Ipv6Addr>() {
        return Ok(vec![SocketAddrV6::new(ip, port, 0, 0).into()]);
    }
    let known = call(|kernel| kernel.hosts.get(host).cloned());
    let reason = "EAI_NONAME (Name or service not known)";
    known.ok_or_else(|| SystemError::Resolve { host: host.into(), reason: reason.into() })
}

/// Sends small messages at once: simulated sockets always do.
///
/// # Errors
///
/// `EOPNOTSUPP` for a Unix socket.
pub fn set_nodelay(fd: impl AsFd, _: bool) -> Result<()> {
    match crate::local_address(fd)?.is_unix() {
        true => Err(SystemError::call("setsockopt TCP_NODELAY", Errno::EOPNOTSUPP, "")),
        false => Ok(()),
    }
}

/// With a time of zero, a close resets the connection.
///
/// # Errors
///
/// `EBADF`, `ENOTSOCK`.
pub fn set_linger(fd: impl AsFd, linger: Option<Duration>) -> Result<()> {
    let set = call(|kernel| {
        let end = kernel.stream(fd.as_fd().number())?;
        if let Some(end) = kernel.ends.get_mut(&end) {
            end.resets = linger == Some(Duration::ZERO);
        }
        Ok(())
    });
    set.map_err(|errno: Errno| SystemError::call("setsockopt SO_LINGER", errno, ""))
}

/// Simulated sockets never block.
///
/// # Errors
///
/// None.
pub fn set_nonblocking(_: impl AsFd, _: bool) -> Result<()> {
    Ok(())
}

/// The bytes received but not yet read, and those sent but not yet arrived.
///
/// # Errors
///
/// `EBADF`, `ENOTSOCK`.
pub fn queue_sizes(fd: impl AsFd) -> Result<(usize, usize)> {
    let number = fd.as_fd().number();
    let sizes = call(|kernel| {
        let end = kernel.stream(number)?;
        let end = kernel.ends.get(&end).ok_or(Errno::ENOTCONN)?;
        Ok((end.inbox.len(), end.outbox.len()))
    });
    sizes.map_err(|errno| SystemError::call("ioctl SIOCINQ", errno, ""))
}

/// How many bytes the system would give back of the spare capacity of `buffer`: whole pages of 4 KiB.
/// The buffer stays as it is.
pub fn release_pages(buffer: &mut Vec<u8>) -> usize {
    let spare = buffer.capacity() - buffer.len();
    spare - spare % 4096
}
