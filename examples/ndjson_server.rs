//! A JSON value on each line, for `nc` and `jq`: a store of values, one request a line.
//!
//! ```text
//! $ cargo run --example ndjson_server -- 127.0.0.1 7001
//! listening on 127.0.0.1:7001
//! $ printf '%s\n' '{"put": "neo", "value": {"pill": "red"}}' '{"get": "neo"}' \
//!     | nc -N 127.0.0.1 7001 | jq -c .result
//! null
//! {"pill":"red"}
//! ```
//!
//! The framing is one of the crate's: lines, whose contents are JSON. A line that is no JSON gets an
//! error on a line, and the connection goes on; `{"watch": true}` makes it hear of every change.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use std::collections::BTreeMap;
use std::process::ExitCode;

use command::Stop;
use myriapod::protocol::Delimited;
use myriapod::sys::Signal;
use myriapod::{
    Handler, HandlerError, HandlerResult, Message, Outgoing, Reply, Server, SocketAddr, View,
};
use serde::Deserialize;
use serde_json::{Value, json};

#[path = "support/command.rs"]
mod command;

#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Request {
    Put { put: String, value: Value },
    Get { get: String },
    Delete { delete: String },
    Watch { watch: bool },
    List { list: bool },
}

/// The group of those that hear of changes.
const WATCHERS: &str = "watchers";

/// The most values that are kept.
const MAX_VALUES: usize = 10_000;

#[derive(Default)]
struct Store(BTreeMap<String, Value>);

impl Handler for Store {
    type State = ();

    fn on_open(&mut self, _view: &mut View<'_>, _peer: &SocketAddr) {}

    fn on_message(
        &mut self,
        (): &mut (),
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        let view = reply.view();
        let (handle, id) = (view.handle().clone(), view.id());
        let changed = |key: &str, value: &Value| {
            handle.broadcast_except(
                WATCHERS,
                id,
                Outgoing::json(&json!({ "changed": key, "value": value }))?,
            )?;
            Ok::<_, HandlerError>(())
        };
        let result = match message.json_as()? {
            Request::Put { put, value } => {
                if self.0.len() >= MAX_VALUES && !self.0.contains_key(&put) {
                    return Err(HandlerError::new("Full", format!("{MAX_VALUES} values are kept")));
                }
                changed(&put, &value)?;
                json!(self.0.insert(put, value))
            }
            Request::Get { get } => json!(self.0.get(&get)),
            Request::Delete { delete } => {
                changed(&delete, &Value::Null)?;
                json!(self.0.remove(&delete))
            }
            Request::Watch { watch: true } => json!(handle.join(id, WATCHERS)?),
            Request::Watch { watch: false } => json!(handle.leave(id, WATCHERS)?),
            Request::List { list: true } => json!(self.0.keys().collect::<Vec<_>>()),
            Request::List { list: false } => Value::Null,
        };
        Ok(reply.json(&json!({ "result": result }))?)
    }
}

fn main() -> ExitCode {
    command::run("<host> <port>", |arguments| {
        let [host, port] = arguments else { return Err(Stop::Usage) };
        let mut server = Server::builder()
            .listen(host, command::port(port)?)
            .signals(&[Signal::Interrupt, Signal::Terminate])
            .build_with(Delimited::lines().carrying("text/json", "utf-8"), Store::default())?;
        println!("listening on {}", server.addresses()[0]);
        server.run()?;
        Ok(())
    })
}
