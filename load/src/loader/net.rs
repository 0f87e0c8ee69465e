//! [`Net`]: the poller, and the ends of the connections.

use std::sync::Arc;

use myriapod::sys::{
    self, AsFd as _, Connecting, Errno, Interest, Mode, Poller, Socket, SocketAddr, SystemError,
    Token, Waker,
};

use crate::job::Job;

/// The token of the thread's own waker.
pub(super) const WAKER: Token = Token(u64::MAX);

/// Where connections go, where they come from, and what tells of them.
#[derive(Debug)]
pub(super) struct Net {
    pub(super) poller: Poller,
    pub(super) waker: Arc<Waker>,
    targets: Vec<SocketAddr>,
    sources: Vec<SocketAddr>,
}

impl Net {
    pub(super) fn new(job: &Job, mut poller: Poller) -> sys::Result<Self> {
        let waker = Arc::new(Waker::new(&mut poller, WAKER)?);
        let first = |host: &str, port| {
            let addresses = sys::resolve(host, port)?;
            addresses.into_iter().next().ok_or_else(|| SystemError::InvalidAddress {
                given: host.into(),
                reason: "no address",
            })
        };
        let targets = job.targets.iter().map(|(host, port)| first(host, *port));
        let sources = job.sources.iter().map(|source| first(source, 0));
        let (targets, sources) =
            (targets.collect::<Result<_, _>>()?, sources.collect::<Result<_, _>>()?);
        Ok(Self { poller, waker, targets, sources })
    }

    /// The target of a connection, by its number among all.
    pub(super) fn target(&self, id: u32) -> Option<&SocketAddr> {
        self.targets.get(id as usize % self.targets.len().max(1))
    }

    /// Begins to connect. Another source may have ports left where one has none.
    pub(super) fn connect(&self, id: u32) -> sys::Result<Connecting> {
        let none = || SystemError::call("connect", Errno::EDESTADDRREQ, "");
        let target = self.target(id).ok_or_else(none)?;
        let turn = id as usize / self.targets.len().max(1);
        let tries = self.sources.len().max(1);
        for nth in 0..tries - 1 {
            match Socket::connect_start(target, self.sources.get((turn + nth) % tries)) {
                Err(error) if error.errno() == Some(Errno::EADDRNOTAVAIL) => {}
                started => return started,
            }
        }
        Socket::connect_start(target, self.sources.get((turn + tries - 1) % tries))
    }

    pub(super) fn add(&mut self, socket: &Socket, slot: usize, done: bool) -> sys::Result<()> {
        let interest = if done { Interest::READABLE } else { Interest::WRITABLE };
        self.poller.add(socket.as_fd(), Token(slot as u64), interest, Mode::LEVEL)
    }

    pub(super) fn watch(
        &mut self,
        socket: &Socket,
        slot: usize,
        interest: Interest,
    ) -> sys::Result<()> {
        self.poller.modify(socket.as_fd(), Token(slot as u64), interest, Mode::LEVEL)
    }

    /// Forgets a socket, and closes it.
    pub(super) fn close(&mut self, socket: Socket) {
        self.poller.forget(socket.as_fd());
        drop(socket);
    }
}
