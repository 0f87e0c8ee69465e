//! Do contents that are not held in memory go through TLS, in both directions?

use std::fs::File;
use std::io::Read;
use std::thread;

use myriapod::protocol::Head;
use myriapod::{
    Client, ClientOptions, Flow, Handler, HandlerError, HandlerResult, Intake, Limits, Message,
    MessageHead, Reply, Server, SocketAddr, View,
};

use myriapod_tls::rustls::pki_types::ServerName;

use super::pki;

/// Counts what comes, and has every other piece waited for.
struct Streamer(File);

#[derive(Default)]
struct Came {
    len: u64,
    wrong: u64,
    is_odd: bool,
}

/// The byte of every content at this place.
fn byte_at(at: u64) -> u8 {
    u8::try_from(at % 251).unwrap()
}

impl Handler for Streamer {
    type State = Came;
    const STREAMS: bool = true;

    fn on_open(&mut self, _: &mut View<'_>, _: &SocketAddr) -> Came {
        Came::default()
    }

    fn on_head(&mut self, came: &mut Came, head: &MessageHead<'_>, _: &mut View<'_>) -> Intake {
        *came = Came::default();
        if head.content_type() == "put" { Intake::Stream } else { Intake::Hold }
    }

    fn on_piece(
        &mut self,
        came: &mut Came,
        piece: &[u8],
        view: &mut View<'_>,
    ) -> Result<Flow, HandlerError> {
        came.wrong += u64::from(piece.first() != Some(&byte_at(came.len)));
        came.len += piece.len() as u64;
        came.wrong += u64::from(piece.last() != Some(&byte_at(came.len - 1)));
        came.is_odd = !came.is_odd;
        if came.is_odd {
            return Ok(Flow::Go);
        }
        view.handle().resume(view.id())?;
        Ok(Flow::Wait)
    }

    fn on_end(&mut self, came: &mut Came, reply: &mut Reply<'_>) -> HandlerResult {
        Ok(reply.json(&(came.len, came.wrong))?)
    }

    fn on_message(
        &mut self,
        _: &mut Came,
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        match message.content_type() {
            "file" => Ok(reply.file("x", self.0.try_clone()?, 3..LEN)?),
            _ => Ok(reply.stream("x", LEN, Content(0))?),
        }
    }
}

const LEN: u64 = 2_000_000;

/// [`byte_at`] each place.
struct Content(u64);

impl Read for Content {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        let len = room.len().min(7_777);
        for byte in &mut room[..len] {
            *byte = byte_at(self.0);
            self.0 += 1;
        }
        Ok(len)
    }
}

#[test]
fn do_streams_go_through_tls_in_both_directions() {
    let pki = pki();
    let path = std::env::temp_dir().join(format!("myriapod-tls-{}", std::process::id()));
    let mut file = File::create(&path).unwrap();
    std::io::copy(&mut Content(0).take(LEN), &mut file).unwrap();
    let file = File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut server = Server::builder()
        .listen("127.0.0.1", 0)
        .secure(pki.acceptor())
        .limits(Limits { max_content_len: 1_000, ..Limits::default() })
        .build(Streamer(file))
        .unwrap();
    let (port, handle) = (server.addresses()[0].port().unwrap(), server.handle());
    let running = thread::spawn(move || {
        server.run().unwrap();
        server.stats()
    });
    let connector = myriapod_tls::Connector::<32>::new((*pki.client).clone()).unwrap();
    let tunnels = connector.to(ServerName::try_from("localhost").unwrap());
    let options = ClientOptions::default();
    let mut client = Client::connect_secure("127.0.0.1", port, options, tunnels).unwrap();
    for len in [0, 1, 100_000, LEN] {
        assert!(client.send_from(&Head::binary("put"), len, &mut Content(0)).unwrap());
        let reply = client.receive().unwrap();
        assert_eq!(reply.json_as::<(u64, u64)>().unwrap(), (len, 0));
    }
    for (what, from) in [("file", 3), ("stream", 0), ("file", 3)] {
        client.send(&Head::binary(what), b"").unwrap();
        let mut reply = client.receive_stream().unwrap();
        assert_eq!(reply.content_len(), LEN - from);
        let mut at = from;
        while let Some(piece) = reply.next_piece().unwrap() {
            assert!(piece.iter().zip(at..).all(|(byte, at)| *byte == byte_at(at)), "at {at}");
            at += piece.len() as u64;
        }
        assert_eq!(at, LEN);
    }
    drop(client);
    handle.shutdown().unwrap();
    let stats = running.join().unwrap();
    assert_eq!((stats.streams_in, stats.streams_out, stats.broken_streams), (4, 3, 0), "{stats}");
    assert_eq!((stats.pool_bytes, stats.pool_buffers), (0, 0), "{stats}");
}
