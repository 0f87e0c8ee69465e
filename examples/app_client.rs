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

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use std::error::Error;
use std::process::ExitCode;

use myriapod::Client;
use myriapod::protocol::{Head, encode, write_json};
use serde::Serialize;

#[path = "support/python_repr.rs"]
mod python_repr;

/// A search request; the keys are written in this order.
#[derive(Serialize)]
struct Search<'a> {
    action: &'a str,
    value: &'a str,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, host, port, action, value] = arguments.as_slice() else {
        println!("usage: {} <host> <port> <action> <value>", arguments[0]);
        return ExitCode::FAILURE;
    };
    match ask(host, port, action, value) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn ask(host: &str, port: &str, action: &str, value: &str) -> Result<(), Box<dyn Error>> {
    let port = port.parse().map_err(|_| format!("port {port:?}: not a number below 65536"))?;
    let server = format!("({}, {port})", python_repr::text(host));

    let mut content = Vec::new();
    let head = if action == "search" {
        write_json(&mut content, &Search { action, value })?;
        Head::json()
    } else {
        content.extend_from_slice(action.as_bytes());
        content.extend_from_slice(value.as_bytes());
        Head::binary("binary/custom-client-binary-type")
    };
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
