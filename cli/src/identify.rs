//! `myriapod identify`: which framing the first bytes of a capture are in.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use myriapod::protocol::{AnyFraming, DecodeLimits, Decoder, Framing, FramingSpec};
use serde::Serialize;
use serde::de::IgnoredAny;

use crate::failure::{FAILED, Failure};
use crate::json::json_line;
use crate::terminal::print_text;

/// Bytes that are looked at.
const LOOKED_AT: usize = 64 << 10;

const EXAMPLES: &str = "\
Examples:
  myriapod identify capture.bin            the likely framings, best first
  nc -l 65432 | myriapod identify          what a client of yours sends
  myriapod identify --json capture.bin     for programs
  myriapod decode --framing length:4be capture.bin   and then what it says

Looks at the first 64 KiB. Each line is a name for --framing, and the reason.
Exit status: 0 at least one fits, 1 none does, 2 wrong usage.";

/// Tell from the first bytes of a capture how its messages are framed
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The captured bytes; standard input where it is missing or `-`
    file: Option<PathBuf>,

    /// One line of JSON each
    #[arg(long)]
    json: bool,
}

/// A framing that fits.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Guess {
    pub(crate) framing: String,
    pub(crate) reason: String,
    #[serde(skip)]
    score: u32,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let (name, input): (String, Box<dyn Read>) = match &args.file {
        Some(path) if path.as_os_str() != "-" => {
            let name = path.display().to_string();
            let file = File::open(path).map_err(|error| Failure::io("open", &name, &error))?;
            (name, Box::new(file))
        }
        _ => ("standard input".to_owned(), Box::new(io::stdin().lock())),
    };
    let mut bytes = Vec::new();
    input
        .take(LOOKED_AT as u64)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::io("read", &name, &error))?;
    let found = guesses(&bytes);
    if found.is_empty() {
        let failure = match foreign(&bytes) {
            _ if bytes.is_empty() => Failure::new(format_args!("{name}: no bytes")),
            Some(other) => Failure::new(format_args!("{name}: that looks like {other}")),
            None => Failure::new(format_args!("{name}: no framing fits the first bytes"))
                .with_next_step("`myriapod decode --framing raw` shows them"),
        };
        return Err(Failure { code: FAILED, ..failure });
    }
    let mut text = String::new();
    for guess in &found {
        match args.json {
            true => text.push_str(&json_line(guess)?),
            false => text.push_str(&format!("{}: {}\n", guess.framing, guess.reason)),
        }
    }
    print_text(&text).map_err(|error| Failure::output(&error))?;
    Ok(ExitCode::SUCCESS)
}

/// What a user may try who expected another framing: nothing, where the bytes are what was expected
/// or fit nothing.
pub(crate) fn advice(bytes: &[u8], expected: &FramingSpec) -> Option<String> {
    let bytes = bytes.get(..LOOKED_AT).unwrap_or(bytes);
    match foreign(bytes) {
        Some("TLS") => return Some("that looks like TLS: add --tls".to_owned()),
        Some(other) => return Some(format!("that looks like {other}")),
        None => {}
    }
    let best = guesses(bytes).into_iter().next()?;
    let framing = &best.framing;
    // A JSON header with a fault in it fits a framing of JSON behind a length too.
    let has_header = bytes.windows(9).any(|part| part == b"\"content-");
    if has_header
        && matches!(expected, FramingSpec::JsonHeader { .. })
        && !framing.contains("header")
    {
        return None;
    }
    (*framing != expected.to_string())
        .then(|| format!("that looks like --framing {framing} ({})", best.reason))
}

/// A protocol that none of the framings is for.
fn foreign(bytes: &[u8]) -> Option<&'static str> {
    let starts = |texts: &[&str]| texts.iter().any(|text| bytes.starts_with(text.as_bytes()));
    match bytes {
        [0x14..=0x17, 3, 0..=4, ..] => Some("TLS"),
        _ if starts(&["HTTP/", "GET /", "POST /", "HEAD /", "PUT /", "OPTIONS "]) => Some("HTTP"),
        _ if starts(&["SSH-"]) => Some("SSH"),
        _ if starts(&["*1\r\n$", "*2\r\n$", "*3\r\n$", "+OK\r\n", "-ERR "]) => {
            Some("Redis' protocol")
        }
        _ => None,
    }
}

/// The framings that fit, best first.
pub(crate) fn guesses(bytes: &[u8]) -> Vec<Guess> {
    if foreign(bytes).is_some() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (spec, score) in [
        ("json-header", 100),
        ("json-header:prefix=4be", 98),
        ("json-header:prefix=2le", 97),
        ("json-header:prefix=4le", 97),
        ("json-header:lenient", 95),
        ("json-header:lenient,prefix=4be", 94),
        ("json-header:lenient,prefix=2le", 93),
        ("json-header:lenient,prefix=4le", 93),
    ] {
        if found.is_empty() {
            found.extend(look(bytes, spec, score, header_reason));
        }
    }
    if found.is_empty() {
        found.extend(padded(bytes));
    }
    for width in ["4be", "4le", "2be", "2le", "8be", "8le", "1"] {
        for option in ["", ",inclusive"] {
            found.extend(look(bytes, &format!("length:{width}{option}"), 60, length_reason));
        }
    }
    found.extend(look(bytes, "json", 80, json_reason));
    found.extend(look(bytes, "lines", 50, text_reason));
    for delimiter in ["\\r\\n\\r\\n", "\\0"] {
        found.extend(look(bytes, &format!("delimited:{delimiter}"), 40, text_reason));
    }
    found.sort_by_key(|guess| std::cmp::Reverse(guess.score));
    found
}

/// What a framing found in the bytes.
struct Seen<'a> {
    bytes: &'a [u8],
    /// Each message and its content.
    messages: Vec<(Vec<u8>, Vec<u8>)>,
    /// The bytes behind them, of a message that is not whole.
    rest: &'a [u8],
}

impl Seen<'_> {
    fn contents(&self) -> impl Iterator<Item = &[u8]> {
        self.messages.iter().map(|(_, content)| &content[..])
    }
}

/// Gives a framing its reason and what is added to its score, if it fits.
type Judge = fn(&Seen<'_>) -> Option<(String, u32)>;

fn look(bytes: &[u8], spec: &str, score: u32, judge: Judge) -> Option<Guess> {
    let spec: FramingSpec = spec.parse().ok()?;
    let limits = DecodeLimits { max_content_len: 64 << 20, ..DecodeLimits::default() };
    let mut decoder = Decoder::new(AnyFraming::new(&spec, limits));
    decoder.feed(bytes);
    let mut messages = Vec::new();
    loop {
        match decoder.next_message() {
            Ok(Some(message)) => {
                messages.push((message.bytes().to_vec(), message.content().to_vec()));
            }
            Ok(None) => break,
            Err(_) => return None,
        }
    }
    let rest = bytes.get(bytes.len() - decoder.rest()..)?;
    let (reason, more) = judge(&Seen { bytes, messages, rest })?;
    Some(Guess { framing: spec.to_string(), reason, score: score + more })
}

fn header_reason(seen: &Seen<'_>) -> Option<(String, u32)> {
    let (message, content) = seen.messages.first()?;
    let header = message.len() - content.len();
    let start = message.iter().position(|&byte| byte == b'{')?;
    let prefix = hex(message.get(..start)?);
    let (header, content) = (header - start, content.len());
    let reason = format!(
        "{prefix} is followed by {header} bytes of JSON header, then by {content} of content"
    );
    Some((reason, 0))
}

fn length_reason(seen: &Seen<'_>) -> Option<(String, u32)> {
    let (message, content) = seen.messages.first()?;
    let prefix = message.get(..message.len() - content.len())?;
    // A length is a coincidence where nothing else speaks for it.
    let is_json = seen.contents().all(is_json);
    let is_text = seen.contents().all(is_text);
    let is_proven = seen.messages.len() > 1 || seen.rest.is_empty();
    if seen.contents().all(<[u8]>::is_empty) || !(is_json || is_text && is_proven) {
        return None;
    }
    let what = if is_json { "JSON" } else { "text" };
    let mut reason = format!("{} is followed by {} bytes of {what}", hex(prefix), content.len());
    let next = seen.bytes.get(message.len()..message.len() + prefix.len());
    match next {
        Some(next) => reason.push_str(&format!(", then by {} …", hex(next))),
        None if seen.rest.is_empty() => reason.push_str(", and nothing behind them"),
        None => {}
    }
    let sure = u32::from(is_proven) * 10;
    Some((reason, sure + if is_json { 20 } else { 0 }))
}

fn json_reason(seen: &Seen<'_>) -> Option<(String, u32)> {
    if seen.messages.is_empty() {
        let begins = seen.rest.starts_with(b"{\"") || seen.rest.starts_with(b"[");
        return begins.then(|| ("it begins as a JSON value does".to_owned(), 0));
    }
    let first = seen.contents().next()?;
    let count = seen.messages.len();
    let values =
        if count == 1 { "1 JSON value".to_owned() } else { format!("{count} JSON values") };
    seen.contents()
        .all(is_json)
        .then(|| (format!("{values}, the first of {} bytes", first.len()), 5))
}

fn text_reason(seen: &Seen<'_>) -> Option<(String, u32)> {
    let longest = seen.contents().map(<[u8]>::len).max()?;
    let count = seen.messages.len();
    let texts = if count == 1 { "1 text".to_owned() } else { format!("{count} texts") };
    let is_text = seen.contents().all(is_text) && is_text(seen.rest);
    (is_text && longest > 0)
        .then(|| (format!("{texts} behind each other, of {longest} bytes at most"), 0))
}

/// A decimal length of some width.
fn padded(bytes: &[u8]) -> Option<Guess> {
    let blanks = |byte: &u8| byte.is_ascii_digit() || b" +\t\n".contains(byte);
    let longest = bytes.iter().take(128).take_while(|byte| blanks(byte)).count();
    let has_digit = bytes.iter().take(longest).any(u8::is_ascii_digit);
    if !has_digit {
        return None;
    }
    let mut best: Option<(usize, Guess)> = None;
    for width in std::iter::once(64).chain((2..=longest).rev()) {
        for lenient in ["", "lenient,"] {
            let spec = format!("padded:{lenient}width={width}");
            let judge = |seen: &Seen<'_>| {
                let (message, content) = seen.messages.first()?;
                let header = message.get(..message.len() - content.len())?;
                let header = String::from_utf8_lossy(header).trim().to_owned();
                let len = content.len();
                let reason =
                    format!("\"{header}\" in {width} bytes is followed by {len} bytes of text");
                // The width is known where the next message, or the end, is in its place.
                (seen.rest.is_empty() || seen.messages.len() > 1).then_some((reason, 0))
            };
            let Some(guess) = look_by(bytes, &spec, 90, judge) else { continue };
            let is_better = best.as_ref().is_none_or(|(known, _)| *known != 64 && width == 64);
            if is_better {
                best = Some((width, guess));
            }
        }
    }
    best.map(|(_, guess)| guess)
}

fn look_by(
    bytes: &[u8],
    spec: &str,
    score: u32,
    judge: impl Fn(&Seen<'_>) -> Option<(String, u32)>,
) -> Option<Guess> {
    let spec: FramingSpec = spec.parse().ok()?;
    let mut framing = AnyFraming::new(&spec, DecodeLimits::default());
    let mut messages = Vec::new();
    let mut rest = bytes;
    while let Some(frame) = framing.find(rest).ok()? {
        let (message, behind) = rest.split_at(frame.len());
        let content = message.get(frame.len() - frame.content_len()..)?;
        messages.push((message.to_vec(), content.to_vec()));
        rest = behind;
    }
    let (reason, more) = judge(&Seen { bytes, messages, rest })?;
    Some(Guess { framing: spec.to_string(), reason, score: score + more })
}

fn is_json(content: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(content).is_ok()
}

fn is_text(content: &[u8]) -> bool {
    // A cut may be within a character.
    let text = match std::str::from_utf8(content) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&content[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t'))
}

fn hex(bytes: &[u8]) -> String {
    let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(bytes: &[u8]) -> String {
        guesses(bytes).first().map(|guess| guess.framing.clone()).unwrap_or_default()
    }

    #[test]
    fn is_each_framing_told_by_its_first_bytes() {
        let header = b"{\"byteorder\":\"big\",\"content-type\":\"\",\"content-encoding\":\"\",\"content-length\":1}";
        let len = u8::try_from(header.len()).unwrap();
        for (expected, bytes) in [
            ("json-header", [&[0, len][..], header, b"x"].concat()),
            ("json-header:prefix=4be", [&[0, 0, 0, len][..], header, b"x"].concat()),
            ("json-header:prefix=2le", [&[len, 0][..], header, b"x"].concat()),
            ("json-header:lenient", b"\0\x14{\"content-length\":1}x".to_vec()),
            ("padded", format!("{:<64}hello", 5).into_bytes()),
            ("padded:width=10", format!("{:<10}hello{:<10}hi", 5, 2).into_bytes()),
            ("padded:lenient,width=8", b"00000005hello00000002hi".to_vec()),
            ("length:4be", b"\0\0\0\x08{\"a\": 1}\0\0\0\x0c".to_vec()),
            ("length:4le", b"\x08\0\0\0{\"a\": 1}".to_vec()),
            ("length:2be", b"\0\x05hello\0\x02hi".to_vec()),
            ("length:4be,inclusive", b"\0\0\0\x06[]\0\0\0\x05".to_vec()),
            ("json", b"{\"a\": 1}\n{\"b\"".to_vec()),
            ("json", b"{\"a".to_vec()),
            ("lines", b"hello\nthere\n".to_vec()),
        ] {
            let found = guesses(&bytes);
            assert_eq!(best(&bytes), expected, "{bytes:?}: {found:?}");
        }
    }

    #[test]
    fn is_what_fits_nothing_left_unnamed() {
        let nothing = [&b""[..], b"\xff\xfe\xfd\xfc\xfb\xfa", b"no end", b"\x16\x03\x01\0"];
        for bytes in nothing {
            assert_eq!(best(bytes), "", "{bytes:?}: {:?}", guesses(bytes));
        }
        assert_eq!(foreign(b"HTTP/1.1 400"), Some("HTTP"));
    }

    #[test]
    fn is_a_header_with_a_fault_not_taken_for_another_framing() {
        let expected: FramingSpec = "json-header".parse().unwrap();
        let faulty = b"\0\x15{\"content-length\":-1}x";
        assert_eq!(best(faulty), "length:2be");
        assert_eq!(advice(faulty, &expected), None);
        let other = b"\0\x08{\"a\": 1}\0\x0c";
        assert!(advice(other, &expected).is_some_and(|text| text.contains("length:2be")));
    }

    #[test]
    fn does_the_reason_say_what_follows() {
        let found = guesses(b"\0\0\0\x08{\"a\": 1}\0\0\0\x0c");
        let reason = "00 00 00 08 is followed by 8 bytes of JSON, then by 00 00 00 0c …";
        assert_eq!(found[0].reason, reason);
    }
}
