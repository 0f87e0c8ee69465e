//! What several test files need.
#![allow(dead_code, reason = "not every file uses all of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by them")]
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use myriapod_sys::{
    Descriptor, Errno, ListenOptions, Listener, Socket, SocketAddr, UnixAddr, accept, take_error,
};
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Waits until one of `flags` holds; a minute without it fails the test.
fn wait(fd: BorrowedFd<'_>, flags: PollFlags) {
    let minute = PollTimeout::from(60_000_u16);
    loop {
        match poll(&mut [PollFd::new(fd, flags)], minute) {
            Ok(0) => panic!("not ready within a minute: {flags:?}"),
            Ok(_) => return,
            Err(nix::Error::EINTR) => {}
            Err(errno) => panic!("poll: {errno}"),
        }
    }
}

pub(crate) fn wait_readable(fd: impl AsFd) {
    wait(fd.as_fd(), PollFlags::POLLIN);
}

pub(crate) fn wait_writable(fd: impl AsFd) {
    wait(fd.as_fd(), PollFlags::POLLOUT);
}

/// Whether something is there at this moment.
pub(crate) fn is_readable(fd: impl AsFd) -> bool {
    poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() == 1
}

/// Non-blocking and close-on-exec, as everything that we open.
pub(crate) fn assert_prepared(fd: impl AsFd) {
    let fd = fd.as_fd();
    let status = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).unwrap());
    assert!(status.contains(OFlag::O_NONBLOCK), "{fd:?} blocks");
    assert_close_on_exec(fd);
}

pub(crate) fn assert_close_on_exec(fd: impl AsFd) {
    let fd = fd.as_fd();
    let flags = FdFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFD).unwrap());
    assert!(flags.contains(FdFlag::FD_CLOEXEC), "{fd:?} is not close-on-exec");
}

pub(crate) fn v4() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A loopback address for IPv6, or a printed line where the machine has none.
pub(crate) fn v6() -> Option<SocketAddr> {
    let address = myriapod_sys::resolve("::1", 0).unwrap().remove(0);
    match Listener::bind(&address, &ListenOptions::default()) {
        Ok(_) => Some(address),
        Err(error) => {
            println!("skipped for IPv6, which this machine lacks: {error}");
            None
        }
    }
}

/// One address to listen on for every family that this machine has.
pub(crate) fn families(dir: &TempDir) -> Vec<SocketAddr> {
    let mut all = vec![v4(), dir.unix("listener")];
    all.extend(v6());
    if cfg!(target_os = "linux") {
        let name = dir.path().as_os_str().as_encoded_bytes().to_vec();
        all.push(UnixAddr::Abstract(name).into());
    }
    all
}

pub(crate) fn listen(address: &SocketAddr) -> Listener {
    Listener::bind(address, &ListenOptions::default()).unwrap()
}

/// A loopback address on which no other test listens, so that a port let go there stays free.
pub(crate) fn own_loopback(last: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, if cfg!(target_os = "linux") { last } else { 1 }], 0))
}

/// A port that is taken but does not listen, and the socket that holds it.
pub(crate) fn silent_port() -> (Descriptor, SocketAddr) {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, socket};
    use std::os::fd::AsRawFd;

    let holder = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).unwrap();
    bind(holder.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
    let address = myriapod_sys::local_address(&holder).unwrap();
    (holder, address)
}

/// Connects and waits for the outcome.
pub(crate) fn connect(address: &SocketAddr) -> Result<Socket, Errno> {
    let socket = Socket::connect_start(address, None).unwrap().into_socket();
    wait_writable(&socket);
    take_error(&socket).map(|()| socket)
}

/// Waits for a peer.
pub(crate) fn accept_one(listener: &Listener) -> (Socket, SocketAddr) {
    wait_readable(listener);
    let (descriptor, peer): (Descriptor, _) = accept(listener).unwrap();
    (descriptor.into(), peer)
}

/// Two ends of one TCP connection.
pub(crate) fn tcp_pair() -> (Socket, Socket) {
    let listener = listen(&v4());
    let client = connect(&listener.local_address().unwrap()).unwrap();
    let (server, _) = accept_one(&listener);
    (client, server)
}

/// A directory of this test's own, removed at the end.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("myriapod-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn unix(&self, name: &str) -> SocketAddr {
        UnixAddr::Path(self.0.join(name)).into()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
