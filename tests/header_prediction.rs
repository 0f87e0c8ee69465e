//! Do predicted headers mean what the full parse says they mean?

#![cfg(all(feature = "json", feature = "encoding"))]

#[path = "oracle/header.rs"]
mod oracle;
#[path = "common/random.rs"]
mod random;

use myriapod::protocol::{DecodeLimits, JsonHeader};

use crate::oracle::{Said, look, plainly, said};
use crate::random::Random;

const LIMITS: DecodeLimits = DecodeLimits { max_header_len: 600, max_content_len: 300 };

/// Headers of each of the four histories: a million in all.
const HEADERS: usize = 250_000;

impl Random {
    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

const LENGTHS: &[&str] = &[
    "0",
    "1",
    "5",
    "9",
    "10",
    "41",
    "99",
    "100",
    "299",
    "300",
    "301",
    "999",
    "00",
    "007",
    "041",
    "-0",
    "-1",
    "+1",
    "1.0",
    "4e1",
    "41.",
    ".5",
    "",
    " 7",
    "7 ",
    "4 1",
    "1_0",
    "0x1",
    "true",
    "null",
    "\"41\"",
    "[41]",
    "{}",
    "١",
    "4294967295",
    "4294967296",
    "999999999",
    "1000000000",
    "9999999999999999999",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999",
    "184467440737095516150",
    "0000000000000000000041",
    "1e999",
    "NaN",
    "Infinity",
];

/// A header out of a few that come often, mostly with nothing changed but the
/// length of the content, which is what a prediction is made from.
fn header(random: &mut Random) -> Vec<u8> {
    let mut number = random.below(301).to_string();
    if random.one_in(6) {
        number = random.pick(LENGTHS).to_owned();
    }
    let common = [
        r#"{"byteorder": "little", "content-type": "text/json", "content-encoding": "utf-8", "content-length": N}"#,
        r#"{"byteorder": "big", "content-type": "a/b", "content-encoding": "binary", "content-length": N}"#,
        r#"{"content-length":N,"content-encoding":"utf-8","byteorder":"little","content-type":"text/json"}"#,
        r#"{"byteorder": "big", "content-length": N, "content-type": "text\/json", "content-encoding": "utf-16"}"#,
        r#"{"byteorder": "little", "content-type": "text/json", "content-encoding": "UTF8", "content-length": N, "id": 7, "t": ["]", {"\"": null}]}"#,
        " {\n\"a\" : {\"content-length\": 5} , \"content\\u002dlength\":\tN , \"byteorder\":\"big\",\"content-type\":\"\",\"content-encoding\":\"\\u00e9\"}\r ",
        r#"{"x": "\"content-length\": 9", "content-type": "text/json", "content-encoding": "utf-8", "byteorder": "little", "content-length": N }"#,
        r#"{"content-length": N, "content-type": "é🐶", "content-encoding": "latin-1", "byteorder": "little", "a": 1e5, "b": -0.0}"#,
    ];
    if random.one_in(8) {
        return members(random, &number);
    }
    let weighted = random.below(common.len()).min(random.below(common.len()));
    let mut bytes = common[weighted].replace('N', &number).into_bytes();
    if random.one_in(4) {
        for _ in 0..=random.below(2) {
            mutate(random, &mut bytes);
        }
    }
    bytes
}

/// An object of members in any order, some missing, some twice, some wrong.
fn members(random: &mut Random, number: &str) -> Vec<u8> {
    let mut members = vec![
        format!("\"byteorder\": {}", random.pick(&["\"little\"", "\"big\"", "\"b\\u0069g\""])),
        "\"content-type\": \"text/json\"".to_owned(),
        "\"content-encoding\": \"utf-8\"".to_owned(),
        format!("\"content-length\": {number}"),
    ];
    for _ in 0..random.below(4) {
        members.push(
            random
                .pick(&[
                    "\"byteorder\": \"middle\"",
                    "\"byteorder\": 1",
                    "\"content-type\": null",
                    "\"content-encoding\": []",
                    "\"content\\u002dlength\": 3",
                    "\"a\": 1",
                    "\"a\": [1, {\"a\": 1, \"a\": 2}]",
                    "\"\\u0061\": 2",
                    "\"\": \"\"",
                    "\"s\": \"\\ud800\"",
                    "\"s\": \"\\ud83d\\udc36\\\\\"",
                    "\"n\": 1e999",
                    "\"n\": NaN",
                    "\"n\": 01",
                ])
                .to_owned(),
        );
    }
    for at in (1..members.len()).rev() {
        members.swap(at, random.below(at + 1));
    }
    members.truncate(members.len() - random.below(2));
    let (open, close) = (
        random.pick(&["{", "{", "{ ", "[", "\u{feff}{"]),
        random.pick(&["}", "}", "} ", "]", "} x"]),
    );
    format!("{open}{}{close}", members.join(random.pick(&[", ", ",", " ,\n"]))).into_bytes()
}

fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let at = random.below(bytes.len());
    match random.below(6) {
        0 => bytes[at] = b"\"\\{}[]:,0 9-a\xff\x00"[random.below(15)],
        1 => bytes[at] ^= 1 << random.below(8),
        2 => bytes.insert(at, b"\"\\{}[]:, 09\n-"[random.below(12)]),
        3 => drop(bytes.remove(at)),
        4 => bytes.truncate(at),
        _ => {
            let end = (at + random.below(30)).min(bytes.len());
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
    }
}

macro_rules! histories {
    ($($name:ident: $seed:literal,)*) => {
        $(#[test]
        fn $name() {
            the_prediction_and_the_full_parse_agree($seed);
        })*
    };
}

histories! {
    do_the_prediction_and_the_full_parse_agree_on_a_first_history: 20,
    do_the_prediction_and_the_full_parse_agree_on_a_second_history: 21,
    do_the_prediction_and_the_full_parse_agree_on_a_third_history: 22,
    do_the_prediction_and_the_full_parse_agree_on_a_fourth_history: 23,
}

fn the_prediction_and_the_full_parse_agree(seed: u64) {
    let mut random = Random(seed);
    let mut predicting = JsonHeader::new(LIMITS);
    let content = [b'x'; 320];
    let (mut whole, mut faulty) = (0, 0);
    let mut input = Vec::new();
    for round in 0..HEADERS {
        let header = header(&mut random);
        let mut header_len = u16::try_from(header.len()).unwrap_or(u16::MAX);
        if random.one_in(50) {
            header_len = header_len.wrapping_add_signed([-1, 1, 256][random.below(3)]);
        }
        input.clear();
        input.extend(header_len.to_be_bytes());
        input.extend(&header);
        input.extend(&content[..random.below(content.len())]);
        if random.one_in(50) {
            input.truncate(random.below(input.len()));
        }

        let fast = said(&input, look(&mut predicting, &input));
        match &fast {
            Said::Message { .. } => whole += 1,
            Said::Fault { .. } => faulty += 1,
            Said::Incomplete { needed, .. } => assert!(*needed > input.len()),
        }
        let text = || format!("round {round}: {:?}", String::from_utf8_lossy(&input));
        // A framing that has seen nothing predicts nothing.
        assert_eq!(fast, said(&input, look(&mut JsonHeader::new(LIMITS), &input)), "{}", text());
        assert_eq!(fast, plainly(LIMITS, &input), "{}", text());
    }
    assert!(whole > HEADERS / 5 && faulty > HEADERS / 5, "{whole} whole, {faulty} faulty");
}
