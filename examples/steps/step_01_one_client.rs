//! Step 1: one client, calls that wait, and the end.

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpListener;

pub(crate) fn serve(host: &str, port: u16) -> Result<(), Box<dyn Error>> {
    // socket, bind and listen.
    let listener = TcpListener::bind((host, port))?;
    // Waits until a client comes. What it gives is another socket: the conversation.
    let (mut client, _peer) = listener.accept()?;
    let mut buffer = [0; 1024];
    loop {
        let count = client.read(&mut buffer)?;
        if count == 0 {
            // The client has ended its side.
            return Ok(());
        }
        client.write_all(&buffer[..count])?;
    }
}
