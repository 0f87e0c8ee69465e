//! `myriapod send`: one request, its reply printed.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use myriapod::protocol::{AnyFraming, DecodeLimits, ExtraHeaders, FramingSpec, Head, Message};
use myriapod::{ClientOptions, Error};
use serde::Serialize;

use crate::decode_limits::DecodeLimitArgs;
use crate::failure::{FAILED, Failure};
use crate::identify;
use crate::json::Json;
use crate::message_line::{write_bare, write_message};
use crate::terminal::standard_output;
use crate::units::{ProxyFrom, Timeout};
use myriapod_command::tls::{self, ClientTls};

/// The action that has a JSON request.
const SEARCH: &str = "search";

const EXAMPLES: &str = "\
Examples:
  myriapod send 127.0.0.1 65432 search morpheus       Follow the white rabbit. 🐰
  myriapod send localhost 65432 binary 😃              a binary request: the bytes of \"binary😃\"
  myriapod send unix:/tmp/echo 0 search ring          a Unix socket; the port is not used
  myriapod send ::1 65432 search ring --json          the whole reply, header and content
  myriapod send 127.0.0.1 65432 --file cat.png --content-type image/png --header 'name=\"Tom\"'
  echo '[1, 2]' | myriapod send 127.0.0.1 65432 --file - --content-type text/json
  myriapod send 127.0.0.1 65432 get cat.png --output cat.png
  myriapod send 127.0.0.1 7000 hello '' --framing lines      a server of lines

A JSON reply prints its \"result\" if that is a string, else all of it; another its bytes.
An error reply goes to standard error, but with --json it is printed like any other.
Exit status: 0 success, 1 failure or an error reply, 2 wrong usage.";

/// Send one request and print the reply
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A name, an IPv4 or IPv6 address, or unix:PATH
    host: String,

    /// The server's port; not used with unix:PATH
    port: u16,

    /// `search`, or anything else for a binary request
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    action: Option<String>,

    /// What to search for, or what stands behind ACTION in a binary request
    #[arg(
        required_unless_present = "file",
        conflicts_with = "file",
        allow_negative_numbers = true
    )]
    value: Option<String>,

    /// Send the content of a file, `-` for standard input, in place of ACTION and VALUE
    #[arg(long)]
    file: Option<PathBuf>,

    /// The type of the file's content [default: application/octet-stream]
    #[arg(long, value_name = "TYPE", requires = "file", conflicts_with = "action")]
    content_type: Option<String>,

    /// Its character set, or `binary` [default: utf-8 for text types, else binary]
    #[arg(long, value_name = "ENCODING", requires = "file", conflicts_with = "action")]
    content_encoding: Option<String>,

    /// A further header key; may be given more than once
    #[arg(long = "header", value_name = "KEY=JSON", value_parser = parse_header)]
    headers: Vec<(String, Json)>,

    /// How messages are framed: json-header, padded, length:4be, lines, delimited:\r\n, json
    /// or raw; a name that is none lists all
    #[arg(long, value_name = "SPEC", default_value_t = FramingSpec::DEFAULT)]
    framing: FramingSpec,

    /// Print the whole reply as `decode` would: one line of JSON
    #[arg(long)]
    json: bool,

    /// Write the reply's content to a file, byte for byte, `-` for standard output
    #[arg(short, long, value_name = "FILE", conflicts_with = "json")]
    output: Option<PathBuf>,

    /// How long connecting may take: 250ms, 30s, 5m, 0 for ever
    #[arg(long, value_name = "TIME", default_value_t = Timeout(ClientOptions::default().connect_timeout))]
    connect_timeout: Timeout,

    /// How long to wait without a byte of the reply
    #[arg(long, value_name = "TIME", default_value_t = Timeout(ClientOptions::default().read_timeout))]
    read_timeout: Timeout,

    /// How long to wait without the server taking a byte of the request
    #[arg(long, value_name = "TIME", default_value_t = Timeout(ClientOptions::default().write_timeout))]
    write_timeout: Timeout,

    /// Behave as a proxy: begin with a PROXY header that names this client
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    proxy_from: Option<ProxyFrom>,

    #[command(flatten)]
    tls: ClientTls,

    #[command(flatten)]
    limits: DecodeLimitArgs,
}

fn parse_header(text: &str) -> Result<(String, Json), String> {
    let (key, value) =
        text.split_once('=').ok_or("write KEY=JSON, such as --header request-id=7")?;
    let value = serde_json::from_str(value).map_err(|error| {
        format!("{value} is not JSON: {error}; a string needs its quotes: --header '{key}=\"…\"'")
    })?;
    Ok((key.to_owned(), value))
}

#[derive(Serialize)]
struct Search<'a> {
    action: &'a str,
    value: &'a str,
}

/// The content of a request, and what its header says of it.
struct Request<'a> {
    content_type: &'a str,
    content_encoding: &'a str,
    content: Vec<u8>,
}

impl<'a> Request<'a> {
    fn new(args: &'a Args) -> Result<Self, Failure> {
        if let Some(path) = &args.file {
            let content_type = args.content_type.as_deref().unwrap_or("application/octet-stream");
            let usual = if content_type.starts_with("text/") { "utf-8" } else { "binary" };
            let content_encoding = args.content_encoding.as_deref().unwrap_or(usual);
            return Ok(Self { content_type, content_encoding, content: read_file(path)? });
        }
        let action = args.action.as_deref().unwrap_or_default();
        let value = args.value.as_deref().unwrap_or_default();
        if action == SEARCH {
            let mut content = Vec::new();
            myriapod::protocol::write_json(&mut content, &Search { action, value })
                .map_err(Failure::new)?;
            return Ok(Self { content_type: "text/json", content_encoding: "utf-8", content });
        }
        Ok(Self {
            content_type: "binary/custom-client-binary-type",
            content_encoding: "binary",
            content: [action, value].concat().into_bytes(),
        })
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    let standard_input = path.as_os_str() == "-";
    let name = if standard_input { "standard input".into() } else { path.display().to_string() };
    let input: Box<dyn Read> = if standard_input {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(path).map_err(|error| Failure::io("open", &name, &error))?)
    };
    let mut content = Vec::new();
    input
        .take(DecodeLimits::MAX_CONTENT_LEN as u64 + 1)
        .read_to_end(&mut content)
        .map_err(|error| Failure::io("read", &name, &error))?;
    if content.len() > DecodeLimits::MAX_CONTENT_LEN {
        let most = DecodeLimits::MAX_CONTENT_LEN;
        return Err(Failure::new(format_args!("{name}: longer than {most} bytes")));
    }
    Ok(content)
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let mut extra = ExtraHeaders::new();
    for (key, value) in &args.headers {
        extra
            .push(key, value)
            .map_err(|error| Failure::usage(format_args!("--header: {error}")))?;
    }
    if !args.framing.has_header() && !args.headers.is_empty() {
        let spec = &args.framing;
        return Err(Failure::usage(format_args!("--header: --framing {spec} has no header")));
    }
    let request = Request::new(args)?;
    let head = Head {
        content_encoding: request.content_encoding,
        extra: &extra,
        ..Head::binary(request.content_type)
    };
    let options = ClientOptions {
        connect_timeout: args.connect_timeout.0,
        read_timeout: args.read_timeout.0,
        write_timeout: args.write_timeout.0,
        limits: args.limits.to_limits()?,
        proxy_from: args.proxy_from.map(|client| client.0),
        ..ClientOptions::default()
    };
    let framing = AnyFraming::new(&args.framing, options.limits).for_client();
    let tunnels = args.tls.to(&args.host)?;
    let mut client = ClientTls::connect(tunnels.as_ref(), &args.host, args.port, options, framing)?;
    let peer = client.peer().unwrap_or_default().to_owned();
    let error = match client.request(&head, &request.content) {
        Ok(reply) => return print(&reply, args, &peer),
        Err(error @ Error::Link(_)) => return Err(tls::explain(error, &args.host, args.port)),
        Err(error) => error,
    };
    let failure = explain(error, &peer, &args.framing);
    Err(match identify::advice(client.unread(), &args.framing) {
        Some(advice) => failure.with_next_step(advice),
        None => failure,
    })
}

fn print(reply: &Message<'_>, args: &Args, peer: &str) -> Result<ExitCode, Failure> {
    let error_kind = reply.error_kind();
    let mut out = Vec::new();
    let mut code = ExitCode::SUCCESS;
    let mut failure = None;
    if args.json {
        let write = if args.framing.has_header() { write_message } else { write_bare };
        let fault = write(&mut out, reply).map_err(Failure::new)?;
        if fault.is_some() || error_kind.is_some() {
            code = ExitCode::from(FAILED);
        }
    } else if let Some(kind) = error_kind {
        // Its content is not what was asked for, so no file gets it.
        let text = error_text(reply);
        return Err(Failure::new(if kind.is_empty() { text } else { format!("{text} ({kind})") }));
    } else if let Some(path) = &args.output {
        if path.as_os_str() != "-" {
            let name = path.display();
            std::fs::write(path, reply.content())
                .map_err(|error| Failure::io("write", name, &error))?;
            return Ok(code);
        }
        out.extend_from_slice(reply.content());
    } else if reply.is_json() || is_object(reply, args) {
        let json = match serde_json::from_slice(reply.content()) {
            Ok(json) if is_object(reply, args) => Ok(json),
            _ => reply.json_as::<Json>(),
        };
        match json {
            Ok(json) => match json.get("result").and_then(Json::as_str) {
                Some(result) => out.extend_from_slice(result.as_bytes()),
                None => serde_json::to_writer(&mut out, &json).map_err(Failure::new)?,
            },
            // The content as it is may tell what the server meant.
            Err(fault) => {
                failure = Some(explain(Error::Protocol(fault), peer, &args.framing));
                out.extend_from_slice(reply.content());
            }
        }
        out.push(b'\n');
    } else {
        out.extend_from_slice(reply.content());
        out.push(b'\n');
    }
    let mut stdout = standard_output();
    stdout
        .write_all(&out)
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::output(&error))?;
    failure.map_or(Ok(code), Err)
}

/// Whether a reply without a header is a JSON object.
fn is_object(reply: &Message<'_>, args: &Args) -> bool {
    !args.framing.has_header()
        && reply.content().starts_with(b"{")
        && matches!(serde_json::from_slice(reply.content()), Ok(Json::Object(_)))
}

/// What an error reply says to people: its `result`, or its content as it is.
fn error_text(reply: &Message<'_>) -> String {
    let result = serde_json::from_slice::<Json>(reply.content()).ok();
    let result = reply.json_as::<Json>().ok().or(result);
    match result.as_ref().and_then(|json| json.get("result")).and_then(Json::as_str) {
        Some(text) => text.to_owned(),
        None => String::from_utf8_lossy(reply.content()).into_owned(),
    }
}

/// Whether a reply began as an alert of TLS does: for a header, that is a length that no server sends.
fn is_alert(fault: &myriapod::ProtocolError) -> bool {
    fault.offset() == 0 && fault.to_string().contains("an alert of TLS")
}

fn explain(error: Error, peer: &str, framing: &FramingSpec) -> Failure {
    match error {
        Error::Protocol(fault) => {
            let (kind, offset) = (fault.name(), fault.offset());
            let failure = format!("reply of {peer}, byte {offset}: {kind} ({fault})");
            if is_alert(&fault) {
                return Failure::new(format_args!("{peer} speaks TLS: it has sent an alert"))
                    .with_next_step("add --tls");
            }
            let protocol = match framing {
                FramingSpec::JsonHeader { .. } => "the JSON-header protocol".to_owned(),
                other => other.to_string(),
            };
            Failure::new(failure).with_next_step(format!("does that server speak {protocol}?"))
        }
        Error::Encode(error) => Failure::usage(error),
        error @ Error::Closed { received: 0, .. } => Failure::from(error)
            .with_next_step("its log may say why, or it speaks another protocol"),
        error @ Error::Timeout { call: "recv", .. } => {
            Failure::from(error).with_next_step("allow more time with --read-timeout")
        }
        error => Failure::from(error),
    }
}
