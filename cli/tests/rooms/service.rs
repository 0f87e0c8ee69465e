//! `serve --service rooms`.

use std::io::{BufReader, Write as _};
use std::net::{Ipv4Addr, TcpStream};

use serde_json::{Value, json};

use crate::member::Member;
use crate::support::Serving;

fn rooms(args: &[&str]) -> Serving {
    // Nobody waits for members that stay until the server ends.
    let usual = ["--service", "rooms", "--linger-timeout", "50ms"];
    Serving::on_loopback(&[&usual, args].concat())
}

#[test]
fn do_members_hear_what_happens_in_their_room() {
    let serving = rooms(&[]);
    let port = serving.port();
    let mut neo = Member::connect(port);
    let join = |name| json!({ "action": "join", "room": "lobby", "name": name });
    assert_eq!(neo.ask(&join("Neo")), json!({ "result": "joined", "members_here": ["Neo"] }));
    let mut trinity = Member::connect(port);
    let reply = trinity.ask(&join("Trinity"));
    assert_eq!(reply, json!({ "result": "joined", "members_here": ["Neo", "Trinity"] }));
    let mut other = Member::join(port, "elsewhere", "Neo");
    assert_eq!(neo.push(), json!({ "event": "joined", "room": "lobby", "name": "Trinity" }));

    assert_eq!(neo.say("lobby", "🐰 \"hello\""), json!({ "result": "said" }));
    let said = json!({
        "event": "said", "room": "lobby", "name": "Neo", "text": "🐰 \"hello\"", "n": 1
    });
    assert_eq!((neo.push(), trinity.push()), (said.clone(), said));
    let tell = json!({ "action": "tell", "room": "lobby", "to": "Trinity", "text": "psst" });
    assert_eq!(neo.ask(&tell), json!({ "result": "told" }));
    let told = json!({ "event": "told", "room": "lobby", "name": "Neo", "text": "psst" });
    assert_eq!(trinity.push(), told);
    let members = trinity.ask(&json!({ "action": "members", "room": "lobby" }));
    assert_eq!(members, json!({ "result": "members", "members_here": ["Neo", "Trinity"] }));
    let history = trinity.ask(&json!({ "action": "history", "room": "lobby", "last": 5 }));
    let messages = json!([{ "n": 1, "name": "Neo", "text": "🐰 \"hello\"" }]);
    assert_eq!(history, json!({ "result": "history", "messages": messages }));

    assert_eq!(
        trinity.ask(&json!({ "action": "leave", "room": "lobby" })),
        json!({ "result": "left" })
    );
    let left = json!({ "event": "left", "room": "lobby", "name": "Trinity" });
    assert_eq!(neo.push(), left);
    // Back again, and away without a word.
    trinity.ask(&join("Trinity"));
    drop(trinity);
    assert_eq!(neo.push()["event"], "joined");
    assert_eq!(neo.push(), left);
    assert_eq!(other.say("elsewhere", "x")["result"], "said");
    assert_eq!(other.push()["n"], 1);
    let ended = serving.stop();
    assert_eq!((ended.count("said"), ended.count("told")), (2, 1));
    assert_eq!((ended.count("rooms"), ended.count("room_members")), (0, 0));
}

#[test]
fn do_all_members_hear_one_order_whatever_their_loop() {
    let serving =
        rooms(&["--threads", "3", "--request-rate", "1000000", "--request-burst", "1000"]);
    let port = serving.port();
    let mut members: Vec<Member> =
        (0..9_u8).map(|nth| Member::join(port, "r", &format!("m{nth}"))).collect();
    let say = |text: String| json!({ "action": "say", "room": "r", "text": text });
    for round in 0..20 {
        for (nth, member) in members.iter_mut().enumerate() {
            member.send(&say(format!("{nth} {round}")));
        }
    }
    let heard: Vec<Vec<Value>> = members
        .iter_mut()
        .map(|member| {
            for _ in 0..20 {
                assert_eq!(member.reply()["result"], "said");
            }
            (0..180).map(|_| member.push_of("said")).collect()
        })
        .collect();
    for one in &heard {
        assert_eq!(one, &heard[0]);
    }
    for (at, push) in heard[0].iter().enumerate() {
        assert_eq!(push["n"], at + 1);
    }
    // Each speaker's words in the order in which it said them.
    for nth in 0..9 {
        let own = heard[0].iter().filter(|push| push["name"] == format!("m{nth}"));
        let texts: Vec<_> = own.map(|push| push["text"].as_str().unwrap().to_owned()).collect();
        assert_eq!(texts, (0..20).map(|round| format!("{nth} {round}")).collect::<Vec<_>>());
    }
}

#[test]
fn do_no_pushes_come_behind_the_reply_to_leave() {
    let serving =
        rooms(&["--threads", "2", "--request-rate", "1000000", "--request-burst", "1000"]);
    let port = serving.port();
    let mut speaker = Member::join(port, "r", "speaker");
    let mut guest = Member::connect(port);
    for round in 0..20 {
        guest.send(&json!({ "action": "join", "room": "r", "name": "guest" }));
        speaker.send(&json!({ "action": "say", "room": "r", "text": "x" }));
        guest.send(&json!({ "action": "leave", "room": "r" }));
        // The reply to join is first; members of the room then hear what they should, and the reply
        // to leave is the last that has to do with it.
        let mut replies = Vec::new();
        while replies.len() < 2 {
            let message = guest.next();
            match message.get("result") {
                Some(result) => replies.push(result.clone()),
                None => assert_eq!(replies.len(), 1, "{round}: {message}"),
            }
        }
        assert_eq!(replies, ["joined", "left"]);
        speaker.reply();
    }
    let reply = guest.ask(&json!({ "action": "members", "room": "r" }));
    assert_eq!(reply["error"], "NotMember");
}

#[test]
fn does_each_limit_answer_under_its_name() {
    let serving = rooms(&[
        "--max-rooms",
        "2",
        "--max-rooms-per-connection",
        "2",
        "--max-members",
        "1",
        "--max-text",
        "4",
        "--request-rate",
        "1",
        "--request-burst",
        "14",
    ]);
    let mut member = Member::connect(serving.port());
    let join = |room: &str, name: &str| json!({ "action": "join", "room": room, "name": name });
    for (request, kind, named) in [
        (join("a", "x"), "", ""),
        (join("a", "y"), "MemberAlready", "as x"),
        (join("b", "x\u{7}"), "NameLimit", "64 bytes"),
        (join("b", "x"), "", ""),
        (join("c", "x"), "RoomsOfConnectionLimit", "--max-rooms-per-connection"),
        (json!({ "action": "say", "room": "a", "text": "12345" }), "TextLimit", "--max-text"),
        (json!({ "action": "say", "room": "z", "text": "1" }), "NotMember", "join"),
        (json!({ "action": "say", "room": "a" }), "MissingKey", "text"),
        (json!({ "action": "dance", "room": "a" }), "UnknownAction", "history"),
        (json!({ "action": 1 }), "ContentMismatch", ""),
        (json!(["say"]), "ContentMismatch", ""),
        (json!({ "action": "tell", "room": "a", "to": "z", "text": "1" }), "NoSuchMember", "z"),
    ] {
        let reply = member.ask(&request);
        assert_eq!(reply["error"].as_str().unwrap_or_default(), kind, "{request}: {reply}");
        assert!(reply["result"].as_str().unwrap().contains(named), "{reply}");
    }
    let mut other = Member::connect(serving.port());
    for (request, kind) in [
        (join("a", "x"), "NameTaken"),
        (join("a", "y"), "MembersLimit"),
        (join("c", "y"), "RoomsLimit"),
    ] {
        assert_eq!(other.ask(&request)["error"], kind);
    }
    // A token comes back each second, so a hundred at once are too many on any machine.
    let kinds: Vec<Value> = (0..100).map(|_| other.ask(&json!({}))["error"].clone()).collect();
    assert!(kinds.contains(&json!("RateLimit")), "{kinds:?}");
    assert_eq!(kinds[0], "MissingKey");
}

#[test]
fn do_rooms_work_in_every_framing_that_carries_json() {
    for (framing, end) in [("lines", "\n"), ("json", ""), ("delimited:\\r\\n", "\r\n")] {
        let serving = rooms(&["--framing", framing]);
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, serving.port())).unwrap();
        let mut out = stream.try_clone().unwrap();
        let mut send = |text: &str| out.write_all(format!("{text}{end}").as_bytes()).unwrap();
        send(r#"{"action": "join", "room": "r", "name": "é"}"#);
        send(r#"{"action": "say", "room": "r", "text": "x"}"#);
        send(r#"{"action": "say", "room": "q", "text": "x"}"#);
        let mut values = serde_json::Deserializer::from_reader(BufReader::new(stream)).into_iter();
        let mut next = || values.next().unwrap().unwrap();
        let mut seen: Vec<Value> = (0..4).map(|_| next()).collect();
        let at = seen.iter().position(|value| value.get("event").is_some()).unwrap();
        let said = json!({ "event": "said", "room": "r", "name": "é", "text": "x", "n": 1 });
        assert_eq!(seen.remove(at), said, "{framing}");
        assert_eq!(seen[0], json!({ "result": "joined", "members_here": ["é"] }));
        assert_eq!(seen[1], json!({ "result": "said" }));
        assert!(seen[2]["result"].as_str().unwrap().starts_with("Error: "), "{}", seen[2]);
    }
    let serving = rooms(&["--framing", "length:4be"]);
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, serving.port())).unwrap();
    let request = br#"{"action":"join","room":"r","name":"x"}"#;
    stream.write_all(&u32::try_from(request.len()).unwrap().to_be_bytes()).unwrap();
    stream.write_all(request).unwrap();
    let reply = br#"{"result": "joined", "members_here": ["x"]}"#;
    let mut got = vec![0; 4 + reply.len()];
    std::io::Read::read_exact(&mut stream, &mut got).unwrap();
    assert_eq!(&got[4..], reply);
}

/// Little waits for a member, and what is said is long, so that few messages are too many.
const SMALL: [&str; 14] = [
    "--high-water",
    "128KiB",
    "--low-water",
    "4KiB",
    "--kernel-send-buffer",
    "4KiB",
    "--request-rate",
    "1000000",
    "--request-burst",
    "1000000",
    "--min-read-rate",
    "0",
    "--max-text",
    "64KiB",
];

fn long_text() -> String {
    "x".repeat(60_000)
}

#[test]
fn is_a_slow_member_told_how_much_it_missed() {
    let serving = rooms(&SMALL);
    let port = serving.port();
    let mut slow = Member::join(port, "r", "slow");
    let mut speaker = Member::join(port, "r", "speaker");
    let text = long_text();
    // More than any kernel holds for a socket whose sender's buffer is small.
    const COUNT: u64 = 300;
    for _ in 0..COUNT {
        assert_eq!(speaker.say("r", &text)["result"], "said");
        assert_eq!(speaker.push_of("said")["name"], "speaker", "nobody else is held up");
    }
    let (mut said, mut dropped, mut last) = (0, 0, 0);
    while said + dropped < COUNT {
        let push = slow.push();
        match push["event"].as_str().unwrap() {
            "said" => {
                let n = push["n"].as_u64().unwrap();
                assert!(n > last, "in order, none twice");
                (said, last) = (said + 1, n);
            }
            "dropped" => {
                assert_eq!(push["room"], "r");
                dropped += push["count"].as_u64().unwrap();
            }
            _ => {}
        }
    }
    assert!(dropped > 0 && said > 0 && said + dropped == COUNT, "{said} {dropped}");
    let ended = serving.stop();
    assert_eq!(ended.count("dropped_pushes"), dropped);
}

#[test]
fn is_it_told_of_each_room_how_much_was_missed_there() {
    for overflow in ["drop-newest", "drop-oldest"] {
        let serving = rooms(&[&SMALL[..], &["--overflow", overflow]].concat());
        let port = serving.port();
        let mut slow = Member::join(port, "a", "slow");
        slow.ask(&json!({ "action": "join", "room": "b", "name": "slow" }));
        let mut speaker = Member::join(port, "a", "speaker");
        speaker.ask(&json!({ "action": "join", "room": "b", "name": "speaker" }));
        let text = long_text();
        const COUNT: u64 = 300;
        for nth in 0..COUNT {
            let room = if nth % 3 == 0 { "b" } else { "a" };
            assert_eq!(speaker.say(room, &text)["result"], "said");
            assert_eq!(speaker.push_of("said")["room"], room);
        }
        // What is there of each room, and what is missing there.
        let mut known = [0, 0];
        let due = [COUNT * 2 / 3, COUNT / 3];
        let mut dropped = 0;
        while known != due {
            let push = slow.push();
            let room = usize::from(push["room"] == "b");
            match push["event"].as_str().unwrap() {
                "said" => known[room] += 1,
                "dropped" => {
                    let count = push["count"].as_u64().unwrap();
                    known[room] += count;
                    dropped += count;
                }
                _ => {}
            }
            assert!(known[0] <= due[0] && known[1] <= due[1], "{known:?} of {due:?}");
        }
        assert_eq!(serving.stop().count("dropped_pushes"), dropped);
    }
}

#[test]
fn does_a_word_to_one_member_come_in_its_turn() {
    let serving = rooms(&["--request-rate", "1000000", "--request-burst", "1000"]);
    let port = serving.port();
    let mut trinity = Member::join(port, "r", "Trinity");
    let mut neo = Member::join(port, "r", "Neo");
    let say = json!({ "action": "say", "room": "r", "text": "x" });
    let tell = json!({ "action": "tell", "room": "r", "to": "Trinity", "text": "y" });
    assert_eq!(trinity.push()["event"], "joined");
    for _ in 0..20 {
        neo.send_all(&[&say, &tell]);
        let heard = [trinity.push(), trinity.push()];
        assert_eq!((&heard[0]["event"], &heard[1]["event"]), (&json!("said"), &json!("told")));
    }
}

#[test]
fn is_a_member_that_never_reads_closed_and_has_left() {
    let serving = rooms(&[&SMALL[..], &["--write-timeout", "500ms"]].concat());
    let port = serving.port();
    let silent = Member::join(port, "r", "silent");
    let mut speaker = Member::join(port, "r", "speaker");
    let text = long_text();
    let mut n = 0;
    loop {
        speaker.send(&json!({ "action": "say", "room": "r", "text": text }));
        speaker.reply();
        let push = speaker.push();
        if push["event"] == "left" {
            assert_eq!(push["name"], "silent");
            break;
        }
        n += 1;
        assert_eq!(push["n"], n);
    }
    drop(silent);
    let ended = serving.stop();
    assert_eq!(ended.count("closed_write_timeout"), 1);
    assert!(ended.count("dropped_pushes") > 0);
}

#[test]
fn are_the_flags_of_rooms_refused_without_them() {
    let output = crate::support::myriapod().args(["serve", "--max-rooms", "3"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text, "myriapod: --max-rooms needs --service rooms\n");
    let raw = ["serve", "--service", "rooms", "--framing", "raw"];
    let output = crate::support::myriapod().args(raw).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
