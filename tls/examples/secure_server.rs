//! An echo server over TLS 1.3, with a certificate made now.
//!
//! ```text
//! $ cargo run -p myriapod-tls --example secure_server -- 65432
//! $ cargo run -p myriapod-tls --example secure_client -- 65432 SHA256
//! ```

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use std::error::Error;

use myriapod::Server;
use myriapod_tls::rustls::pki_types::PrivateKeyDer;
use myriapod_tls::{Acceptor, fingerprint, server_config};

fn main() -> Result<(), Box<dyn Error>> {
    let port = std::env::args().nth(1).map_or(Ok(65432), |port| port.parse())?;
    // A real server reads both from files that its authority has given it.
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let certificate = made.cert.der().clone();
    let name = fingerprint(&certificate);
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())?;
    let acceptor: Acceptor = Acceptor::new(server_config(vec![certificate], key)?)?;

    let mut server =
        Server::builder().listen("127.0.0.1", port).secure(acceptor).answer(|message, reply| {
            reply.echo(&message)?;
            Ok(())
        })?;
    println!("listening on {}", server.addresses()[0]);
    println!("certificate sha256 {name}");
    server.run()?;
    Ok(())
}
