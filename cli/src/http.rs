//! [`Site`]: a few pages over HTTP, on a thread of its own, for those who watch a server or a load.
//!
//! A server of our own with another framing. It reads nothing but request lines, and changes nothing.
//! A stream of events is a reply without an end: <https://html.spec.whatwg.org/#server-sent-events>.

use std::sync::mpsc;
use std::time::Duration;

use myriapod::protocol::{
    Decoded, EncodeError, Frame, Framing, Head, Input, Mark, Message, ProtocolError, Raw,
};
use myriapod::sys::{self, JoinHandle, Listener};
use myriapod::{
    Cause, Error, Handle, HandleError, Handler, HandlerError, HandlerResult, Limits, LogEvent,
    Outgoing, Overflow, Reply, Server, SocketAddr, View,
};

use crate::failure::Failure;
use crate::terminal::tell;
use crate::units::Place;

/// Bytes of a request; whatever is longer is refused.
const MAX_REQUEST: usize = 8 << 10;

/// Headers of a request.
const MAX_HEADERS: usize = 64;

/// The most that one receive brings.
const ONE_RECEIVE: usize = 64 << 10;

/// How long a peer may take to ask, and to read the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connections at once, and those of them that may be streams.
const MOST_PEERS: usize = 32;
const MOST_STREAMS: usize = 16;

/// The group of all streams.
const STREAMS: &str = "streams";

/// What is said to a request.
pub(crate) enum Answer {
    /// The status, the kind of content, and the content.
    Whole(&'static str, &'static str, String),
    /// A stream of events, with what it begins with.
    Stream(String),
}

/// What a site has at a path.
pub(crate) type Pages = Box<dyn FnMut(&str) -> Answer + Send>;

/// A server of pages on a thread of its own.
pub(crate) struct Site {
    /// Where it listens: a name may have several addresses.
    pub(crate) addresses: Vec<SocketAddr>,
    handle: Handle,
    thread: JoinHandle<Result<(), Error>>,
}

impl Site {
    /// Serves `pages` at this place and with this listener; `name` is what its log begins with.
    ///
    /// # Errors
    ///
    /// A place where nobody can listen.
    pub(crate) fn start(
        name: &'static str,
        place: Option<Place>,
        listener: Option<Listener>,
        pages: Pages,
    ) -> Result<Self, Failure> {
        let (started, told) = mpsc::channel();
        let thread = sys::spawn(name, move || {
            let limits = Limits {
                max_connections: Some(MOST_PEERS),
                max_header_len: MAX_REQUEST,
                // What came with one receive and is too long is answered as HTTP has it.
                max_content_len: 2 * ONE_RECEIVE,
                // A peer that sends nothing gives way to one that asks, at the latest when its
                // time is over.
                shed_idle: Some(Duration::from_secs(1)),
                header_timeout: PATIENCE,
                idle_timeout: Duration::ZERO,
                write_timeout: PATIENCE,
                // Who does not read misses something, and is closed in the end.
                overflow: Overflow::DropNewest,
                // Nobody who asks for pages keeps a stop waiting.
                drain_timeout: Duration::from_secs(1),
                ..Limits::default()
            };
            let mut builder = Server::builder();
            if let Some(Place { host, port }) = &place {
                builder = builder.listen(host, *port);
            }
            if let Some(listener) = listener {
                builder = builder.listener(listener);
            }
            let builder = builder.limits(limits).log(move |event| {
                if matches!(event, LogEvent::NotListening { .. }) {
                    tell(format_args!("{name}: {event}"));
                }
            });
            let mut server = match builder.build_with(Http, Peers { pages, streams: 0 }) {
                Ok(server) => server,
                Err(error) => {
                    let _ = started.send(Err(error));
                    return Ok(());
                }
            };
            let _ = started.send(Ok((server.addresses().to_vec(), server.handle())));
            server.run().map(drop)
        })?;
        match told.recv() {
            Ok(Ok((addresses, handle))) => Ok(Self { addresses, handle, thread }),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Failure::new(format_args!("the thread for {name} did not start"))),
        }
    }

    /// Who tells the streams what happens.
    pub(crate) fn speaker(&self) -> Speaker {
        Speaker(self.handle.clone())
    }

    /// Stops, and waits until the thread has ended.
    pub(crate) fn stop(self) -> Result<(), Failure> {
        let _ = self.handle.shutdown();
        Ok(self.thread.join()?)
    }
}

/// Tells all streams what happens.
#[derive(Clone, Debug)]
pub(crate) struct Speaker(Handle);

impl Speaker {
    /// Sends an event to all streams.
    ///
    /// # Errors
    ///
    /// A site that has stopped.
    pub(crate) fn say(&self, event: &str) -> Result<(), HandleError> {
        self.0.broadcast(STREAMS, Outgoing::binary("", event.as_bytes().to_vec()))
    }
}

/// One event of a stream, with text of one line.
pub(crate) fn event(name: &str, line: &str) -> String {
    format!("event: {name}\ndata: {line}\n\n")
}

/// Answers each peer that connects.
struct Peers {
    pages: Pages,
    /// How many streams there are.
    streams: usize,
}

impl Handler for Peers {
    /// Whether it is a stream.
    type State = bool;

    fn on_open(&mut self, view: &mut View<'_>, _: &SocketAddr) -> bool {
        view.set_timer(PATIENCE);
        false
    }

    /// It has not asked.
    fn on_connection_timer(&mut self, _: &mut bool, view: &mut View<'_>) {
        view.close_now();
    }

    fn on_message(
        &mut self,
        is_stream: &mut bool,
        request: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        // What comes behind the request for a stream is of no interest.
        if !*is_stream {
            let room = self.streams < MOST_STREAMS;
            *is_stream = answer(&mut self.pages, room, &request, reply)?;
            self.streams += usize::from(*is_stream);
        }
        Ok(())
    }

    fn on_close(&mut self, is_stream: bool, _: &mut View<'_>, _: Cause) {
        self.streams -= usize::from(is_stream);
    }
}

/// As much of HTTP/1.1 as a request without content needs: it ends with an empty line. Replies are
/// written as they are.
struct Http;

impl Framing for Http {
    type Stream = ();

    fn decode(
        &mut self,
        (): &mut (),
        input: Input<'_>,
        frame: &mut Frame,
    ) -> Result<Decoded, ProtocolError> {
        let len = input.bytes.len();
        // What was looked at may hold the first three bytes of the empty line.
        let from = input.scanned.saturating_sub(3);
        let unseen = input.bytes.get(from..).unwrap_or_default();
        let end = unseen.windows(4).position(|window| window == b"\r\n\r\n");
        let end = match end {
            Some(at) if from + at + 4 <= MAX_REQUEST => from + at + 4,
            // Too long: the handler says so. It gets no more than the limit of a content.
            _ if len >= MAX_REQUEST => MAX_REQUEST,
            _ => return Ok(Decoded::More { scanned: len, in_content: false }),
        };
        frame.set(0..end, end);
        Ok(Decoded::Message)
    }

    fn begin(&mut self, out: &mut Vec<u8>, head: &Head<'_>) -> Result<Mark, EncodeError> {
        Raw.begin(out, head)
    }

    fn finish(
        &mut self,
        out: &mut Vec<u8>,
        mark: Mark,
        head: &Head<'_>,
    ) -> Result<(), EncodeError> {
        Raw.finish(out, mark, head)
    }

    fn error_reply(
        &mut self,
        out: &mut Vec<u8>,
        kind: &str,
        text: &str,
    ) -> Result<(), EncodeError> {
        Raw.error_reply(out, kind, text)
    }
}

/// Answers one request, and closes, unless it begins a stream; says whether that is so.
fn answer(
    pages: &mut Pages,
    room: bool,
    request: &Message<'_>,
    reply: &mut Reply<'_>,
) -> Result<bool, HandlerError> {
    let head = request.content();
    let plain = |status, text: &str| Answer::Whole(status, "text/plain", text.to_owned());
    let target = target(head);
    let target = target.as_ref().map(|(method, path)| (method.as_str(), path.as_str()));
    let mut said = match target {
        _ if !head.ends_with(b"\r\n\r\n") => {
            plain("431 Request Header Fields Too Large", "too long\n")
        }
        None => plain("400 Bad Request", "no request of HTTP/1\n"),
        Some(("GET" | "HEAD", path)) => pages(path),
        Some(_) => plain("405 Method Not Allowed", "only GET and HEAD\n"),
    };
    if matches!(said, Answer::Stream(_)) && !room {
        said = plain("503 Service Unavailable", "too many watch already\n");
    }
    let (status, kind, body) = match said {
        Answer::Whole(status, kind, body) => (status, kind, body),
        Answer::Stream(begin) => {
            let response = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\
                 Connection: close\r\n\r\n{begin}"
            );
            reply.binary("", response.as_bytes())?;
            let view = reply.view();
            view.cancel_timer();
            let id = view.id();
            let _ = view.handle().join(id, STREAMS);
            return Ok(true);
        }
    };
    reply.close();
    let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
    let mut response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {}\r\n\
         X-Content-Type-Options: nosniff\r\n{allow}Connection: close\r\n\r\n",
        body.len()
    );
    if !head.starts_with(b"HEAD ") {
        response.push_str(&body);
    }
    reply.binary("", response.as_bytes())?;
    Ok(false)
}

/// Method and path of a request whose headers end.
fn target(head: &[u8]) -> Option<(String, String)> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    if !request.parse(head).ok()?.is_complete() {
        return None;
    }
    let (method, target) = (request.method?, request.path?);
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    Some((method.to_owned(), path.to_owned()))
}
