//! Arbitrary bytes in arbitrary pieces: does the decoder find the same messages as in the whole,
//! the same fault at the same place, and is everything readable that it found?
#![no_main]

mod pieces;

use libfuzzer_sys::fuzz_target;
use myriapod::protocol::{
    DecodeLimits, Decoded, Decoder, ExtraHeaders, Fault, Frame, Framing, Input, JsonHeader,
    Message, ProtocolError,
};
use serde_json::Value;

const LIMITS: DecodeLimits = DecodeLimits { max_header_len: 2048, max_content_len: 4096 };

/// What is left of a message to compare.
#[derive(PartialEq, Debug)]
enum Found {
    Message { offset: u64, bytes: Vec<u8>, json: Result<Value, Fault> },
    Fault { offset: u64, kind: Fault, header: Option<String> },
    Rest(usize),
}

fn read(message: Message<'_>) -> Found {
    let content = message.content();
    let text = message.text();
    if let Err(error) = &text {
        assert!(!error.kind().ends_connection());
        assert_eq!(error.offset(), message.offset());
    }
    let headers = message.headers();
    assert!(headers.len() >= 4);
    for (key, value) in &headers {
        assert_eq!(message.header(key).as_ref(), Some(value));
    }
    assert_eq!(headers["content-length"], content.len());
    assert_eq!(headers["content-type"], message.content_type());
    assert_eq!(headers["content-encoding"], message.content_encoding());
    // The sender's further keys can always be sent back.
    let mut extra = ExtraHeaders::new();
    extra.push_raw_from(&message).expect("the header was valid");
    // Numbers at and beyond the end.
    for offset in [0, content.len().saturating_sub(8), content.len(), usize::MAX] {
        let number = message.read_u64(offset);
        assert_eq!(number.is_some(), offset.checked_add(8).is_some_and(|end| end <= content.len()));
    }
    let owned = message.to_owned();
    assert_eq!(owned.as_message().bytes(), message.bytes());
    let json = message.json().map_err(|error| {
        assert!(!error.kind().ends_connection());
        error.kind()
    });
    if let (Ok(text), Ok(value)) = (&text, &json) {
        assert_eq!(serde_json::from_str::<Value>(text).ok().as_ref(), Some(value));
    }
    let mut buffer = String::new();
    assert_eq!(message.json_borrowed::<Value>(&mut buffer).is_ok(), json.is_ok());
    Found::Message { offset: message.offset(), bytes: message.bytes().to_vec(), json }
}

fn run(mut decoder: Decoder<JsonHeader>, pieces: &[&[u8]]) -> (Vec<Found>, JsonHeader) {
    let mut found = Vec::new();
    'stream: for piece in pieces {
        decoder.feed(piece);
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => found.push(read(message)),
                Ok(None) => break,
                Err(error) => {
                    assert!(error.kind().ends_connection());
                    // There is no way on behind it.
                    assert_eq!(decoder.next_message().unwrap_err(), error);
                    found.push(Found::Fault {
                        offset: error.offset(),
                        kind: error.kind(),
                        header: error.header().map(str::to_owned),
                    });
                    break 'stream;
                }
            }
        }
    }
    if !matches!(found.last(), Some(Found::Fault { .. })) {
        found.push(Found::Rest(decoder.rest()));
    }
    (found, std::mem::take(decoder.framing_mut()))
}

/// Where the decoder says how many bytes are needed, fewer must not do, and the answer may not
/// ask for what is there.
fn check_needed(stream: &[u8]) {
    let mut framing = JsonHeader::new(LIMITS);
    let look = |framing: &mut JsonHeader, bytes: &[u8]| {
        let (mut bytes, mut answer, mut frame) = (bytes.to_vec(), Vec::new(), Frame::new());
        let decoded = framing.decode(&mut (), Input::new(&mut bytes, &mut answer), &mut frame)?;
        Ok::<_, ProtocolError>((decoded, frame))
    };
    let Ok((Decoded::Message, mut frame)) = look(&mut framing, SMALL) else { panic!() };
    match look(&mut framing, stream) {
        Ok((Decoded::Message, found)) => {
            for len in [0, 1, 2, found.len() / 2, found.len() - 1] {
                match look(&mut framing, &stream[..len]) {
                    Ok((Decoded::Incomplete { needed, .. }, _)) => {
                        assert!(len < needed && needed <= found.len());
                    }
                    other => panic!("{other:?} from the first {len} bytes"),
                }
                assert!(!framing.predict(&(), &stream[..len], &mut frame));
            }
            // The prediction may be silent, but not wrong.
            if framing.predict(&(), stream, &mut frame) {
                assert_eq!(frame, found);
            }
        }
        Ok((Decoded::Incomplete { needed, .. }, _)) => assert!(needed > stream.len()),
        Ok((other, _)) => panic!("{other:?} is nothing that this framing says"),
        Err(error) => assert_eq!(error.offset(), 0),
    }
}

const SMALL: &[u8] = b"\0\x59{\"byteorder\":\"big\",\"content-type\":\"text/json\",\"content-encoding\":\"u8\",\"content-length\":0}";

fuzz_target!(|input: &[u8]| {
    let (stream, pieces) = pieces::split(input);
    let (whole, knowing) = run(Decoder::new(JsonHeader::new(LIMITS)), &[stream]);
    let (in_pieces, _) = run(Decoder::new(JsonHeader::new(LIMITS)), &pieces);
    if stream.is_empty() {
        return;
    }
    assert_eq!(in_pieces, whole);
    // A decoder that has seen all of these headers predicts them, and says the same.
    let (again, _) = run(Decoder::new(knowing), &pieces);
    assert_eq!(again, whole);
    check_needed(stream);
});
