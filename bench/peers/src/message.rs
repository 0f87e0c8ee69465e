//! JSON-header messages: two bytes with the length of a JSON header, the header, the content.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;

use crate::{Job, Result};

/// More than that is no honest length.
pub const MAX_CONTENT_LEN: usize = 1 << 20;

/// The header of a message.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Header<'a> {
    /// `little` or `big`: the sender's.
    #[serde(borrow)]
    pub byteorder: Cow<'a, str>,
    /// `text/json`, or binary.
    #[serde(borrow)]
    pub content_type: Cow<'a, str>,
    /// The character set of the content.
    #[serde(borrow)]
    pub content_encoding: Cow<'a, str>,
    /// The bytes of content that follow.
    pub content_length: usize,
}

impl Header<'_> {
    /// The header of a JSON content.
    #[must_use]
    pub fn json(content_length: usize) -> Self {
        Self {
            byteorder: "little".into(),
            content_type: "text/json".into(),
            content_encoding: "utf-8".into(),
            content_length,
        }
    }
}

/// A message within the bytes that were received.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// Its header.
    pub header: Header<'a>,
    /// Its content.
    pub content: &'a [u8],
    /// All of its bytes.
    pub len: usize,
}

/// The message that `input` starts with, once it is whole.
pub fn decode(input: &[u8]) -> Result<Option<Message<'_>>> {
    let Some((prefix, rest)) = input.split_first_chunk::<2>() else { return Ok(None) };
    let header_len = usize::from(u16::from_be_bytes(*prefix));
    let Some((header, rest)) = rest.split_at_checked(header_len) else { return Ok(None) };
    let header: Header = serde_json::from_slice(header)?;
    if header.content_length > MAX_CONTENT_LEN {
        return Err("content too long".into());
    }
    let Some(content) = rest.get(..header.content_length) else { return Ok(None) };
    let len = 2 + header_len + content.len();
    Ok(Some(Message { header, content, len }))
}

/// Appends a message to `out`, which may be a buffer of any kind.
pub fn encode(out: &mut Vec<u8>, header: &Header<'_>, content: &[u8]) -> Result<()> {
    let start = out.len();
    out.extend_from_slice(&[0, 0]);
    serde_json::to_writer(&mut *out, header)?;
    let len = u16::try_from(out.len() - start - 2)?;
    out[start..start + 2].copy_from_slice(&len.to_be_bytes());
    out.extend_from_slice(content);
    Ok(())
}

/// A request of the search service.
#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    action: Cow<'a, str>,
    #[serde(borrow)]
    value: Cow<'a, str>,
}

/// Its answer.
#[derive(Serialize)]
struct Answer<'a> {
    result: Cow<'a, str>,
}

/// The content that answers a request.
pub fn search(content: &[u8]) -> Result<Vec<u8>> {
    let Ok(request) = serde_json::from_slice::<Request>(content) else {
        let value: Value = serde_json::from_slice(content)?;
        return Err(format!("no request: {value}").into());
    };
    let result = match (&*request.action, &*request.value) {
        ("search", "morpheus") => "Follow the white rabbit. 🐰".into(),
        ("search", "ring") => "In the caves beneath the Misty Mountains. 💍".into(),
        ("search", "🐶") => "🐾 Playing ball! 🏐".into(),
        ("search", value) => format!("No match for '{value}'.").into(),
        (action, _) => format!("Error: invalid action '{action}'.").into(),
    };
    Ok(serde_json::to_vec(&Answer { result })?)
}

/// Appends the reply to a message.
pub fn answer(job: Job, message: &Message<'_>, out: &mut Vec<u8>) -> Result<()> {
    if job == Job::Search {
        let content = search(message.content)?;
        encode(out, &Header::json(content.len()), &content)
    } else {
        encode(out, &message.header, message.content)
    }
}
