//! Do the shared vectors decode to what they say, however their bytes arrive?

#![cfg(all(feature = "json", feature = "encoding"))]
#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

#[path = "common/random.rs"]
mod random;

use myriapod::protocol::{
    ByteOrder, DecodeLimits, Decoder, ExtraHeaders, Framing, Head, JsonHeader, Padded, encode,
    write_json,
};
use serde_json::{Map, Value, json};

use crate::random::Random;

fn load(text: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(text).unwrap();
    file["vectors"].as_array().unwrap().clone()
}

fn messages() -> Vec<Value> {
    load(include_str!("vectors/messages.json"))
}

fn padded() -> Vec<Value> {
    load(include_str!("vectors/padded.json"))
}

fn name(vector: &Value) -> &str {
    vector["name"].as_str().unwrap()
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn wire(vector: &Value) -> Vec<u8> {
    unhex(vector["wire"].as_str().unwrap())
}

fn limits(vector: &Value) -> DecodeLimits {
    let mut limits = DecodeLimits::default();
    let set = |limit: &mut usize, key: &str| {
        if let Some(value) = vector["limits"][key].as_u64() {
            *limit = usize::try_from(value).unwrap();
        }
    };
    set(&mut limits.max_header_len, "max_header_len");
    set(&mut limits.max_content_len, "max_content_len");
    limits
}

fn describe(error: &myriapod::ProtocolError) -> Value {
    let mut described = json!({"kind": error.kind().name(), "offset": error.offset()});
    if let Some(header) = error.header() {
        described["header"] = header.into();
    }
    described
}

/// Decodes a stream that arrives in these pieces, in the words of the vectors.
fn decode<'a>(
    decoder: &mut Decoder<JsonHeader>,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Value {
    let mut found = Vec::new();
    let mut fault = None;
    'stream: for piece in pieces {
        decoder.feed(piece);
        loop {
            let message = match decoder.next_message() {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(error) => {
                    fault = Some(describe(&error));
                    break 'stream;
                }
            };
            let mut one = json!({"header": message.headers(), "content": hex(message.content())});
            if message.is_json() {
                match message.json() {
                    Ok(value) => one["json"] = value,
                    Err(error) => {
                        assert!(!error.kind().ends_connection());
                        fault = Some(describe(&error));
                    }
                }
            }
            found.push(one);
        }
    }
    match fault {
        Some(fault) => json!({"messages": found, "error": fault}),
        None => json!({"messages": found, "rest": decoder.rest()}),
    }
}

fn expected(vector: &Value) -> Value {
    let mut expected = vector.clone();
    let members = expected.as_object_mut().unwrap();
    for key in ["name", "wire", "limits"] {
        members.remove(key);
    }
    // With a fault there is no word about the rest.
    if members.contains_key("error") {
        members.remove("rest");
    }
    expected
}

fn decoder(vector: &Value) -> Decoder<JsonHeader> {
    Decoder::new(JsonHeader::new(limits(vector)))
}

impl Random {
    /// Pieces of a random size, among them empty ones.
    fn split<'a>(&mut self, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let mut pieces = Vec::new();
        let longest = 1 + self.below(200);
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(self.below(longest + 1).min(bytes.len()));
            pieces.push(piece);
            bytes = rest;
        }
        pieces
    }
}

#[test]
fn does_every_vector_decode_to_what_it_says() {
    let vectors = messages();
    assert!(vectors.len() > 80);
    for vector in &vectors {
        let found = decode(&mut decoder(vector), [wire(vector).as_slice()]);
        assert_eq!(found, expected(vector), "{}", name(vector));
    }
}

#[test]
fn does_a_decoder_that_knows_the_headers_agree() {
    for vector in messages() {
        let bytes = wire(&vector);
        let mut framing = JsonHeader::new(limits(&vector));
        for _ in 0..3 {
            // The same framing again: what can be predicted now is.
            let mut decoder = Decoder::new(framing);
            let found = decode(&mut decoder, [bytes.as_slice()]);
            assert_eq!(found, expected(&vector), "{}", name(&vector));
            framing = std::mem::take(decoder.framing_mut());
        }
    }
}

#[test]
fn does_every_split_give_the_same_messages() {
    for vector in messages() {
        let bytes = wire(&vector);
        for at in 0..=bytes.len() {
            let (first, second) = bytes.split_at(at);
            let found = decode(&mut decoder(&vector), [first, second]);
            assert_eq!(found, expected(&vector), "{} split at {at}", name(&vector));
        }
        let found = decode(&mut decoder(&vector), bytes.chunks(1));
        assert_eq!(found, expected(&vector), "{} byte by byte", name(&vector));
    }
}

#[test]
fn does_a_stream_of_vectors_in_random_pieces_give_them_all() {
    let vectors = messages();
    let whole: Vec<&Value> = vectors
        .iter()
        .filter(|vector| {
            vector.get("limits").is_none() && vector.get("error").is_none() && vector["rest"] == 0
        })
        .collect();
    for seed in 0..300 {
        let mut random = Random(seed);
        let mut stream = Vec::new();
        let mut said = Vec::new();
        for _ in 0..random.below(12) {
            let vector = whole[random.below(whole.len())];
            stream.extend(wire(vector));
            said.extend(vector["messages"].as_array().unwrap().clone());
        }
        // Anything may come last.
        let last = &vectors[random.below(vectors.len())];
        if last.get("limits").is_some() {
            continue;
        }
        let mut say = expected(last);
        if let Some(offset) = say.pointer_mut("/error/offset") {
            *offset = (offset.as_u64().unwrap() + stream.len() as u64).into();
        }
        said.extend(last["messages"].as_array().unwrap().clone());
        say["messages"] = said.into();
        stream.extend(wire(last));

        let pieces = random.split(&stream);
        let found = decode(&mut decoder(last), pieces);
        assert_eq!(found, say, "seed {seed}, ending in {}", name(last));
    }
}

#[test]
fn do_the_transcripts_encode_to_the_same_bytes() {
    let mut framing = JsonHeader::default();
    let vectors = messages();
    let transcripts: Vec<&Value> =
        vectors.iter().filter(|vector| name(vector).starts_with("transcript-")).collect();
    assert_eq!(transcripts.len(), 6);
    // Twice, so that the remembered headers are used as well.
    for vector in transcripts.iter().chain(&transcripts) {
        let message = &vector["messages"][0];
        let header = &message["header"];
        let no_extra = ExtraHeaders::new();
        let head = Head {
            byteorder: if header["byteorder"] == "big" {
                ByteOrder::Big
            } else {
                ByteOrder::Little
            },
            content_type: header["content-type"].as_str().unwrap(),
            content_encoding: header["content-encoding"].as_str().unwrap(),
            extra: &no_extra,
        };
        let mut content = unhex(message["content"].as_str().unwrap());
        if let Some(value) = message.get("json") {
            content.clear();
            write_json(&mut content, value).unwrap();
        }
        let mut out = b"before".to_vec();
        encode(&mut out, &head, &content).unwrap();
        framing.encode(&mut out, &head, &content).unwrap();
        let mark = framing.begin(&mut out, &head).unwrap();
        out.extend_from_slice(&content);
        framing.finish(&mut out, mark, &head).unwrap();
        let bytes = wire(vector);
        assert_eq!(out, [b"before", &*bytes, &bytes, &bytes].concat(), "{}", name(vector));
    }
}

#[test]
fn is_the_same_fault_returned_again() {
    let mut decoder = Decoder::new(JsonHeader::default());
    decoder.feed(b"GET / HTTP/1.1\r\n\r\n");
    let first = decoder.next_message().unwrap_err();
    decoder.feed(&wire(&messages()[0]));
    assert_eq!(decoder.next_message().unwrap_err(), first);
}

#[test]
fn does_every_padded_vector_decode_however_it_is_split() {
    let vectors = padded();
    assert!(vectors.len() > 20);
    for vector in vectors {
        let bytes = wire(&vector);
        let mut expected = Map::new();
        for key in ["texts", "rest", "error"] {
            if let Some(value) = vector.get(key) {
                expected.insert(key.to_owned(), value.clone());
            }
        }
        let decode = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            let mut decoder = Decoder::new(Padded::new(limits(&vector)));
            let mut texts = Vec::new();
            for piece in pieces {
                decoder.feed(piece);
                loop {
                    match decoder.next_message() {
                        Ok(Some(message)) => {
                            assert_eq!(message.content_type(), "text/plain");
                            assert_eq!(message.content_encoding(), "utf-8");
                            texts.push(message.text().unwrap().into_owned());
                        }
                        Ok(None) => break,
                        Err(error) => {
                            assert!(error.kind().ends_connection());
                            return json!({"texts": texts, "error": describe(&error)});
                        }
                    }
                }
            }
            json!({"texts": texts, "rest": decoder.rest()})
        };
        for at in 0..=bytes.len() {
            let (first, second) = bytes.split_at(at);
            let found = decode(&mut [first, second].into_iter());
            assert_eq!(found, Value::from(expected.clone()), "{} at {at}", name(&vector));
        }
        let found = decode(&mut bytes.chunks(1));
        assert_eq!(found, Value::from(expected.clone()), "{} byte by byte", name(&vector));
    }
}
