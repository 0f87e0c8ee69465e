//! Closing one direction of a connection, and what each side then sees.
//!
//! ```text
//! $ cargo run --example half_close
//! client: sends b'request' and shuts down its sending side
//! ```
//!
//! The tutorial's word is "half-open", which for RFC 9293 is what lost its other end unnoticed.
//!
//! Beside it: nobody. Watch: which side still may send, and which call tells of the reset.

use std::process::ExitCode;
use std::time::Duration;

use command::{Stop, failed};
use myriapod::Server;
use myriapod::protocol::{Decoder, Head, JsonHeader, encode};
use myriapod::sys::{Shutdown, Socket, set_linger, tcp_info};

#[path = "support/blocking.rs"]
mod blocking;
#[macro_use]
#[path = "support/command.rs"]
mod command;
#[path = "support/python_repr.rs"]
mod python_repr;

fn main() -> ExitCode {
    command::lesson(|| one_direction().and_then(|()| no_goodbye()).and_then(|()| the_engine()))
}

/// Two blocking ends of one connection.
fn pair() -> Result<(Socket, Socket), Stop> {
    let listener = blocking::listen("127.0.0.1", 0)?;
    let client = Socket::connect(&listener.local_address()?)?;
    let server = Socket::from(listener.accept().map_err(failed("accept"))?.0);
    server.set_nonblocking(false)?;
    Ok((client, server))
}

/// Receives once and says what came.
fn show(who: &str, socket: &Socket) {
    let mut buffer = [0; 64];
    match socket.recv(&mut buffer) {
        Ok(0) => println!("{who}: recv returns 0 bytes, the end"),
        Ok(count) => println!("{who}: receives {}", python_repr::bytes(&buffer[..count])),
        Err(errno) => println!("{who}: recv: {errno}"),
    }
}

fn one_direction() -> Result<(), Stop> {
    let (client, server) = pair()?;
    println!("client: sends b'request' and shuts down its sending side");
    client.send(b"request").map_err(failed("send"))?;
    client.shutdown(Shutdown::Write).map_err(failed("shutdown"))?;
    show("server", &server);
    show("server", &server);
    if let Ok(info) = tcp_info(&server) {
        println!("server: its state is {}", info.state);
    }
    println!("server: can still send b'reply', and closes");
    server.send(b"reply").map_err(failed("send"))?;
    drop(server);
    show("client", &client);
    show("client", &client);
    client.send(b"more").map_or_else(|errno| println!("client: send: {errno}"), drop);
    Ok(())
}

fn no_goodbye() -> Result<(), Stop> {
    let (client, server) = pair()?;
    println!("server: is gone without a goodbye (a reset, as after a crash)");
    set_linger(&server, Some(Duration::ZERO))?;
    drop(server);
    show("client", &client);
    Ok(())
}

/// The engine answers all that came before the end, and closes then: the last `recv` returns 0.
fn the_engine() -> Result<(), Stop> {
    let builder = Server::builder().listen("127.0.0.1", 0);
    let mut server = builder.answer(|message, reply| Ok(reply.echo(&message)?))?;
    let client = Socket::connect(&server.addresses()[0])?;
    println!("client: sends two messages to an engine and shuts down its sending side");
    let (mut wire, head) = (Vec::new(), Head::binary("text/plain"));
    encode(&mut wire, &head, b"one")?;
    encode(&mut wire, &head, b"two")?;
    blocking::send_all(&client, &wire).map_err(failed("send"))?;
    client.shutdown(Shutdown::Write).map_err(failed("shutdown"))?;
    while server.stats().closed.iter().sum::<u64>() == 0 {
        server.event_loop().run_once(None)?;
    }
    let mut decoder = Decoder::new(JsonHeader::default());
    decoder.buffer_mut().reserve(1024);
    while client.recv_append(decoder.buffer_mut()).map_err(failed("recv"))? > 0 {}
    while let Some(message) = decoder.next_message()? {
        println!("client: receives {}", python_repr::bytes(message.content()));
    }
    Ok(())
}
