//! [`Ears`]: the members, on our own event loop; [`Crowd`]: what they say and hear.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use hdrhistogram::Histogram;
use myriapod::sys::{self, SystemError, Time};
use myriapod::{
    Cause, ConnectionId, Handle, Handler, HandlerResult, Message, Outgoing, Reply, SocketAddr, View,
};
use serde::Deserialize;
use serde_json::json;

use super::RoomOptions;
use super::ledger::Ledger;
use crate::error::Error;

/// A request that has no reply yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Join,
    Probe,
    Say,
}

#[derive(Debug, Default)]
struct Member {
    connection: Option<ConnectionId>,
    asked: VecDeque<Asked>,
    /// Messages that it has said.
    said: u32,
    /// The servers of which it has heard somebody, a bit each.
    met: u64,
}

/// All members of all rooms.
pub(super) struct Crowd {
    rooms: usize,
    members: usize,
    servers: usize,
    /// What the rooms of this run are called: others may run at the same time.
    run: u64,
    filling: String,
    all: Vec<Member>,
    pub(super) inside: usize,
    pub(super) ledger: Ledger,
    pub(super) said: u64,
    pub(super) refused: u64,
    pub(super) dropped: u64,
    pub(super) closed: u64,
    pub(super) latency: Histogram<u64>,
    pub(super) last_heard: Time,
    pub(super) failed: Option<Error>,
    pending: u64,
}

impl Crowd {
    pub(super) fn new(options: &RoomOptions) -> Result<Self, Error> {
        let RoomOptions { rooms, members, .. } = *options;
        // From a nanosecond to an hour, three digits.
        let latency = Histogram::new_with_bounds(1, 3_600_000_000_000, 3).map_err(Error::new)?;
        Ok(Self {
            rooms,
            members,
            servers: options.ports.len(),
            run: sys::now().as_nanos(),
            filling: "x".repeat(options.text.saturating_sub(FIXED)),
            all: std::iter::repeat_with(Member::default).take(rooms * members).collect(),
            inside: 0,
            ledger: Ledger::new(rooms, members),
            said: 0,
            refused: 0,
            dropped: 0,
            closed: 0,
            latency,
            last_heard: sys::now(),
            failed: None,
            pending: 0,
        })
    }

    fn room(&self, number: usize) -> String {
        format!("bench-{}-{number}", self.run)
    }

    pub(super) fn all_have_met(&self) -> bool {
        let everybody = u64::MAX >> (64 - self.servers.clamp(1, 64));
        self.all.iter().all(|member| member.met == everybody)
    }

    /// Whether a reply is missing.
    pub(super) const fn is_asking(&self) -> bool {
        self.pending > 0
    }

    /// Deliveries of which it is known what became of them.
    pub(super) const fn accounted(&self) -> u64 {
        self.ledger.delivered + self.dropped + self.said + self.refused
    }

    pub(super) const fn is_done(&self) -> bool {
        let expected = self.said * self.members as u64;
        self.pending == 0 && self.ledger.delivered + self.dropped >= expected
    }

    fn ask(
        &mut self,
        handle: &Handle,
        which: usize,
        asked: Asked,
        text: &str,
    ) -> Result<(), Error> {
        let room = self.room(which / self.members.max(1));
        let request = json!({ "action": "say", "room": room, "text": text });
        let Some(member) = self.all.get_mut(which) else { return Ok(()) };
        let Some(connection) = member.connection else { return Ok(()) };
        let sent = Outgoing::json(&request).map_err(Error::new)?;
        handle.send(connection, sent).map_err(Error::new)?;
        member.asked.push_back(asked);
        self.pending += 1;
        Ok(())
    }

    /// The first member of each room on each server speaks.
    pub(super) fn probe(&mut self, handle: &Handle) -> Result<(), Error> {
        for room in 0..self.rooms {
            for server in 0..self.servers {
                self.ask(handle, room * self.members + server, Asked::Probe, "probe")?;
            }
        }
        Ok(())
    }

    /// Message `nth` of the run, which was due at this time: rooms take turns, and their members.
    pub(super) fn say(&mut self, handle: &Handle, nth: u64, due: Time) -> Result<(), Error> {
        let nth = usize::try_from(nth).unwrap_or(usize::MAX);
        let (room, speaker) = (nth % self.rooms, nth / self.rooms % self.members);
        let which = room * self.members + speaker;
        let Some(member) = self.all.get_mut(which) else { return Ok(()) };
        member.said += 1;
        let text = format!("{} {} {}", member.said, due.as_nanos(), self.filling);
        self.ask(handle, which, Asked::Say, &text)
    }

    fn heard(&mut self, which: usize, name: &str, text: &str) {
        let speaker = name.strip_prefix('m').and_then(|number| number.parse::<usize>().ok());
        let Some(speaker) = speaker.filter(|speaker| *speaker < self.members) else { return };
        if text == "probe" {
            if let Some(member) = self.all.get_mut(which) {
                member.met |= 1 << (speaker % self.servers.max(1));
            }
            return;
        }
        let mut words = text.split(' ');
        let (number, due) = (words.next().map(str::parse), words.next().map(str::parse::<u64>));
        if let (Some(Ok(number)), Some(Ok(due))) = (number, due) {
            let now = sys::now();
            self.ledger.heard(which, speaker, number);
            self.latency.saturating_record(now.as_nanos().saturating_sub(due));
            self.last_heard = now;
        }
    }

    fn replied(&mut self, which: usize, result: &str, is_error: bool) {
        let Some(member) = self.all.get_mut(which) else { return };
        let Some(asked) = member.asked.pop_front() else { return };
        self.pending -= 1;
        match (asked, is_error || !["joined", "said"].contains(&result)) {
            (Asked::Join, false) => self.inside += 1,
            (Asked::Join, true) => {
                let text = result.strip_prefix("Error: ").unwrap_or(result);
                self.failed = Some(Error::new(format_args!("join: {text}")));
            }
            (Asked::Probe, _) => {}
            (Asked::Say, false) => self.said += 1,
            (Asked::Say, true) => self.refused += 1,
        }
    }
}

/// What numbers in front of a text take at the most.
const FIXED: usize = 32;

/// The handler of all members.
pub(super) struct Ears(pub(super) Rc<RefCell<Crowd>>);

/// What a server sends.
#[derive(Deserialize)]
struct Heard<'a> {
    event: Option<&'a str>,
    name: Option<&'a str>,
    text: Option<&'a str>,
    count: Option<u64>,
    result: Option<String>,
}

impl Handler for Ears {
    /// Which member it is.
    type State = usize;

    // Nobody connects to this loop.
    fn on_open(&mut self, view: &mut View<'_>, _peer: &SocketAddr) -> usize {
        view.close_now();
        usize::MAX
    }

    fn on_connect(&mut self, tag: u64, view: &mut View<'_>, _peer: &SocketAddr) -> usize {
        let mut crowd = self.0.borrow_mut();
        let which = usize::try_from(tag).unwrap_or(usize::MAX);
        let (room, name) = (crowd.room(which / crowd.members), which % crowd.members);
        let join = json!({ "action": "join", "room": room, "name": format!("m{name}") });
        if let (Some(member), Ok(join)) = (crowd.all.get_mut(which), Outgoing::json(&join)) {
            member.connection = Some(view.id());
            member.asked.push_back(Asked::Join);
            crowd.pending += 1;
            // A new connection has room for it.
            let _ = view.push(&join);
        }
        which
    }

    fn on_connect_error(&mut self, _tag: u64, error: &SystemError) {
        self.0.borrow_mut().failed = Some(error.clone().into());
    }

    fn on_message(
        &mut self,
        which: &mut usize,
        message: Message<'_>,
        _reply: &mut Reply<'_>,
    ) -> HandlerResult {
        let mut crowd = self.0.borrow_mut();
        let heard: Heard<'_> = serde_json::from_slice(message.content())?;
        match (heard.event, heard.name, heard.text) {
            (Some("said"), Some(name), Some(text)) => crowd.heard(*which, name, text),
            (Some("dropped"), ..) => crowd.dropped += heard.count.unwrap_or(0),
            (Some(_), ..) => {}
            (None, ..) => {
                let is_error = message.error_kind().is_some();
                crowd.replied(*which, heard.result.as_deref().unwrap_or_default(), is_error);
            }
        }
        Ok(())
    }

    fn on_close(&mut self, which: usize, _view: &mut View<'_>, cause: Cause) {
        // At the end, the run drops its loop while it still looks at the crowd.
        let Ok(mut crowd) = self.0.try_borrow_mut() else { return };
        if cause != Cause::Dropped {
            crowd.closed += 1;
            if let Some(member) = crowd.all.get_mut(which) {
                let pending = member.asked.len() as u64;
                member.asked.clear();
                member.connection = None;
                crowd.pending -= pending;
            }
        }
    }
}
