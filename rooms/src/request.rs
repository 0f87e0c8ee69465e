//! [`Request`]: what a client asks for, as the JSON object that it sends.

use myriapod::HandlerError;
use serde::Deserialize;

/// The keys of all requests. Others are passed over.
#[derive(Debug, Deserialize)]
pub(super) struct Keys {
    action: Option<String>,
    room: Option<String>,
    name: Option<String>,
    to: Option<String>,
    text: Option<String>,
    last: Option<u64>,
}

/// What a client asks for in a room.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    Join { name: String },
    Leave,
    Say { text: String },
    Tell { to: String, text: String },
    Members,
    History { last: Option<u64> },
}

impl Keys {
    /// The room, and what is asked for in it.
    pub(super) fn into_request(self) -> Result<(String, Request), HandlerError> {
        let Self { action, room, name, to, text, last } = self;
        let action = need(action, "action")?;
        let request = match action.as_str() {
            "join" => Request::Join { name: need(name, "name")? },
            "leave" => Request::Leave,
            "say" => Request::Say { text: need(text, "text")? },
            "tell" => Request::Tell { to: need(to, "to")?, text: need(text, "text")? },
            "members" => Request::Members,
            "history" => Request::History { last },
            _ => {
                let all = "join, leave, say, tell, members and history";
                return Err(HandlerError::new("UnknownAction", format!("the actions are {all}")));
            }
        };
        Ok((need(room, "room")?, request))
    }
}

fn need(value: Option<String>, key: &str) -> Result<String, HandlerError> {
    value.ok_or_else(|| HandlerError::new("MissingKey", format!("the request has no {key:?}")))
}
