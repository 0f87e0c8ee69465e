//! The peers: what each asks, and what it must be answered.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// What takes longer is wrong; nothing that works comes near it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Larger than a Unix socket takes at once, so that the reply is sent in several steps.
const LARGE: usize = 512 << 10;

/// A message, written without any help of ours; an echo is the same bytes.
pub(crate) fn message(content: &[u8]) -> Vec<u8> {
    let header = format!(
        r#"{{"byteorder": "little", "content-type": "a/b", "content-encoding": "binary", "content-length": {}}}"#,
        content.len()
    );
    let mut bytes = u16::try_from(header.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(content);
    bytes
}

/// How a conversation went that did not go to its end.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The connection ended early. What came before was right.
    CutOff,
    /// Something that may never be.
    Wrong(String),
}

type Went = Result<(), Broken>;

/// Where a server listens.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Unix(PathBuf),
    Tcp(IpAddr, u16),
}

impl Place {
    /// As the server says it, in the notation of Python's sockets.
    pub(crate) fn parse(said: &str) -> Option<Self> {
        if let Some(path) = said.strip_prefix("unix:") {
            return Some(Self::Unix(path.into()));
        }
        let (host, port) = said.strip_prefix("('")?.strip_suffix(')')?.split_once("', ")?;
        // An IPv6 socket that takes IPv4 too is asked for that.
        let host = if host == "::" { Ipv4Addr::LOCALHOST.into() } else { host.parse().ok()? };
        Some(Self::Tcp(host, port.parse().ok()?))
    }

    fn connect(&self) -> std::io::Result<UnixStream> {
        match self {
            Self::Unix(path) => UnixStream::connect(path),
            // Any stream socket will do: what is asked of it is the same.
            Self::Tcp(ip, port) => {
                TcpStream::connect((*ip, *port)).map(OwnedFd::from).map(From::from)
            }
        }
    }
}

pub(crate) struct Peer(UnixStream);

/// An end or a reset is the connection's end; silence is never right.
fn broken(error: &std::io::Error) -> Broken {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Broken::Wrong("no answer".to_owned()),
        _ => Broken::CutOff,
    }
}

impl Peer {
    pub(crate) fn new(place: &Place) -> Result<Self, Broken> {
        let stream = place.connect().map_err(|error| broken(&error))?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Ok(Self(stream))
    }

    fn send(&mut self, bytes: &[u8]) -> Went {
        self.0.write_all(bytes).map_err(|error| broken(&error))
    }

    /// Exactly these bytes come next.
    fn expect(&mut self, bytes: &[u8]) -> Went {
        let mut came = vec![0; bytes.len()];
        let mut at = 0;
        while at < came.len() {
            let len = match self.0.read(&mut came[at..]) {
                Ok(0) => return Err(Broken::CutOff),
                Ok(len) => len,
                Err(error) => return Err(broken(&error)),
            };
            if came[at..at + len] != bytes[at..at + len] {
                return Err(Broken::Wrong("an answer is not what was asked for".to_owned()));
            }
            at += len;
        }
        Ok(())
    }

    pub(crate) fn exchange(&mut self, content: &[u8]) -> Went {
        let message = message(content);
        self.send(&message)?;
        self.expect(&message)
    }

    /// The server closes, and says nothing more.
    pub(crate) fn end(&mut self) -> Went {
        match self.0.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(Broken::Wrong("bytes that nobody asked for".to_owned())),
            Err(error) => Err(broken(&error)),
        }
    }
}

/// What a peer is called, and its conversation with the server on that socket.
type Conversation = (&'static str, fn(&Place) -> Went);

/// One after the other; each goes on only when the server has answered. The large one comes last,
/// since in how many pieces it comes nobody knows.
pub(crate) const PEERS: [Conversation; 4] =
    [("first", several), ("malformed", malformed), ("brief", brief), ("large", large)];

/// Small messages, two of them at once, then the end of sending.
fn several(place: &Place) -> Went {
    let mut peer = Peer::new(place)?;
    peer.exchange(b"one")?;
    peer.exchange(b"two")?;
    let both = [message(b"three"), message(b"four")].concat();
    peer.send(&both)?;
    peer.expect(&both)?;
    half_close(peer)
}

/// A fault of the framing: an error reply, then the end; what is sent after that is dropped.
fn malformed(place: &Place) -> Went {
    let mut peer = Peer::new(place)?;
    peer.send(b"\0\x02[]")?;
    let mut reply = Vec::new();
    match peer.0.read_to_end(&mut reply) {
        Ok(0) => return Err(Broken::CutOff),
        Ok(_) => {}
        Err(error) => return Err(broken(&error)),
    }
    let text = String::from_utf8_lossy(&reply);
    // Whether somebody still reads it must not matter.
    let _ = peer.send(b"more");
    let is_it = text.contains("HeaderNotObject") && text.ends_with("not a JSON object\"}");
    if is_it { Ok(()) } else { Err(Broken::Wrong(format!("the reply to a fault: {text}"))) }
}

fn brief(place: &Place) -> Went {
    let mut peer = Peer::new(place)?;
    peer.exchange(b"brief")
}

/// A message that comes in pieces, and whose reply does not fit the socket.
fn large(place: &Place) -> Went {
    let mut peer = Peer::new(place)?;
    let content: Vec<u8> = (0..LARGE).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect();
    let message = message(&content);
    peer.send(&message)?;
    // The server has it whole and sends: there is a short write before anybody reads.
    peer.expect(&message)?;
    half_close(peer)
}

fn half_close(mut peer: Peer) -> Went {
    peer.0.shutdown(Shutdown::Write).map_err(|error| broken(&error))?;
    peer.end()
}
