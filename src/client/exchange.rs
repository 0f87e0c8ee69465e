//! [`Exchange`]: requests out, replies in, on one connection; neither socket nor clock.

use serde::Serialize;

use crate::protocol::{
    DecodeLimits, Decoder, EncodeError, Framing, Head, Message, OwnedMessage, ProtocolError,
    write_json,
};

/// The least that is received at once, in bytes.
const RECEIVE_LEN: usize = 16 << 10;
/// The most that is reserved for bytes that have only been announced.
const STEP: usize = 64 << 10;
/// What an empty buffer may keep.
const KEPT: usize = 256 << 10;

/// Bytes that wait to be sent, bytes that were received, and how many replies are owed.
pub(super) struct Exchange<F: Framing> {
    /// Bytes of the longest reply that is accepted.
    longest: usize,
    out: Vec<u8>,
    sent: usize,
    input: Decoder<F>,
    awaited: usize,
}

impl<F: Framing> Exchange<F> {
    pub(super) fn new(mut framing: F, limits: DecodeLimits) -> Self {
        framing.set_limits(limits);
        Self {
            longest: limits.max_header_len.saturating_add(limits.max_content_len).saturating_add(2),
            out: Vec::new(),
            sent: 0,
            input: Decoder::new(framing),
            awaited: 0,
        }
    }

    /// Starts anew, for another connection.
    pub(super) fn reset(&mut self) {
        self.give_up();
        self.input.reset();
    }

    /// Nothing more will be sent, and no reply is expected any longer.
    pub(super) fn give_up(&mut self) {
        self.discard_unsent();
        self.awaited = 0;
    }

    /// The requests that have no reply yet.
    pub(super) const fn awaited(&self) -> usize {
        self.awaited
    }

    /// Bytes that are no request.
    pub(super) fn queue_bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    pub(super) fn queue(&mut self, head: &Head<'_>, content: &[u8]) -> Result<(), EncodeError> {
        self.input.framing_mut().encode(&mut self.out, head, content)?;
        self.awaited += 1;
        Ok(())
    }

    /// The head of a request whose content of `len` bytes follows.
    pub(super) fn queue_head(&mut self, head: &Head<'_>, len: u64) -> Result<(), EncodeError> {
        self.input.framing_mut().write_head(&mut self.out, head, len)?;
        self.awaited += 1;
        Ok(())
    }

    pub(super) fn queue_json<T: Serialize + ?Sized>(
        &mut self,
        head: &Head<'_>,
        value: &T,
    ) -> Result<(), EncodeError> {
        let mark = self.input.framing_mut().begin(&mut self.out, head)?;
        if let Err(error) = write_json(&mut self.out, value) {
            self.out.truncate(mark.start());
            return Err(error);
        }
        self.input.framing_mut().finish(&mut self.out, mark, head)?;
        self.awaited += 1;
        Ok(())
    }

    /// What is still to be sent.
    pub(super) fn unsent(&self) -> &[u8] {
        self.out.get(self.sent..).unwrap_or_default()
    }

    /// So many bytes of [`unsent`](Self::unsent) were sent.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.sent >= self.out.len() {
            self.discard_unsent();
        }
    }

    /// Nobody will read it any more.
    pub(super) fn discard_unsent(&mut self) {
        self.out.clear();
        self.out.shrink_to(KEPT);
        self.sent = 0;
    }

    /// Bytes that were received and belong to no message that was taken.
    pub(super) fn buffered(&self) -> usize {
        self.input.rest()
    }

    /// These bytes.
    pub(super) fn unread(&self) -> &[u8] {
        self.input.unread()
    }

    /// Whether to receive while there is something to send: only so can a server that waits for us
    /// to read go on reading. Ends when the longest reply is certainly there.
    pub(super) fn may_read_ahead(&self) -> bool {
        self.buffered() < self.longest
    }

    /// The buffer to append what is received to, with spare capacity.
    pub(super) fn receive_buffer(&mut self) -> &mut Vec<u8> {
        let (rest, missing) = (self.input.rest(), self.input.missing());
        let buffer = self.input.buffer_mut();
        if rest == 0 {
            buffer.shrink_to(KEPT);
        }
        if buffer.len() == buffer.capacity() {
            // An announced length alone reserves nothing: doubling follows what has arrived.
            buffer.reserve_exact(missing.max(RECEIVE_LEN).min(buffer.len().max(STEP)));
        }
        buffer
    }

    /// Whether a whole message is there to be taken.
    pub(super) fn is_whole(&mut self) -> Result<bool, ProtocolError> {
        self.input.find_message()
    }

    /// The server has ended its side: some framings take the rest for a message then.
    pub(super) const fn finish(&mut self) {
        self.input.finish();
    }

    /// The head of the next message, with the length of its content, if that is there.
    pub(super) fn take_head(&mut self) -> Option<(OwnedMessage, u64)> {
        self.input.take_head()
    }

    /// The same, and what it carries of its request.
    pub(super) fn take_with_id(&mut self) -> Option<(OwnedMessage, Option<String>)> {
        let message = self.take_whole()?;
        let id = self.input.framing_mut().id(&message.as_message());
        let id = id.and_then(|id| std::str::from_utf8(id).ok()).map(str::to_owned);
        Some((message, id))
    }

    /// The message that [`is_whole`](Self::is_whole) found, still awaited.
    pub(super) fn take_whole(&mut self) -> Option<OwnedMessage> {
        self.input.take_message().map(|message| message.to_owned())
    }

    /// So many bytes that were received are done with.
    pub(super) fn skip(&mut self, len: usize) {
        self.input.skip(len);
    }

    /// One reply less is awaited.
    pub(super) const fn note_reply(&mut self) {
        self.awaited = self.awaited.saturating_sub(1);
    }

    /// The message that [`is_whole`](Self::is_whole) found.
    pub(super) fn take(&mut self) -> Option<Message<'_>> {
        let message = self.input.take_message()?;
        self.awaited = self.awaited.saturating_sub(1);
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Fault, JsonHeader, encode};

    fn new(limits: DecodeLimits) -> Exchange<JsonHeader> {
        Exchange::new(JsonHeader::default(), limits)
    }

    fn replies(contents: &[&[u8]]) -> Vec<u8> {
        let mut wire = Vec::new();
        for content in contents {
            encode(&mut wire, &Head::binary("x"), content).unwrap();
        }
        wire
    }

    #[test]
    fn are_replies_found_however_they_arrive() {
        let wire = replies(&[b"one", b"", &[7; 200_000], b"four"]);
        for piece_len in [1, 2, 7, 100, 65_537, wire.len()] {
            let mut exchange = new(DecodeLimits::default());
            let mut lens = Vec::new();
            for piece in wire.chunks(piece_len) {
                exchange.receive_buffer().extend_from_slice(piece);
                while exchange.is_whole().unwrap() {
                    lens.push(exchange.take().unwrap().content().len());
                }
            }
            assert_eq!(lens, [3, 0, 200_000, 4], "in pieces of {piece_len}");
            assert_eq!(exchange.buffered(), 0);
        }
    }

    #[test]
    fn does_a_fault_say_where_in_the_stream_it_is() {
        let mut wire = replies(&[b"good"]);
        let len = wire.len() as u64;
        wire.extend_from_slice(b"\0\x02[]");
        let mut exchange = new(DecodeLimits::default());
        exchange.receive_buffer().extend_from_slice(&wire);
        assert!(exchange.is_whole().unwrap());
        assert_eq!(exchange.take().unwrap().content(), b"good");
        let error = exchange.is_whole().unwrap_err();
        assert_eq!((error.kind(), error.offset()), (Fault::HeaderNotObject, len));
    }

    #[test]
    fn does_an_announced_length_reserve_nothing() {
        let limits = DecodeLimits { max_content_len: 1 << 30, ..DecodeLimits::default() };
        let mut exchange = new(limits);
        let header = br#"{"byteorder": "big", "content-type": "x", "content-encoding": "binary", "content-length": 1000000000}"#;
        let wire = [&[0, u8::try_from(header.len()).unwrap()], &header[..]].concat();
        exchange.receive_buffer().extend_from_slice(&wire);
        assert!(!exchange.is_whole().unwrap());
        assert!(exchange.receive_buffer().capacity() <= 2 * STEP);
    }

    #[test]
    fn is_a_request_that_cannot_be_encoded_not_awaited() {
        let mut exchange = new(DecodeLimits::default());
        exchange.queue_json(&Head::json(), "first").unwrap();
        let before = exchange.unsent().to_vec();
        assert!(exchange.queue_json(&Head::json(), &f64::NAN).is_err());
        assert!(exchange.queue(&Head::binary(&"x".repeat(70_000)), b"").is_err());
        assert_eq!((exchange.awaited(), exchange.unsent()), (1, &before[..]));
    }

    #[test]
    fn does_a_short_write_keep_the_tail() {
        let mut exchange = new(DecodeLimits::default());
        exchange.queue(&Head::binary("x"), b"content").unwrap();
        let whole = exchange.unsent().to_vec();
        exchange.advance(whole.len() - 3);
        assert_eq!(exchange.unsent(), b"ent");
        exchange.queue(&Head::binary("x"), b"next").unwrap();
        assert!(exchange.unsent().starts_with(b"ent\0"));
        assert!(exchange.unsent().ends_with(b"next"));
    }
}
