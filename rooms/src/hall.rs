//! [`Hall`]: all rooms of a server, shared by its event loops.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use myriapod::protocol::write_json;
use myriapod::{HandleError, HandlerError};
use serde::{Deserialize, Serialize};

use super::args::Bounds;
use super::room::Room;

/// Bytes of a name, of a room or a member.
pub(super) const MAX_NAME: usize = 64;

/// Locks that the rooms are spread over. Each is held for as long as one message takes to be
/// written and posted.
const SHARDS: usize = 64;

/// The way to the members' connections.
pub(super) trait Doors<Id> {
    /// A connection hears what is said in a room from now on.
    fn enter(&self, id: Id, room: &str) -> Result<(), HandleError>;
    /// It does not any more.
    fn leave(&self, id: Id, room: &str) -> Result<(), HandleError>;
    /// To all members that are here, but one.
    fn to_all(&self, room: &str, but: Option<Id>, push: Push) -> Result<(), HandleError>;
    /// To one, behind what all were told before.
    fn to_one(&self, id: Id, push: Push) -> Result<(), HandleError>;
}

/// What members hear.
pub(super) struct Push {
    pub(super) json: Vec<u8>,
    /// The room's, for who misses it.
    pub(super) tag: u64,
}

/// The way to other servers that have the same rooms.
pub(super) trait Afar: Send + Sync {
    /// Has what they say in a room come.
    fn subscribe(&self, room: &str);
    /// Has no more of it come.
    fn unsubscribe(&self, room: &str);
    /// Says something there.
    fn publish(&self, room: &str, payload: &[u8]);
}

/// The rooms of a server, and the bounds they keep.
///
/// A room has one lock. What is decided about it and what its loops are asked for are one step
/// under that lock, so all members hear the same things in the same order.
pub(crate) struct Hall<Id> {
    pub(super) bounds: Bounds,
    hasher: RandomState,
    shards: Box<[Shard<Id>]>,
    rooms: AtomicUsize,
    history_bytes: AtomicUsize,
    counts: Counts,
    afar: OnceLock<Box<dyn Afar>>,
}

type Shard<Id> = Mutex<HashMap<Box<str>, Room<Id>>>;

/// What has happened in all rooms.
#[derive(Debug, Default)]
struct Counts {
    members: AtomicU64,
    said: AtomicU64,
    told: AtomicU64,
    unposted: AtomicU64,
}

/// What the rooms hold and have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RoomStats {
    /// Rooms that have members.
    pub(crate) rooms: u64,
    /// Memberships.
    pub(crate) members: u64,
    /// Messages that were said to rooms.
    pub(crate) said: u64,
    /// Messages that were told to one member.
    pub(crate) told: u64,
    /// Pushes that a loop did not take, because too much waited for it.
    pub(crate) unposted: u64,
    /// Bytes of all histories.
    pub(crate) history_bytes: u64,
}

/// Who is in a room.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Present {
    /// All names, or the first ones where the room is large.
    pub(super) names: Vec<Box<str>>,
    pub(super) count: usize,
}

/// What goes from server to server.
#[derive(Debug, Serialize, Deserialize)]
struct Word<'a> {
    event: &'a str,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to: Option<String>,
}

#[derive(Serialize)]
struct Presence<'a> {
    event: &'a str,
    room: &'a str,
    name: &'a str,
}

#[derive(Serialize)]
struct Told<'a> {
    event: &'a str,
    room: &'a str,
    name: &'a str,
    text: &'a str,
}

impl<Id> std::fmt::Debug for Hall<Id> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hall").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

impl<Id: Copy + Eq> Hall<Id> {
    pub(super) fn with_bounds(bounds: Bounds) -> Self {
        Self {
            bounds,
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            rooms: AtomicUsize::new(0),
            history_bytes: AtomicUsize::new(0),
            counts: Counts::default(),
            afar: OnceLock::new(),
        }
    }

    /// The rooms within these bounds.
    pub(crate) fn new(args: &super::RoomArgs) -> Self {
        Self::with_bounds(args.to_bounds())
    }

    /// What there is, and what has happened.
    pub(crate) fn stats(&self) -> RoomStats {
        RoomStats {
            rooms: self.rooms.load(Relaxed) as u64,
            members: self.counts.members.load(Relaxed),
            said: self.counts.said.load(Relaxed),
            told: self.counts.told.load(Relaxed),
            unposted: self.counts.unposted.load(Relaxed),
            history_bytes: self.history_bytes.load(Relaxed) as u64,
        }
    }

    /// The rooms are those of other servers too from now on.
    pub(super) fn share(&self, afar: Box<dyn Afar>) {
        let _ = self.afar.set(afar);
    }

    /// Says something on the other servers.
    fn publish(&self, room: &str, event: &str, name: &str, text: Option<&str>, to: Option<&str>) {
        if let Some(afar) = self.afar.get() {
            let (text, to) = (text.map(str::to_owned), to.map(str::to_owned));
            afar.publish(room, &encoded(&Word { event, name: name.to_owned(), text, to }));
        }
    }

    /// Another server says something in a room; says whether it is something that can be said.
    pub(super) fn hear(&self, doors: &impl Doors<Id>, room: &str, payload: &[u8]) -> bool {
        let Ok(word) = serde_json::from_slice::<Word<'_>>(payload) else { return false };
        let text = word.text.as_deref().unwrap_or_default();
        if check_name("name", &word.name).is_err() || text.len() > self.bounds.text {
            return false;
        }
        let mut shard = self.shard(room);
        // Its last member may just have left.
        let Some(room_here) = shard.get_mut(room) else { return true };
        let posted = match word.event {
            "said" => {
                let push = self.keep(room_here, room, &word.name, text);
                doors.to_all(room, None, push)
            }
            "told" => {
                let to = word.to.as_deref().and_then(|to| room_here.members.get(to));
                let name = &*word.name;
                let push = || self.pushed(room, &Told { event: "told", room, name, text });
                to.map_or(Ok(()), |id| doors.to_one(*id, push()))
            }
            event @ ("joined" | "left") => {
                if room_here.members.len() <= self.bounds.presence {
                    self.tell_presence(doors, event, room, &word.name, None);
                }
                Ok(())
            }
            _ => return false,
        };
        if posted.is_err() {
            self.counts.unposted.fetch_add(1, Relaxed);
        }
        true
    }

    fn shard(&self, room: &str) -> MutexGuard<'_, HashMap<Box<str>, Room<Id>>> {
        #[expect(clippy::cast_possible_truncation, reason = "any part of a hash is one")]
        let hash = self.hasher.hash_one(room) as usize;
        // There are shards, so this is one of them.
        let shard = &self.shards[hash % self.shards.len()];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a connection that is in `already` other rooms into a room, under a name.
    pub(super) fn join(
        &self,
        doors: &impl Doors<Id>,
        id: Id,
        already: usize,
        room: &str,
        name: &str,
    ) -> Result<Present, HandlerError> {
        check_name("room", room)?;
        check_name("name", name)?;
        let bounds = &self.bounds;
        if already >= bounds.rooms_of_connection {
            let most = bounds.rooms_of_connection;
            let text = format!("a connection is in at most {most} rooms");
            return Err(limit("RoomsOfConnectionLimit", text, "--max-rooms-per-connection"));
        }
        let mut shard = self.shard(room);
        let slot = match shard.entry(room.into()) {
            Entry::Occupied(slot) => {
                let members = &slot.get().members;
                if members.contains_key(name) {
                    let text = format!("{name} is in the room already: choose another name");
                    return Err(HandlerError::new("NameTaken", text));
                }
                if members.len() >= bounds.members {
                    let text = format!("a room has at most {} members", bounds.members);
                    return Err(limit("MembersLimit", text, "--max-members"));
                }
                doors.enter(id, room).map_err(busy)?;
                slot
            }
            Entry::Vacant(slot) => {
                if self.rooms.fetch_add(1, Relaxed) >= bounds.rooms {
                    self.rooms.fetch_sub(1, Relaxed);
                    let text = format!("there are at most {} rooms", bounds.rooms);
                    return Err(limit("RoomsLimit", text, "--max-rooms"));
                }
                if let Err(error) = doors.enter(id, room) {
                    self.rooms.fetch_sub(1, Relaxed);
                    return Err(busy(error));
                }
                if let Some(afar) = self.afar.get() {
                    afar.subscribe(room);
                }
                slot.insert_entry(Room::default())
            }
        };
        let room_here = slot.into_mut();
        room_here.members.insert(name.into(), id);
        self.counts.members.fetch_add(1, Relaxed);
        let count = room_here.members.len();
        if count <= bounds.presence {
            self.tell_presence(doors, "joined", room, name, Some(id));
            self.publish(room, "joined", name, None, None);
        }
        Ok(Present { names: room_here.names(Some(name), bounds.presence), count })
    }

    /// What a room is called in the tags of its pushes; never 0.
    pub(super) fn tag(&self, room: &str) -> u64 {
        self.hasher.hash_one(room) | 1
    }

    fn pushed<T: Serialize>(&self, room: &str, value: &T) -> Push {
        Push { json: encoded(value), tag: self.tag(room) }
    }

    /// Takes a member out of a room. `is_gone` says that its connection is over, which takes it out
    /// of the group too.
    pub(super) fn leave(
        &self,
        doors: &impl Doors<Id>,
        id: Id,
        is_gone: bool,
        room: &str,
        name: &str,
    ) -> Result<(), HandlerError> {
        let mut shard = self.shard(room);
        let Some(room_here) = shard.get_mut(room) else { return Ok(()) };
        if room_here.members.get(name) != Some(&id) {
            return Ok(());
        }
        if !is_gone {
            doors.leave(id, room).map_err(busy)?;
        }
        let count = room_here.members.len();
        room_here.members.remove(name);
        self.counts.members.fetch_sub(1, Relaxed);
        if count <= self.bounds.presence {
            self.publish(room, "left", name, None, None);
        }
        if room_here.members.is_empty() {
            if let Some(afar) = self.afar.get() {
                afar.unsubscribe(room);
            }
            room_here.clear(&self.history_bytes);
            shard.remove(room);
            self.rooms.fetch_sub(1, Relaxed);
        } else if count <= self.bounds.presence {
            self.tell_presence(doors, "left", room, name, None);
        }
        Ok(())
    }

    /// Says something to all members, the speaker too.
    pub(super) fn say(
        &self,
        doors: &impl Doors<Id>,
        room: &str,
        name: &str,
        text: &str,
    ) -> Result<(), HandlerError> {
        self.check_text(text)?;
        let mut shard = self.shard(room);
        let Some(room_here) = shard.get_mut(room) else { return Err(no_member()) };
        let push = self.keep(room_here, room, name, text);
        self.counts.said.fetch_add(1, Relaxed);
        self.publish(room, "said", name, Some(text), None);
        doors.to_all(room, None, push).map_err(|error| {
            self.counts.unposted.fetch_add(1, Relaxed);
            // It has its number, so saying it again would say it twice.
            let text = format!("some members do not hear it: {error}");
            HandlerError::new("Busy", text)
        })
    }

    /// Numbers and keeps what is said; returns the push.
    fn keep(&self, room_here: &mut Room<Id>, room: &str, name: &str, text: &str) -> Push {
        room_here.last_n += 1;
        let n = room_here.last_n;
        let who_and_what = format!("\"name\": {}, \"text\": {}", quoted(name), quoted(text));
        let kept = format!("{{\"n\": {n}, {who_and_what}}}");
        room_here.keep(kept.into(), &self.bounds, &self.history_bytes);
        let (room, tag) = (quoted(room), self.tag(room));
        let json = format!("{{\"event\": \"said\", \"room\": {room}, {who_and_what}, \"n\": {n}}}");
        Push { json: json.into_bytes(), tag }
    }

    /// Says something to one member.
    pub(super) fn tell(
        &self,
        doors: &impl Doors<Id>,
        room: &str,
        name: &str,
        to: &str,
        text: &str,
    ) -> Result<(), HandlerError> {
        self.check_text(text)?;
        let shard = self.shard(room);
        let member = shard.get(room).and_then(|room| room.members.get(to)).copied();
        // Nobody here knows the names of the members of other servers.
        self.publish(room, "told", name, Some(text), Some(to));
        let Some(id) = member else {
            if self.afar.get().is_some() {
                return Ok(());
            }
            let text = format!("nobody in the room has the name {to}");
            return Err(HandlerError::new("NoSuchMember", text));
        };
        self.counts.told.fetch_add(1, Relaxed);
        let push = self.pushed(room, &Told { event: "told", room, name, text });
        doors.to_one(id, push).map_err(|error| {
            self.counts.unposted.fetch_add(1, Relaxed);
            busy(error)
        })
    }

    /// Who is in a room.
    pub(super) fn members(&self, room: &str, name: &str) -> Result<Present, HandlerError> {
        let shard = self.shard(room);
        let Some(room) = shard.get(room) else { return Err(no_member()) };
        let names = room.names(Some(name), self.bounds.presence);
        Ok(Present { names, count: room.members.len() })
    }

    /// What was said last, each as JSON.
    pub(super) fn history(&self, room: &str, last: usize) -> Result<Vec<Arc<str>>, HandlerError> {
        let shard = self.shard(room);
        let Some(room) = shard.get(room) else { return Err(no_member()) };
        Ok(room.last(last))
    }

    fn tell_presence(
        &self,
        doors: &impl Doors<Id>,
        event: &str,
        room: &str,
        name: &str,
        but: Option<Id>,
    ) {
        let push = self.pushed(room, &Presence { event, room, name });
        if doors.to_all(room, but, push).is_err() {
            self.counts.unposted.fetch_add(1, Relaxed);
        }
    }

    fn check_text(&self, text: &str) -> Result<(), HandlerError> {
        if text.len() <= self.bounds.text {
            return Ok(());
        }
        let text = format!("a text has at most {} bytes, not {}", self.bounds.text, text.len());
        Err(limit("TextLimit", text, "--max-text"))
    }
}

/// Whether a name of a room or a member can be one.
fn check_name(what: &str, name: &str) -> Result<(), HandlerError> {
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        let text = format!("a {what} has 1 to {MAX_NAME} bytes and no control characters");
        return Err(HandlerError::new("NameLimit", text));
    }
    Ok(())
}

/// A refusal by a limit, which its text names.
pub(super) fn limit(kind: &'static str, text: String, flag: &str) -> HandlerError {
    HandlerError::new(kind, text + " (" + flag + ")")
}

pub(super) fn no_member() -> HandlerError {
    HandlerError::new("NotMember", "join the room first")
}

fn busy(error: HandleError) -> HandlerError {
    HandlerError::new("Busy", format!("try again later: {error}"))
}

fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
    let mut json = Vec::new();
    // Texts are always JSON.
    let _never = write_json(&mut json, value);
    json
}

/// A text as JSON.
fn quoted(text: &str) -> String {
    String::from_utf8(encoded(&text)).unwrap_or_default()
}
