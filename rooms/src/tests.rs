//! The rooms without sockets.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Mutex};

use myriapod::{HandleError, HandlerError};

use super::args::Bounds;
use super::hall::{Afar, Doors, Hall, MAX_NAME, Push};

/// Writes down what the loops were asked for.
#[derive(Default)]
struct Notes {
    lines: RefCell<Vec<String>>,
    is_full: Cell<bool>,
}

impl Notes {
    fn note(&self, line: String) -> Result<(), HandleError> {
        if self.is_full.get() {
            return Err(HandleError::Full);
        }
        self.lines.borrow_mut().push(line);
        Ok(())
    }

    fn take(&self) -> Vec<String> {
        self.lines.take()
    }
}

impl Doors<u32> for Notes {
    fn enter(&self, id: u32, room: &str) -> Result<(), HandleError> {
        self.note(format!("{id} enters {room}"))
    }

    fn leave(&self, id: u32, room: &str) -> Result<(), HandleError> {
        self.note(format!("{id} leaves {room}"))
    }

    fn to_all(&self, room: &str, but: Option<u32>, push: Push) -> Result<(), HandleError> {
        let push = String::from_utf8(push.json).unwrap();
        self.note(match but {
            Some(but) => format!("{room} but {but}: {push}"),
            None => format!("{room}: {push}"),
        })
    }

    fn to_one(&self, id: u32, push: Push) -> Result<(), HandleError> {
        self.note(format!("{id}: {}", String::from_utf8(push.json).unwrap()))
    }
}

fn hall(bounds: Bounds) -> Hall<u32> {
    Hall::with_bounds(bounds)
}

fn kind<T: std::fmt::Debug>(result: Result<T, HandlerError>) -> String {
    result.unwrap_err().kind().to_owned()
}

#[test]
fn does_everybody_in_a_room_hear_in_one_order() {
    let (hall, doors) = (hall(Bounds::default()), Notes::default());
    let alone = hall.join(&doors, 1, 0, "lobby", "Neo").unwrap();
    assert_eq!((&*alone.names, alone.count), (&["Neo".into()][..], 1));
    let both = hall.join(&doors, 2, 0, "lobby", "Cypher").unwrap();
    assert_eq!(both.names, ["Cypher".into(), "Neo".into()]);
    hall.say(&doors, "lobby", "Neo", "a \"b\"\n").unwrap();
    hall.tell(&doors, "lobby", "Neo", "Cypher", "psst").unwrap();
    hall.leave(&doors, 2, false, "lobby", "Cypher").unwrap();
    hall.leave(&doors, 1, true, "lobby", "Neo").unwrap();
    let expected = [
        "1 enters lobby",
        r#"lobby but 1: {"event": "joined", "room": "lobby", "name": "Neo"}"#,
        "2 enters lobby",
        r#"lobby but 2: {"event": "joined", "room": "lobby", "name": "Cypher"}"#,
        r#"lobby: {"event": "said", "room": "lobby", "name": "Neo", "text": "a \"b\"\n", "n": 1}"#,
        r#"2: {"event": "told", "room": "lobby", "name": "Neo", "text": "psst"}"#,
        "2 leaves lobby",
        r#"lobby: {"event": "left", "room": "lobby", "name": "Cypher"}"#,
    ];
    assert_eq!(doors.take(), expected);
    let stats = hall.stats();
    assert_eq!((stats.rooms, stats.members, stats.history_bytes), (0, 0, 0));
    assert_eq!((stats.said, stats.told), (1, 1));
}

#[test]
fn does_each_limit_refuse_under_its_own_name() {
    let bounds =
        Bounds { rooms: 2, rooms_of_connection: 2, members: 2, text: 4, ..Bounds::default() };
    let (hall, doors) = (hall(bounds), Notes::default());
    hall.join(&doors, 1, 0, "a", "Neo").unwrap();
    assert_eq!(kind(hall.join(&doors, 1, 2, "b", "Neo")), "RoomsOfConnectionLimit");
    assert_eq!(kind(hall.join(&doors, 2, 0, "a", "Neo")), "NameTaken");
    hall.join(&doors, 2, 0, "a", "Two").unwrap();
    assert_eq!(kind(hall.join(&doors, 3, 0, "a", "Three")), "MembersLimit");
    hall.join(&doors, 3, 0, "b", "Three").unwrap();
    assert_eq!(kind(hall.join(&doors, 4, 0, "c", "Four")), "RoomsLimit");
    assert_eq!(kind(hall.say(&doors, "a", "Neo", "12345")), "TextLimit");
    assert_eq!(kind(hall.tell(&doors, "a", "Neo", "Two", "12345")), "TextLimit");
    assert_eq!(kind(hall.tell(&doors, "a", "Neo", "Three", "1")), "NoSuchMember");
    let long = "x".repeat(MAX_NAME + 1);
    for (room, name) in
        [("", "x"), ("x", ""), (&long, "x"), ("x", &long), ("a\n", "x"), ("x", "\u{85}")]
    {
        assert_eq!(kind(hall.join(&doors, 4, 0, room, name)), "NameLimit", "{room:?} {name:?}");
    }
    hall.leave(&doors, 3, false, "b", "Three").unwrap();
    hall.join(&doors, 4, 0, "c", "Four").unwrap();
    let text = hall.join(&doors, 5, 0, "d", "Five").unwrap_err().to_string();
    assert_eq!(text, "there are at most 2 rooms (--max-rooms)");
}

#[test]
fn is_history_kept_within_its_bounds() {
    let bounds = Bounds { history: 3, history_bytes: 200, history_total: 250, ..Bounds::default() };
    let (hall, doors) = (hall(bounds), Notes::default());
    hall.join(&doors, 1, 0, "a", "Neo").unwrap();
    hall.join(&doors, 2, 0, "b", "Two").unwrap();
    for text in ["1", "2", "3", "4"] {
        hall.say(&doors, "a", "Neo", text).unwrap();
    }
    let texts = |room| {
        let kept = hall.history(room, 10).unwrap();
        kept.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(texts("a").len(), 3);
    assert_eq!(texts("a")[0], r#"{"n": 2, "name": "Neo", "text": "2"}"#);
    assert_eq!(hall.history("a", 1).unwrap()[0].to_string(), texts("a")[2]);
    hall.say(&doors, "a", "Neo", &"x".repeat(120)).unwrap();
    assert_eq!(texts("a").len(), 2, "bytes of the room");
    let before = hall.stats().history_bytes;
    hall.say(&doors, "b", "Two", &"x".repeat(80)).unwrap();
    assert_eq!((texts("b").len(), hall.stats().history_bytes), (0, before), "bytes of all");
    hall.leave(&doors, 1, false, "a", "Neo").unwrap();
    assert_eq!(hall.stats().history_bytes, 0);
    hall.say(&doors, "b", "Two", "x").unwrap();
    assert_eq!(texts("b").len(), 1);
}

#[test]
fn is_presence_told_in_small_rooms_alone() {
    let (hall, doors) = (hall(Bounds { presence: 2, ..Bounds::default() }), Notes::default());
    for (id, name) in [(1, "a"), (2, "b"), (3, "c")] {
        hall.join(&doors, id, 0, "r", name).unwrap();
    }
    let joined = doors.take().iter().filter(|line| line.contains("joined")).count();
    assert_eq!(joined, 2);
    let present = hall.members("r", "c").unwrap();
    assert_eq!((&*present.names, present.count), (&["a".into(), "c".into()][..], 3));
    hall.leave(&doors, 3, false, "r", "c").unwrap();
    assert_eq!(doors.take(), ["3 leaves r"]);
    hall.leave(&doors, 2, false, "r", "b").unwrap();
    assert_eq!(doors.take().len(), 2);
}

#[test]
fn does_a_full_loop_change_nothing() {
    let (hall, doors) = (hall(Bounds::default()), Notes::default());
    doors.is_full.set(true);
    assert_eq!(kind(hall.join(&doors, 1, 0, "r", "Neo")), "Busy");
    assert_eq!((hall.stats().rooms, hall.stats().members), (0, 0));
    doors.is_full.set(false);
    hall.join(&doors, 1, 0, "r", "Neo").unwrap();
    doors.is_full.set(true);
    assert_eq!(kind(hall.leave(&doors, 1, false, "r", "Neo")), "Busy");
    assert_eq!(kind(hall.say(&doors, "r", "Neo", "x")), "Busy");
    assert_eq!((hall.stats().members, hall.stats().unposted), (1, 1));
    hall.leave(&doors, 1, true, "r", "Neo").unwrap();
    assert_eq!(hall.stats().members, 0);
}

#[test]
fn can_nobody_take_another_out_of_a_room() {
    let (hall, doors) = (hall(Bounds::default()), Notes::default());
    hall.join(&doors, 1, 0, "r", "Neo").unwrap();
    doors.take();
    hall.leave(&doors, 2, false, "r", "Neo").unwrap();
    assert_eq!((doors.take().len(), hall.stats().members), (0, 1));
}

/// Writes down what goes to other servers.
#[derive(Clone, Default)]
struct Abroad(Arc<Mutex<Vec<String>>>);

impl Abroad {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Afar for Abroad {
    fn subscribe(&self, room: &str) {
        self.0.lock().unwrap().push(format!("+{room}"));
    }

    fn unsubscribe(&self, room: &str) {
        self.0.lock().unwrap().push(format!("-{room}"));
    }

    fn publish(&self, room: &str, payload: &[u8]) {
        let payload = String::from_utf8_lossy(payload);
        self.0.lock().unwrap().push(format!("{room}: {payload}"));
    }
}

#[test]
fn does_what_happens_here_happen_on_another_server_too() {
    let (here, there) = (hall(Bounds::default()), hall(Bounds::default()));
    let (doors, abroad) = (Notes::default(), Abroad::default());
    here.share(Box::new(abroad.clone()));
    there.join(&doors, 9, 0, "r", "Cypher").unwrap();
    there.say(&doors, "r", "Cypher", "before").unwrap();
    doors.take();
    let away = Notes::default();
    here.join(&away, 1, 0, "r", "Neo").unwrap();
    here.join(&away, 2, 0, "r", "Two").unwrap();
    here.say(&away, "r", "Neo", "a").unwrap();
    here.tell(&away, "r", "Neo", "Cypher", "b").unwrap();
    here.leave(&away, 2, false, "r", "Two").unwrap();
    here.leave(&away, 1, true, "r", "Neo").unwrap();
    let sent = abroad.take();
    assert_eq!((sent[0].as_str(), sent.last().unwrap().as_str()), ("+r", "-r"));
    let payloads = sent.iter().filter_map(|line| line.strip_prefix("r: "));
    for payload in payloads {
        assert!(there.hear(&doors, "r", payload.as_bytes()), "{payload}");
        assert!(there.hear(&doors, "nobody is there", payload.as_bytes()));
    }
    let expected = [
        r#"r: {"event": "joined", "room": "r", "name": "Neo"}"#,
        r#"r: {"event": "joined", "room": "r", "name": "Two"}"#,
        r#"r: {"event": "said", "room": "r", "name": "Neo", "text": "a", "n": 2}"#,
        r#"9: {"event": "told", "room": "r", "name": "Neo", "text": "b"}"#,
        r#"r: {"event": "left", "room": "r", "name": "Two"}"#,
        r#"r: {"event": "left", "room": "r", "name": "Neo"}"#,
    ];
    assert_eq!(doors.take(), expected);
    assert_eq!(there.history("r", 9).unwrap().len(), 2);
}

#[test]
fn is_what_another_server_cannot_mean_passed_over() {
    let (hall, doors) = (hall(Bounds { text: 4, ..Bounds::default() }), Notes::default());
    hall.join(&doors, 1, 0, "r", "Neo").unwrap();
    doors.take();
    for payload in [
        "",
        "{}",
        r#"{"event": "dance", "name": "x"}"#,
        r#"{"event": "said", "name": "", "text": "x"}"#,
        r#"{"event": "said", "name": "x", "text": "12345"}"#,
        r#"{"event": 1, "name": "x"}"#,
        "\u{ff}",
    ] {
        assert!(!hall.hear(&doors, "r", payload.as_bytes()), "{payload}");
    }
    assert!(doors.take().is_empty());
}
