//! Step 10: the crate's `Selector`, a queue with an end, and what to do without descriptors.
//!
//! The selector owns the sockets, so nobody closes a descriptor that is still watched. A key of a
//! client that is gone finds nothing, also when its number has a new owner.

use std::error::Error;

use myriapod::sys::{Errno, ListenOptions, Listener, accept, recv, resolve, send};
use myriapod::{Interest, Key, Selector};

/// Bytes of one client that may wait. With so many, it is not received from.
const MAX_UNSENT: usize = 64 << 10;

#[derive(Default)]
struct Client {
    unsent: Vec<u8>,
    ended: bool,
}

pub(crate) fn serve(host: &str, port: u16) -> Result<(), Box<dyn Error>> {
    let address = resolve(host, port)?.swap_remove(0);
    let listener = Listener::bind(&address, &ListenOptions::default())?;
    let mut selector: Selector<Option<Client>> = Selector::new()?;
    let listening = selector.register(listener, Interest::READABLE, None)?;
    loop {
        selector.select(None)?;
        while let Some(ready) = selector.next_ready() {
            if ready.key == listening {
                accept_one(&mut selector, listening)?;
                continue;
            }
            let Some((socket, Some(client))) = selector.entry_mut(ready.key) else { continue };
            let mut failed = false;
            if ready.is_readable() {
                let mut buffer = [0; 4096];
                match recv(socket, &mut buffer) {
                    Ok(0) => client.ended = true,
                    Ok(count) => client.unsent.extend_from_slice(&buffer[..count]),
                    Err(errno) => failed = !errno.would_block(),
                }
            }
            if !client.unsent.is_empty() && !failed {
                match send(socket, &client.unsent) {
                    Ok(sent) => drop(client.unsent.drain(..sent)),
                    Err(errno) => failed = !errno.would_block(),
                }
            }
            if failed || (client.ended && client.unsent.is_empty()) {
                selector.close(ready.key);
                // A descriptor is free: a client that waits in the backlog may come.
                selector.modify(listening, Interest::READABLE)?;
                continue;
            }
            let mut interest = Interest::NONE;
            if !client.ended && client.unsent.len() < MAX_UNSENT {
                interest |= Interest::READABLE;
            }
            if !client.unsent.is_empty() {
                interest |= Interest::WRITABLE;
            }
            selector.modify(ready.key, interest)?;
        }
    }
}

fn accept_one(
    selector: &mut Selector<Option<Client>>,
    listening: Key,
) -> Result<(), Box<dyn Error>> {
    let Some(listener) = selector.source(listening) else { return Ok(()) };
    match accept(listener) {
        Ok((socket, _peer)) => {
            selector.register(socket, Interest::READABLE, Some(Client::default()))?;
        }
        // The listener stays readable. To watch on would be to spin.
        Err(Errno::EMFILE | Errno::ENFILE) => selector.modify(listening, Interest::NONE)?,
        // Nobody any more, or somebody who is gone already.
        Err(_) => {}
    }
    Ok(())
}
