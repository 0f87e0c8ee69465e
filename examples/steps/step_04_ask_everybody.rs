//! Step 4: one thread. No call waits, so it asks everybody in turn, always. It is right, and hot.

use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use nix::sys::socket::{Backlog, listen};

struct Client {
    stream: TcpStream,
    /// What was received and has found no room yet. While there is some, nothing more is read.
    unsent: Vec<u8>,
}

pub(crate) fn serve(host: &str, port: u16) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind((host, port))?;
    listen(&listener, Backlog::MAXCONN)?;
    listener.set_nonblocking(true)?;
    let mut clients: Vec<Client> = Vec::new();
    loop {
        match listener.accept() {
            Ok((stream, _peer)) => {
                stream.set_nonblocking(true)?;
                clients.push(Client { stream, unsent: Vec::new() });
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        // A client that has ended, or failed, is closed.
        clients.retain_mut(|client| match client.turn() {
            Ok(goes_on) => goes_on,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        });
    }
}

impl Client {
    /// One look at one client. `WouldBlock` says: not now.
    fn turn(&mut self) -> std::io::Result<bool> {
        if self.unsent.is_empty() {
            let mut buffer = [0; 1024];
            let count = self.stream.read(&mut buffer)?;
            if count == 0 {
                return Ok(false);
            }
            self.unsent.extend_from_slice(&buffer[..count]);
        }
        let sent = self.stream.write(&self.unsent)?;
        self.unsent.drain(..sent);
        Ok(true)
    }
}
