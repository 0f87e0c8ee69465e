//! The padded framing against its rules in plain words, in arbitrary pieces; and there and back.
#![no_main]

mod pieces;

use libfuzzer_sys::fuzz_target;
use myriapod::protocol::{DecodeLimits, Decoder, Fault, Padded, encode_padded};

const LIMITS: DecodeLimits = DecodeLimits { max_header_len: 64, max_content_len: 1000 };

#[derive(PartialEq, Debug)]
struct Found {
    texts: Vec<String>,
    fault: Option<(Fault, u64)>,
    rest: usize,
}

/// The rules, with the tools of the standard library.
fn plainly(stream: &[u8]) -> Found {
    let mut found = Found { texts: Vec::new(), fault: None, rest: 0 };
    let mut at = 0;
    loop {
        let input = &stream[at..];
        found.rest = input.len();
        let mut fault = |kind| {
            found.fault = Some((kind, at as u64));
            found.rest = 0;
        };
        let Some(header) = input.get(..64) else { return found };
        let Ok(header) = std::str::from_utf8(header) else {
            fault(Fault::LengthNotDecimal);
            return found;
        };
        let digits = header.trim_end_matches(' ');
        let is_decimal = !digits.is_empty()
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && (digits == "0" || !digits.starts_with('0'));
        if !is_decimal {
            fault(Fault::LengthNotDecimal);
            return found;
        }
        let len = match digits.parse::<u128>() {
            Ok(len) if len <= LIMITS.max_content_len as u128 => len as usize,
            _ => {
                fault(Fault::TextTooLong);
                return found;
            }
        };
        let Some(text) = input.get(64..64 + len) else { return found };
        let Ok(text) = std::str::from_utf8(text) else {
            fault(Fault::TextNotUtf8);
            return found;
        };
        found.texts.push(text.to_owned());
        at += 64 + len;
    }
}

fn decode(pieces: &[&[u8]]) -> Found {
    let mut decoder = Decoder::new(Padded::new(LIMITS));
    let mut found = Found { texts: Vec::new(), fault: None, rest: 0 };
    for piece in pieces {
        decoder.feed(piece);
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => {
                    assert_eq!(message.headers().len(), 4);
                    found.texts.push(message.text().unwrap().into_owned());
                }
                Ok(None) => break,
                Err(error) => {
                    found.fault = Some((error.kind(), error.offset()));
                    return found;
                }
            }
        }
    }
    found.rest = decoder.rest();
    found
}

fuzz_target!(|input: &[u8]| {
    let (stream, pieces) = pieces::split(input);
    let plain = plainly(stream);
    assert_eq!(decode(&[stream]), plain);
    assert_eq!(decode(&pieces), plain);

    // What a client writes is what a server reads.
    let mut wire = Vec::new();
    for text in &plain.texts {
        encode_padded(&mut wire, text).unwrap();
    }
    assert_eq!(wire, stream[..wire.len()]);
});
