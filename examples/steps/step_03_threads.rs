//! Step 3: a thread for each client. Each thread still waits in one call at a time.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use nix::sys::socket::{Backlog, listen};

pub(crate) fn serve(host: &str, port: u16) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind((host, port))?;
    // std asks for 128 places in the queue of clients that wait. More than that come at once.
    listen(&listener, Backlog::MAXCONN)?;
    loop {
        // Without descriptors `accept` fails, and `?` ends the server. Step 10 mends that.
        let (client, _peer) = listener.accept()?;
        // Where there is no room for a thread, the client is closed with the closure.
        let _ = thread::Builder::new().spawn(move || echo(client));
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
