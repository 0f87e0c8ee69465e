//! Chat rooms: names, who is there, who comes and goes, and nobody waits for a slow reader.
//!
//! ```text
//! $ cargo run --example chat_room -- 127.0.0.1 65432
//! listening on 127.0.0.1:65432
//! $ echo '{"who": "lobby"}' | cargo run -- send 127.0.0.1 65432 --file - --content-type text/json
//! {"result":["Neo","Trinity"]}
//! ```
//!
//! Requests are `{"join": {"room": "lobby", "name": "Neo"}}`, `{"say": "Hello"}`, `"leave"` and
//! `{"who": "lobby"}`. Each has one reply, with `result`. What happens in the room comes unasked,
//! with `event`: `joined`, `left`, `said`, or `missed` for a member that did not read in time.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use std::collections::{BTreeSet, HashMap};
use std::process::ExitCode;

use command::Stop;
use myriapod::sys::Signal;
use myriapod::{
    Cause, Handler, HandlerError, HandlerResult, Message, Outgoing, Reply, Server, SocketAddr, View,
};
use serde::Deserialize;
use serde_json::{Value, json};

#[path = "support/command.rs"]
mod command;

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Request {
    Join { room: String, name: String },
    Say(String),
    Leave,
    Who(String),
}

#[derive(Default)]
struct Guest {
    /// Where it is, and as whom.
    seat: Option<Seat>,
    /// What it has missed since it was told so.
    missed: u64,
}

struct Seat {
    room: String,
    name: String,
}

/// The members of each room by name. A room goes with its last member, as a group does.
#[derive(Default)]
struct Chat(HashMap<String, BTreeSet<String>>);

impl Chat {
    fn join(&mut self, guest: &mut Guest, view: &View<'_>, seat: Seat) -> HandlerResult {
        let fits = |name: &str| (1..=32).contains(&name.chars().count());
        if !fits(&seat.room) || !fits(&seat.name) {
            return Err(HandlerError::new("BadName", "names and rooms have 1 to 32 characters"));
        }
        if self.0.get(&seat.room).is_some_and(|members| members.contains(&seat.name)) {
            return Err(HandlerError::new("NameTaken", format!("{} is there already", seat.name)));
        }
        self.leave(guest, view)?;
        self.0.entry(seat.room.clone()).or_default().insert(seat.name.clone());
        let Seat { room, name } = guest.seat.insert(seat);
        view.handle().join(view.id(), room)?;
        tell_others(view, room, &json!({ "event": "joined", "name": name }))
    }

    /// No error where the guest is nowhere.
    fn leave(&mut self, guest: &mut Guest, view: &View<'_>) -> HandlerResult {
        let Some(Seat { room, name }) = guest.seat.take() else { return Ok(()) };
        if let Some(members) = self.0.get_mut(&room) {
            members.remove(&name);
            if members.is_empty() {
                self.0.remove(&room);
            }
        }
        view.handle().leave(view.id(), &room)?;
        tell_others(view, &room, &json!({ "event": "left", "name": name }))
    }
}

fn tell_others(view: &View<'_>, room: &str, event: &Value) -> HandlerResult {
    Ok(view.handle().broadcast_except(room, view.id(), Outgoing::json(event)?)?)
}

impl Handler for Chat {
    type State = Guest;

    fn on_open(&mut self, _view: &mut View<'_>, _peer: &SocketAddr) -> Guest {
        Guest::default()
    }

    fn on_message(
        &mut self,
        guest: &mut Guest,
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        let view = reply.view();
        let result = match message.json_as()? {
            Request::Join { room, name } => {
                self.join(guest, view, Seat { room, name })?;
                json!("welcome")
            }
            Request::Say(text) => {
                let Some(Seat { room, name }) = &guest.seat else {
                    return Err(HandlerError::new("NotInARoom", "join a room first"));
                };
                tell_others(view, room, &json!({ "event": "said", "name": name, "text": text }))?;
                json!("said")
            }
            Request::Leave => {
                self.leave(guest, view)?;
                json!("bye")
            }
            Request::Who(room) => json!(self.0.get(&room)),
        };
        Ok(reply.json(&json!({ "result": result }))?)
    }

    /// A member reads too slowly. The others do not wait: it misses what they say.
    fn on_push_dropped(&mut self, guest: &mut Guest, _view: &mut View<'_>, count: u64) {
        guest.missed += count;
    }

    /// All that it did get is on its way.
    fn on_drained(&mut self, guest: &mut Guest, view: &mut View<'_>) {
        let event = Outgoing::json(&json!({ "event": "missed", "count": guest.missed }));
        if let (1.., Ok(event)) = (std::mem::take(&mut guest.missed), event) {
            let _ = view.push(&event);
        }
    }

    fn on_close(&mut self, mut guest: Guest, view: &mut View<'_>, _cause: Cause) {
        // An error here says that the event loop ends.
        let _ = self.leave(&mut guest, view);
    }
}

fn main() -> ExitCode {
    command::run("<host> <port>", |arguments| {
        let [host, port] = arguments else { return Err(Stop::Usage) };
        let mut server = Server::builder()
            .listen(host, command::port(port)?)
            .signals(&[Signal::Interrupt, Signal::Terminate])
            .build(Chat::default())?;
        println!("listening on {}", server.addresses()[0]);
        server.run()?;
        println!("{} messages were dropped", server.stats().dropped_pushes);
        Ok(())
    })
}
