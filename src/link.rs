//! The one door of a connection: bytes come in, bytes go out, our side ends.
//!
//! Nothing else in this crate receives or sends. What stands between a socket and its messages has its
//! place here too, as a [`Link`]: nothing for a [`Plain`] connection, a record layer for a secure one.

mod session;
mod tunnel;

pub use crate::stats::LinkCounts;
use std::fmt;
use std::io::IoSlice;
use std::time::Duration;

use myriapod_sys::{self as sys, BorrowedFd, Descriptor, Errno, Shutdown};

pub use self::session::{Session, TlsInfo};
pub use self::tunnel::{Tunnel, TunnelMaker};

/// Receives once, into the free capacity of `buffer`. 0 is the end of the stream, or a full buffer.
#[inline]
pub(crate) fn receive(source: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> Result<usize, Errno> {
    sys::recv_append(source, buffer)
}

/// Sends once; the system may take only a part.
#[inline]
pub(crate) fn send(source: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    sys::send(source, bytes)
}

/// Sends once from several pieces, in their order; the system may take only a part.
pub(crate) fn send_vectored(
    source: BorrowedFd<'_>,
    pieces: &[IoSlice<'_>],
) -> Result<usize, Errno> {
    sys::send_vectored(source, pieces)
}

/// Sends once from a file, as many as `len` bytes from `offset` on; the system may take only a part.
pub(crate) fn send_file(
    source: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    offset: u64,
    len: usize,
) -> Result<usize, Errno> {
    sys::send_file(source, file, offset, len)
}

/// Ends our side: the peer sees the end of the stream behind what was sent.
pub(crate) fn finish(source: BorrowedFd<'_>) -> Result<(), Errno> {
    sys::shutdown(source, Shutdown::Write)
}

/// Sends once, and passes descriptors along: to another process, not to a peer.
pub(crate) fn send_with(
    source: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<usize, Errno> {
    sys::send_descriptors(source, bytes, descriptors)
}

/// Receives once from another process, into the free capacity of `buffer`, and takes the descriptors
/// that it passes.
pub(crate) fn receive_with(
    source: BorrowedFd<'_>,
    buffer: &mut Vec<u8>,
    descriptors: &mut Vec<Descriptor>,
) -> Result<usize, Errno> {
    sys::recv_descriptors(source, buffer, descriptors)
}

/// Ends both sides, for other processes with a descriptor of the socket too.
pub(crate) fn end(source: BorrowedFd<'_>) -> Result<(), Errno> {
    sys::shutdown(source, Shutdown::Both)
}

/// Has the socket reset the connection when it is closed.
pub(crate) fn reset(source: BorrowedFd<'_>) -> sys::Result<()> {
    sys::set_linger(source, Some(Duration::ZERO))
}

/// What stands between a socket and its messages: bytes go in, bytes come out, and no socket is
/// touched. One for each event loop, made on the loop's own thread.
///
/// [`Plain`] is nothing at all. The crate `myriapod-tls` has one for TLS 1.3. A loop whose link is not
/// plain may still have plain connections: those whose listener has no [`Opener`].
///
/// What the loop expects:
///
/// - `owner` names a connection for as long as it is open, and no other.
/// - [`open`](Self::open) moves plain bytes to the front of what it is given, and never writes.
/// - A handshake is fed what was received, and says how much of it was its own.
pub trait Link: Sized + 'static {
    /// Whether there is nothing in between: then none of the rest is ever called.
    const IS_PLAIN: bool = false;

    /// What is kept for each connection, inside its entry. The default is a plain connection.
    type Kept: Default + fmt::Debug + 'static;

    /// What handshakes begin with.
    type Opener: Opener<Link = Self>;

    /// What handshakes with servers begin with, which the loop connects to.
    type Caller: Caller<Link = Self>;

    /// A handshake under way.
    type Handshake: fmt::Debug + 'static;

    /// What a handshake has found out.
    type Session: Session;

    /// The link of a loop whose listeners have these openers.
    ///
    /// # Errors
    ///
    /// What the link cannot do without.
    fn for_loop(openers: &[Self::Opener]) -> Result<Self, LinkFault>;

    /// Begins a handshake.
    ///
    /// # Errors
    ///
    /// What the opener's configuration does not allow.
    fn begin(&mut self, opener: &Self::Opener) -> Result<Self::Handshake, LinkFault>;

    /// Begins a handshake with a server; appends what is to be sent first to `out`.
    ///
    /// # Errors
    ///
    /// What the caller's configuration does not allow.
    fn call(
        &mut self,
        caller: &Self::Caller,
        out: &mut Vec<u8>,
    ) -> Result<Self::Handshake, LinkFault>;

    /// Goes on with a handshake: appends what is to be sent to `out`.
    ///
    /// # Errors
    ///
    /// Why the handshake failed. What `out` holds is still sent.
    fn advance(
        &mut self,
        handshake: &mut Self::Handshake,
        received: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Advance, LinkFault>;

    /// A handshake is over, and its output is sent.
    ///
    /// # Errors
    ///
    /// What is wrong with it after all.
    fn conclude(
        &mut self,
        handshake: Self::Handshake,
    ) -> Result<(Self::Kept, Self::Session), LinkFault>;

    /// Whether this connection is not a plain one.
    fn is_secure(kept: &Self::Kept) -> bool;

    /// Takes in whatever whole records `bytes` begins with, and moves their data together at the
    /// front.
    fn open(&mut self, kept: &mut Self::Kept, owner: u64, bytes: &mut [u8]) -> Opened;

    /// Appends to `out` what carries `plain`. Returns whether it could.
    fn seal(&mut self, kept: &mut Self::Kept, owner: u64, plain: &[u8], out: &mut Vec<u8>) -> bool;

    /// Appends our last word to `out`, once: the end, or the fault that ends the connection.
    fn last_word(&mut self, kept: &mut Self::Kept, owner: u64, out: &mut Vec<u8>);

    /// Whether our last word was said.
    fn has_said_last_word(kept: &Self::Kept) -> bool;

    /// The stream has ended. Returns whether the peer had not said that it would.
    fn note_end(kept: &mut Self::Kept) -> bool;

    /// How the peer's side has ended, if it has.
    fn ending(kept: &Self::Kept) -> Ending;

    /// The connection is over: overwrites what must not be found, also where the owner's name leads.
    fn forget(&mut self, kept: &mut Self::Kept, owner: u64);

    /// What happened so far.
    fn counts(&self) -> LinkCounts;
}

/// What handshakes of a [`Link`] begin with: a certificate, for example.
pub trait Opener: Clone + Send + fmt::Debug + 'static {
    /// The link that it is for.
    type Link: Link<Opener = Self>;
}

/// What a handshake of a [`Link`] with a server begins with: the server's name, for example. See
/// [`Handle::connect_secure`](crate::Handle::connect_secure).
pub trait Caller: Send + fmt::Debug + 'static {
    /// The link that it is for.
    type Link: Link<Caller = Self>;
}

/// How far a handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advance {
    /// It waits for more; so many received bytes are done with.
    Waits {
        /// Bytes at the front that are done with.
        consumed: usize,
    },
    /// It is over. What was received behind so many bytes belongs to the connection.
    Over {
        /// Bytes at the front that are done with.
        consumed: usize,
    },
}

/// What became of received bytes. What was good before a fault is told of together with it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Opened {
    /// So many plain bytes now stand at the front.
    pub plain: usize,
    /// So many bytes, from the front, are done with. What follows is part of a record.
    pub consumed: usize,
    /// So many bytes must be there behind `consumed` before it makes sense to go on.
    pub needed: usize,
    /// Nothing more will come.
    pub end: Option<End>,
}

/// Why nothing more will come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer has said so.
    Closed,
    /// The connection cannot go on.
    Fault(LinkFault),
}

/// How the peer's side of a connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It has not.
    None,
    /// The peer has said so.
    Closed,
    /// By a fault.
    Fault,
    /// Its stream has ended, and it had not said that it would.
    Cut,
}

/// What went wrong between a socket and its messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkFault {
    /// One word, the same in every version.
    pub name: &'static str,
    /// What happened, in words.
    pub text: String,
}

impl LinkFault {
    /// The name of a handshake that was not finished in time.
    pub const TIMEOUT: &'static str = "HandshakeTimeout";

    /// The name of a handshake that found too many others under way.
    pub const TOO_MANY: &'static str = "TooManyHandshakes";

    /// The name of a stream whose end was not announced.
    pub const TRUNCATED: &'static str = "Truncated";

    /// A fault with this name and these words.
    #[must_use]
    pub fn new(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, text: text.into() }
    }
}

impl fmt::Display for LinkFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.text)
    }
}

impl std::error::Error for LinkFault {}

/// Nothing between a socket and its messages: the default. It keeps no byte of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plain;

/// There is none: a plain connection has no handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Never {}

impl Opener for Never {
    type Link = Plain;
}

impl Caller for Never {
    type Link = Plain;
}

impl Link for Plain {
    const IS_PLAIN: bool = true;

    type Kept = ();
    type Opener = Never;
    type Caller = Never;
    type Handshake = Never;
    type Session = Never;

    fn for_loop(_openers: &[Never]) -> Result<Self, LinkFault> {
        Ok(Self)
    }

    fn begin(&mut self, opener: &Never) -> Result<Never, LinkFault> {
        match *opener {}
    }

    fn call(&mut self, caller: &Never, _out: &mut Vec<u8>) -> Result<Never, LinkFault> {
        match *caller {}
    }

    fn advance(
        &mut self,
        handshake: &mut Never,
        _received: &[u8],
        _out: &mut Vec<u8>,
    ) -> Result<Advance, LinkFault> {
        match *handshake {}
    }

    fn conclude(&mut self, handshake: Never) -> Result<((), Never), LinkFault> {
        match handshake {}
    }

    #[inline(always)]
    fn is_secure((): &()) -> bool {
        false
    }

    fn open(&mut self, (): &mut (), _owner: u64, bytes: &mut [u8]) -> Opened {
        Opened { plain: bytes.len(), consumed: bytes.len(), needed: 1, end: None }
    }

    fn seal(&mut self, (): &mut (), _owner: u64, plain: &[u8], out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(plain);
        true
    }

    fn last_word(&mut self, (): &mut (), _owner: u64, _out: &mut Vec<u8>) {}

    fn has_said_last_word((): &()) -> bool {
        true
    }

    fn note_end((): &mut ()) -> bool {
        false
    }

    fn ending((): &()) -> Ending {
        Ending::None
    }

    fn forget(&mut self, (): &mut (), _owner: u64) {}

    fn counts(&self) -> LinkCounts {
        LinkCounts::default()
    }
}
