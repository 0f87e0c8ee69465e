//! mio: edge-triggered, so each event is read until the socket would block, as its documentation
//! asks. With `--short-read` a read that does not fill the buffer ends it too, as epoll(7) allows.

#![forbid(unsafe_code)]

use std::io::{ErrorKind, Read as _, Write as _};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};
use myriapod_peers::session::Session;
use myriapod_peers::{Job, Result, listen};
use slab::Slab;

const LISTENER: Token = Token(usize::MAX);

struct Connection {
    stream: TcpStream,
    session: Session,
    /// Whether it is watched for writability too.
    writing: bool,
}

struct Server {
    job: Job,
    stop_on_short_read: bool,
    received: Box<[u8]>,
    replies: Vec<u8>,
}

impl Server {
    /// Reads and answers; false at the end of the connection.
    fn serve(&mut self, connection: &mut Connection) -> Result<bool> {
        let mut open = true;
        loop {
            match connection.stream.read(&mut self.received) {
                Ok(0) => {
                    open = false;
                    break;
                }
                Ok(len) => {
                    connection.session.receive(
                        self.job,
                        &self.received[..len],
                        &mut self.replies,
                    )?;
                    if self.stop_on_short_read && len < self.received.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if connection.session.output.is_empty() {
            let sent = send(&mut connection.stream, &self.replies)?;
            connection.session.output.extend_from_slice(&self.replies[sent..]);
        } else {
            connection.session.output.extend_from_slice(&self.replies);
        }
        self.replies.clear();
        Ok(open)
    }
}

/// Sends what the socket takes.
fn send(stream: &mut TcpStream, bytes: &[u8]) -> Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match stream.write(&bytes[sent..]) {
            Ok(len) => sent += len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(sent)
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
fn watch(registry: &Registry, token: Token, connection: &mut Connection) -> Result<()> {
    let writing = !connection.session.output.is_empty();
    if writing != connection.writing {
        let interest =
            if writing { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        registry.reregister(&mut connection.stream, token, interest)?;
        connection.writing = writing;
    }
    Ok(())
}

fn main() -> Result<()> {
    let mut server = Server {
        job: Job::from_args()?,
        stop_on_short_read: std::env::args().any(|arg| arg == "--short-read"),
        received: vec![0; 64 << 10].into(),
        replies: Vec::new(),
    };
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut listener = TcpListener::from_std(listen()?);
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut connections = Slab::new();
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        for event in &events {
            if event.token() == LISTENER {
                loop {
                    match listener.accept() {
                        Ok((mut stream, _)) => {
                            stream.set_nodelay(true)?;
                            let entry = connections.vacant_entry();
                            let token = Token(entry.key());
                            poll.registry().register(&mut stream, token, Interest::READABLE)?;
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
            let key = event.token().0;
            let Some(connection) = connections.get_mut(key) else { continue };
            let mut served = Ok(true);
            if event.is_writable() && connection.writing {
                served = flush(connection).map(|()| true);
            }
            if event.is_readable() && served.is_ok() {
                served = server.serve(connection);
            }
            let kept = match served {
                Ok(true) => watch(poll.registry(), event.token(), connection).is_ok(),
                _ => false,
            };
            if !kept {
                server.replies.clear();
                connections.remove(key);
            }
        }
    }
}
