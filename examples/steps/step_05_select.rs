//! Step 5: sleep until the kernel says who can be read. Its list ends at descriptor 1,023.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;

use nix::sys::select::{FdSet, select};
use nix::sys::socket::{Backlog, listen};

pub(crate) fn serve(host: &str, port: u16) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind((host, port))?;
    listen(&listener, Backlog::MAXCONN)?;
    let mut clients: Vec<TcpStream> = Vec::new();
    loop {
        // The whole list, anew in each call. A descriptor above 1,023 has no bit in it: a panic.
        let mut readable = FdSet::new();
        readable.insert(listener.as_fd());
        for client in &clients {
            readable.insert(client.as_fd());
        }
        select(None, &mut readable, None, None, None)?;

        let somebody_waits = readable.contains(listener.as_fd());
        let ready: Vec<bool> =
            clients.iter().map(|client| readable.contains(client.as_fd())).collect();
        let mut ready = ready.into_iter();
        clients.retain_mut(|client| ready.next() != Some(true) || echo(client).unwrap_or(false));
        if somebody_waits {
            clients.push(listener.accept()?.0);
        }
    }
}

/// Reading does not wait: there is something. Writing does, if the client does not read, and then
/// all others wait with it. Step 6 mends that.
fn echo(client: &mut TcpStream) -> std::io::Result<bool> {
    let mut buffer = [0; 1024];
    let count = client.read(&mut buffer)?;
    client.write_all(&buffer[..count])?;
    Ok(count > 0)
}
