//! [`Dialect`]: what a broker's protocol is asked for, without a socket.

use myriapod::protocol::{
    Decoded, EncodeError, Frame, Framing, Head, Input, Mark, Message, ProtocolError, Raw,
};

use crate::nats_framing::NatsLines;
use crate::resp::Resp;

/// A broker's protocol: messages of its in, bytes for it out. One value is one attempt at a
/// connection, which may be of several sockets, its *lanes*.
pub(crate) trait Dialect: Send {
    /// How many sockets it takes.
    fn lanes(&self) -> usize {
        1
    }

    /// The lane that publishes. The first one subscribes.
    fn publishing_lane(&self) -> usize {
        self.lanes() - 1
    }

    fn framing(&self) -> Wire;

    /// What to send as soon as a lane is connected.
    fn opened(&mut self, lane: usize) -> Vec<u8>;

    /// What it said in plain text, before TLS.
    fn preface(&mut self, _line: &[u8]) -> Heard<'static> {
        Heard::Nothing
    }

    /// What a message of the broker means.
    fn heard<'a>(&mut self, lane: usize, message: &Message<'a>) -> Heard<'a>;

    fn publish(&self, channel: &str, payload: &[u8], out: &mut Vec<u8>);

    /// What [`publish`](Self::publish) wrote is sent.
    fn published(&mut self) {}

    /// The broker takes payloads of so many bytes.
    fn max_payload(&self) -> usize;

    fn subscribe(&mut self, channel: &str, out: &mut Vec<u8>);

    fn unsubscribe(&mut self, channel: &str, out: &mut Vec<u8>);

    /// What a broker that is there answers.
    fn ping(&mut self, lane: usize, out: &mut Vec<u8>);
}

/// What a message of a broker means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard<'a> {
    /// Nothing but that it is there.
    Nothing,
    /// Send this.
    Say(Vec<u8>),
    /// The lane can be used now.
    Ready,
    /// It has taken the oldest message that was published and is not confirmed.
    Published,
    /// It has refused that message.
    Refused,
    /// Somebody published this.
    Message { channel: &'a str, payload: &'a [u8] },
    /// It does not do one thing that it was asked for, and goes on.
    Complaint(String),
    /// It cannot be used like this.
    Failed(String),
}

/// The framing of either protocol: one type of event loop is for both.
#[derive(Debug)]
pub(crate) enum Wire {
    Resp(Resp),
    Nats(NatsLines),
}

impl Framing for Wire {
    type Stream = ();

    fn decode(
        &mut self,
        (): &mut (),
        input: Input<'_>,
        frame: &mut Frame,
    ) -> Result<Decoded, ProtocolError> {
        match self {
            Self::Resp(resp) => resp.look(input.bytes, frame),
            Self::Nats(nats) => nats.look(input.bytes, input.scanned, frame),
        }
    }

    // What is sent is whole already.
    fn begin(&mut self, out: &mut Vec<u8>, head: &Head<'_>) -> Result<Mark, EncodeError> {
        Raw.begin(out, head)
    }

    fn finish(
        &mut self,
        out: &mut Vec<u8>,
        mark: Mark,
        head: &Head<'_>,
    ) -> Result<(), EncodeError> {
        Raw.finish(out, mark, head)
    }

    fn error_reply(
        &mut self,
        out: &mut Vec<u8>,
        kind: &str,
        text: &str,
    ) -> Result<(), EncodeError> {
        Raw.error_reply(out, kind, text)
    }
}
