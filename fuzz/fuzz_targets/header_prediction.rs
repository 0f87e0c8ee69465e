//! The fast path against `serde_json`: do headers mean the same to a framing that has seen others,
//! to one that has seen none, and to the rules in plain words over `serde_json`'s own tree?
#![no_main]

#[path = "../../tests/oracle/header.rs"]
mod oracle;

use libfuzzer_sys::fuzz_target;
use myriapod::protocol::{DecodeLimits, Decoded, Framing, JsonHeader};

use crate::oracle::{Said, look, plainly, said};

const LIMITS: DecodeLimits = DecodeLimits { max_header_len: 600, max_content_len: 300 };

/// Stands between two headers; no text in UTF-8 has it.
const BETWEEN: &[u8] = b"\xff\xff";

/// The message that a record stands for: a byte that says what is around the header, the header.
fn message(record: &[u8]) -> Vec<u8> {
    let Some((&around, header)) = record.split_first() else { return Vec::new() };
    let len = u16::try_from(header.len()).unwrap_or(u16::MAX);
    // Mostly the true length.
    let len = match around {
        0xfe => len.wrapping_add(1),
        0xfd => len.wrapping_sub(1),
        0xfc => len.wrapping_add(0x100),
        _ => len,
    };
    let mut message = len.to_be_bytes().to_vec();
    message.extend_from_slice(header);
    message.resize(message.len() + usize::from(around) * 2, b'x');
    message
}

fuzz_target!(|input: &[u8]| {
    let mut knowing = JsonHeader::new(LIMITS);
    let mut frame = None;
    let mut at = 0;
    while at <= input.len() {
        let rest = &input[at..];
        let end = rest.windows(BETWEEN.len()).position(|two| two == BETWEEN).unwrap_or(rest.len());
        let message = message(&rest[..end]);
        at += end + BETWEEN.len();

        let plain = plainly(LIMITS, &message);
        // Twice: what was unknown the first time may be predicted the second.
        for _ in 0..2 {
            let decoded = look(&mut knowing, &message);
            if let Ok((Decoded::Message, found)) = &decoded {
                let predicted = frame.get_or_insert_with(|| found.clone());
                if knowing.predict(&(), &message, predicted) {
                    assert_eq!(predicted, found);
                }
            } else if let Some(predicted) = &mut frame {
                assert!(!knowing.predict(&(), &message, predicted));
            }
            assert_eq!(said(&message, decoded), plain);
        }
        assert_eq!(said(&message, look(&mut JsonHeader::new(LIMITS), &message)), plain);
        if let Said::Incomplete { needed, .. } = plain {
            assert!(needed > message.len());
        }
    }
});
