//! Step 13: the search server again, on the engine. What is left is what only this server does.

use std::error::Error;
use std::time::Duration;

use myriapod::sys::Signal;
use myriapod::{Limits, Server};
use serde_json::json;

pub(crate) fn serve(host: &str, port: u16) -> Result<(), Box<dyn Error>> {
    // 10 s unless one says otherwise; 3 so that nobody has to wait long to see it.
    let limits = Limits { header_timeout: Duration::from_secs(3), ..Limits::default() };
    let mut server = Server::builder()
        .listen(host, port)
        .limits(limits)
        .signals(&[Signal::Interrupt, Signal::Terminate])
        .answer(|message, reply| {
            if !message.is_json() {
                let first = message.content().get(..10).unwrap_or(message.content());
                let content = [b"First 10 bytes of request: ", first].concat();
                return Ok(reply.binary("binary/custom-server-binary-type", &content)?);
            }
            // Borrowed from the receive buffer; `?` on a malformed one becomes an error reply.
            let request = message.json()?;
            let result = match request["value"].as_str().unwrap_or_default() {
                "morpheus" => "Follow the white rabbit. 🐰".to_owned(),
                "ring" => "In the caves beneath the Misty Mountains. 💍".to_owned(),
                "🐶" => "🐾 Playing ball! 🏐".to_owned(),
                other => format!("No match for '{other}'."),
            };
            Ok(reply.json(&json!({ "result": result }))?)
        })?;
    server.run()?;
    Ok(())
}
