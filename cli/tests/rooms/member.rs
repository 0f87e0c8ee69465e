//! A member of rooms, which writes its bytes itself.

use std::net::{Ipv4Addr, TcpStream};

use serde_json::{Value, json};

use crate::support::{Client, json as json_message};

/// A client that keeps replies and pushes apart.
pub(crate) struct Member {
    client: Client<TcpStream>,
    /// Pushes that came before a reply which was waited for.
    pushes: Vec<Value>,
}

impl Member {
    pub(crate) fn connect(port: u16) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        Self { client: Client::new(stream), pushes: Vec::new() }
    }

    /// One that is in a room.
    pub(crate) fn join(port: u16, room: &str, name: &str) -> Self {
        let mut member = Self::connect(port);
        let reply = member.ask(&json!({ "action": "join", "room": room, "name": name }));
        assert_eq!(reply["result"], "joined", "{reply}");
        member
    }

    pub(crate) fn send(&mut self, request: &Value) {
        self.client.send(&json_message(&request.to_string()));
    }

    /// Sends these at once.
    pub(crate) fn send_all(&mut self, requests: &[&Value]) {
        let all: Vec<u8> =
            requests.iter().flat_map(|request| json_message(&request.to_string())).collect();
        self.client.send(&all);
    }

    /// The next message, whatever it is; an error reply has its kind as `error`.
    pub(crate) fn next(&mut self) -> Value {
        self.try_next().unwrap()
    }

    /// The same, or `None` where the server closes.
    pub(crate) fn try_next(&mut self) -> Option<Value> {
        let answer = self.client.try_receive()?;
        let mut value: Value = serde_json::from_slice(&answer.content).unwrap();
        if let Some(kind) = answer.header.get("error") {
            value["error"] = kind.clone();
        }
        Some(value)
    }

    /// Sends a request and waits for its reply.
    pub(crate) fn ask(&mut self, request: &Value) -> Value {
        self.send(request);
        self.reply()
    }

    /// The next reply.
    pub(crate) fn reply(&mut self) -> Value {
        loop {
            let message = self.next();
            if message.get("event").is_none() {
                return message;
            }
            self.pushes.push(message);
        }
    }

    pub(crate) fn say(&mut self, room: &str, text: &str) -> Value {
        self.ask(&json!({ "action": "say", "room": room, "text": text }))
    }

    /// The next push.
    pub(crate) fn push(&mut self) -> Value {
        if !self.pushes.is_empty() {
            return self.pushes.remove(0);
        }
        let message = self.next();
        assert!(message.get("event").is_some(), "{message}");
        message
    }

    /// The next push with this event; others are passed over.
    pub(crate) fn push_of(&mut self, event: &str) -> Value {
        loop {
            let push = self.push();
            if push["event"] == event {
                return push;
            }
        }
    }
}
