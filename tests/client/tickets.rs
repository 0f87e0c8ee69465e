//! Does each reply find its request, in whatever order they come, and everything else its own place?

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use myriapod::protocol::{DecodeLimits, Decoder, ExtraHeaders, Head, encode};
use myriapod::{
    Client, ClientOptions, Error, HandlerError, HandlerResult, Message, Reconnect, Reply, Server,
};
use serde_json::{Value, json};

use crate::common::{PATIENCE, Running};

fn with(keys: &[(&str, Value)]) -> ExtraHeaders {
    let mut extra = ExtraHeaders::new();
    for (key, value) in keys {
        extra.push(key, value).unwrap();
    }
    extra
}

/// A server of one connection that the test writes by itself: reads a request, or sends a message.
struct Peer {
    stream: TcpStream,
    decoder: Decoder,
}

impl Peer {
    /// The content of the next request and its `id`.
    fn request(&mut self) -> (String, Value) {
        let mut piece = [0; 4096];
        loop {
            if let Some(message) = self.decoder.next_message().unwrap() {
                let text = message.text().unwrap().into_owned();
                return (text, message.header("id").unwrap());
            }
            let read = self.stream.read(&mut piece).unwrap();
            assert!(read > 0, "a request");
            self.decoder.feed(&piece[..read]);
        }
    }

    fn send(&mut self, keys: &[(&str, Value)], content: &str) {
        let (extra, mut wire) = (with(keys), Vec::new());
        let head = Head { extra: &extra, content_encoding: "utf-8", ..Head::binary("text/plain") };
        encode(&mut wire, &head, content.as_bytes()).unwrap();
        self.stream.write_all(&wire).unwrap();
    }
}

/// A client, and what serves it on a thread.
fn client_of(options: ClientOptions, serve: impl FnOnce(Peer) + Send + 'static) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        serve(Peer { stream, decoder: Decoder::default() });
    });
    Client::connect_with("127.0.0.1", port, options).unwrap()
}

fn text(message: &myriapod::protocol::OwnedMessage) -> String {
    message.as_message().text().unwrap().into_owned()
}

fn start(client: &mut Client, content: &str) -> myriapod::Ticket {
    let head = Head { content_encoding: "utf-8", ..Head::binary("text/plain") };
    client.start(&head, content.as_bytes()).unwrap()
}

#[test]
fn are_replies_told_apart_in_whatever_order_they_come() {
    let mut client = client_of(ClientOptions::default(), |mut peer| {
        let mut requests: Vec<_> = (0..3).map(|_| peer.request()).collect();
        peer.send(&[], "a push");
        while let Some((text, id)) = requests.pop() {
            peer.send(&[("id", id)], &text);
            // Nobody has asked this, or it was asked as text.
            peer.send(&[("id", json!(1000))], "another");
            peer.send(&[("id", json!("1"))], "a third");
        }
        peer.request();
    });
    let tickets = ["one", "two", "three"].map(|text| start(&mut client, text));
    assert_eq!(client.awaited(), 3);
    assert_eq!(text(&client.wait(tickets[0]).unwrap()), "one");
    assert_eq!(text(&client.wait(tickets[2]).unwrap()), "three");
    assert_eq!(text(&client.wait(tickets[1]).unwrap()), "two");
    assert_eq!(client.awaited(), 0);
    assert!(matches!(client.wait(tickets[1]), Err(Error::NothingAwaited)), "it was taken");
    let pushes: Vec<_> = std::iter::from_fn(|| client.next_push()).map(|one| text(&one)).collect();
    assert_eq!(pushes[..3], ["a push", "another", "a third"]);
    assert_eq!(client.dropped_pushes(), 0);
}

#[test]
fn are_pushes_bounded_and_the_oldest_dropped() {
    let options = ClientOptions { max_pushes: 2, ..ClientOptions::default() };
    let mut client = client_of(options, |mut peer| {
        let (text, id) = peer.request();
        ["1", "2", "3", "4", "5"].iter().for_each(|push| peer.send(&[], push));
        peer.send(&[("id", id)], &text);
        peer.request();
    });
    let ticket = start(&mut client, "one");
    assert_eq!(text(&client.wait(ticket).unwrap()), "one");
    let pushes: Vec<_> = std::iter::from_fn(|| client.next_push()).map(|one| text(&one)).collect();
    assert_eq!((pushes.as_slice(), client.dropped_pushes()), (&["4".into(), "5".into()][..], 3));
}

#[test]
fn does_a_closure_get_each_push() {
    let mut client = client_of(ClientOptions::default(), |mut peer| {
        // Before anything was asked, too.
        peer.send(&[], "early");
        let (text, id) = peer.request();
        peer.send(&[], "late");
        peer.send(&[("id", id)], &text);
        peer.request();
    });
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hear = Arc::clone(&heard);
    client.on_push(move |push| hear.lock().unwrap().push(push.text().unwrap().into_owned()));
    let ticket = start(&mut client, "one");
    assert_eq!(text(&client.wait(ticket).unwrap()), "one");
    assert_eq!(*heard.lock().unwrap(), ["early", "late"]);
    assert_eq!(client.connections(), 1);
}

#[test]
fn is_what_nobody_takes_bounded() {
    let options = ClientOptions { max_tickets: 3, max_kept_bytes: 1_000, ..Default::default() };
    let mut client = client_of(options, |mut peer| {
        let requests: Vec<_> = (0..3).map(|_| peer.request()).collect();
        for (_, id) in requests.into_iter().rev() {
            peer.send(&[("id", id)], &"x".repeat(2_000));
        }
        peer.request();
    });
    let tickets = ["one", "two", "three"].map(|text| start(&mut client, text));
    let fourth = client.start(&Head::json(), b"4");
    assert!(matches!(fourth, Err(Error::TooManyTickets { count: 3 })), "{fourth:?}");
    let kept = client.wait(tickets[0]);
    assert!(matches!(kept, Err(Error::TooMuchKept { bytes: 2_000.. })), "{kept:?}");
    for ticket in [tickets[2], tickets[1], tickets[0]] {
        client.wait(ticket).unwrap();
    }
}

#[test]
fn are_tickets_lost_with_their_connection_and_no_reply_mistaken() {
    let mut client = client_of(ClientOptions::default(), |mut peer| {
        let (text, id) = peer.request();
        peer.request();
        peer.send(&[("id", id)], &text);
    });
    let (one, two) = (start(&mut client, "one"), start(&mut client, "two"));
    assert!(matches!(client.wait(two), Err(Error::Closed { .. })));
    assert_eq!(text(&client.wait(one).unwrap()), "one", "it had come");
    assert!(matches!(client.wait(two), Err(Error::NothingAwaited)));
}

#[test]
fn does_a_client_come_back_when_its_server_does() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let reconnect = Reconnect {
        attempts: 100_000,
        first: Duration::from_millis(1),
        most: Duration::from_millis(2),
    };
    let options = ClientOptions { reconnect: Some(reconnect), ..ClientOptions::default() };
    let mut client = Client::connect_with("127.0.0.1", port, options).unwrap();
    let (gone, _) = listener.accept().unwrap();
    drop((gone, listener));
    let client = std::thread::spawn(move || {
        let ticket = client.start_json(&1)?;
        let reply = client.wait(ticket)?.as_message().json()?;
        Ok::<_, Error>((reply, client.connections()))
    });
    let make = move || Server::builder().listen("127.0.0.1", port).answer(answer);
    let server = Running::start(make);
    assert_eq!(client.join().unwrap().unwrap(), (json!({ "answer": 1 }), 2));
    server.stop();
}

#[test]
fn does_a_client_give_up_after_its_attempts() {
    let three = Reconnect { attempts: 3, first: Duration::ZERO, most: Duration::ZERO };
    for reconnect in [None, Some(three)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let options = ClientOptions { reconnect, ..ClientOptions::default() };
        let mut client = Client::connect_with("127.0.0.1", port, options).unwrap();
        drop(listener);
        client.close();
        let refused = client.start_json(&1).unwrap_err();
        assert_eq!(refused.io_kind(), std::io::ErrorKind::ConnectionRefused);
        let refused = Client::connect_with("127.0.0.1", port, options).unwrap_err();
        assert_eq!(refused.io_kind(), std::io::ErrorKind::ConnectionRefused);
    }
}

/// Does what the content says.
fn answer(message: Message<'_>, reply: &mut Reply<'_>) -> HandlerResult {
    let value = message.json()?;
    match value.as_str() {
        Some("fail") => return Err(HandlerError::new("No", "not this")),
        Some("defer") => {
            let deferred = reply.defer()?;
            std::thread::spawn(move || deferred.json("later"));
        }
        Some("defer and fail") => {
            let deferred = reply.defer()?;
            std::thread::spawn(move || deferred.error("not this"));
        }
        Some("abandon") => drop(reply.defer()?),
        Some("echo") => reply.echo(&message)?,
        Some("its own") => {
            reply.header("id", "another")?;
            reply.json("its own")?;
        }
        Some("with a key") => {
            reply.header("key", &1)?;
            reply.json("with a key")?;
        }
        Some("file") => {
            let file = File::open(std::env::current_exe()?)?;
            reply.file("test/bytes", file, 0..100_000)?;
        }
        Some("stream") => reply.stream("test/bytes", 100_000, std::io::repeat(7))?,
        Some("no json") => return message.json_as::<u8>().map(drop).map_err(Into::into),
        _ => reply.json(&json!({ "answer": value }))?,
    }
    Ok(())
}

#[test]
fn does_every_reply_carry_the_id_of_its_request() {
    let server = Running::start(|| Server::builder().listen("127.0.0.1", 0).answer(answer));
    let limits = DecodeLimits::default();
    let options = ClientOptions { limits, ..ClientOptions::default() };
    let mut client = Client::connect_with("127.0.0.1", server.address().port(), options).unwrap();
    let orders = [
        "fail",
        "defer",
        "defer and fail",
        "echo",
        "with a key",
        "file",
        "stream",
        "no json",
        "any",
    ];
    let ids = [json!(7), json!(1e300), json!("a, \"b\\"), json!(null), json!(true), json!("é")];
    for (at, id) in ids.iter().cycle().take(ids.len() * orders.len()).enumerate() {
        let (order, id) = (orders[at % orders.len()], id.clone());
        // In turn with one that has none: neither is taken for the other's.
        for keys in [vec![("before", json!({ "id": 1 })), ("id", id.clone())], Vec::new()] {
            let extra = with(&keys);
            let head = Head { extra: &extra, ..Head::json() };
            let content = serde_json::to_vec(order).unwrap();
            let reply = client.request(&head, &content).unwrap();
            let expected = (!keys.is_empty()).then(|| id.clone());
            assert_eq!(reply.header("id"), expected, "{order}: {keys:?}");
            let is_error = matches!(order, "fail" | "defer and fail" | "no json");
            assert_eq!(reply.error_kind().is_some(), is_error, "{order}");
        }
    }
    // The same request twice and more, whose header would be predicted if it had no id.
    let extra = with(&[("id", json!(5))]);
    let head = Head { extra: &extra, ..Head::json() };
    for _ in 0..5 {
        assert_eq!(client.request(&head, b"1").unwrap().header("id"), Some(json!(5)));
        let own = client.request(&head, b"\"its own\"").unwrap();
        assert_eq!(own.header("id"), Some(json!("another")));
    }
    for (id, expected) in [(json!([1]), None), (json!({}), None), (json!("x".repeat(300)), None)] {
        let extra = with(&[("id", id)]);
        let head = Head { extra: &extra, ..Head::json() };
        assert_eq!(client.request(&head, b"1").unwrap().header("id"), expected, "no short scalar");
    }
    let extra = with(&[("id", json!(9))]);
    let abandoned = client.request(&Head { extra: &extra, ..Head::json() }, b"\"abandon\"");
    let abandoned = abandoned.unwrap();
    assert_eq!(abandoned.error_kind().as_deref(), Some("Abandoned"));
    assert_eq!(abandoned.header("id"), Some(json!(9)));
    drop(client);
    server.stop();
}
