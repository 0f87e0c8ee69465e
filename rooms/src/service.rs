//! [`Rooms`]: the handler of `serve --service rooms`.

use std::sync::Arc;

use myriapod::{
    Cause, ConnectionId, Handle, HandleError, Handler, HandlerResult, Message, Outgoing, Reply,
    SocketAddr, View, sys,
};
use serde::Serialize;

use super::bucket::Bucket;
use super::hall::{Doors, Hall, Present, Push, limit, no_member};
use super::request::{Keys, Request};

/// The handler of one event loop; all share the hall.
#[derive(Debug)]
pub struct Rooms {
    hall: Arc<Hall<ConnectionId>>,
}

/// What is kept beside a connection.
#[derive(Debug)]
pub struct Guest {
    seats: Vec<Seat>,
    bucket: Bucket,
}

/// A room that it is in, and as whom.
#[derive(Debug)]
struct Seat {
    room: Box<str>,
    name: Box<str>,
    /// The tag of the room's pushes.
    tag: u64,
    /// How many of them were dropped since it was told so.
    missed: u64,
}

impl Rooms {
    /// A handler of these rooms.
    pub(crate) fn new(hall: Arc<Hall<ConnectionId>>) -> Self {
        Self { hall }
    }
}

impl Doors<ConnectionId> for Handle {
    fn enter(&self, id: ConnectionId, room: &str) -> Result<(), HandleError> {
        settled(self.join(id, room))
    }

    fn leave(&self, id: ConnectionId, room: &str) -> Result<(), HandleError> {
        settled(Handle::leave(self, id, room))
    }

    fn to_all(&self, room: &str, but: Option<ConnectionId>, push: Push) -> Result<(), HandleError> {
        let push = outgoing(push);
        settled(match but {
            Some(but) => self.broadcast_except(room, but, push),
            None => self.broadcast(room, push),
        })
    }

    fn to_one(&self, id: ConnectionId, push: Push) -> Result<(), HandleError> {
        settled(self.send_in_turn(id, outgoing(push)))
    }
}

fn outgoing(push: Push) -> Outgoing {
    Outgoing::json_bytes(push.json).tagged(push.tag)
}

/// What a loop could not be woken for is done in its next turn all the same.
fn settled(posted: Result<(), HandleError>) -> Result<(), HandleError> {
    match posted {
        Err(HandleError::NotWoken) => Ok(()),
        posted => posted,
    }
}

#[derive(Serialize)]
struct Who<'a> {
    result: &'a str,
    members_here: &'a [Box<str>],
    /// More than are listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    members_count: Option<usize>,
}

impl<'a> Who<'a> {
    fn new(result: &'a str, present: &'a Present) -> Self {
        let all = present.names.len() == present.count;
        let members_count = (!all).then_some(present.count);
        Self { result, members_here: &present.names, members_count }
    }
}

#[derive(Serialize)]
struct Done<'a> {
    result: &'a str,
}

#[derive(Serialize)]
struct Dropped<'a> {
    event: &'a str,
    room: &'a str,
    count: u64,
}

impl Handler for Rooms {
    type State = Guest;

    fn on_open(&mut self, _view: &mut View<'_>, _peer: &SocketAddr) -> Guest {
        Guest { seats: Vec::new(), bucket: Bucket::new(sys::now()) }
    }

    fn on_message(
        &mut self,
        guest: &mut Guest,
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        let hall = &*self.hall;
        let (rate, burst) = (hall.bounds.request_rate, hall.bounds.request_burst);
        if !guest.bucket.take(sys::now(), rate, burst) {
            let text = format!("at most {rate} requests a second, {burst} at once");
            return Err(limit("RateLimit", text, "--request-rate, --request-burst"));
        }
        let (room, request) = message.json_as::<Keys>()?.into_request()?;
        let id = reply.connection();
        let seat = guest.seats.iter().position(|seat| *seat.room == *room);
        let name = seat.and_then(|at| Some(&*guest.seats.get(at)?.name));
        match (request, name) {
            (Request::Join { .. }, Some(name)) => {
                let text = format!("you are in the room already, as {name}");
                Err(myriapod::HandlerError::new("MemberAlready", text))
            }
            (Request::Join { name }, None) => {
                let handle = reply.view().handle();
                let present = hall.join(handle, id, guest.seats.len(), &room, &name)?;
                let tag = hall.tag(&room);
                guest.seats.push(Seat { room: room.into(), name: name.into(), tag, missed: 0 });
                Ok(reply.json(&Who::new("joined", &present))?)
            }
            (_, None) => Err(no_member()),
            (Request::Leave, Some(name)) => {
                let handle = reply.view().handle();
                hall.leave(handle, id, false, &room, name)?;
                guest.seats.retain(|seat| *seat.room != *room);
                // The answer goes the way of the pushes, so none of this room comes behind it.
                Ok(reply.defer()?.json(&Done { result: "left" })?)
            }
            (Request::Say { text }, Some(name)) => {
                hall.say(reply.view().handle(), &room, name, &text)?;
                Ok(reply.json(&Done { result: "said" })?)
            }
            (Request::Tell { to, text }, Some(name)) => {
                hall.tell(reply.view().handle(), &room, name, &to, &text)?;
                Ok(reply.json(&Done { result: "told" })?)
            }
            (Request::Members, Some(name)) => {
                let present = hall.members(&room, name)?;
                Ok(reply.json(&Who::new("members", &present))?)
            }
            (Request::History { last }, Some(_)) => {
                let last = last.and_then(|last| usize::try_from(last).ok());
                let messages = hall.history(&room, last.unwrap_or(usize::MAX))?;
                reply.json_with(|out| {
                    out.append(b"{\"result\": \"history\", \"messages\": [");
                    for (nth, message) in messages.iter().enumerate() {
                        out.append(if nth == 0 { b"" } else { b", " });
                        out.append(message.as_bytes());
                    }
                    out.append(b"]}");
                })?;
                Ok(())
            }
        }
    }

    fn on_tagged_push_dropped(&mut self, guest: &mut Guest, _view: &mut View<'_>, tag: u64) {
        // Who has left the room meanwhile misses nothing of it.
        if let Some(seat) = guest.seats.iter_mut().find(|seat| seat.tag == tag) {
            seat.missed += 1;
        }
    }

    /// All that it did get is on its way.
    fn on_drained(&mut self, guest: &mut Guest, view: &mut View<'_>) {
        for seat in guest.seats.iter_mut().filter(|seat| seat.missed > 0) {
            let dropped = Dropped { event: "dropped", room: &seat.room, count: seat.missed };
            if Outgoing::json(&dropped).is_ok_and(|push| view.push(&push).is_ok()) {
                seat.missed = 0;
            }
        }
    }

    fn on_close(&mut self, guest: Guest, view: &mut View<'_>, _cause: Cause) {
        for Seat { room, name, .. } in &guest.seats {
            // It asks for nothing that could fail.
            let _never = self.hall.leave(view.handle(), view.id(), true, room, name);
        }
    }
}
