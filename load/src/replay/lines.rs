//! A recording as lines of JSON: `{"at": 0.25, "connection": 1, "text": "…"}`.

use std::collections::BTreeMap;
use std::time::Duration;

use myriapod::protocol::FramingSpec;
use serde::Deserialize;

use super::{Conversation, Ending, cut};

/// A request. `text` or `hex` is all of it, as it goes over the wire.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// Seconds after any moment that is the same for all lines.
    at: f64,
    #[serde(default)]
    connection: u64,
    text: Option<String>,
    hex: Option<String>,
}

impl Line {
    fn bytes(&self) -> Result<Vec<u8>, String> {
        match (&self.text, &self.hex) {
            (Some(text), None) => Ok(text.clone().into_bytes()),
            (None, Some(hex)) => unhex(hex)
                .ok_or_else(|| "hex is not an even number of hexadecimal digits".to_owned()),
            _ => Err("a line has either text or hex".to_owned()),
        }
    }
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = digits
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok()))
        .collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(
        digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect(),
    )
}

/// The conversations of a recording.
///
/// # Errors
///
/// A line that is none, or whose bytes are not one whole request; what is wrong with it.
pub(super) fn read(bytes: &[u8], framing: &FramingSpec) -> Result<Vec<Conversation>, String> {
    let mut conversations = BTreeMap::<u64, Conversation>::new();
    for (number, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let (connection, at, request) =
            read_line(line, framing).map_err(|why| format!("line {}: {why}", number + 1))?;
        conversations.entry(connection).or_default().requests.push((at, request));
    }
    let mut conversations: Vec<_> = conversations.into_values().collect();
    for conversation in &mut conversations {
        conversation.requests.sort_by_key(|(at, _)| *at);
    }
    Ok(conversations)
}

fn read_line(line: &[u8], framing: &FramingSpec) -> Result<(u64, u64, Vec<u8>), String> {
    let line: Line =
        serde_json::from_slice(line).map_err(|error| error.to_string().replace('`', "\""))?;
    let at = Duration::try_from_secs_f64(line.at)
        .ok()
        .and_then(|at| u64::try_from(at.as_nanos()).ok())
        .ok_or_else(|| format!("at is no time: {}", line.at))?;
    let request = line.bytes()?;
    match cut(&mut request.clone(), framing) {
        (requests, Ending::Whole) if requests.len() == 1 => Ok((line.connection, at, request)),
        (_, Ending::Fault(why)) => Err(format!("no message of {framing}: {why}")),
        (requests, _) => Err(format!(
            "not one whole message of {framing}: {} whole ones in {} bytes",
            requests.len(),
            request.len()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<Conversation>, String> {
        read(text.as_bytes(), &FramingSpec::Lines)
    }

    #[test]
    fn are_lines_put_in_the_order_of_their_times() {
        let text = concat!(
            "{\"at\": 2, \"connection\": 7, \"text\": \"c\\n\"}\n\n",
            "{\"at\": 1.5, \"connection\": 7, \"hex\": \"620A\"}\n",
            "{\"at\": 0.25, \"text\": \"a\\n\"}",
        );
        let first = vec![(250_000_000, b"a\n".to_vec())];
        let second = vec![(1_500_000_000, b"b\n".to_vec()), (2_000_000_000, b"c\n".to_vec())];
        let found = read_text(text).unwrap().into_iter();
        let found: Vec<_> = found.map(|conversation| conversation.requests).collect();
        assert_eq!(found, [first, second]);
    }

    #[test]
    fn is_a_line_that_cannot_be_sent_named() {
        for (line, why) in [
            ("{", "line 1: EOF"),
            ("{\"at\": -1, \"text\": \"a\\n\"}", "line 1: at is no time: -1"),
            ("{\"at\": 0}", "line 1: a line has either text or hex"),
            ("{\"at\": 0, \"hex\": \"abc\"}", "line 1: hex is not an even number"),
            (
                "{\"at\": 0, \"text\": \"a\"}",
                "line 1: not one whole message of lines: 0 whole ones",
            ),
            (
                "\n{\"at\": 0, \"text\": \"a\\nb\\n\"}",
                "line 2: not one whole message of lines: 2 whole",
            ),
            ("{\"at\": 0, \"txt\": \"a\\n\"}", "line 1: unknown field"),
        ] {
            let found = read_text(line).unwrap_err();
            assert!(found.starts_with(why), "{line}: {found}");
        }
    }
}
