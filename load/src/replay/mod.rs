//! [`Recording`]: requests that were sent once, each at its own time on its own connection, to be sent
//! again so.
//!
//! It is read from a [capture](capture) of packets, whose [streams](stream) are cut into requests as a
//! framing says, or from [lines](lines) of JSON.

mod capture;
mod lines;
mod stream;
mod tape;

use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use myriapod::protocol::{
    AnyFraming, AnyStream, DecodeLimits, Decoded, Frame, Framing as _, FramingSpec, Input,
};
use serde::{Deserialize, Serialize};

pub(crate) use self::tape::Tape;
use crate::error::{Error, Result};
use myriapod_machine::figures::grouped;

/// Bytes of a file, since all of it is kept in memory.
const MOST_BYTES: u64 = 1 << 30;

/// What is replayed, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replay {
    /// A capture of packets (pcap or pcapng), or lines of JSON.
    pub path: PathBuf,
    /// How much faster than recorded; above 0, and 1 for its own times.
    pub speed: f64,
    /// The server's port in a capture that has several.
    pub port: Option<u16>,
}

/// A request as it went over the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Nanoseconds after the first request of the recording.
    pub(crate) at: u64,
    /// Connections are numbered from 0 in the order of their first requests.
    pub(crate) connection: u32,
    /// Where in the recording its bytes are.
    bytes: Range<usize>,
}

/// Requests in the order of their times.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    pub(crate) requests: Vec<Request>,
    pub(crate) connections: u32,
    bytes: Vec<u8>,
    /// What of the file is left out, a sentence each.
    pub(crate) left_out: Vec<String>,
}

/// The requests of one connection before they are put in order.
#[derive(Debug, Default)]
struct Conversation {
    /// The time of each in nanoseconds, and its bytes.
    requests: Vec<(u64, Vec<u8>)>,
}

impl Recording {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, that is larger than 1 GiB, or that holds no request.
    pub(crate) fn read(replay: &Replay, framing: &FramingSpec) -> Result<Self> {
        let path = &replay.path;
        let bytes = read_file(path)?;
        let mut left_out = Vec::new();
        let conversations = if capture::is_one(&bytes) {
            let streams =
                capture::streams(&bytes, replay.port, &mut left_out).map_err(|why| why.of(path))?;
            cut_all(&streams, framing, &mut left_out)
        } else {
            lines::read(&bytes, framing).map_err(|why| {
                Error::usage(format_args!("{}: {why}", path.display())).with_next_step(
                    "--replay takes a capture (pcap, pcapng), or lines such as \
                     {\"at\": 0.25, \"connection\": 1, \"hex\": \"…\"}",
                )
            })?
        };
        let recording = Self { left_out, ..Self::of(conversations) };
        if recording.requests.is_empty() {
            let mut why = format!("{} has no request in the framing {framing}", path.display());
            for sentence in &recording.left_out {
                why += "; ";
                why += sentence;
            }
            return Err(Error::usage(why).with_next_step(
                "--framing says how its messages are framed; `myriapod identify` guesses",
            ));
        }
        Ok(recording)
    }

    /// All requests in the order of their times, and connections numbered.
    fn of(mut conversations: Vec<Conversation>) -> Self {
        conversations.retain(|conversation| !conversation.requests.is_empty());
        // The first request of each says which connection is first.
        conversations
            .sort_by_key(|conversation| conversation.requests.first().map(|first| first.0));
        let mut recording = Self::default();
        let mut begin = u64::MAX;
        for conversation in conversations {
            for (at, bytes) in conversation.requests {
                let start = recording.bytes.len();
                recording.bytes.extend_from_slice(&bytes);
                let bytes = start..recording.bytes.len();
                begin = begin.min(at);
                let connection = recording.connections;
                recording.requests.push(Request { at, connection, bytes });
            }
            recording.connections = recording.connections.saturating_add(1);
        }
        for request in &mut recording.requests {
            request.at -= begin;
        }
        // Stable: those of one connection keep their order.
        recording.requests.sort_by_key(|request| request.at);
        recording
    }

    /// From the first request to the last, in nanoseconds.
    pub(crate) fn span(&self) -> u64 {
        self.requests.last().map_or(0, |last| last.at)
    }

    /// Bytes of a request, in the mean.
    pub(crate) fn mean_len(&self) -> usize {
        self.bytes.len() / self.requests.len().max(1)
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    let of = |error| Error::io("read", path.display(), &error);
    let file = File::open(path).map_err(of)?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(of)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(Error::usage(format_args!("{} is larger than 1 GiB", path.display()))
            .with_next_step("`editcap -c` cuts a capture into pieces"));
    }
    Ok(bytes)
}

/// Nothing is too long for what was sent once.
const LIMITS: DecodeLimits =
    DecodeLimits { max_header_len: 65_535, max_content_len: DecodeLimits::MAX_CONTENT_LEN };

/// Requests of all streams; what is not a whole one is left out, and said.
fn cut_all(
    streams: &[stream::Stream],
    framing: &FramingSpec,
    left_out: &mut Vec<String>,
) -> Vec<Conversation> {
    let (mut unfinished, mut broken, mut first_fault) = (0_u64, 0_u64, None);
    let conversations = streams.iter().map(|stream| {
        let mut bytes = stream.bytes.clone();
        let mut conversation = Conversation::default();
        let (requests, ending) = cut(&mut bytes, framing);
        for range in requests {
            let at = stream.at(range.start);
            let request = stream.bytes.get(range).unwrap_or_default().to_vec();
            conversation.requests.push((at, request));
        }
        match ending {
            Ending::Whole => {}
            Ending::Unfinished => unfinished += 1,
            Ending::Fault(why) => {
                broken += 1;
                first_fault.get_or_insert(why);
            }
        }
        conversation
    });
    let conversations = conversations.collect();
    if unfinished > 0 {
        left_out.push(format!(
            "on {} connections the last request is not whole, and is left out",
            grouped(unfinished)
        ));
    }
    if let Some(why) = first_fault {
        left_out.push(format!(
            "on {} connections bytes are no message of {framing}, and are left out with all behind \
             them: {why}",
            grouped(broken)
        ));
    }
    conversations
}

/// What stands at the end of a stream.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    Whole,
    Unfinished,
    Fault(String),
}

/// Where the requests in these bytes are.
fn cut(bytes: &mut [u8], spec: &FramingSpec) -> (Vec<Range<usize>>, Ending) {
    let mut framing = AnyFraming::new(spec, LIMITS);
    let (mut stream, mut frame) = (AnyStream::default(), Frame::new());
    let (mut requests, mut start) = (Vec::new(), 0);
    loop {
        let rest = bytes.get_mut(start..).unwrap_or_default();
        if rest.is_empty() {
            return (requests, Ending::Whole);
        }
        // What the framing itself would answer is for the server to answer.
        let mut answer = Vec::new();
        match framing.decode(&mut stream, Input::new(rest, &mut answer), &mut frame) {
            Ok(Decoded::Message) => {
                requests.push(start..start + frame.len());
                start += frame.len();
            }
            Ok(Decoded::Skip(len)) => start += len,
            Ok(Decoded::End(_)) => return (requests, Ending::Whole),
            // Incomplete, or more is needed.
            Ok(_) => return (requests, Ending::Unfinished),
            Err(error) => return (requests, Ending::Fault(format!("{} ({error})", error.name()))),
        }
    }
}
