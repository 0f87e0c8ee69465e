//! Step 7: epoll in 60 lines. The kernel keeps the list, and hands out only those that are ready.
//!
//! Level-triggered: an event comes back for as long as there is something to read. What does not
//! fit is thrown away here. That is wrong, and short; step 10 mends it.

use std::collections::HashMap;
use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{Backlog, listen};

/// The number that names the listener in events.
const LISTENER: u64 = u64::MAX;

pub(crate) fn serve(host: &str, port: u16) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind((host, port))?;
    listen(&listener, Backlog::MAXCONN)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;

    let mut clients: HashMap<u64, TcpStream> = HashMap::new();
    let mut events = [EpollEvent::empty(); 64];
    loop {
        let count = epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in &events[..count] {
            let name = event.data();
            if name == LISTENER {
                let (client, _peer) = listener.accept()?;
                client.set_nonblocking(true)?;
                // The descriptor's number is free again only when the client is closed.
                let name = u64::try_from(client.as_raw_fd())?;
                epoll.add(&client, EpollEvent::new(EpollFlags::EPOLLIN, name))?;
                clients.insert(name, client);
                continue;
            }
            let Some(client) = clients.get_mut(&name) else { continue };
            if !echo(client) {
                // Closing a descriptor takes it out of epoll, if nobody has a duplicate of it.
                clients.remove(&name);
            }
        }
    }
}

/// One read, whatever there is. `false` where the client is gone.
fn echo(client: &mut TcpStream) -> bool {
    let mut buffer = [0; 1024];
    match client.read(&mut buffer) {
        Ok(0) => false,
        Ok(count) => match client.write(&buffer[..count]) {
            Ok(_some_of_it) => true,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        },
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}
