//! What others see of our programs: what they print, when they close, who hears whom.

use myriapod::Client;
use serde_json::json;

use crate::programs::{Running, example, patiently};

fn app_server() -> (Running, u16) {
    let mut command = example("app_server");
    command.args(["127.0.0.1", "0"]);
    let mut server = Running::start(command);
    let port = server.port();
    (server, port)
}

/// Spaces and marks that nobody sees are escaped, as Python does; letters and emoji are not.
#[test]
fn is_invisible_text_shown_as_python_shows_it() {
    let (mut server, port) = app_server();
    let value = "a\u{a0}b\u{200b}c\u{2028}d\u{202e}e\u{e0001}né 🐶 e\u{301}";
    let asked = json!({ "action": "search", "value": value });
    Client::connect("127.0.0.1", port).unwrap().request_json(&asked).unwrap();
    server.line();
    let shown = server.line();
    let expected = r"'value': 'a\xa0b\u200bc\u2028d\u202ee\U000e0001né 🐶 e";
    assert!(shown.contains(&format!("{expected}\u{301}'")), "{shown}");
}

#[test]
fn does_an_error_reply_end_the_connection_too() {
    let (_server, port) = app_server();
    for wrong in [json!(["search", "ring"]), json!({ "action": "search" }), json!(7)] {
        let mut client = Client::connect("127.0.0.1", port).unwrap();
        let reply = client.request_json(&wrong).unwrap();
        assert_eq!(reply.error_kind().as_deref(), Some("NoRequest"), "{wrong}");
        // Nothing more comes but the end. (A further request would connect anew.)
        let end = client.wait_for_push().unwrap_err();
        assert!(matches!(end, myriapod::Error::Closed { .. }), "{end}");
    }
}

/// Another server than ours may answer with less than "Msg received".
#[test]
fn does_a_short_answer_keep_nobody_waiting() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut buffer = [0; 4096];
        while client.read(&mut buffer).is_ok_and(|count| count > 0) {
            client.write_all(b"ok").unwrap();
        }
    });
    let mut command = example("threaded_client");
    command.args(["127.0.0.1", &port]);
    assert_eq!(Running::start(command).succeed(), ["ok"; 4]);
}

/// The last step of the ladder: a search is answered as before, and others hear what is said.
#[test]
fn do_the_clients_of_the_last_step_hear_each_other() {
    // Port 0 is not told by a step: it prints nothing.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = example("steps");
    command.args(["14", "127.0.0.1", &free.to_string()]);
    let _server = Running::start(command);
    let connect = || Client::connect("127.0.0.1", free).ok();
    let mut speaker = patiently("the chat", connect);
    let mut listener = patiently("the chat", connect);
    // Answered, so it is in the room.
    let asked = json!({ "action": "search", "value": "ring" });
    let reply = listener.request_json(&asked).unwrap();
    assert_eq!(reply.json().unwrap()["result"], "No match for 'ring'.");
    let reply = speaker.request_json(&json!({ "say": "Hello" })).unwrap();
    assert_eq!(reply.json().unwrap()["result"], "said");
    let heard = listener.wait_for_push().unwrap();
    let heard = heard.as_message().json().unwrap();
    assert_eq!((&heard["event"], &heard["text"]), (&json!("said"), &json!("Hello")));
}
