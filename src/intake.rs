//! [`Intake`] and [`Flow`]: what a handler says of a content that comes in pieces.

use crate::handler_error::HandlerError;

/// What a handler wants of a message whose head is there ([`Handler::on_head`](crate::Handler::on_head)).
#[derive(Debug, Default)]
pub enum Intake {
    /// The whole message, in memory, with [`on_message`](crate::Handler::on_message). It is held to
    /// `max_content_len`.
    #[default]
    Hold,
    /// Its content in pieces, with [`on_piece`](crate::Handler::on_piece) and then
    /// [`on_end`](crate::Handler::on_end). It is held to `max_stream_len`.
    Stream,
    /// Nothing: the peer gets an error reply. A content that could have been held is dropped as it
    /// comes, and the connection goes on; behind a longer one it is closed.
    Refuse(HandlerError),
}

/// Whether a handler takes the next piece of a content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flow {
    /// As soon as it is there.
    #[default]
    Go,
    /// Not now: nothing more is received from the peer, so that it stops sending, until
    /// [`View::resume`](crate::View::resume) or [`Handle::resume`](crate::Handle::resume).
    Wait,
}
