//! `myriapod decode`: a captured byte stream becomes lines of JSON.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use myriapod::protocol::{
    Decoder, EncodeError, Framing, JsonHeader, Message, Padded, ProtocolError,
};

use crate::decode_limits::DecodeLimitArgs;
use crate::failure::{FAILED, Failure};
use crate::message_line::{write_fault, write_message, write_rest, write_text};
use crate::terminal::standard_output;

/// Bytes that are read at once.
const CHUNK_LEN: usize = 64 << 10;

const EXAMPLES: &str = "\
Examples:
  myriapod decode capture.bin                   one line for each message
  nc -l 65432 | myriapod decode                 messages as they arrive
  myriapod decode capture.bin | jq .json        what the messages say
  myriapod decode --protocol padded chat.bin    the 64-byte header

Output, one line each:
  {\"header\": {…}, \"content\": \"<hex>\", \"json\": …}      a message; json only for text/json
  {\"text\": …}                                         a padded message
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

    /// How messages are framed
    #[arg(long, value_enum, default_value_t = Protocol::JsonHeader)]
    protocol: Protocol,

    #[command(flatten)]
    limits: DecodeLimitArgs,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Protocol {
    /// Two bytes of length, a JSON header, content
    JsonHeader,
    /// A 64-byte decimal length padded with spaces, UTF-8 text
    Padded,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let limits = args.limits.to_limits()?;
    let mut source = Source::open(args)?;
    let out = standard_output();
    match args.protocol {
        Protocol::JsonHeader => decode(&mut source, out, JsonHeader::new(limits), write_message),
        Protocol::Padded => {
            decode(&mut source, out, Padded::new(limits), |line, message| match message.text() {
                Ok(text) => write_text(line, &text).map(|()| None),
                Err(fault) => write_fault(line, &fault).map(|()| Some(fault)),
            })
        }
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
        if received == 0 {
            break;
        }
        decoder.feed(&chunk[..received]);
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
                    return Ok(ExitCode::from(FAILED));
                }
            }
        }
    }
    if decoder.rest() > 0 {
        write_rest(&mut line, decoder.rest()).map_err(Failure::new)?;
        print(&mut line)?;
    }
    Ok(code)
}
