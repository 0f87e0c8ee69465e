//! Step 14: clients that hear each other. `{"say": "Hello"}` goes to all others; a search is answered.
//!
//! Each connection joins a group when it opens. A client that does not read holds up nobody: what
//! it is told beyond its high-water mark is dropped, and counted.

use std::error::Error;
use std::time::Duration;

use myriapod::sys::Signal;
use myriapod::{
    Handler, HandlerResult, Limits, Message, Outgoing, Reply, Server, SocketAddr, View,
};
use serde_json::json;

/// The group that everybody is in.
const ROOM: &str = "room";

struct Chat;

impl Handler for Chat {
    /// The name that others see.
    type State = String;

    fn on_open(&mut self, view: &mut View<'_>, peer: &SocketAddr) -> String {
        // An error here says that the loop ends.
        let _ = view.handle().join(view.id(), ROOM);
        peer.to_string()
    }

    fn on_message(
        &mut self,
        name: &mut String,
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        if !message.is_json() {
            return Ok(reply.binary(message.content_type(), message.content())?);
        }
        let request = message.json()?;
        let result = if let Some(text) = request["say"].as_str() {
            let said = Outgoing::json(&json!({ "event": "said", "name": name, "text": text }))?;
            let view = reply.view();
            view.handle().broadcast_except(ROOM, view.id(), said)?;
            "said".to_owned()
        } else {
            format!("No match for '{}'.", request["value"].as_str().unwrap_or_default())
        };
        Ok(reply.json(&json!({ "result": result }))?)
    }
}

pub(crate) fn serve(host: &str, port: u16) -> Result<(), Box<dyn Error>> {
    let limits = Limits { header_timeout: Duration::from_secs(3), ..Limits::default() };
    let mut server = Server::builder()
        .listen(host, port)
        .limits(limits)
        .signals(&[Signal::Interrupt, Signal::Terminate])
        .build(Chat)?;
    server.run()?;
    Ok(())
}
