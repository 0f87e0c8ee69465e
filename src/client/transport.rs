//! [`Transport`]: one connection's socket, connected, sent to and received from within time limits.

use std::time::Duration;

use myriapod_sys::poll::wait_one;
use myriapod_sys::{self as sys, AsFd, Connecting, Errno, Interest, Socket, SocketAddr, UnixAddr};

use super::exchange::Exchange;
use crate::error::Error;
use crate::link::{self, Tunnel};
use crate::protocol::{Framing, OwnedMessage};
use crate::proxy_protocol::header_for;

/// What a tunnel receives in one call: one full record of TLS and its overhead.
const RECEIVED_AT_ONCE: usize = 17 << 10;

/// What is received at once of a content that is not held.
const STREAMED_AT_ONCE: usize = 64 << 10;

/// Between two attempts at a Unix socket whose backlog is full: nothing reports when it is not.
const BACKLOG_RETRY: Duration = Duration::from_millis(5);

/// A connected socket.
#[derive(Debug)]
pub(super) struct Transport {
    socket: Socket,
    peer: Box<str>,
    /// The peer has shut down sending, or is gone: what is received already is all there is.
    ended: bool,
    /// Why the last request could not be sent whole.
    send_error: Option<Error>,
    tunnel: Option<Inside>,
}

/// What stands between the socket and its messages.
#[derive(Debug)]
struct Inside {
    tunnel: Box<dyn Tunnel>,
    /// What the socket has not taken.
    unsent: Vec<u8>,
    /// What was received last.
    received: Vec<u8>,
}

/// What to do with a transport on which nothing is under way.
pub(super) enum Probe {
    /// Nothing has happened on it.
    Idle,
    /// The peer has closed it, or has said something that nobody asked for.
    Useless,
}

/// Says the tunnel's last word, if that can be done at once.
impl Drop for Transport {
    fn drop(&mut self) {
        if let Some(inside) = &mut self.tunnel
            && !self.ended
        {
            inside.tunnel.finish();
            inside.tunnel.output(&mut inside.unsent);
            let _told = self.push_out();
        }
    }
}

impl Transport {
    /// Connects to the first address of `host` that answers.
    pub(super) fn connect(host: &str, port: u16, timeout: Duration) -> Result<Self, Error> {
        Self::connect_any(&sys::resolve(host, port)?, timeout)
    }

    /// Tries one address after the other; each gets an equal share of the time that is left.
    fn connect_any(addresses: &[SocketAddr], timeout: Duration) -> Result<Self, Error> {
        let deadline = limit(timeout).map(|timeout| sys::now() + timeout);
        let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        let mut nearest = None;
        for (address, untried) in addresses.iter().zip((1..=count).rev()) {
            let share = deadline.map(|deadline| deadline.saturating_since(sys::now()) / untried);
            match connect_one(address, share) {
                Ok(Some(socket)) => return Self::new(socket, address),
                // A share is at least this.
                Ok(None) => {
                    let waited = timeout / count;
                    keep(&mut nearest, timed_out("connect", &address.to_string(), waited));
                }
                Err(error) => keep(&mut nearest, error.into()),
            }
        }
        let nothing = || sys::SystemError::call("connect", Errno::EADDRNOTAVAIL, "").into();
        Err(nearest.unwrap_or_else(nothing))
    }

    fn new(socket: Socket, address: &SocketAddr) -> Result<Self, Error> {
        if !address.is_unix() {
            // Requests go out whole; the kernel has nothing to wait for.
            sys::set_nodelay(&socket, true)?;
        }
        let peer = address.to_string().into();
        Ok(Self { socket, peer, ended: false, send_error: None, tunnel: None })
    }

    /// The PROXY header that names `client`; with port 0, as one of our own port.
    pub(super) fn proxy_header(&self, mut client: std::net::SocketAddr) -> Vec<u8> {
        if client.port() == 0 {
            let own = sys::local_address(&self.socket).ok().and_then(|address| address.port());
            client.set_port(own.unwrap_or(0));
        }
        let server = sys::peer_address(&self.socket);
        header_for(client, &server.unwrap_or(UnixAddr::Unnamed.into()))
    }

    pub(super) fn peer(&self) -> &str {
        &self.peer
    }

    pub(super) const fn is_ended(&self) -> bool {
        self.ended
    }

    /// Sends all that `exchange` has to send, and receives what comes meanwhile.
    ///
    /// A peer that stops listening may have said why. So that is no error here: it is kept for
    /// [`receive`](Self::receive), which returns it when the replies that came are used up.
    pub(super) fn send<F: Framing>(
        &mut self,
        exchange: &mut Exchange<F>,
        timeout: Duration,
    ) -> Result<(), Error> {
        let result = self.try_send(exchange, timeout);
        exchange.discard_unsent();
        match result {
            Err(error) if is_peer_gone(&error) || exchange.is_whole().unwrap_or(true) => {
                // What the kernel still holds is read before the error is told.
                self.ended |= !is_peer_gone(&error);
                self.send_error.get_or_insert(error);
                Ok(())
            }
            result => result,
        }
    }

    fn try_send<F: Framing>(
        &mut self,
        exchange: &mut Exchange<F>,
        timeout: Duration,
    ) -> Result<(), Error> {
        if let Some(inside) = &mut self.tunnel {
            if !self.ended && self.send_error.is_none() {
                inside.tunnel.send(exchange.unsent()).map_err(Error::Link)?;
                exchange.advance(exchange.unsent().len());
                inside.tunnel.output(&mut inside.unsent);
            }
            return self.send_inside(exchange, timeout);
        }
        while !self.ended && self.send_error.is_none() && !exchange.unsent().is_empty() {
            match link::send(self.socket.as_fd(), exchange.unsent()) {
                Ok(sent) => {
                    exchange.advance(sent);
                    continue;
                }
                Err(errno) if errno.would_block() => {}
                Err(errno) => return Err(self.error("send", errno)),
            }
            let interest = match exchange.may_read_ahead() {
                true => Interest::BOTH,
                false => Interest::WRITABLE,
            };
            let ready = self.wait("send", interest, timeout)?;
            if ready.is_readable() {
                self.receive_some(exchange)?;
            }
        }
        Ok(())
    }

    /// Waits until a whole reply is there.
    pub(super) fn receive<F: Framing>(
        &mut self,
        exchange: &mut Exchange<F>,
        timeout: Duration,
    ) -> Result<(), Error> {
        while !exchange.is_whole()? {
            if self.ended {
                exchange.finish();
                if exchange.is_whole()? {
                    break;
                }
                let received = exchange.buffered();
                let closed = || Error::Closed { peer: self.peer.clone(), received };
                return Err(self.send_error.take().unwrap_or_else(closed));
            }
            self.wait("recv", Interest::READABLE, timeout)?;
            if let Err(error) = self.receive_some(exchange) {
                return Err(self.send_error.take().unwrap_or(error));
            }
        }
        Ok(())
    }

    /// Waits until the head of a reply is there, with the length of its content. The last says whether
    /// the content is in it: with a framing that has no heads.
    pub(super) fn receive_head<F: Framing>(
        &mut self,
        exchange: &mut Exchange<F>,
        timeout: Duration,
    ) -> Result<(OwnedMessage, u64, bool), Error> {
        loop {
            if let Some((head, len)) = exchange.take_head() {
                return Ok((head, len, false));
            }
            if exchange.is_whole()?
                && let Some(message) = exchange.take_whole()
            {
                let len = message.as_message().content().len() as u64;
                return Ok((message, len, true));
            }
            self.receive_once(exchange, timeout)?;
        }
    }

    /// Waits until more of a reply is there.
    pub(super) fn receive_more<F: Framing>(
        &mut self,
        exchange: &mut Exchange<F>,
        timeout: Duration,
    ) -> Result<(), Error> {
        exchange.receive_buffer().reserve(STREAMED_AT_ONCE);
        while exchange.buffered() == 0 {
            self.receive_once(exchange, timeout)?;
        }
        Ok(())
    }

    fn receive_once<F: Framing>(
        &mut self,
        exchange: &mut Exchange<F>,
        timeout: Duration,
    ) -> Result<(), Error> {
        if self.ended {
            let received = exchange.buffered();
            let closed = || Error::Closed { peer: self.peer.clone(), received };
            return Err(self.send_error.take().unwrap_or_else(closed));
        }
        self.wait("recv", Interest::READABLE, timeout)?;
        self.receive_some(exchange).map_err(|error| self.send_error.take().unwrap_or(error))
    }

    /// Receives what is there, without waiting.
    pub(super) fn look<F: Framing>(&mut self, exchange: &mut Exchange<F>) -> Result<(), Error> {
        if self.ended || self.send_error.is_some() { Ok(()) } else { self.receive_some(exchange) }
    }

    /// Whether nothing more can be sent.
    pub(super) const fn is_over(&self) -> bool {
        self.ended || self.send_error.is_some()
    }

    /// Looks whether the peer has closed the connection. `buffer` gets what nobody asked for.
    pub(super) fn probe(&mut self, buffer: &mut Vec<u8>) -> Probe {
        if self.tunnel.is_some() {
            // Tickets come at any time, and are no message.
            let is_idle = self.receive_inside(buffer).is_ok() && !self.ended && buffer.is_empty();
            return if is_idle { Probe::Idle } else { Probe::Useless };
        }
        match link::receive(self.socket.as_fd(), buffer) {
            Err(errno) if errno.would_block() => Probe::Idle,
            _ => Probe::Useless,
        }
    }

    fn receive_some<F: Framing>(&mut self, exchange: &mut Exchange<F>) -> Result<(), Error> {
        if self.tunnel.is_some() {
            return self.receive_inside(exchange.receive_buffer());
        }
        match link::receive(self.socket.as_fd(), exchange.receive_buffer()) {
            Ok(0) => self.ended = true,
            Ok(_) => {}
            Err(errno) if errno.would_block() => {}
            Err(errno) => return Err(self.error("recv", errno)),
        }
        Ok(())
    }

    /// Carries out the handshake of what is to stand between the socket and its messages.
    pub(super) fn shake_hands(
        &mut self,
        tunnel: Box<dyn Tunnel>,
        plain: &mut Vec<u8>,
        timeout: Duration,
    ) -> Result<(), Error> {
        let deadline = limit(timeout).map(|timeout| sys::now() + timeout);
        self.tunnel = Some(Inside { tunnel, unsent: Vec::new(), received: Vec::new() });
        loop {
            let Some(inside) = &mut self.tunnel else { return Ok(()) };
            inside.tunnel.output(&mut inside.unsent);
            self.push_out()?;
            let Some(inside) = &self.tunnel else { return Ok(()) };
            if inside.unsent.is_empty() && !inside.tunnel.is_shaking_hands() {
                return Ok(());
            }
            if self.ended {
                return Err(Error::Closed { peer: self.peer.clone(), received: 0 });
            }
            let interest =
                if inside.unsent.is_empty() { Interest::READABLE } else { Interest::BOTH };
            let left = deadline.map(|deadline| deadline.saturating_since(sys::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(timed_out("connect", &self.peer, timeout));
            }
            let ready = match wait_one(self.socket.as_fd(), interest, left) {
                Ok(Some(ready)) => ready,
                Ok(None) => return Err(timed_out("connect", &self.peer, timeout)),
                Err(errno) => return Err(self.error("poll", errno)),
            };
            if ready.is_readable() {
                self.receive_inside(plain)?;
            }
        }
    }

    /// Sends what the tunnel has to say, as far as the socket takes it.
    fn push_out(&mut self) -> Result<(), Error> {
        let Some(inside) = &mut self.tunnel else { return Ok(()) };
        while !inside.unsent.is_empty() {
            match link::send(self.socket.as_fd(), &inside.unsent) {
                Ok(sent) => drop(inside.unsent.drain(..sent)),
                Err(errno) if errno.would_block() => break,
                Err(errno) => return Err(self.error("send", errno)),
            }
        }
        Ok(())
    }

    /// Sends all that the tunnel has to say, and receives meanwhile.
    fn send_inside<F: Framing>(
        &mut self,
        exchange: &mut Exchange<F>,
        timeout: Duration,
    ) -> Result<(), Error> {
        loop {
            self.push_out()?;
            let is_sent = self.tunnel.as_ref().is_none_or(|inside| inside.unsent.is_empty());
            if is_sent || self.ended {
                return Ok(());
            }
            let interest = match exchange.may_read_ahead() {
                true => Interest::BOTH,
                false => Interest::WRITABLE,
            };
            if self.wait("send", interest, timeout)?.is_readable() {
                self.receive_some(exchange)?;
            }
        }
    }

    /// Receives once, and appends what is plain.
    fn receive_inside(&mut self, plain: &mut Vec<u8>) -> Result<(), Error> {
        let Some(inside) = &mut self.tunnel else { return Ok(()) };
        inside.received.clear();
        inside.received.reserve(RECEIVED_AT_ONCE);
        match link::receive(self.socket.as_fd(), &mut inside.received) {
            Ok(0) => self.ended = true,
            Ok(_) => {
                let taken = inside.tunnel.receive(&inside.received, plain);
                // An answer that the protocol owes, or the alert that says what is wrong.
                inside.tunnel.output(&mut inside.unsent);
                let sent = self.push_out();
                taken.map_err(Error::Link)?;
                sent?;
            }
            Err(errno) if errno.would_block() => {}
            Err(errno) => return Err(self.error("recv", errno)),
        }
        Ok(())
    }

    fn wait(
        &self,
        call: &'static str,
        interest: Interest,
        timeout: Duration,
    ) -> Result<Interest, Error> {
        match wait_one(self.socket.as_fd(), interest, limit(timeout)) {
            Ok(Some(ready)) => Ok(ready),
            Ok(None) => Err(timed_out(call, &self.peer, timeout)),
            Err(errno) => Err(self.error("poll", errno)),
        }
    }

    fn error(&self, call: &'static str, errno: Errno) -> Error {
        sys::SystemError::call(call, errno, &self.peer).into()
    }
}

/// A zero timeout is none.
fn limit(timeout: Duration) -> Option<Duration> {
    (!timeout.is_zero()).then_some(timeout)
}

fn timed_out(call: &'static str, peer: &str, timeout: Duration) -> Error {
    Error::Timeout { call, peer: peer.into(), timeout }
}

fn is_peer_gone(error: &Error) -> bool {
    let Error::System(error) = error else { return false };
    matches!(error.errno(), Some(Errno::EPIPE | Errno::ECONNRESET))
}

/// Connects to one address; `None` where `timeout` passed.
fn connect_one(
    address: &SocketAddr,
    timeout: Option<Duration>,
) -> Result<Option<Socket>, sys::SystemError> {
    let deadline = timeout.map(|timeout| sys::now() + timeout);
    let left = || deadline.map(|deadline| deadline.saturating_since(sys::now()));
    let failed = |errno| sys::SystemError::call("connect", errno, address);
    loop {
        match Socket::connect_start(address, None) {
            Ok(Connecting::Done(socket)) => return Ok(Some(socket)),
            Ok(Connecting::InProgress(socket)) => {
                let ready = wait_one(socket.as_fd(), Interest::WRITABLE, left());
                if ready.map_err(failed)?.is_none() {
                    return Ok(None);
                }
                socket.take_error().map_err(failed)?;
                return Ok(Some(socket));
            }
            Err(error) if address.is_unix() && error.errno() == Some(Errno::EAGAIN) => {
                if left().is_some_and(|left| left.is_zero()) {
                    return Ok(None);
                }
                pause(BACKLOG_RETRY)?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Lets time pass: waits for a socket that nobody writes to.
pub(super) fn pause(duration: Duration) -> Result<(), sys::SystemError> {
    let (ours, _theirs) = Socket::pair()?;
    wait_one(ours.as_fd(), Interest::READABLE, Some(duration))
        .map(drop)
        .map_err(|errno| sys::SystemError::call("poll", errno, ""))
}

/// Keeps the error of the address that came nearest: a peer that refused, rather than one that was
/// not reached, rather than one that this machine has no way to; the first of its kind.
fn keep(nearest: &mut Option<Error>, error: Error) {
    let nearness = |error: &Error| match error {
        Error::System(error) => match error.errno() {
            Some(
                Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL | Errno::ENETUNREACH | Errno::ENETDOWN,
            ) => 0,
            Some(Errno::EHOSTUNREACH | Errno::EHOSTDOWN | Errno::ETIMEDOUT) => 1,
            _ => 2,
        },
        _ => 1,
    };
    if nearest.as_ref().is_none_or(|nearest| nearness(&error) > nearness(nearest)) {
        *nearest = Some(error);
    }
}

#[cfg(test)]
mod tests {
    use myriapod_sys::{ListenOptions, Listener};

    use super::*;

    fn listener(backlog: u32) -> (Listener, SocketAddr) {
        let options = ListenOptions { backlog, ..ListenOptions::default() };
        let listener = Listener::bind(&SocketAddr::from(([127, 0, 0, 1], 0)), &options).unwrap();
        let address = listener.local_address().unwrap();
        (listener, address)
    }

    /// The address of a connection's own end, where nobody can listen.
    fn refusing() -> (Transport, SocketAddr) {
        let (_listener, address) = listener(8);
        let taken = Transport::connect_any(&[address], Duration::ZERO).unwrap();
        let address = taken.socket.local_address().unwrap();
        (taken, address)
    }

    #[test]
    fn is_every_address_tried_in_order() {
        let (_taken, refusing) = refusing();
        let (_listener, first) = listener(8);
        let (_other, second) = listener(8);
        let addresses = [refusing, first.clone(), second];
        let transport = Transport::connect_any(&addresses, Duration::ZERO).unwrap();
        assert_eq!(transport.peer(), first.to_string());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn does_one_that_never_answers_not_end_the_search() {
        let (_full, silent) = listener(1);
        let waiting: Vec<_> =
            (0..8).map(|_| Socket::connect_start(&silent, None).unwrap().into_socket()).collect();
        for socket in &waiting[..2] {
            let forever = wait_one(socket.as_fd(), Interest::WRITABLE, None).unwrap();
            assert!(forever.is_some());
        }
        let (_listener, next) = listener(8);
        let addresses = [silent, next.clone()];
        let transport = Transport::connect_any(&addresses, Duration::from_secs(2)).unwrap();
        assert_eq!(transport.peer(), next.to_string());
    }

    #[test]
    fn is_the_error_told_of_the_address_that_came_nearest() {
        let system = |errno| Error::from(sys::SystemError::call("connect", errno, errno.name()));
        let no_way = || system(Errno::EADDRNOTAVAIL);
        let refused = || system(Errno::ECONNREFUSED);
        let silent = || timed_out("connect", "x", Duration::from_secs(1));
        let told = |errors: Vec<Error>| {
            let mut nearest = None;
            errors.into_iter().for_each(|error| keep(&mut nearest, error));
            nearest.unwrap().to_string()
        };
        assert_eq!(told(vec![no_way(), refused(), silent()]), refused().to_string());
        assert_eq!(told(vec![no_way(), silent(), no_way()]), silent().to_string());
        assert_eq!(told(vec![refused(), system(Errno::EACCES)]), refused().to_string());
    }
}
