//! What becomes of the errors that a handler's own calls return, whatever their type?

#![cfg(feature = "json")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by them")]

mod common;

use std::error::Error;
use std::fmt;

use anyhow::Context;
use common::{Running, builder};
use myriapod::protocol::{Fault, ProtocolError};
use myriapod::{Client, HandlerError, HandlerResult, Message};

/// What `?` makes of an error.
fn made_of<E: Into<HandlerError>>(error: E) -> HandlerError {
    error.into()
}

fn not_json() -> ProtocolError {
    ProtocolError::new(Fault::ContentNotJson)
}

/// An error that names another as its source.
#[derive(Debug)]
struct Because<E>(E);

impl<E> fmt::Display for Because<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("for a reason")
    }
}

impl<E: Error + 'static> Error for Because<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// An error that is its own source.
#[derive(Debug)]
struct Circle;

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("round and round")
    }
}

impl Error for Circle {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self)
    }
}

#[test]
fn is_an_error_of_any_type_kept_with_its_text() {
    let text = "the disk is full";
    let io = || std::io::Error::other(text);
    let not_sent = std::rc::Rc::from(text);
    #[derive(Debug)]
    struct NotSend(std::rc::Rc<str>);
    impl fmt::Display for NotSend {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(&self.0)
        }
    }
    impl Error for NotSend {}

    for error in [
        made_of(io()),
        made_of(Box::new(io())),
        made_of::<Box<dyn Error>>(io().into()),
        made_of(anyhow::Error::from(io())),
        made_of(anyhow::Error::msg(text)),
        made_of(text),
        made_of(text.to_owned()),
        made_of(NotSend(not_sent)),
        HandlerError::boxed(text),
        HandlerError::boxed(Box::<dyn Error + Send + Sync>::from(io())),
    ] {
        assert_eq!((error.to_string().as_str(), error.kind()), (text, "HandlerError"));
        assert_eq!(error.fault(), None);
    }
}

#[test]
fn is_a_fault_of_the_content_known_in_every_box() {
    let boxed = Box::<dyn Error + Send + Sync>::from(not_json());
    for error in [
        made_of(not_json()),
        made_of::<Box<dyn Error>>(not_json().into()),
        HandlerError::boxed(boxed),
        made_of(anyhow::Error::from(not_json())),
        made_of(anyhow::Error::from(not_json()).context("of the order")),
        made_of(Because(not_json())),
        made_of(Because(Because(not_json()))),
    ] {
        assert_eq!(error.kind(), "ContentNotJson", "{error}");
        assert_eq!(error.fault().map(ProtocolError::kind), Some(Fault::ContentNotJson));
    }
}

#[test]
fn is_the_fault_of_somebody_else_not_blamed_on_the_peer() {
    let upstream = || myriapod::Error::from(not_json());
    // A header that the framing has read has no fault.
    let header = || ProtocolError::new(Fault::HeaderNotJson);
    for error in [
        made_of(upstream()),
        made_of(Because(upstream())),
        made_of(Because(header())),
        made_of(anyhow::Error::from(header())),
        made_of(Circle),
        made_of(Because(Circle)),
    ] {
        assert_eq!((error.kind(), error.fault()), ("HandlerError", None), "{error}");
    }
}

#[test]
fn is_the_peer_told_what_a_handler_with_anyhow_returns() {
    fn shout(message: &Message<'_>) -> anyhow::Result<String> {
        let text: String = message.json_as().context("a text is wanted")?;
        anyhow::ensure!(!text.is_empty(), "nothing to shout");
        Ok(text.to_uppercase())
    }

    let server = Running::start(|| {
        builder(myriapod::Backend::native()).answer(|message, reply| -> HandlerResult {
            let text = shout(&message)?;
            Ok(reply.json(&text)?)
        })
    });
    let mut client = Client::connect("127.0.0.1", server.address().port()).unwrap();
    for (request, kind, said) in [
        (serde_json::json!("hello"), None, serde_json::json!("HELLO")),
        (serde_json::json!(""), Some("HandlerError"), serde_json::json!("Error: nothing to shout")),
        (
            serde_json::json!(7),
            Some("ContentMismatch"),
            serde_json::json!("Error: a text is wanted"),
        ),
    ] {
        let reply = client.request_json(&request).unwrap();
        let (told, error) = (reply.json().unwrap(), reply.error_kind());
        assert_eq!((told.get("result").unwrap_or(&told), error.as_deref()), (&said, kind));
    }
    drop(client);
    let stats = server.stop();
    assert_eq!((stats.handler_errors, stats.faults[Fault::ContentMismatch as usize]), (1, 1));
}
