//! Step 9: edge-triggered, and read until `EAGAIN`. Nothing is left behind, and nothing is lost.
//!
//! Two mistakes are new. The queue has no end: a client that does not read fills our memory. And a
//! client that sends faster than we read is never left again: all others wait.

use std::collections::HashMap;
use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{Backlog, listen};

/// The number that names the listener in events.
const LISTENER: u64 = u64::MAX;

struct Client {
    stream: TcpStream,
    unsent: Vec<u8>,
    ended: bool,
}

pub(crate) fn serve(host: &str, port: u16) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind((host, port))?;
    listen(&listener, Backlog::MAXCONN)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;

    let mut clients: HashMap<u64, Client> = HashMap::new();
    let mut events = [EpollEvent::empty(); 64];
    loop {
        let count = epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in &events[..count] {
            let name = event.data();
            if name == LISTENER {
                let (stream, _peer) = listener.accept()?;
                stream.set_nonblocking(true)?;
                let name = u64::try_from(stream.as_raw_fd())?;
                // Both directions at once, and never changed: an edge does not come back.
                let both = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
                epoll.add(&stream, EpollEvent::new(both, name))?;
                clients.insert(name, Client { stream, unsent: Vec::new(), ended: false });
                continue;
            }
            let Some(client) = clients.get_mut(&name) else { continue };
            let failed = client.receive().is_err() || client.send().is_err();
            if failed || (client.ended && client.unsent.is_empty()) {
                clients.remove(&name);
            }
        }
    }
}

impl Client {
    /// Until there is nothing more to read.
    fn receive(&mut self) -> std::io::Result<()> {
        let mut buffer = [0; 1024];
        while !self.ended {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    self.unsent.extend_from_slice(&buffer[..count]);
                    self.send()?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Until there is nothing more to send, or no room.
    fn send(&mut self) -> std::io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
