//! Does a server do what a handle asks of it besides messages: adopt, close, stop, group, accept?
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by them")]

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use common::{
    PATIENCE, Peer, Running, binary, builder, echo, error_kind, number_of, numbered,
    on_every_backend,
};
use myriapod::sys::Errno;
use myriapod::{
    Backend, Cause, ConnectionId, Deferred, Error, Handle, HandleError, Handler, HandlerResult,
    Limits, LogEvent, Message, Outgoing, Reply, Server, SocketAddr, View,
};

on_every_backend! {
    is_an_adopted_pair_served_like_any_other,
    is_an_adopted_tcp_socket_served_like_any_other,
    is_a_socket_without_a_peer_not_adopted,
    is_an_adopted_socket_over_the_limit_closed_and_counted,
    is_an_adopted_socket_over_its_address_s_limit_closed,
    is_an_adopted_socket_closed_that_comes_during_a_stop,
    do_adopted_sockets_go_to_the_loop_with_the_fewest,
    do_many_pushes_of_one_turn_go_out_with_few_sends,
    do_many_pushes_of_one_call_go_out_with_one_send,
    does_close_now_drop_what_is_queued,
    does_stop_now_cut_off_what_is_in_flight,
    does_a_broadcast_leave_out_the_one_it_came_from,
    are_the_members_of_a_group_those_that_are_in_it,
    do_new_peers_wait_until_accepting_resumes,
    does_a_stop_serve_those_that_wait_while_nobody_is_accepted,
    does_a_deferred_error_become_an_error_reply,
    is_an_error_about_a_server_of_others_not_sent_to_it,
    is_a_fault_of_a_server_of_others_not_answered,
    is_a_deferred_error_about_a_server_of_others_not_sent,
    is_a_handler_that_asks_for_the_counts_answered_at_once,
    can_json_bytes_that_were_passed_on_be_read,
}

/// What the handler was told.
#[derive(Debug)]
enum Told {
    Started(Result<usize, HandleError>, Result<usize, HandleError>),
    Opened(ConnectionId, Option<usize>, Option<SocketAddr>),
    Deferred(Deferred),
    Asked(Result<usize, HandleError>, Result<usize, HandleError>),
    Closed(Cause),
}

/// Echoes, and does what the content of a message says.
struct Talking {
    tell: Sender<Told>,
    handle: Option<Handle>,
}

impl Talking {
    fn tell(&self, told: Told) {
        // The test may be over.
        let _ = self.tell.send(told);
    }

    /// How many loops have told their counts, and how many members a group has.
    fn ask(&self) -> (Result<usize, HandleError>, Result<usize, HandleError>) {
        let handle = self.handle.as_ref().unwrap();
        (handle.stats().map(|stats| stats.len()), handle.group_size("all"))
    }
}

impl Handler for Talking {
    type State = ();

    fn on_start(&mut self, handle: &Handle) {
        self.handle = Some(handle.clone());
        let (stats, members) = self.ask();
        self.tell(Told::Started(stats, members));
    }

    fn on_open(&mut self, view: &mut View<'_>, _: &SocketAddr) {
        self.tell(Told::Opened(view.id(), view.listener(), view.peer()));
    }

    fn on_message(
        &mut self,
        (): &mut (),
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        match message.content() {
            b"large" => reply.binary("test/large", &vec![0; 8 << 20])?,
            b"fail" => return Err("asked to fail".into()),
            b"defer" => self.tell(Told::Deferred(reply.defer()?)),
            b"ask" => {
                let (stats, members) = self.ask();
                self.tell(Told::Asked(stats, members));
                echo(message, reply)?;
            }
            b"push" => {
                for number in 0..100 {
                    reply.view().push(&outgoing(number))?;
                }
            }
            _ if message.content_type() == "text/json" => {
                let json = message.content().to_vec();
                reply.view().push(&Outgoing::json_bytes(json))?;
                reply.json_bytes(message.content())?;
            }
            _ => echo(message, reply)?,
        }
        Ok(())
    }

    fn on_timer(&mut self, _: u64) {
        let (stats, members) = self.ask();
        self.tell(Told::Asked(stats, members));
    }

    fn on_close(&mut self, (): (), _: &mut View<'_>, cause: Cause) {
        self.tell(Told::Closed(cause));
    }
}

fn outgoing(number: u32) -> Outgoing {
    Outgoing::binary("test/bytes", number.to_be_bytes().to_vec())
}

struct Talk {
    server: Running,
    told: Receiver<Told>,
}

impl Talk {
    fn start(backend: Backend, limits: Limits) -> Self {
        Self::start_with_log(backend, limits, |_| {})
    }

    fn start_with_log(
        backend: Backend,
        limits: Limits,
        log: impl FnMut(&LogEvent<'_>) + Send + 'static,
    ) -> Self {
        let (tell, told) = channel();
        let make =
            move || builder(backend).limits(limits).log(log).build(Talking { tell, handle: None });
        let talk = Self { server: Running::start(make), told };
        assert!(matches!(talk.next(), Told::Started(Ok(1), Err(HandleError::OwnLoop))));
        talk
    }

    fn next(&self) -> Told {
        self.told.recv_timeout(PATIENCE).expect("the handler is told something")
    }

    fn opened(&self) -> ConnectionId {
        match self.next() {
            Told::Opened(id, ..) => id,
            told => panic!("{told:?}"),
        }
    }

    fn closed(&self) -> Cause {
        match self.next() {
            Told::Closed(cause) => cause,
            told => panic!("{told:?}"),
        }
    }

    fn deferred(&self) -> Deferred {
        match self.next() {
            Told::Deferred(deferred) => deferred,
            told => panic!("{told:?}"),
        }
    }

    fn connect(&self) -> (Peer<TcpStream>, ConnectionId) {
        let peer = self.server.connect();
        (peer, self.opened())
    }

    /// Has the server connect to the test.
    fn connected(&self) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().into();
        self.server.handle().connect(address, 1, PATIENCE).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let Told::Opened(_, None, _) = self.next() else { panic!("a connection of ours") };
        stream
    }
}

/// A connected pair, of which the server gets one half and the test the other.
fn adopted_pair(talk: &Talk) -> Peer<UnixStream> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    talk.server.handle().adopt(theirs).unwrap();
    Peer::over(ours)
}

fn is_an_adopted_pair_served_like_any_other(backend: Backend) {
    let talk = Talk::start(backend, Limits::default());
    let mut peer = adopted_pair(&talk);
    let Told::Opened(id, None, Some(address)) = talk.next() else { panic!("a connection") };
    assert!(address.is_unix());
    assert_eq!(number_of(&peer.ask(&numbered(1))), 1);
    talk.server.handle().send(id, outgoing(2)).unwrap();
    assert_eq!(number_of(&peer.reply()), 2);
    drop(peer);
    assert_eq!(talk.closed(), Cause::Peer);
    let stats = talk.server.stop();
    assert_eq!((stats.accepted, stats.connected), (1, 0), "{stats}");
}

fn is_an_adopted_tcp_socket_served_like_any_other(backend: Backend) {
    let talk = Talk::start(backend, Limits::default());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = Peer::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    // It blocks; the server changes that.
    talk.server.handle().adopt(listener.accept().unwrap().0).unwrap();
    let Told::Opened(_, None, Some(address)) = talk.next() else { panic!("a connection") };
    assert_eq!(address, peer.stream.local_addr().unwrap().into());
    assert_eq!(number_of(&peer.ask(&numbered(1))), 1);
    // Those that are accepted go on as before.
    let mut accepted = talk.server.connect();
    assert!(matches!(talk.next(), Told::Opened(_, Some(0), _)));
    assert_eq!(number_of(&accepted.ask(&numbered(2))), 2);
    drop((peer, accepted));
    talk.server.stop();
}

fn is_a_socket_without_a_peer_not_adopted(backend: Backend) {
    fn refused(result: Result<(), Error>) -> Option<Errno> {
        match result {
            Err(Error::System(error)) => {
                assert!(error.to_string().contains("getpeername"), "{error}");
                error.errno()
            }
            result => panic!("{result:?}"),
        }
    }
    let talk = Talk::start(backend, Limits::default());
    let handle = talk.server.handle();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(refused(handle.adopt(listener)), Some(Errno::ENOTCONN));
    let unconnected = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(refused(handle.adopt(unconnected)), Some(Errno::ENOTCONN));
    let file = File::open("/dev/null").unwrap();
    assert_eq!(refused(handle.adopt(file)), Errno::from_name("ENOTSOCK"));
    let stats = talk.server.stop();
    assert_eq!((stats.accepted, stats.turned_away), (0, 0), "{stats}");
}

fn is_an_adopted_socket_over_the_limit_closed_and_counted(backend: Backend) {
    let talk = Talk::start(backend, Limits { max_connections: Some(1), ..Limits::default() });
    let (mut first, _) = talk.connect();
    let mut second = adopted_pair(&talk);
    second.expect_end();
    assert_eq!(talk.server.catch_up().turned_away, 1);
    // Its place is there as soon as the first has gone.
    assert_eq!(number_of(&first.ask(&numbered(1))), 1);
    drop(first);
    assert_eq!(talk.closed(), Cause::Peer);
    talk.server.wait_for("the place", |stats| stats.open + stats.lingering == 0);
    let mut third = adopted_pair(&talk);
    talk.opened();
    assert_eq!(number_of(&third.ask(&numbered(3))), 3);
    drop(third);
    let stats = talk.server.stop();
    assert_eq!((stats.accepted, stats.turned_away), (2, 1), "{stats}");
}

fn is_an_adopted_socket_over_its_address_s_limit_closed(backend: Backend) {
    let limits = Limits { max_connections_per_address: Some(1), ..Limits::default() };
    let talk = Talk::start(backend, limits);
    // All peers of Unix sockets count as one.
    let mut first = adopted_pair(&talk);
    talk.opened();
    let mut second = adopted_pair(&talk);
    second.expect_end();
    assert_eq!(number_of(&first.ask(&numbered(1))), 1);
    drop(first);
    let stats = talk.server.stop();
    assert_eq!((stats.refused_by_address, stats.turned_away), (1, 0), "{stats}");
}

fn is_an_adopted_socket_closed_that_comes_during_a_stop(backend: Backend) {
    let talk = Talk::start(backend, Limits::default());
    let (mut first, _) = talk.connect();
    first.send(&binary(b"defer"));
    let deferred = talk.deferred();
    talk.server.shutdown();
    let mut late = adopted_pair(&talk);
    late.expect_end();
    deferred.binary("test/bytes", 4_u32.to_be_bytes().to_vec()).unwrap();
    assert_eq!(number_of(&first.reply()), 4);
    first.expect_end();
    drop(first);
    assert_eq!(talk.server.join().turned_away, 1);
}

fn do_adopted_sockets_go_to_the_loop_with_the_fewest(backend: Backend) {
    let mut servers = Server::builder().backend(backend).threads(3).build_each(|| echo).unwrap();
    let handle = servers.handle();
    let running = std::thread::spawn(move || servers.run());
    let mut peers = Vec::new();
    for number in 0..6 {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        handle.adopt(theirs).unwrap();
        let mut peer = Peer::over(ours);
        assert_eq!(number_of(&peer.ask(&numbered(number))), number);
        peers.push(peer);
    }
    let stats = (0..PATIENCE.as_secs()).find_map(|_| handle.stats().ok()).unwrap();
    let open: Vec<_> = stats.iter().map(|stats| stats.open).collect();
    assert_eq!(open, [2, 2, 2]);
    drop(peers);
    handle.shutdown().unwrap();
    assert!(running.join().unwrap().unwrap());
}

/// The messages that arrive in each send: a socket of datagrams keeps them apart.
fn sends_of(socket: &UnixDatagram, count: u32) -> Vec<u32> {
    let mut numbers = Vec::new();
    let mut sends = Vec::new();
    let mut decoder = myriapod::protocol::Decoder::new(myriapod::protocol::JsonHeader::default());
    let mut bytes = vec![0; 1 << 20];
    while numbers.len() < count as usize {
        let len = socket.recv(&mut bytes).unwrap();
        decoder.feed(&bytes[..len]);
        let before = numbers.len();
        while let Some(message) = decoder.next_message().unwrap() {
            numbers.push(u32::from_be_bytes(message.content().try_into().unwrap()));
        }
        sends.push(u32::try_from(numbers.len() - before).unwrap());
    }
    assert_eq!(numbers, (0..count).collect::<Vec<_>>(), "in order");
    sends
}

fn do_many_pushes_of_one_turn_go_out_with_few_sends(backend: Backend) {
    let (tell, told) = channel();
    let handler = Talking { tell, handle: None };
    let mut server = builder(backend).build(handler).unwrap();
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    let handle = server.handle();
    handle.adopt(theirs).unwrap();
    server.event_loop().run_once(Some(PATIENCE)).unwrap();
    let id = told.try_iter().find_map(|told| match told {
        Told::Opened(id, ..) => Some(id),
        _ => None,
    });
    // All of them wait in the mailbox before the loop looks.
    for number in 0..100 {
        handle.send(id.unwrap(), outgoing(number)).unwrap();
    }
    let running = std::thread::spawn(move || sends_of(&ours, 100));
    while !running.is_finished() {
        server.event_loop().run_once(Some(Duration::from_millis(10))).unwrap();
    }
    let sends = running.join().unwrap();
    // One system call takes 16 pieces.
    assert!(sends.len() <= 7, "{sends:?}");
    assert_eq!(server.stats().pushes, 100);
}

fn do_many_pushes_of_one_call_go_out_with_one_send(backend: Backend) {
    let talk = Talk::start(backend, Limits::default());
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    talk.server.handle().adopt(theirs).unwrap();
    ours.send(&binary(b"push")).unwrap();
    assert_eq!(sends_of(&ours, 100), [100]);
    talk.server.handle().stop_now().unwrap();
    talk.server.join();
}

fn does_close_now_drop_what_is_queued(backend: Backend) {
    let talk = Talk::start(backend, Limits::default());
    let (mut peer, id) = talk.connect();
    let (mut other, _) = talk.connect();
    peer.send(&binary(b"large"));
    talk.server.wait_for("a queue", |stats| stats.short_writes == 1);
    let handle = talk.server.handle();
    handle.close_now(id).unwrap();
    assert_eq!(talk.closed(), Cause::Handler);
    handle.close_now(id).unwrap();
    handle.close(id).unwrap();
    let stats = talk.server.catch_up();
    assert!(stats.discarded_out > 0, "{stats}");
    assert_eq!((stats.missed, stats.lingering, stats.pool_buffers), (2, 0, 0), "{stats}");
    peer.wait_for_end();
    assert_eq!(number_of(&other.ask(&numbered(1))), 1);
    drop(other);
    talk.server.stop();
}

fn does_stop_now_cut_off_what_is_in_flight(backend: Backend) {
    let talk = Talk::start(backend, Limits { drain_timeout: Duration::ZERO, ..Limits::default() });
    let (mut waiting, _) = talk.connect();
    let (mut half, _) = talk.connect();
    waiting.send(&binary(b"defer"));
    let deferred = talk.deferred();
    half.send(&numbered(1)[..9]);
    talk.server.wait_for("the beginning", |stats| stats.bytes_in > 9);
    talk.server.handle().stop_now().unwrap();
    assert_eq!((talk.closed(), talk.closed()), (Cause::CutOff, Cause::CutOff));
    waiting.wait_for_end();
    half.wait_for_end();
    let handle = talk.server.handle();
    let stats = talk.server.join();
    assert_eq!(stats.closed_for(Cause::CutOff), 2, "{stats}");
    assert!(deferred.json("too late").is_err());
    assert_eq!(handle.stop_now(), Err(HandleError::Gone));
}

fn does_a_broadcast_leave_out_the_one_it_came_from(backend: Backend) {
    let talk = Talk::start(backend, Limits::default());
    let handle = talk.server.handle();
    let mut peers: Vec<_> = (0..3).map(|_| talk.connect()).collect();
    for (_, id) in &peers {
        handle.join(*id, "all").unwrap();
    }
    let from = peers[1].1;
    handle.broadcast_except("all", from, outgoing(1)).unwrap();
    handle.broadcast("all", outgoing(2)).unwrap();
    for (peer, id) in &mut peers {
        if *id != from {
            assert_eq!(number_of(&peer.reply()), 1);
        }
        assert_eq!(number_of(&peer.reply()), 2);
    }
    drop(peers);
    assert_eq!(talk.server.stop().pushes, 5);
}

fn are_the_members_of_a_group_those_that_are_in_it(backend: Backend) {
    let talk = Talk::start(backend, Limits::default());
    let handle = talk.server.handle();
    let mut peers: Vec<_> = (0..3).map(|_| talk.connect()).collect();
    let mut ids: Vec<_> = peers.iter().map(|(_, id)| *id).collect();
    for id in &ids {
        handle.join(*id, "all").unwrap();
        handle.join(*id, "all").unwrap();
    }
    talk.server.catch_up();
    let members = |group: &str| {
        let mut members = handle.members(group).unwrap();
        members.sort();
        assert_eq!(handle.group_size(group), Ok(members.len()));
        members
    };
    ids.sort();
    assert_eq!(members("all"), ids);
    assert_eq!(members("nobody"), []);
    let left = ids.remove(0);
    handle.leave(left, "all").unwrap();
    assert_eq!(members("all"), ids);
    let gone = peers.iter().position(|(_, id)| *id == ids[0]).unwrap();
    drop(peers.remove(gone));
    assert_eq!(talk.closed(), Cause::Peer);
    assert_eq!(members("all"), ids[1..]);
    drop(peers);
    talk.server.stop();
}

fn do_new_peers_wait_until_accepting_resumes(backend: Backend) {
    let talk = Talk::start(backend, Limits::default());
    let handle = talk.server.handle();
    let (mut old, _) = talk.connect();
    handle.stop_accepting().unwrap();
    handle.stop_accepting().unwrap();
    talk.server.catch_up();
    let mut new = talk.server.connect();
    new.send(&numbered(1));
    // Neither a change of limits nor a departure lets it in.
    handle.set_limits(&Limits { max_connections: Some(500), ..Limits::default() }).unwrap();
    let adopted = adopted_pair(&talk);
    talk.opened();
    drop(adopted);
    assert_eq!(talk.closed(), Cause::Peer);
    for number in 0..20 {
        assert_eq!(number_of(&old.ask(&numbered(number))), number);
    }
    assert_eq!(talk.server.catch_up().accepted, 2);
    handle.resume_accepting().unwrap();
    talk.opened();
    assert_eq!(number_of(&new.reply()), 1);
    drop((old, new));
    talk.server.stop();
}

fn does_a_stop_serve_those_that_wait_while_nobody_is_accepted(backend: Backend) {
    let talk = Talk::start(backend, Limits::default());
    talk.server.handle().stop_accepting().unwrap();
    talk.server.catch_up();
    let mut waiting = talk.server.connect();
    waiting.send(&numbered(5));
    talk.server.shutdown();
    assert_eq!(number_of(&waiting.reply()), 5);
    waiting.expect_end();
    drop(waiting);
    assert_eq!(talk.server.join().accepted, 1);
}

fn does_a_deferred_error_become_an_error_reply(backend: Backend) {
    let talk = Talk::start(backend, Limits::default());
    let (mut peer, _) = talk.connect();
    for close in [false, true] {
        peer.send(&binary(b"defer"));
        let mut deferred = talk.deferred();
        if close {
            deferred.close();
        }
        deferred.error(myriapod::HandlerError::new("NotFound", "there is none")).unwrap();
        let reply = peer.reply();
        assert_eq!(error_kind(&reply), "NotFound");
        let content = reply.as_message().json().unwrap();
        assert_eq!(content["result"], "Error: there is none");
    }
    peer.expect_end();
    drop(peer);
    let stats = talk.server.stop();
    assert_eq!((stats.handler_errors, stats.replies, stats.missed), (2, 2, 0), "{stats}");
}

/// A server whose log tells the test of errors and faults.
fn logged(backend: Backend) -> (Talk, Receiver<String>) {
    let (tell, lines) = channel();
    let talk = Talk::start_with_log(backend, Limits::default(), move |event| {
        if matches!(event, LogEvent::HandlerError { .. } | LogEvent::Fault { .. }) {
            let _ = tell.send(event.to_string());
        }
    });
    (talk, lines)
}

/// All that comes, up to the end.
fn rest_of(mut stream: TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    rest
}

fn is_an_error_about_a_server_of_others_not_sent_to_it(backend: Backend) {
    let (talk, lines) = logged(backend);
    let mut upstream = talk.connected();
    upstream.write_all(&binary(b"fail")).unwrap();
    assert_eq!(rest_of(upstream), b"");
    assert_eq!(talk.closed(), Cause::Handler);
    let line = lines.recv_timeout(PATIENCE).unwrap();
    assert!(line.contains("asked to fail"), "{line}");
    // Replies to what came before the error are no errors.
    let mut upstream = talk.connected();
    upstream.write_all(&[numbered(1), binary(b"fail"), numbered(2)].concat()).unwrap();
    assert_eq!(rest_of(upstream), numbered(1));
    let stats = talk.server.stop();
    assert_eq!((stats.handler_errors, stats.replies, stats.messages), (2, 1, 3), "{stats}");
}

fn is_a_fault_of_a_server_of_others_not_answered(backend: Backend) {
    let (talk, lines) = logged(backend);
    let mut upstream = talk.connected();
    upstream.write_all(b"\xff\xff").unwrap();
    assert_eq!(rest_of(upstream), b"");
    assert_eq!(talk.closed(), Cause::Fault);
    let line = lines.recv_timeout(PATIENCE).unwrap();
    assert!(line.contains("HeaderTooLong"), "{line}");
    assert_eq!(talk.server.stop().replies, 0);
}

fn is_a_deferred_error_about_a_server_of_others_not_sent(backend: Backend) {
    let (talk, lines) = logged(backend);
    for abandon in [false, true] {
        let mut upstream = talk.connected();
        upstream.write_all(&binary(b"defer")).unwrap();
        let deferred = talk.deferred();
        if abandon {
            drop(deferred);
        } else {
            deferred.error("no answer").unwrap();
        }
        assert_eq!(rest_of(upstream), b"");
        assert_eq!(talk.closed(), Cause::Handler);
    }
    let line = lines.recv_timeout(PATIENCE).unwrap();
    assert!(line.contains("no answer"), "{line}");
    assert_eq!(talk.server.stop().replies, 0);
}

fn is_a_handler_that_asks_for_the_counts_answered_at_once(backend: Backend) {
    // Not answered at once means a second later, by an error.
    let talk = Talk::start(backend, Limits::default());
    let (mut peer, _) = talk.connect();
    for _ in 0..3 {
        peer.send(&binary(b"ask"));
        assert!(matches!(talk.next(), Told::Asked(Ok(1), Err(HandleError::OwnLoop))));
        peer.reply();
    }
    talk.server.handle().timer(Duration::ZERO, 1).unwrap();
    assert!(matches!(talk.next(), Told::Asked(Ok(1), Err(HandleError::OwnLoop))));
    drop(peer);
    talk.server.stop();
}

fn can_json_bytes_that_were_passed_on_be_read(backend: Backend) {
    let talk = Talk::start(backend, Limits::default());
    let (mut peer, id) = talk.connect();
    let value = serde_json::json!({ "news": ["é", null, 1.5] });
    peer.send(&common::json(&value));
    // One is a push, the other the reply.
    for _ in 0..2 {
        assert_eq!(peer.reply().as_message().json().unwrap(), value);
    }
    let json = Outgoing::json_bytes(br#" [1, "two"]"#.to_vec());
    talk.server.handle().send(id, json).unwrap();
    assert_eq!(peer.reply().as_message().json().unwrap(), serde_json::json!([1, "two"]));
    peer.send(&binary(b"defer"));
    talk.deferred().json_bytes(b"{}".to_vec()).unwrap();
    assert_eq!(peer.reply().as_message().json().unwrap(), serde_json::json!({}));
    drop(peer);
    talk.server.stop();
}
