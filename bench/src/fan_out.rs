//! A room beside a raw C loop that sends the same bytes to as many sockets.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use myriapod::protocol::JsonHeader;
use myriapod::{
    Cause, ConnectionId, Handle, Handler, HandlerResult, Limits, Message, Outgoing, Reply, Server,
    SocketAddr, View,
};

use crate::servers::{Contender, Running, pin_clients};
use crate::yardstick::summary;
use crate::{Result, median};

/// How long a server may deliver nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// Connects that are under way at once.
const AT_ONCE: u64 = 256;

/// Bytes of what is said.
const TEXT: usize = 64;

/// The flags of rooms that say as much as this asks for, and nothing of who comes and goes.
const FLAGS: [&str; 4] = [
    "--request-rate=1000000000",
    "--request-burst=1000000000",
    "--presence-max=1",
    "--idle-timeout=0",
];

/// What all members have heard.
#[derive(Default)]
struct Heard {
    connected: u64,
    joined: u64,
    said: u64,
    closed: u64,
    dropped: u64,
    failed: Option<String>,
    speaker: Option<ConnectionId>,
    /// A push as it came, with its header.
    push: Vec<u8>,
}

/// All members, on one loop.
struct Members {
    heard: Rc<RefCell<Heard>>,
    joins: bool,
}

fn say(text: &str) -> Result<Outgoing> {
    let content = format!(r#"{{"action": "say", "room": "r", "text": "{text}"}}"#);
    Ok(Outgoing::json_bytes(content.into_bytes()))
}

impl Handler for Members {
    type State = ();

    fn on_open(&mut self, view: &mut View<'_>, _: &SocketAddr) {
        let mut heard = self.heard.borrow_mut();
        heard.speaker.get_or_insert(view.id());
        if self.joins {
            let join =
                format!(r#"{{"action": "join", "room": "r", "name": "{}"}}"#, heard.connected);
            if view.push(&Outgoing::json_bytes(join.into_bytes())).is_err() {
                heard.failed = Some("a new connection takes no message".to_owned());
            }
        }
        heard.connected += 1;
    }

    fn on_connect_error(&mut self, _: u64, error: &myriapod::sys::SystemError) {
        self.heard.borrow_mut().failed = Some(error.to_string());
    }

    fn on_message(
        &mut self,
        (): &mut (),
        message: Message<'_>,
        _: &mut Reply<'_>,
    ) -> HandlerResult {
        let mut heard = self.heard.borrow_mut();
        let content = message.content();
        if content.starts_with(b"{\"event\": \"said\"") {
            heard.said += 1;
            if heard.push.is_empty() {
                heard.push = message.bytes().to_vec();
            }
        } else if content.starts_with(b"{\"result\": \"joined\"") {
            heard.joined += 1;
        } else if content.starts_with(b"{\"event\": \"dropped\"") {
            heard.dropped += 1;
        } else if !content.starts_with(b"{\"result\": \"said\"") {
            heard.failed = Some(String::from_utf8_lossy(content).into_owned());
        }
        Ok(())
    }

    fn on_close(&mut self, (): (), _: &mut View<'_>, _: Cause) {
        if let Ok(mut heard) = self.heard.try_borrow_mut() {
            heard.closed += 1;
        }
    }
}

/// Members that are connected to a server, each in its room.
struct Crowd {
    heard: Rc<RefCell<Heard>>,
    server: Server<Members, JsonHeader>,
    handle: Handle,
    count: u64,
}

impl Crowd {
    fn gather(port: u16, count: u64, joins: bool) -> Result<Self> {
        let heard = Rc::<RefCell<Heard>>::default();
        let limits = Limits { idle_timeout: Duration::ZERO, ..Limits::default() };
        let members = Members { heard: Rc::clone(&heard), joins };
        let server = Server::builder().limits(limits).build(members)?;
        let handle = server.handle();
        let mut crowd = Self { heard, server, handle, count };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        for number in 0..count {
            crowd.handle.connect(address.clone(), number, PATIENCE)?;
            crowd.wait_for(|heard| heard.connected + AT_ONCE > number)?;
        }
        crowd.wait_for(|heard| heard.connected == count && (!joins || heard.joined == count))?;
        Ok(crowd)
    }

    fn wait_for(&mut self, is_so: impl Fn(&Heard) -> bool) -> Result<()> {
        let began = Instant::now();
        while !is_so(&self.heard.borrow()) {
            self.server.event_loop().run_once(Some(Duration::from_millis(100)))?;
            if let Some(failed) = self.heard.borrow_mut().failed.take() {
                return Err(failed.into());
            }
            let heard = self.heard.borrow();
            if heard.closed + heard.dropped > 0 || began.elapsed() > PATIENCE {
                let Heard { connected, joined, said, closed, dropped, .. } = &*heard;
                let counts = format!(
                    "connected {connected}, joined {joined}, heard {said}, closed {closed}, dropped {dropped}"
                );
                return Err(format!("{} members wait for ever: {counts}", self.count).into());
            }
        }
        Ok(())
    }

    /// Says this so often, and waits each time until everybody has heard it.
    fn say(&mut self, times: u64, what: impl Fn() -> Result<Outgoing>) -> Result<()> {
        for _ in 0..times {
            let speaker = self.heard.borrow().speaker.ok_or("nobody is there")?;
            self.handle.send(speaker, what()?)?;
            let due = self.heard.borrow().said + self.count;
            self.wait_for(|heard| heard.said >= due)?;
        }
        Ok(())
    }

    /// The server's processor time for each delivery of `times` messages.
    fn measure(
        &mut self,
        server: &Running,
        times: u64,
        what: impl Fn() -> Result<Outgoing>,
    ) -> Result<Duration> {
        // Nothing is done for the first time later.
        self.say(2, &what)?;
        let before = server.cpu_time()?;
        self.say(times, &what)?;
        let used = server.cpu_time()?.saturating_sub(before);
        Ok(used.div_f64((times * self.count) as f64))
    }
}

/// A message in a room: the processor time of each delivery, and the push as it came.
fn ours(contender: &Contender, members: u64, times: u64) -> Result<(Duration, Vec<u8>)> {
    let server = Running::start(contender)?;
    let mut crowd = Crowd::gather(server.port, members, true)?;
    let text = "x".repeat(TEXT);
    let used = crowd.measure(&server, times, || say(&text))?;
    let push = std::mem::take(&mut crowd.heard.borrow_mut().push);
    Ok((used, push))
}

/// The same bytes from the C loop.
fn theirs(contender: &Contender, members: u64, times: u64, push: &[u8]) -> Result<Duration> {
    let server = Running::start(contender)?;
    let mut crowd = Crowd::gather(server.port, members, false)?;
    // Its header is what our own framing writes, byte for byte.
    let content = push.windows(2).position(|two| two == b"}{").ok_or("a push has a header")? + 1;
    let content = push.get(content..).unwrap_or_default().to_vec();
    crowd.measure(&server, times, || Ok(Outgoing::json_bytes(content.clone())))
}

/// Prints the ratio of `pairs` pairs of runs.
pub(crate) fn run(pairs: u64, members: u64, times: u64) -> Result<()> {
    myriapod::sys::raise_descriptor_limit()?;
    let ours_is = Contender::myriapod_service("rooms", &FLAGS)?;
    let raw = Contender::compiled("fan_out")?;
    pin_clients()?;
    println!("{pairs} pairs of {times} messages to {members} members; a room / raw C loop");
    let (mut ratios, mut costs) = (Vec::new(), (Vec::new(), Vec::new()));
    let (_, push) = ours(&ours_is, 1, 1)?;
    for pair in 0..pairs {
        let (a, b) = if pair % 2 == 0 {
            let (a, _) = ours(&ours_is, members, times)?;
            (a, theirs(&raw, members, times, &push)?)
        } else {
            let b = theirs(&raw, members, times, &push)?;
            (ours(&ours_is, members, times)?.0, b)
        };
        ratios.push(a.as_secs_f64() / b.as_secs_f64());
        costs.0.push(a.as_secs_f64() * 1e9);
        costs.1.push(b.as_secs_f64() * 1e9);
    }
    println!("processor time for each delivery of {} bytes: {}", push.len(), summary(&ratios));
    println!("    {:.0} ns and {:.0} ns in the middle", median(&costs.0), median(&costs.1));
    Ok(())
}
