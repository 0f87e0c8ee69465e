//! polling, level-triggered: one read for each event, and nothing to arm again.

#![deny(unsafe_code)]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

use myriapod_peers::session::Session;
use myriapod_peers::{Job, Result, listen};
use polling::{Event, Events, PollMode, Poller};
use slab::Slab;

const LISTENER: usize = usize::MAX - 1;

struct Connection {
    stream: TcpStream,
    session: Session,
    /// Whether it is watched for writability too.
    writing: bool,
}

/// Sends what the socket takes at once.
fn send(stream: &mut TcpStream, bytes: &[u8]) -> Result<usize> {
    match stream.write(bytes) {
        Ok(sent) => Ok(sent),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Ok(0)
        }
        Err(error) => Err(error.into()),
    }
}

/// Reads once and answers; false at the end of the connection.
fn serve(
    job: Job,
    connection: &mut Connection,
    received: &mut [u8],
    replies: &mut Vec<u8>,
) -> Result<bool> {
    let len = match connection.stream.read(received) {
        Ok(0) => return Ok(false),
        Ok(len) => len,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            return Ok(true);
        }
        Err(error) => return Err(error.into()),
    };
    connection.session.receive(job, &received[..len], replies)?;
    let sent = if connection.session.output.is_empty() {
        send(&mut connection.stream, replies)?
    } else {
        0
    };
    connection.session.output.extend_from_slice(&replies[sent..]);
    Ok(true)
}

/// Sends what is left over from before.
fn flush(connection: &mut Connection) -> Result<()> {
    let sent = send(&mut connection.stream, &connection.session.output)?;
    if sent == connection.session.output.len() {
        connection.session.output = Vec::new();
    } else {
        connection.session.output.drain(..sent);
    }
    Ok(())
}

/// Watches for writability only while there is something to send.
fn watch(poller: &Poller, key: usize, connection: &mut Connection) -> Result<()> {
    let writing = !connection.session.output.is_empty();
    if writing != connection.writing {
        let event = if writing { Event::all(key) } else { Event::readable(key) };
        poller.modify_with_mode(&connection.stream, event, PollMode::Level)?;
        connection.writing = writing;
    }
    Ok(())
}

// Registering is unsafe in polling, since a socket must be deleted before it is closed.
#[allow(unsafe_code, reason = "see above")]
mod register {
    use super::{Event, PollMode, Poller, Result, TcpStream};
    use std::net::TcpListener;

    pub(super) fn stream(poller: &Poller, stream: &TcpStream, key: usize) -> Result<()> {
        // SAFETY: `main` deletes each stream before dropping it.
        unsafe { poller.add_with_mode(stream, Event::readable(key), PollMode::Level)? };
        Ok(())
    }

    pub(super) fn listener(poller: &Poller, listener: &TcpListener, key: usize) -> Result<()> {
        // SAFETY: the listener lives as long as the poller, in `main`.
        unsafe { poller.add_with_mode(listener, Event::readable(key), PollMode::Level)? };
        Ok(())
    }
}

fn main() -> Result<()> {
    let job = Job::from_args()?;
    let listener = listen()?;
    let poller = Poller::new()?;
    register::listener(&poller, &listener, LISTENER)?;
    let mut events = Events::new();
    let mut received = vec![0; 64 << 10];
    let mut replies = Vec::new();
    let mut connections = Slab::new();
    loop {
        events.clear();
        match poller.wait(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            waited => waited?,
        };
        for event in events.iter() {
            if event.key == LISTENER {
                loop {
                    match listener.accept() {
                        Ok((stream, _)) => {
                            stream.set_nonblocking(true)?;
                            stream.set_nodelay(true)?;
                            let entry = connections.vacant_entry();
                            register::stream(&poller, &stream, entry.key())?;
                            entry.insert(Connection {
                                stream,
                                session: Session::default(),
                                writing: false,
                            });
                        }
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => eprintln!("accept: {error}"),
                    }
                }
                continue;
            }
            let Some(connection) = connections.get_mut(event.key) else { continue };
            let mut served = Ok(true);
            if event.writable {
                served = flush(connection).map(|()| true);
            }
            if event.readable && served.is_ok() {
                served = serve(job, connection, &mut received, &mut replies);
                replies.clear();
            }
            let kept = match served {
                Ok(true) => watch(&poller, event.key, connection).is_ok(),
                _ => false,
            };
            if !kept {
                let connection = connections.remove(event.key);
                poller.delete(&connection.stream)?;
            }
        }
    }
}
