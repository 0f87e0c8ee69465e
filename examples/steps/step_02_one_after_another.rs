//! Step 2: a loop around accept. The next client is served when this one is gone.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

pub(crate) fn serve(host: &str, port: u16) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind((host, port))?;
    loop {
        let (client, _peer) = listener.accept()?;
        // An error of one client ends that client. `?` here would end the server.
        let _ = echo(client);
    }
}

fn echo(mut client: TcpStream) -> std::io::Result<()> {
    let mut buffer = [0; 1024];
    loop {
        let count = client.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        client.write_all(&buffer[..count])?;
    }
}
