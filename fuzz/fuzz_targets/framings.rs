//! Each framing by its name: whole or in arbitrary pieces, the same; and there and back.
#![no_main]

mod pieces;

use libfuzzer_sys::fuzz_target;
use myriapod::protocol::{AnyFraming, DecodeLimits, Decoder, Framing, FramingSpec, Head};

const LIMITS: DecodeLimits = DecodeLimits { max_header_len: 200, max_content_len: 100 };

const FURTHER: [&str; 11] = [
    "length:1",
    "length:8le",
    "length:8be,inclusive",
    "delimited:aab",
    "delimited:|",
    "padded:width=4",
    "padded:lenient,width=4",
    "padded:bytes,lenient,width=3,replies=padded",
    "json-header:lenient,prefix=4le",
    "json-header:prefix=2le",
    "lines",
];

#[derive(PartialEq, Debug)]
struct Found {
    contents: Vec<Vec<u8>>,
    fault: Option<(&'static str, u64)>,
    rest: usize,
}

fn decode(spec: &FramingSpec, pieces: &[&[u8]]) -> Found {
    let mut decoder = Decoder::new(AnyFraming::new(spec, LIMITS));
    let mut found = Found { contents: Vec::new(), fault: None, rest: 0 };
    for piece in pieces.iter().map(Some).chain([None]) {
        match piece {
            Some(piece) => decoder.feed(piece),
            None => decoder.finish(),
        }
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => {
                    let _any = (message.headers(), message.text(), message.json());
                    found.contents.push(message.content().to_vec());
                }
                Ok(None) => break,
                Err(error) => {
                    found.fault = Some((error.name(), error.offset()));
                    return found;
                }
            }
        }
    }
    found.rest = decoder.rest();
    found
}

fuzz_target!(|input: &[u8]| {
    let Some((&chosen, input)) = input.split_first() else { return };
    let (stream, pieces) = pieces::split(input);
    let names: Vec<&str> = FramingSpec::ALL.into_iter().chain(FURTHER).collect();
    let spec: FramingSpec = names[usize::from(chosen) % names.len()].parse().unwrap();
    let whole = decode(&spec, &[stream]);
    if spec != FramingSpec::Raw {
        assert_eq!(decode(&spec, &pieces), whole, "{spec}");
    }

    // What is written is read again, where it can be written.
    let mut writer = AnyFraming::new(&spec, LIMITS).for_client();
    let (mut wire, mut sent) = (Vec::new(), Vec::new());
    for content in &whole.contents {
        if writer.encode(&mut wire, &Head::json(), content).is_ok() {
            sent.push(content.clone());
        }
    }
    // A return at the end of a line is taken for a part of that end.
    let is_kept = |content: &Vec<u8>| spec != FramingSpec::Lines || !content.ends_with(b"\r");
    if spec != FramingSpec::Raw && sent.iter().all(is_kept) {
        assert_eq!(decode(&spec, &[&wire]).contents, sent, "{spec}");
    }

    // A text of any kind names a framing or none.
    if let Ok(text) = std::str::from_utf8(stream)
        && let Ok(named) = text.parse::<FramingSpec>()
    {
        assert_eq!(named.to_string().parse(), Ok(named));
    }
});
