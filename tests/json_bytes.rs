//! Can JSON text that is there already be passed on, so that it arrives as JSON?

#![cfg(feature = "json")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by them")]

mod common;

use common::{Running, builder, on_every_backend};
use myriapod::protocol::{Fault, Head};
use myriapod::{Backend, Client, Message, Outgoing, Reply};
use serde_json::json as value;

on_every_backend! {
    do_json_bytes_arrive_as_json_in_a_reply,
    do_json_bytes_arrive_as_json_in_a_later_reply,
    do_json_bytes_arrive_as_json_in_an_outgoing_message,
    are_json_bytes_that_are_no_json_a_fault_of_the_content,
}

/// Sends a request with this JSON to a server that passes it on, and gets what arrives.
fn passed_on(
    backend: Backend,
    json: &'static str,
    pass_on: fn(&Message<'_>, &mut Reply<'_>),
) -> Result<serde_json::Value, Fault> {
    let server = Running::start(move || {
        builder(backend).answer(move |message, reply| {
            pass_on(&message, reply);
            Ok(())
        })
    });
    let mut client = Client::connect("127.0.0.1", server.address().port()).unwrap();
    let reply = client.request(&Head::json(), json.as_bytes()).unwrap();
    assert_eq!((reply.content_type(), reply.content_encoding()), ("text/json", "utf-8"));
    assert_eq!(reply.content(), json.as_bytes(), "not a byte is changed");
    reply.json().map_err(|error| error.kind())
}

fn do_json_bytes_arrive_as_json_in_a_reply(backend: Backend) {
    let reply = passed_on(backend, r#"{"a":  [1, "ü"]}"#, |message, reply| {
        reply.json_bytes(message.content()).unwrap();
    });
    assert_eq!(reply, Ok(value!({ "a": [1, "ü"] })));
}

fn do_json_bytes_arrive_as_json_in_a_later_reply(backend: Backend) {
    let reply = passed_on(backend, "[1,2]", |message, reply| {
        let (json, deferred) = (message.content().to_vec(), reply.defer().unwrap());
        std::thread::spawn(move || deferred.json_bytes(json).unwrap());
    });
    assert_eq!(reply, Ok(value!([1, 2])));
}

fn do_json_bytes_arrive_as_json_in_an_outgoing_message(backend: Backend) {
    let reply = passed_on(backend, "null", |message, reply| {
        reply.defer().unwrap().send(Outgoing::json_bytes(message.content().to_vec())).unwrap();
    });
    assert_eq!(reply, Ok(value!(null)));
}

fn are_json_bytes_that_are_no_json_a_fault_of_the_content(backend: Backend) {
    let reply = passed_on(backend, "{", |message, reply| {
        reply.json_bytes(message.content()).unwrap();
    });
    assert_eq!(reply, Err(Fault::ContentNotJson));
}
