//! [`Peer`]: one client of the server under test. It waits for nothing longer than its patience.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use myriapod::SocketAddr;
use myriapod::sys::poll::wait_one;
use myriapod::sys::{self, AsFd as _, Errno, Interest, Shutdown, Socket, Time};

use super::evidence::{self, TheirEnd};
use super::service::{Message, Progress, Want};
use super::trace::Trace;
use super::words::{bytes, number, time};

/// Received with one call.
const PIECE: usize = 64 << 10;

/// A server that sends more than this for one question is not waited for any longer.
const MAX_INBOX: usize = 32 << 20;

/// Even with progress, nothing takes longer.
const MOST_PATIENCE: Duration = Duration::from_secs(60);

/// How the other side ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// `recv` returned 0.
    Fin,
    /// A call failed, most often with `ECONNRESET`.
    Error(Errno),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fin => f.write_str("the end of the connection"),
            Self::Error(errno) => write!(f, "{}", errno.name()),
        }
    }
}

/// Why no right reply came.
#[derive(Clone, Debug)]
pub(super) enum Miss {
    /// Another reply.
    Wrong(String),
    /// More than the reply.
    Extra { came: usize },
    /// Nothing moved any more.
    Silent { came: usize, of: Option<usize>, waited: Duration },
    /// The connection ended before.
    Ended { came: usize, of: Option<usize>, how: End },
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |came: usize, of: Option<usize>| match of {
            _ if came == 0 => "no byte".to_owned(),
            Some(of) => format!("{} of {}", number(came as u64), bytes(of as u64)),
            None => bytes(came as u64),
        };
        match self {
            Self::Wrong(text) => f.write_str(text),
            Self::Extra { came } => {
                write!(f, "{} came that nobody asked for", bytes(*came as u64))
            }
            Self::Silent { came: 0, waited, .. } => write!(f, "no answer within {}", time(*waited)),
            Self::Silent { came, of, waited } => {
                write!(f, "{} came, then nothing for {}", part(*came, *of), time(*waited))
            }
            Self::Ended { came, of, how } => {
                write!(f, "{} came, then {how}", part(*came, *of))
            }
        }
    }
}

/// What [`Peer::pump`] came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pumped {
    pub(super) sent: usize,
    /// Whether what was waited for is there.
    pub(super) done: bool,
}

/// A connection to the server.
#[derive(Debug)]
pub(super) struct Peer {
    who: &'static str,
    socket: Arc<Socket>,
    trace: Arc<Trace>,
    patience: Duration,
    /// What has come and was not yet taken.
    pub(super) inbox: Vec<u8>,
    pub(super) ended: Option<End>,
    pub(super) sent: u64,
    pub(super) received: u64,
    ours: Option<SocketAddr>,
    theirs: SocketAddr,
}

impl Peer {
    /// Starts to connect; no more than `window` bytes are to wait here to be received.
    pub(super) fn start(
        who: &'static str,
        address: &SocketAddr,
        patience: Duration,
        trace: &Arc<Trace>,
        window: Option<usize>,
    ) -> sys::Result<Self> {
        let connecting = match window {
            Some(bytes) => Socket::connect_start_buffered(address, bytes)?,
            None => Socket::connect_start(address, None)?,
        };
        let socket = connecting.into_socket();
        if !address.is_unix() {
            sys::set_nodelay(&socket, true)?;
        }
        let ours = socket.local_address().ok();
        Ok(Self {
            who,
            socket: Arc::new(socket),
            trace: Arc::clone(trace),
            patience,
            inbox: Vec::new(),
            ended: None,
            sent: 0,
            received: 0,
            ours,
            theirs: address.clone(),
        })
    }

    /// Waits until connected; says whether that is so after `wait`.
    pub(super) fn connected(&mut self, wait: Duration) -> Result<bool, Errno> {
        if wait_one(self.socket.as_fd(), Interest::WRITABLE, Some(wait))?.is_none() {
            return Ok(false);
        }
        self.socket.take_error()?;
        self.ours = self.socket.local_address().ok();
        Ok(true)
    }

    /// How much may wait here to be received.
    pub(super) fn set_window(&self, bytes: usize) {
        // A system that refuses keeps its own.
        let _ = sys::set_recv_buffer_size(&*self.socket, bytes);
    }

    /// For another thread.
    pub(super) fn socket(&self) -> Arc<Socket> {
        Arc::clone(&self.socket)
    }

    pub(super) fn say(&self, text: impl Into<String>) {
        self.trace.say(self.who, text);
    }

    /// The server's end, where that is on this machine.
    pub(super) fn their_end(&self) -> Option<TheirEnd> {
        evidence::their_end(self.ours.as_ref()?, &self.theirs)
    }

    /// Bytes that have arrived and were not read here, and bytes sent that the server's kernel has
    /// not acknowledged.
    pub(super) fn queues(&self) -> Option<(u64, u64)> {
        let (received, sent) = sys::queue_sizes(&*self.socket).ok()?;
        Some((received as u64, sent as u64))
    }

    /// Sends once, what the kernel takes at once.
    pub(super) fn send_some(&mut self, data: &[u8]) -> usize {
        match self.socket.send(data) {
            Ok(count) => {
                self.sent += count as u64;
                self.trace.sent(self.who, count);
                count
            }
            Err(Errno::EAGAIN | Errno::ENOBUFS) => 0,
            Err(errno) => {
                self.end(End::Error(errno));
                0
            }
        }
    }

    /// Receives once, into the inbox; says how many bytes came.
    fn receive_some(&mut self) -> usize {
        let mut piece = [0; PIECE];
        match self.socket.recv(&mut piece) {
            Ok(0) => {
                self.end(End::Fin);
                0
            }
            Ok(count) => {
                self.received += count as u64;
                self.trace.received(self.who, count);
                self.inbox.extend_from_slice(piece.get(..count).unwrap_or_default());
                count
            }
            Err(Errno::EAGAIN) => 0,
            Err(errno) => {
                self.end(End::Error(errno));
                0
            }
        }
    }

    fn end(&mut self, end: End) {
        if self.ended.is_none() {
            let text = match end {
                End::Fin => "<- FIN".to_owned(),
                End::Error(errno) => format!("<- {}", errno.name()),
            };
            self.trace.end(self.who, text);
            self.ended = Some(end);
        }
    }

    /// Waits until the socket can be sent to; not longer than `wait`.
    pub(super) fn wait_writable(&self, wait: Duration) -> bool {
        matches!(wait_one(self.socket.as_fd(), Interest::WRITABLE, Some(wait)), Ok(Some(_)))
    }

    /// Sends `out` and receives at the same time, until `done` says so of the inbox, the connection
    /// ends, or nothing moves for `wait`.
    pub(super) fn pump(
        &mut self,
        out: &[u8],
        wait: Duration,
        mut done: impl FnMut(&[u8]) -> bool,
    ) -> Pumped {
        let mut pumped = Pumped::default();
        let start = sys::now();
        let mut moved = start;
        loop {
            pumped.done = done(&self.inbox);
            let now = sys::now();
            let waited = now.saturating_since(moved);
            let too_long = now.saturating_since(start) >= MOST_PATIENCE.max(wait);
            if pumped.done || self.ended.is_some() || waited >= wait || too_long {
                return pumped;
            }
            if self.inbox.len() > MAX_INBOX {
                return pumped;
            }
            let rest = out.get(pumped.sent..).unwrap_or_default();
            let both = Interest::READABLE | Interest::WRITABLE;
            let interest = if rest.is_empty() { Interest::READABLE } else { both };
            let left = wait.saturating_sub(waited);
            let Ok(Some(ready)) = wait_one(self.socket.as_fd(), interest, Some(left)) else {
                continue;
            };
            let mut count = 0;
            if ready.is_readable() {
                count += self.receive_some();
            }
            if ready.is_writable() && !rest.is_empty() && self.ended.is_none() {
                let sent = self.send_some(rest);
                pumped.sent += sent;
                count += sent;
            }
            if count > 0 {
                moved = sys::now();
            }
        }
    }

    /// Sends `message` and takes its reply, and nothing more.
    pub(super) fn exchange(&mut self, message: &Message) -> Result<(), Miss> {
        self.exchange_within(message, self.patience)
    }

    pub(super) fn exchange_within(
        &mut self,
        message: &Message,
        wait: Duration,
    ) -> Result<(), Miss> {
        let bytes = &message.bytes;
        let (mut progress, mut right) = (Progress::More(None), 0);
        let pumped = self.pump(bytes, wait, |inbox| {
            progress = message.want.progress_from(inbox, &mut right);
            !matches!(progress, Progress::More(_))
        });
        // Of a large message the last bytes may be behind the whole reply: a wrong one then.
        if matches!(progress, Progress::Done(_)) && pumped.sent < bytes.len() {
            return Err(Miss::Wrong(format!(
                "a reply came after {} of {}",
                number(pumped.sent as u64),
                super::words::bytes(bytes.len() as u64)
            )));
        }
        self.take(progress, &message.want, wait)
    }

    /// Waits for the reply to what was sent before.
    pub(super) fn reply(&mut self, want: &Want) -> Result<(), Miss> {
        let wait = self.patience;
        let (mut progress, mut right) = (Progress::More(None), 0);
        self.pump(&[], wait, |inbox| {
            progress = want.progress_from(inbox, &mut right);
            !matches!(progress, Progress::More(_))
        });
        self.take(progress, want, wait)
    }

    fn take(&mut self, progress: Progress, want: &Want, waited: Duration) -> Result<(), Miss> {
        let came = self.inbox.len();
        match progress {
            Progress::Done(len) => {
                self.inbox.drain(..len.min(came));
                Ok(())
            }
            Progress::Wrong(text) => Err(Miss::Wrong(text)),
            Progress::More(of) => {
                let of = of.or(want.len());
                Err(match self.ended {
                    Some(how) => Miss::Ended { came, of, how },
                    None => Miss::Silent { came, of, waited },
                })
            }
        }
    }

    /// Nothing more comes for a while.
    pub(super) fn quiet(&mut self, wait: Duration) -> Result<(), Miss> {
        self.pump(&[], wait, |inbox| !inbox.is_empty());
        match self.inbox.len() {
            0 => Ok(()),
            came => Err(Miss::Extra { came }),
        }
    }

    /// Sends all of it; the server may take its time, but not without progress.
    pub(super) fn send_all(&mut self, data: &[u8]) -> bool {
        let mut sent = 0;
        let mut moved = sys::now();
        while sent < data.len() && self.ended.is_none() {
            let left = self.patience.saturating_sub(sys::now().saturating_since(moved));
            if left.is_zero() || !self.wait_writable(left) {
                return false;
            }
            let count = self.send_some(data.get(sent..).unwrap_or_default());
            sent += count;
            if count > 0 {
                moved = sys::now();
            }
        }
        sent == data.len()
    }

    /// Reads until the other side ends, or nothing comes for `wait`.
    pub(super) fn until_end(&mut self, wait: Duration) -> Option<End> {
        self.pump(&[], wait, |_| false);
        self.ended
    }

    /// Ends this direction: the server's `recv` returns 0.
    pub(super) fn fin(&self) {
        self.say("-> FIN");
        // One that is gone has its end already.
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Closes, and says so with a reset.
    pub(super) fn reset(self) {
        self.say("-> RST");
        let _ = sys::set_linger(&*self.socket, Some(Duration::ZERO));
    }

    /// Closes as a program does that ends.
    pub(super) fn close(self) {
        self.say("-> close");
    }
}

/// Waits for a condition, asked often, for `wait` at most.
pub(super) fn until(wait: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let start: Time = sys::now();
    loop {
        if is_so() {
            return true;
        }
        if sys::now().saturating_since(start) >= wait {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
