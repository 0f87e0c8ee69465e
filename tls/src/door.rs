//! [`Tls`]: this crate behind the door of an event loop of `myriapod`.

use myriapod::link::{self, Advance, Caller, Ending, Link, LinkCounts, LinkFault, Opened, Opener};

use crate::asleep::{Asleep, Marks};
use crate::ciphers::Ciphers;
use crate::config::Acceptor;
use crate::fault::Fault;
use crate::handshake::{Failure, Handshake, Step};
use crate::record::End;
use crate::session::Session;
use crate::tunnel::ToServer;

/// The link of an event loop that has TLS 1.3 on listeners, or on connections that it makes: what is kept for a connection is
/// [`Asleep`], and the loop has [`Ciphers`] for all of them.
///
/// `N` is the room for a secret in each connection: see [`Asleep`].
///
/// ```no_run
/// use myriapod::Server;
/// use myriapod_tls::{Acceptor, server_config};
/// # let (chain, key) = unimplemented!();
///
/// let acceptor: Acceptor = Acceptor::new(server_config(chain, key)?)?;
/// let mut server = Server::builder()
///     .listen("0.0.0.0", 65432)
///     .secure(acceptor)
///     .answer(|message, reply| {
///         reply.echo(&message)?;
///         Ok(())
///     })?;
/// server.run()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Tls<const N: usize = 32> {
    ciphers: Ciphers,
}

/// Connections whose ciphers stay awake in a loop that has no secure listener.
const CALLERS_AWAKE: usize = 16;

impl<const N: usize> Opener for Acceptor<N> {
    type Link = Tls<N>;
}

impl<const N: usize> Caller for ToServer<N> {
    type Link = Tls<N>;
}

impl<const N: usize> Link for Tls<N> {
    type Kept = Asleep<N>;
    type Opener = Acceptor<N>;
    type Caller = ToServer<N>;
    type Handshake = Handshake;
    type Session = Session;

    fn for_loop(openers: &[Acceptor<N>]) -> Result<Self, LinkFault> {
        // Without listeners, there are the connections that the loop makes.
        let places = openers.iter().map(Acceptor::places).max().unwrap_or(CALLERS_AWAKE);
        Ok(Self { ciphers: Ciphers::new(places).map_err(fault)? })
    }

    fn begin(&mut self, opener: &Acceptor<N>) -> Result<Handshake, LinkFault> {
        opener.begin().map_err(|failure| failed(&failure))
    }

    fn call(&mut self, caller: &ToServer<N>, out: &mut Vec<u8>) -> Result<Handshake, LinkFault> {
        let mut handshake = caller.begin().map_err(|failure| failed(&failure))?;
        handshake.begin(out);
        Ok(handshake)
    }

    fn advance(
        &mut self,
        handshake: &mut Handshake,
        received: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Advance, LinkFault> {
        match handshake.advance(received, out) {
            Ok(Step::More { consumed, .. }) => Ok(Advance::Waits { consumed }),
            Ok(Step::Done { consumed }) => Ok(Advance::Over { consumed }),
            Err(failure) => Err(failed(&failure)),
        }
    }

    fn conclude(&mut self, handshake: Handshake) -> Result<(Asleep<N>, Session), LinkFault> {
        handshake.finish().map_err(fault)
    }

    #[inline]
    fn is_secure(kept: &Asleep<N>) -> bool {
        kept.is_secure()
    }

    #[inline]
    fn open(&mut self, kept: &mut Asleep<N>, owner: u64, bytes: &mut [u8]) -> Opened {
        let opened = kept.open(&mut self.ciphers, owner, bytes);
        let end = opened.end.map(|end| match end {
            End::Closed => link::End::Closed,
            End::Fault(why) => link::End::Fault(fault(why)),
        });
        let (plain, consumed, needed) = (opened.plain, opened.consumed, opened.needed);
        Opened { plain, consumed, needed, end }
    }

    #[inline]
    fn seal(&mut self, kept: &mut Asleep<N>, owner: u64, plain: &[u8], out: &mut Vec<u8>) -> bool {
        kept.seal(&mut self.ciphers, owner, plain, out).is_ok()
    }

    fn last_word(&mut self, kept: &mut Asleep<N>, owner: u64, out: &mut Vec<u8>) {
        // Where it cannot be sealed, the peer learns by the end of the stream.
        let _sealed = kept.finish(&mut self.ciphers, owner, out);
    }

    fn has_said_last_word(kept: &Asleep<N>) -> bool {
        !kept.is_secure() || kept.has_finished()
    }

    fn note_end(kept: &mut Asleep<N>) -> bool {
        kept.note_end()
    }

    fn ending(kept: &Asleep<N>) -> Ending {
        if kept.is_closed() {
            Ending::Closed
        } else if kept.is_truncated() {
            Ending::Cut
        } else if kept.marks.has(Marks::ENDED) {
            Ending::Fault
        } else {
            Ending::None
        }
    }

    fn forget(&mut self, kept: &mut Asleep<N>, owner: u64) {
        if kept.is_secure() {
            kept.wipe();
            self.ciphers.forget(owner);
        }
    }

    fn counts(&self) -> LinkCounts {
        let counts = self.ciphers.counts();
        LinkCounts {
            records_in: counts.records_in,
            records_out: counts.records_out,
            wakes: counts.wakes,
            hits: counts.hits,
            updates_in: counts.updates_in,
            updates_out: counts.updates_out,
        }
    }
}

fn fault(fault: Fault) -> LinkFault {
    LinkFault::new(fault.name(), fault.to_string())
}

fn failed(failure: &Failure) -> LinkFault {
    LinkFault::new(failure.fault.name(), failure.to_string())
}

impl link::Session for Session {
    fn protocol(&self) -> &str {
        Self::protocol(self)
    }

    fn suite(&self) -> &str {
        Self::suite(self).name()
    }

    fn server_name(&self) -> Option<&str> {
        Self::server_name(self)
    }

    fn alpn(&self) -> Option<&[u8]> {
        Self::alpn(self)
    }

    fn certificate(&self, number: usize) -> Option<&[u8]> {
        self.certificates().get(number).map(AsRef::as_ref)
    }

    fn is_resumed(&self) -> bool {
        Self::is_resumed(self)
    }

    fn preface(&self) -> &[u8] {
        Self::preface(self)
    }

    fn export(&self, label: &[u8], context: &[u8], out: &mut [u8]) -> bool {
        Self::export(self, label, context, out)
    }
}
