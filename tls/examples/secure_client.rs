//! One request over TLS 1.3 to a server whose certificate is known by its SHA-256.
//!
//! ```text
//! $ cargo run -p myriapod-tls --example secure_client -- 65432 SHA256
//! ```

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use std::error::Error;

use myriapod::{Client, ClientOptions};
use myriapod_tls::rustls::pki_types::ServerName;
use myriapod_tls::{Connector, Trust, client_config};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(port), Some(sha256)) = (args.next(), args.next()) else {
        return Err("usage: secure_client PORT SHA256".into());
    };
    let connector: Connector = Connector::new(client_config(Trust::Pin(sha256), None)?)?;
    let tunnels = connector.to(ServerName::try_from("localhost")?);
    let options = ClientOptions::default();
    let mut client = Client::connect_secure("127.0.0.1", port.parse()?, options, tunnels)?;
    let reply = client.request_json("hello")?;
    println!("{}", reply.json()?);
    Ok(())
}
