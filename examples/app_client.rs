//! The tutorial's application client: sends one request and prints the answer.
//!
//! ```text
//! $ cargo run --example app_client -- 127.0.0.1 65432 search morpheus
//! starting connection to ('127.0.0.1', 65432)
//! ```
//!
//! It prints what the tutorial's `app-client.py` prints, and works with the tutorial's server as
//! with ours. Where that program drives a selector for its one connection, a blocking client does
//! here.
//!
//! Beside it: `app_server`. Watch: the two bytes, the header and the content in what it sends.

use std::process::ExitCode;

use command::Stop;
use myriapod::Client;
use myriapod::protocol::encode;

#[macro_use]
#[path = "support/command.rs"]
mod command;
#[path = "support/python_repr.rs"]
mod python_repr;
#[path = "support/request.rs"]
mod request;

fn main() -> ExitCode {
    command::run("<host> <port> <action> <value>", |arguments| match arguments {
        [host, port, action, value] => ask(host, command::port(port)?, action, value),
        _ => Err(Stop::Usage),
    })
}

fn ask(host: &str, port: u16, action: &str, value: &str) -> Result<(), Stop> {
    let server = format!("({}, {port})", python_repr::text(host));
    let (head, content) = request::request(action, value)?;
    let mut wire = Vec::new();
    encode(&mut wire, &head, &content)?;

    println!("starting connection to {server}");
    let mut client = Client::connect(host, port)?;
    println!("sending {} to {server}", python_repr::bytes(&wire));
    let response = client.request(&head, &content)?;
    if response.is_json() {
        let shown: python_repr::Json = response.json_as()?;
        println!("received response {shown} from {server}");
        println!("got result: {}", response.json()?["result"].as_str().unwrap_or("None"));
    } else {
        println!("received {} response from {server}", response.content_type());
        println!("got response: {}", python_repr::bytes(response.content()));
    }
    println!("closing connection to {server}");
    Ok(())
}
