//! Does the decoder do no more than it must, and never lose its place?

#![cfg(feature = "json")]

use myriapod::protocol::{
    DecodeLimits, Decoded, Decoder, EncodeError, Fault, Frame, Framing, Head, Input, JsonHeader,
    Mark, ProtocolError, Raw, encode,
};
use proptest::prelude::*;

/// Counts how often, and over how many bytes, it is asked.
#[derive(Default)]
struct Counting {
    inner: JsonHeader,
    calls: usize,
}

impl Framing for Counting {
    type Stream = ();

    fn decode(
        &mut self,
        stream: &mut (),
        input: Input<'_>,
        frame: &mut Frame,
    ) -> Result<Decoded, ProtocolError> {
        self.calls += 1;
        self.inner.decode(stream, input, frame)
    }

    fn begin(&mut self, out: &mut Vec<u8>, head: &Head<'_>) -> Result<Mark, EncodeError> {
        self.inner.begin(out, head)
    }

    fn finish(
        &mut self,
        out: &mut Vec<u8>,
        mark: Mark,
        head: &Head<'_>,
    ) -> Result<(), EncodeError> {
        self.inner.finish(out, mark, head)
    }

    fn error_reply(
        &mut self,
        out: &mut Vec<u8>,
        kind: &str,
        text: &str,
    ) -> Result<(), EncodeError> {
        self.inner.error_reply(out, kind, text)
    }
}

#[test]
fn does_a_dribbled_megabyte_cost_a_few_attempts() {
    let content = vec![7; 1 << 20];
    let mut wire = Vec::new();
    encode(&mut wire, &Head::binary("x"), &content).unwrap();
    let mut decoder = Decoder::new(Counting::default());
    let mut found = 0;
    for byte in wire.chunks(1) {
        decoder.feed(byte);
        if let Some(message) = decoder.next_message().unwrap() {
            assert!(message.content() == content);
            found += 1;
        }
    }
    assert_eq!(found, 1);
    // One finds the prefix missing, one the header, one the content, one the message.
    assert!(decoder.framing_mut().calls <= 4, "{}", decoder.framing_mut().calls);
}

#[test]
fn does_the_buffer_stay_as_small_as_its_messages() {
    let mut wire = Vec::new();
    encode(&mut wire, &Head::json(), b"[1, 2, 3]").unwrap();
    let mut decoder = Decoder::new(JsonHeader::default());
    let stream = wire.repeat(5000);
    let mut count = 0_u64;
    for piece in stream.chunks(wire.len() + 1) {
        decoder.feed(piece);
        while let Some(message) = decoder.next_message().unwrap() {
            assert_eq!(message.offset(), count * wire.len() as u64);
            count += 1;
        }
    }
    assert_eq!(count, 5000);
    assert_eq!(decoder.offset(), stream.len() as u64);
    assert!(decoder.buffer_mut().capacity() < 8 * wire.len());
}

#[test]
fn does_raw_give_every_byte_once() {
    let mut decoder = Decoder::new(Raw);
    let mut all: Vec<u8> = Vec::new();
    for piece in [&b"ab"[..], b"", b"c"] {
        decoder.feed(piece);
        while let Some(message) = decoder.next_message().unwrap() {
            assert_eq!(message.content_encoding(), "binary");
            assert_eq!(message.text().unwrap_err().kind(), Fault::UnknownEncoding);
            all.extend(message.content());
        }
    }
    assert_eq!(all, b"abc");
}

#[test]
fn do_limits_hold_at_their_edge() {
    let mut wire = Vec::new();
    encode(&mut wire, &Head::binary("x"), b"12345").unwrap();
    let header_len = wire.len() - 2 - 5;
    let kind = |max_header_len, max_content_len| {
        let limits = DecodeLimits { max_header_len, max_content_len };
        JsonHeader::new(limits).find(&wire).map_err(|error| error.kind())
    };
    assert!(kind(header_len, 5).is_ok());
    assert_eq!(kind(header_len - 1, 5), Err(Fault::HeaderTooLong));
    assert_eq!(kind(header_len, 4), Err(Fault::ContentTooLong));
    assert!(kind(usize::MAX, usize::MAX).is_ok());

    // A limit of no limit still refuses what 32 bits cannot hold.
    let header = br#"{"byteorder":"big","content-type":"","content-encoding":"","content-length":4294967295}"#;
    let mut wire = vec![0, u8::try_from(header.len()).unwrap()];
    wire.extend(header);
    let limits = DecodeLimits { max_header_len: usize::MAX, max_content_len: usize::MAX };
    let error = JsonHeader::new(limits).find(&wire).unwrap_err();
    assert_eq!(error.kind(), Fault::ContentTooLong);
}

#[test]
fn are_ten_thousand_keys_read_in_time_that_grows_with_them() {
    // Quadratic work over these would be seconds.
    let mut header =
        r#"{"byteorder":"big","content-type":"","content-encoding":"","content-length":0"#
            .to_owned();
    for key in 0..7000 {
        header += &format!(",\"{key}\":0");
    }
    header += "}";
    let mut wire = u16::try_from(header.len()).unwrap().to_be_bytes().to_vec();
    wire.extend(header.as_bytes());
    let limits = DecodeLimits { max_header_len: 65_535, ..DecodeLimits::default() };
    let Ok(Some(frame)) = JsonHeader::new(limits).find(&wire) else { panic!() };
    assert_eq!(frame.len(), wire.len());
}

proptest! {
    #[test]
    fn does_any_input_end_in_a_message_a_fault_or_a_wish(bytes: Vec<u8>, header_len in 0_u8..64) {
        let mut input = vec![0, header_len];
        input.extend(bytes);
        let len = input.len();
        let (mut answer, mut frame) = (Vec::new(), Frame::new());
        let input = Input::new(&mut input, &mut answer);
        let decoded = JsonHeader::default().decode(&mut (), input, &mut frame);
        if let Ok(Decoded::Incomplete { needed, .. }) = decoded {
            prop_assert!(needed > len);
        }
    }

    #[test]
    fn does_every_message_come_back_as_it_was_sent(
        content_type: String,
        content_encoding: String,
        contents: Vec<Vec<u8>>,
        piece in 1_usize..300,
    ) {
        let head = Head { content_encoding: &content_encoding, ..Head::binary(&content_type) };
        let mut framing = JsonHeader::default();
        let mut stream = Vec::new();
        for content in &contents {
            let mark = framing.begin(&mut stream, &head).unwrap();
            stream.extend_from_slice(content);
            framing.finish(&mut stream, mark, &head).unwrap();
        }
        let mut decoder = Decoder::new(framing);
        let mut sent = contents.iter();
        for piece in stream.chunks(piece) {
            decoder.feed(piece);
            while let Some(message) = decoder.next_message().unwrap() {
                prop_assert_eq!(Some(message.content()), sent.next().map(Vec::as_slice));
                prop_assert_eq!(message.content_type(), &content_type);
                prop_assert_eq!(message.content_encoding(), &content_encoding);
            }
        }
        prop_assert_eq!(sent.next(), None);
        prop_assert_eq!(decoder.rest(), 0);
    }
}
