//! [`Talk`]: the conversation with a server of rooms, without a socket.
//!
//! One request is under way at a time, so that a reply needs no number, and no more is asked than a
//! server answers. What has to be done comes out as [`Step`]s.

use serde_json::{Value, json};

use super::screen::Heard;
use myriapod_command::failure::Failure;

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Send this request.
    Send(Value),
    /// Show it, as what was said.
    Show,
    /// Say where one is, and what can be done there.
    Greet,
    /// Show who is in the room.
    ShowMembers,
    /// Show what was said before, but for messages up to this number.
    ShowHistory { after: u64 },
    /// Tell people on standard error.
    Tell(String),
    /// Send the same request again, in a moment.
    Again,
    /// Give the connection up, and make another in a moment.
    Reconnect,
    /// Wait a moment for what is still on its way, then end.
    EndSoon,
    /// It is over.
    End(Result<(), Failure>),
}

/// The request that has no reply yet.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Nothing,
    Join,
    History,
    Line(String),
    /// Of no interest, but that the server answers.
    Alive,
}

#[derive(Debug)]
pub(super) struct Talk {
    room: String,
    name: String,
    history: u64,
    json: bool,
    asked: Asked,
    is_connected: bool,
    /// It was in the room before.
    was_in: bool,
    is_in: bool,
    /// The number of the last message that was shown.
    last_n: u64,
    /// Our own messages that were taken, and have not come back.
    on_their_way: u64,
    input_ended: bool,
}

impl Talk {
    pub(super) fn new(room: &str, name: &str, history: u64, json: bool) -> Self {
        Self {
            room: room.to_owned(),
            name: name.to_owned(),
            history,
            json,
            asked: Asked::Nothing,
            is_connected: false,
            was_in: false,
            is_in: false,
            last_n: 0,
            on_their_way: 0,
            input_ended: false,
        }
    }

    /// Whether a line of input can be taken.
    pub(super) fn is_free(&self) -> bool {
        self.is_in && self.asked == Asked::Nothing && !self.input_ended
    }

    pub(super) fn room(&self) -> &str {
        &self.room
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it was in the room at some time.
    pub(super) const fn was_in(&self) -> bool {
        self.was_in
    }

    pub(super) fn opened(&mut self) -> Vec<Step> {
        self.is_connected = true;
        self.asked = Asked::Join;
        vec![Step::Send(json!({ "action": "join", "room": self.room, "name": self.name }))]
    }

    /// The connection is gone.
    pub(super) fn closed(&mut self) -> Vec<Step> {
        self.is_connected = false;
        self.is_in = false;
        self.on_their_way = 0;
        let mut steps = Vec::new();
        if let Asked::Line(line) = std::mem::replace(&mut self.asked, Asked::Nothing) {
            steps.push(Step::Tell(format!("the connection was lost; perhaps not said: {line}")));
        }
        if self.input_ended {
            let failure = Failure::new("the connection was lost");
            steps.push(Step::End(if steps.is_empty() { Ok(()) } else { Err(failure) }));
        } else {
            steps.push(Step::Reconnect);
        }
        steps
    }

    /// A line of input.
    pub(super) fn line(&mut self, line: &str) -> Vec<Step> {
        let room = &self.room;
        let say = |text: &str| json!({ "action": "say", "room": room, "text": text });
        let request =
            match line.strip_prefix('/').map(|rest| rest.split_once(' ').unwrap_or((rest, ""))) {
                _ if line.is_empty() => return Vec::new(),
                None => say(line),
                Some(_) if line.starts_with("//") => say(&line[1..]),
                Some(("members", "")) => json!({ "action": "members", "room": room }),
                Some(("tell", rest)) if rest.contains(' ') => {
                    let (to, text) = rest.split_once(' ').unwrap_or_default();
                    json!({ "action": "tell", "room": room, "to": to, "text": text })
                }
                Some(_) => {
                    let text = "commands are /tell NAME TEXT and /members; // says a slash";
                    return vec![Step::Tell(text.to_owned())];
                }
            };
        self.asked = Asked::Line(line.to_owned());
        vec![Step::Send(request)]
    }

    /// There is no more input.
    pub(super) fn end_of_input(&mut self) -> Vec<Step> {
        self.input_ended = true;
        self.end_if_done()
    }

    /// Asks whether the server is still there, if nothing else does.
    pub(super) fn stay_alive(&mut self) -> Vec<Step> {
        if !self.is_in || self.asked != Asked::Nothing {
            return Vec::new();
        }
        self.asked = Asked::Alive;
        vec![Step::Send(json!({ "action": "history", "room": self.room, "last": 0 }))]
    }

    /// The server's message; `error` is the kind of an error reply.
    pub(super) fn heard(&mut self, heard: &Heard, error: Option<&str>) -> Vec<Step> {
        match &heard.event {
            Some(event) => self.pushed(event, heard),
            None => self.replied(heard, error),
        }
    }

    fn pushed(&mut self, event: &str, heard: &Heard) -> Vec<Step> {
        let is_new = heard.n.is_none_or(|n| n > self.last_n);
        self.last_n = heard.n.unwrap_or(self.last_n);
        let mut steps = if is_new { vec![Step::Show] } else { Vec::new() };
        if event == "said" && heard.name.as_ref() == Some(&self.name) {
            self.on_their_way = self.on_their_way.saturating_sub(1);
            steps.extend(self.end_if_done());
        }
        steps
    }

    fn replied(&mut self, heard: &Heard, error: Option<&str>) -> Vec<Step> {
        let text = heard.result.as_deref().unwrap_or_default();
        let text = text.strip_prefix("Error: ").unwrap_or(text);
        if error == Some("RateLimit") {
            return vec![Step::Again];
        }
        match std::mem::replace(&mut self.asked, Asked::Nothing) {
            // The server may not know yet that the connection before is gone.
            Asked::Join if error == Some("NameTaken") && self.was_in => vec![Step::Reconnect],
            Asked::Join if error.is_some() || text != "joined" => {
                vec![Step::End(Err(Failure::new(format_args!("join {}: {text}", self.room))))]
            }
            Asked::Join => {
                self.is_in = true;
                let first = !std::mem::replace(&mut self.was_in, true);
                let mut steps = if first { vec![Step::Greet] } else { Vec::new() };
                steps.push(Step::ShowMembers);
                if (self.history > 0 || !first) && !self.json {
                    self.asked = Asked::History;
                    let last = if first { self.history } else { u64::MAX };
                    let request = json!({ "action": "history", "room": self.room, "last": last });
                    steps.push(Step::Send(request));
                } else {
                    steps.extend(self.end_if_done());
                }
                steps
            }
            Asked::History => {
                let newest = heard.messages.last().and_then(|message| message.n).unwrap_or(0);
                // A room that everybody left began again at 1.
                let after = if newest < self.last_n { 0 } else { self.last_n };
                self.last_n = newest;
                let mut steps = vec![Step::ShowHistory { after }];
                steps.extend(self.end_if_done());
                steps
            }
            Asked::Line(_) if error.is_some() => {
                let mut steps = vec![Step::Tell(text.to_owned())];
                steps.extend(self.end_if_done());
                steps
            }
            Asked::Line(line) => {
                let mut steps = Vec::new();
                match text {
                    "members" => steps.push(Step::ShowMembers),
                    "told" if !line.starts_with("//") => {}
                    _ => self.on_their_way += 1,
                }
                steps.extend(self.end_if_done());
                steps
            }
            Asked::Alive | Asked::Nothing => self.end_if_done(),
        }
    }

    /// Ends once the input has, every line has its reply, and our own messages have come back.
    fn end_if_done(&self) -> Vec<Step> {
        match (self.input_ended && self.is_in && self.asked == Asked::Nothing, self.on_their_way) {
            (true, 0) => vec![Step::End(Ok(()))],
            (true, _) => vec![Step::EndSoon],
            (false, _) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(text: Value) -> Heard {
        serde_json::from_value(text).unwrap()
    }

    fn reply(talk: &mut Talk, result: &str, error: Option<&str>) -> Vec<Step> {
        talk.heard(&heard(json!({ "result": result })), error)
    }

    /// One that is in the room.
    fn talk() -> Talk {
        let mut talk = Talk::new("r", "Neo", 0, false);
        talk.opened();
        assert_eq!(reply(&mut talk, "joined", None), [Step::Greet, Step::ShowMembers]);
        assert!(talk.is_free());
        talk
    }

    fn say(text: &str) -> Step {
        Step::Send(json!({ "action": "say", "room": "r", "text": text }))
    }

    #[test]
    fn is_one_request_under_way_at_a_time() {
        let mut talk = talk();
        assert_eq!(talk.line("a"), [say("a")]);
        assert!(!talk.is_free());
        assert_eq!(reply(&mut talk, "Error: too fast", Some("RateLimit")), [Step::Again]);
        assert!(!talk.is_free() && talk.stay_alive().is_empty());
        assert_eq!(reply(&mut talk, "said", None), []);
        assert!(talk.is_free());
        assert_eq!(talk.stay_alive().len(), 1);
    }

    #[test]
    fn what_do_slashes_mean() {
        let mut talk = talk();
        let mut line = |line: &str| {
            talk.asked = Asked::Nothing;
            talk.line(line)
        };
        assert_eq!(line(""), []);
        assert_eq!(line("//x /y"), [say("/x /y")]);
        let tell = json!({ "action": "tell", "room": "r", "to": "a", "text": "b c" });
        assert_eq!(line("/tell a b c"), [Step::Send(tell)]);
        assert!(matches!(line("/tell a")[..], [Step::Tell(_)]));
        assert!(matches!(line("/")[..], [Step::Tell(_)]));
        assert_eq!(line("/members"), [Step::Send(json!({ "action": "members", "room": "r" }))]);
    }

    #[test]
    fn does_the_end_wait_for_our_own_words() {
        let mut talk = talk();
        talk.line("a");
        assert_eq!(talk.end_of_input(), [], "no reply yet");
        assert_eq!(reply(&mut talk, "said", None), [Step::EndSoon]);
        let own = heard(json!({ "event": "said", "name": "Neo", "text": "a", "n": 1 }));
        assert_eq!(talk.heard(&own, None), [Step::Show, Step::End(Ok(()))]);
    }

    #[test]
    fn is_a_line_under_way_named_and_not_repeated() {
        let mut talk = talk();
        talk.line("a");
        let steps = talk.closed();
        assert!(matches!(&steps[..], [Step::Tell(text), Step::Reconnect] if text.ends_with(": a")));
        talk.opened();
        // The server has not seen yet that the connection before is gone.
        assert_eq!(reply(&mut talk, "Error: taken", Some("NameTaken")), [Step::Reconnect]);
    }

    #[test]
    fn is_nothing_shown_twice_after_a_lost_connection() {
        let mut talk = talk();
        let push = |n: u64| heard(json!({ "event": "said", "name": "x", "text": "t", "n": n }));
        assert_eq!(talk.heard(&push(7), None), [Step::Show]);
        talk.closed();
        talk.opened();
        assert_eq!(reply(&mut talk, "joined", None).len(), 2, "the history is asked for");
        // A push that the history holds too.
        let history = |n: u64| heard(json!({ "result": "history", "messages": [{ "n": n }] }));
        assert_eq!(talk.heard(&history(9), None), [Step::ShowHistory { after: 7 }]);
        assert_eq!(talk.heard(&push(9), None), []);
        assert_eq!(talk.heard(&push(10), None), [Step::Show]);
        talk.asked = Asked::History;
        assert_eq!(talk.heard(&history(2), None), [Step::ShowHistory { after: 0 }], "a new room");
    }
}
