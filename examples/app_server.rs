//! The tutorial's application server: a search service over JSON-header messages.
//!
//! ```text
//! $ cargo run --example app_server -- '' 65432
//! listening on ('', 65432)
//! ```
//!
//! It prints what the tutorial's `app-server.py` prints, answers one message per connection and
//! closes. Where that program keeps a `Message` object beside each socket, here the engine keeps
//! the connection, and the handler below keeps only the peer's address, for the lines it prints.
//!
//! Beside it: `app_client`. Watch: that an error of one client leaves the others alone.

use std::process::ExitCode;

use command::Stop;
use myriapod::{
    Cause, Handler, HandlerError, HandlerResult, Message, Reply, Server, SocketAddr, View,
};

#[macro_use]
#[path = "support/command.rs"]
mod command;
#[path = "support/python_repr.rs"]
mod python_repr;

fn search(value: &str) -> Option<&'static str> {
    match value {
        "morpheus" => Some("Follow the white rabbit. 🐰"),
        "ring" => Some("In the caves beneath the Misty Mountains. 💍"),
        "🐶" => Some("🐾 Playing ball! 🏐"),
        _ => None,
    }
}

struct SearchService;

impl Handler for SearchService {
    /// The peer's address in Python's notation.
    type State = String;

    fn on_open(&mut self, _view: &mut View<'_>, peer: &SocketAddr) -> String {
        let peer = python_repr::address(peer);
        println!("accepted connection from {peer}");
        peer
    }

    fn on_message(
        &mut self,
        peer: &mut String,
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        // One message for each connection, whether it can be answered or is an error.
        reply.close();
        if message.is_json() {
            let shown: python_repr::Json = message.json_as()?;
            println!("received request {shown} from {peer}");
            let request = message.json()?;
            let text = |key: &str| {
                let missing = || HandlerError::new("NoRequest", format!("{key} is no text"));
                request[key].as_str().ok_or_else(missing)
            };
            let (action, value) = (text("action")?, text("value")?);
            let result = match (action, search(value)) {
                ("search", Some(answer)) => answer.to_owned(),
                ("search", None) => format!("No match for '{value}'."),
                (action, _) => format!("Error: invalid action '{action}'."),
            };
            reply.json(&serde_json::json!({ "result": result }))?;
        } else {
            println!("received {} request from {peer}", message.content_type());
            let first = message.content().get(..10).unwrap_or(message.content());
            let content = [b"First 10 bytes of request: ", first].concat();
            reply.binary("binary/custom-server-binary-type", &content)?;
        }
        println!("sending {} to {peer}", python_repr::bytes(reply.encoded()));
        Ok(())
    }

    fn on_close(&mut self, peer: String, _view: &mut View<'_>, _cause: Cause) {
        println!("closing connection to {peer}");
    }
}

fn main() -> ExitCode {
    command::run("<host> <port>", |arguments| match arguments {
        [host, port] => serve(host, command::port(port)?),
        _ => Err(Stop::Usage),
    })
}

fn serve(host: &str, port: u16) -> Result<(), Stop> {
    let mut server = Server::builder().listen(host, port).build(SearchService)?;
    // The host as it was given, and the real port where 0 was.
    let port = server.addresses()[0].port().unwrap_or(port);
    println!("listening on ({}, {port})", python_repr::text(host));
    server.run()?;
    Ok(())
}
