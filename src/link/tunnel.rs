//! [`Tunnel`]: what stands between the socket of a blocking client and its messages.

use std::fmt;

use super::LinkFault;

/// What stands between the socket of one connection of a [`Client`](crate::Client) and its messages:
/// TLS, for example. Bytes go in, bytes come out; the client moves them.
///
/// It may keep what it likes: a client has one connection.
pub trait Tunnel: fmt::Debug + Send {
    /// Whether the handshake is under way still.
    fn is_shaking_hands(&self) -> bool;

    /// Takes in what was received, and appends plain bytes to `plain`.
    ///
    /// # Errors
    ///
    /// Why the connection cannot go on. What [`output`](Self::output) has to say is still sent.
    fn receive(&mut self, received: &[u8], plain: &mut Vec<u8>) -> Result<(), LinkFault>;

    /// Takes plain bytes that are to be sent.
    ///
    /// # Errors
    ///
    /// Why nothing can be sent.
    fn send(&mut self, plain: &[u8]) -> Result<(), LinkFault>;

    /// Appends to `out` what is to be sent by now.
    fn output(&mut self, out: &mut Vec<u8>);

    /// Our side is over: the last word is part of the next output.
    fn finish(&mut self);
}

/// Makes the tunnel of each connection of a client.
pub trait TunnelMaker: fmt::Debug + Send {
    /// One for a new connection.
    ///
    /// # Errors
    ///
    /// What the maker's configuration does not allow.
    fn make(&self) -> Result<Box<dyn Tunnel>, LinkFault>;
}
