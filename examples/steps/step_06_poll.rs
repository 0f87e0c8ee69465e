//! Step 6: poll has no end at 1,024. What finds no room is kept, and no call waits any more.

use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{Backlog, listen};

struct Client {
    stream: TcpStream,
    /// What was received and has found no room yet. While there is some, nothing more is read.
    unsent: Vec<u8>,
}

pub(crate) fn serve(host: &str, port: u16) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind((host, port))?;
    listen(&listener, Backlog::MAXCONN)?;
    let mut clients: Vec<Client> = Vec::new();
    loop {
        // Still the whole list in each call, and the kernel walks all of it.
        let mut list = vec![PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        list.extend(clients.iter().map(|client| {
            // Writability only while there is something to write: it is nearly always possible.
            let wanted =
                if client.unsent.is_empty() { PollFlags::POLLIN } else { PollFlags::POLLOUT };
            PollFd::new(client.stream.as_fd(), wanted)
        }));
        poll(&mut list, PollTimeout::NONE)?;
        let mut ready: Vec<bool> = list.iter().map(|one| one.any() == Some(true)).collect();

        let somebody_waits = ready.remove(0);
        let mut ready = ready.into_iter();
        clients.retain_mut(|client| match ready.next() {
            Some(true) => match client.turn() {
                Ok(goes_on) => goes_on,
                Err(error) => error.kind() == ErrorKind::WouldBlock,
            },
            _ => true,
        });
        if somebody_waits {
            let (stream, _peer) = listener.accept()?;
            stream.set_nonblocking(true)?;
            clients.push(Client { stream, unsent: Vec::new() });
        }
    }
}

impl Client {
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
