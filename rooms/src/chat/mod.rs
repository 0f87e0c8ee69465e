//! `myriapod chat`: lines in, lines out, in one room of `serve --service rooms`.

mod backoff;
mod client;
mod screen;
mod talk;

use std::io::{self, BufRead as _, Read as _};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use myriapod::sys::{self, Signal};
use myriapod::{Handle, Server};
use myriapod_tls::Tls;

use self::client::{Client, LINE, Place};
use self::screen::{Screen, is_for_people, take_back};
use self::talk::Talk;
use myriapod_command::failure::Failure;
use myriapod_command::tls::ClientTls;

const EXAMPLES: &str = "\
Examples:
  myriapod serve --service rooms                        a server
  myriapod chat 127.0.0.1 65432 lobby --name Neo        talk in one of its rooms
  tail -f log | myriapod chat ::1 65432 ops --name log  say every line
  myriapod chat ::1 65432 ops --name x --json </dev/null

A line is said to the room. /tell NAME TEXT is heard by NAME alone, /members lists
who is there; // begins a text that begins with a slash.
The end of input ends it once the last line is said; so does Ctrl-C, at once.
When the connection is lost it is made again, and a line that was under way is not
said twice: stderr names it, because nobody knows whether it was heard.
Exit status: 0 success, 1 failure, such as a name that is taken, 2 wrong usage.";

/// Talk in a room: lines in, lines out
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A name, an IPv4 or IPv6 address, or unix:PATH
    host: String,
    /// The server's port; not used with unix:PATH
    port: u16,
    /// The room
    room: String,
    /// Under which name
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Messages of before that are shown at the start
    #[arg(long, value_name = "N", default_value_t = 20)]
    history: u64,
    /// Print what comes as the server sends it: one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    tls: ClientTls,
}

/// Bytes of a line of input; a longer one is cut there.
const MAX_LINE: u64 = 64 << 10;

/// Why it ended, once it has.
type Ending = Arc<Mutex<Option<Result<(), Failure>>>>;

/// Talks until the input ends, a signal comes, or the server refuses.
///
/// # Errors
///
/// A place that cannot be reached at all, a name that is taken, and what the system refuses.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let tunnel = args.tls.to(&args.host)?;
    let addresses = sys::resolve(&args.host, args.port)?;
    // One waits, one is being said: input comes no faster than the room takes it.
    let (to, lines) = sync_channel(1);
    let ending = Ending::default();
    let handle = Arc::new(OnceLock::new());
    let talk = Talk::new(&args.room, &args.name, args.history, args.json);
    let place = Place { host: args.host.clone(), port: args.port, addresses, tunnel };
    let client = Client::new(place, talk, Screen::new(args.json), lines, Arc::clone(&ending));
    let mut server = Server::builder()
        .link::<Tls>()
        .signals(&[Signal::Interrupt, Signal::Terminate])
        .build(client)?;
    let _ = handle.set(server.handle());
    let reader = server.handle();
    let json = args.json;
    sys::spawn("input", move || read_lines(&to, &reader, json))?;
    server.run()?;
    let ended = ending.lock().unwrap_or_else(PoisonError::into_inner).take();
    ended.unwrap_or(Ok(())).map(|()| ExitCode::SUCCESS)
}

/// Hands each line of standard input over, and `None` at its end.
fn read_lines(to: &SyncSender<Option<String>>, handle: &Handle, json: bool) {
    let mut input = io::stdin().lock();
    let is_for_people = !json && is_for_people();
    loop {
        let mut line = Vec::new();
        let read = io::Read::by_ref(&mut input).take(MAX_LINE).read_until(b'\n', &mut line);
        let is_end = read.is_err() || line.is_empty();
        let line = String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned();
        if is_for_people && !is_end {
            // Where that fails, what comes next fails too.
            let _ = take_back(&line);
        }
        let handed = to.send((!is_end).then_some(line));
        if handed.is_err() || handle.timer(std::time::Duration::ZERO, LINE).is_err() || is_end {
            return;
        }
    }
}

/// What standard input gives: a line, or `None` for its end.
type Lines = Receiver<Option<String>>;
