//! `myriapod decode`: a captured byte stream becomes lines of JSON.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use myriapod::protocol::{
    AnyFraming, Decoder, EncodeError, Framing, FramingSpec, JsonHeader, Message, ProtocolError,
};

use crate::decode_limits::DecodeLimitArgs;
use crate::failure::{FAILED, Failure};
use crate::identify;
use crate::message_line::{write_bare, write_fault, write_message, write_rest, write_text};
use crate::terminal::{standard_output, tell};

/// Bytes that are read at once.
const CHUNK_LEN: usize = 64 << 10;

const EXAMPLES: &str = "\
Examples:
  myriapod decode capture.bin                   one line for each message
  nc -l 65432 | myriapod decode                 messages as they arrive
  myriapod decode capture.bin | jq .json        what the messages say
  myriapod decode --framing padded chat.bin     the 64-byte header
  myriapod decode --framing length:4be x.bin    another; `myriapod identify` tells which

Output, one line each:
  {\"header\": {…}, \"content\": \"<hex>\", \"json\": …}      a message; json only for text/json
  {\"text\": …}                                         a padded message
  {\"content\": \"<hex>\", \"text\": …}                     another without a header; json for JSON
  {\"rest\": N}                                         N bytes of an unfinished message at the end
  {\"error\": {\"kind\": …, \"header\": …, \"offset\": N}}    what is wrong, with the message at byte N

A fault of the framing ends the decoding. Content that is not what its header says does not.
Exit status: 0 success, 1 any fault, 2 wrong usage.";

/// Print the messages of a captured byte stream, one line of JSON each
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The captured bytes; standard input where it is missing or `-`
    file: Option<PathBuf>,

    /// How messages are framed: json-header, padded, length:4be, lines, delimited:\r\n, json
    /// or raw; a name that is none lists all
    #[arg(long, visible_alias = "protocol", value_name = "SPEC",
        default_value_t = FramingSpec::DEFAULT)]
    framing: FramingSpec,

    #[command(flatten)]
    limits: DecodeLimitArgs,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let limits = args.limits.to_limits()?;
    let mut source = Source::open(args)?;
    let out = standard_output();
    let spec = &args.framing;
    let framing = AnyFraming::new(spec, limits);
    match spec {
        spec if *spec == FramingSpec::DEFAULT => {
            decode(&mut source, out, spec, JsonHeader::new(limits), write_message)
        }
        FramingSpec::JsonHeader { .. } => decode(&mut source, out, spec, framing, write_message),
        FramingSpec::Padded { bytes: false, .. } => {
            decode(&mut source, out, spec, framing, |line, message| match message.text() {
                Ok(text) => write_text(line, &text).map(|()| None),
                Err(fault) => write_fault(line, &fault).map(|()| Some(fault)),
            })
        }
        spec => decode(&mut source, out, spec, framing, write_bare),
    }
}

/// Where the bytes come from, and its name in errors.
struct Source {
    name: String,
    input: Box<dyn Read>,
}

impl Source {
    fn open(args: &Args) -> Result<Self, Failure> {
        match &args.file {
            Some(path) if path.as_os_str() != "-" => {
                let name = path.display().to_string();
                let file = File::open(path).map_err(|error| Failure::io("open", &name, &error))?;
                Ok(Self { name, input: Box::new(file) })
            }
            _ => {
                Ok(Self { name: "standard input".to_owned(), input: Box::new(io::stdin().lock()) })
            }
        }
    }

    /// Reads what is there; 0 is the end.
    fn read(&mut self, chunk: &mut [u8]) -> Result<usize, Failure> {
        loop {
            match self.input.read(chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map_err(|error| Failure::io("read", &self.name, &error)),
            }
        }
    }
}

/// Prints each message as soon as it is whole. `write` appends a message's lines, and returns a
/// fault of its content.
fn decode<F: Framing>(
    source: &mut Source,
    mut out: impl Write,
    spec: &FramingSpec,
    framing: F,
    write: impl Fn(&mut Vec<u8>, &Message<'_>) -> Result<Option<ProtocolError>, EncodeError>,
) -> Result<ExitCode, Failure> {
    let mut print = |line: &mut Vec<u8>| {
        let printed = out.write_all(line).and_then(|()| out.flush());
        line.clear();
        printed.map_err(|error| Failure::output(&error))
    };
    let mut decoder = Decoder::new(framing);
    let mut chunk = vec![0; CHUNK_LEN];
    let mut line = Vec::new();
    let mut code = ExitCode::SUCCESS;
    loop {
        let received = source.read(&mut chunk)?;
        match received {
            0 => decoder.finish(),
            received => decoder.feed(&chunk[..received]),
        }
        loop {
            match decoder.next_message() {
                Ok(None) => break,
                Ok(Some(message)) => {
                    if write(&mut line, &message).map_err(Failure::new)?.is_some() {
                        code = ExitCode::from(FAILED);
                    }
                    print(&mut line)?;
                }
                Err(fault) => {
                    write_fault(&mut line, &fault).map_err(Failure::new)?;
                    print(&mut line)?;
                    if fault.offset() == 0
                        && let Some(advice) = identify::advice(decoder.unread(), spec)
                    {
                        tell(format_args!("myriapod: {}: {advice}", source.name));
                    }
                    return Ok(ExitCode::from(FAILED));
                }
            }
        }
        if received == 0 {
            break;
        }
    }
    if decoder.rest() > 0 {
        write_rest(&mut line, decoder.rest()).map_err(Failure::new)?;
        print(&mut line)?;
    }
    Ok(code)
}
