//! Does Python write and read the same? Asked of `python3`, where there is one.

#![cfg(all(feature = "json", feature = "encoding"))]
#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]
#![expect(clippy::print_stdout, reason = "a skipped test says so")]

#[path = "common/random.rs"]
mod random;

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use myriapod::protocol::{ByteOrder, Decoder, Fault, Head, JsonHeader, encode, write_json};
use serde_json::{Value, json};

use crate::random::Random;

/// What the program prints for this input; `None` without `python3`.
fn python(program: &str, input: &str) -> Option<String> {
    let child = Command::new("python3")
        .args(["-X", "utf8", "-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        println!("skipped: there is no python3");
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    Some(String::from_utf8(output.stdout).unwrap())
}

impl Random {
    fn number(&mut self, end: u32) -> u32 {
        u32::try_from(self.next() % u64::from(end)).unwrap()
    }

    fn text(&mut self) -> String {
        (0..self.below(12))
            .filter_map(|_| {
                let bound = [0x20, 0x80, 0x100, 0x11_0000][self.below(4)];
                char::from_u32(self.number(bound))
            })
            .collect()
    }

    fn value(&mut self, depth: u32) -> Value {
        match self.below(if depth == 0 { 6 } else { 8 }) {
            0 => Value::Null,
            1 => self.below(2).eq(&0).into(),
            2 => self.next().into(),
            3 => (self.next().cast_signed() >> self.below(64)).into(),
            4 | 5 => self.text().into(),
            6 => (0..self.below(5)).map(|_| self.value(depth - 1)).collect(),
            _ => (0..self.below(5)).map(|_| (self.text(), self.value(depth - 1))).collect(),
        }
    }
}

fn written(value: &impl serde::Serialize) -> String {
    let mut out = Vec::new();
    write_json(&mut out, value).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn does_json_dumps_write_the_same_bytes() {
    let mut random = Random(1);
    let mut values: Vec<Value> = (0..2000).map(|_| random.value(4)).collect();
    values.push((0..0x80_u8).map(char::from).collect::<String>().into());
    values.push(json!({"": [], "a": {}, "b": [[], {}], "é🐶": "\u{2028}\u{7f}"}));
    let lines: String = values.iter().map(|value| written(value) + "\n").collect();
    let program = "
import json, sys
for line in sys.stdin.read().split('\\n')[:-1]:
    print(json.dumps(json.loads(line), ensure_ascii=False) == line)
";
    let Some(answers) = python(program, &lines) else { return };
    for (value, answer) in values.iter().zip(answers.lines()) {
        assert_eq!(answer, "True", "{}", written(value));
        assert_eq!(serde_json::from_str::<Value>(&written(value)).unwrap(), *value);
    }
    assert_eq!(answers.lines().count(), values.len());
}

#[test]
fn does_repr_show_the_same_floats() {
    let mut random = Random(2);
    let mut floats = vec![
        0.0,
        -0.0,
        1.0,
        -1.5,
        0.1,
        1e15,
        1e16,
        123_456_789_012_345_680.0,
        9_007_199_254_740_993.0,
        999_999_999_999_999.9,
        9_999_999_999_999_998.0,
        1e-4,
        1.25e-4,
        1e-5,
        9.999e-5,
        1e22,
        1e100,
        1.5e300,
        5e-324,
        f64::MIN_POSITIVE,
        f64::MAX,
        f64::MIN,
        f64::EPSILON,
    ];
    floats.extend((-30..30).map(|exponent| 10_f64.powi(exponent)));
    floats.extend((-30..30).map(|exponent| 1.23 * 10_f64.powi(exponent)));
    floats.extend((0..20_000).map(|_| f64::from_bits(random.next())).filter(|f| f.is_finite()));
    floats.extend((0..20_000).map(|_| f64::from(random.number(10_000_000)) / 1000.0));

    let mut lines = String::new();
    for float in &floats {
        let text = written(float);
        assert_eq!(text.parse::<f64>().unwrap().to_bits(), float.to_bits(), "{text}");
        writeln!(lines, "{:016x} {text}", float.to_bits()).unwrap();
    }
    let program = "
import json, struct, sys
for line in sys.stdin:
    bits, text = line.split()
    value = struct.unpack('>d', bytes.fromhex(bits))[0]
    print('same' if json.dumps(value) == text else json.dumps(value) + ' is not ' + text)
";
    let Some(answers) = python(program, &lines) else { return };
    assert_eq!(answers.lines().count(), floats.len());
    for answer in answers.lines() {
        assert_eq!(answer, "same");
    }
}

/// The content as text, or the fault.
fn text(encoding: &str, byteorder: ByteOrder, content: &[u8]) -> Result<String, Fault> {
    let mut decoder = Decoder::new(JsonHeader::default());
    let head = Head { byteorder, content_encoding: encoding, ..Head::json() };
    encode(decoder.buffer_mut(), &head, content).unwrap();
    let message = decoder.next_message().unwrap().unwrap();
    message.text().map(std::borrow::Cow::into_owned).map_err(|error| error.kind())
}

#[test]
fn do_the_codecs_read_the_same_text() {
    let mut random = Random(3);
    let mut contents: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    for mark in
        [&b""[..], b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\0\0", b"\0\0\xfe\xff", b"\xef\xbb\xbf"]
    {
        for _ in 0..200 {
            let mut content = mark.to_vec();
            for _ in 0..random.below(4) {
                let c = char::from_u32(random.number(0x11_0000)).unwrap_or('a');
                match random.below(5) {
                    0 => content.extend(c.to_string().bytes()),
                    1 => content.extend(u32::from(c).to_le_bytes()),
                    2 => content.extend(u32::from(c).to_be_bytes()),
                    3 => content.extend(random.number(0x1_0000).to_le_bytes()[..2].iter()),
                    _ => content.push(0xd8),
                }
            }
            contents.push(content);
        }
    }
    let mut lines = String::new();
    for content in &contents {
        for byte in content {
            write!(lines, "{byte:02x}").unwrap();
        }
        lines.push('\n');
    }
    // Every alias of the six codecs, and every content in each of their variants.
    let program = "
import codecs, encodings.aliases, json, sys
contents = [bytes.fromhex(line) for line in sys.stdin]
codec = ['utf_8', 'utf_16', 'utf_16_le', 'utf_16_be', 'utf_32', 'utf_32_le', 'utf_32_be',
         'latin_1', 'ascii', 'cp1252']
names = {name: [name] for name in codec}
for alias, name in encodings.aliases.aliases.items():
    if name in names:
        names[name].append(alias)
def text(name, content):
    if name in ('utf_16', 'utf_32') and content[:2] not in (b'\\xff\\xfe', b'\\xfe\\xff') \\
            and not content.startswith((b'\\xff\\xfe\\0\\0', b'\\0\\0\\xfe\\xff')):
        name += '_le'
    try:
        return content.decode(name)
    except UnicodeDecodeError:
        return None
for name in codec:
    print(json.dumps({'names': names[name], 'texts': [text(name, c) for c in contents]}))
";
    let Some(answers) = python(program, &lines) else { return };
    let mut names = 0;
    for line in answers.lines() {
        let answer: Value = serde_json::from_str(line).unwrap();
        let aliases = answer["names"].as_array().unwrap();
        for (content, said) in contents.iter().zip(answer["texts"].as_array().unwrap()) {
            let name = aliases[0].as_str().unwrap();
            let found = text(name, ByteOrder::Little, content);
            let expected = said.as_str().map(str::to_owned).ok_or(Fault::ContentNotText);
            assert_eq!(found, expected, "{name} {content:02x?}");
        }
        let samples: Vec<usize> = (0..contents.len()).step_by(7).collect();
        for alias in aliases {
            let alias = alias.as_str().unwrap();
            for name in [alias.to_owned(), alias.replace('_', "-").to_uppercase()] {
                names += 1;
                for &at in &samples {
                    let found = text(&name, ByteOrder::Little, &contents[at]);
                    let said = answer["texts"][at].as_str().map(str::to_owned);
                    assert_eq!(found.ok(), said, "{name} {:02x?}", contents[at]);
                }
            }
        }
    }
    assert!(names > 100, "{names}");
}
