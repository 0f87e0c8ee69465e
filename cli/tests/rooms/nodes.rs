//! `serve --service rooms --broker URL`: rooms whose members are on several servers.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::broker::{Broker, Kind, wait_until};
use crate::chat::{Chatting, chat, run};
use crate::member::Member;
use crate::support::{Serving, myriapod};

pub(crate) fn with_each(test: impl Fn(Broker)) {
    for kind in [Kind::Redis, Kind::Nats] {
        if let Some(broker) = Broker::start(kind, &[]) {
            test(broker);
        }
    }
}

/// A server that shares its rooms, with a broker that is up.
pub(crate) fn node(broker: &Broker, more: &[&str]) -> Serving {
    let rates = [
        "--request-rate",
        "1000000",
        "--request-burst",
        "1000000",
        "--threads",
        "2",
        "--linger-timeout",
        "50ms",
    ];
    let shared = ["--service", "rooms", "--broker", &broker.url()];
    let serving = Serving::on_loopback(&[&shared[..], &rates, more].concat());
    serving.wait_for(&format!("broker: {} is there", broker.url()));
    serving
}

#[test]
fn do_three_nodes_share_a_room() {
    with_each(|broker| {
        let nodes: Vec<Serving> = (0..3).map(|_| node(&broker, &[])).collect();
        let mut members: Vec<Member> = Vec::new();
        for (nth, node) in nodes.iter().enumerate() {
            members.push(Member::join(node.port(), "lobby", &format!("m{nth}")));
            wait_until("it is subscribed", || broker.channels().len() == nth + 1);
        }
        // Each hears who came after it, on whatever node, and no others.
        assert_eq!(members[0].push(), json!({ "event": "joined", "room": "lobby", "name": "m1" }));
        for member in &mut members[..2] {
            // Redis hears of a room and of what is said there on two connections: one who came
            // before may be told of late.
            while member.push()["name"] != "m2" {}
        }
        let who = members[0].ask(&json!({ "action": "members", "room": "lobby" }));
        assert_eq!(who["members_here"], json!(["m0"]), "those of this node");
        for round in 0..30 {
            for (nth, member) in members.iter_mut().enumerate() {
                assert_eq!(member.say("lobby", &format!("{nth} {round}"))["result"], "said");
            }
        }
        for member in &mut members {
            let heard: Vec<Value> = (0..90).map(|_| member.push_of("said")).collect();
            assert!(heard.iter().zip(1..).all(|(push, n): (_, u64)| push["n"] == n));
            for nth in 0..3 {
                let own = heard.iter().filter(|push| push["name"] == format!("m{nth}"));
                let texts: Vec<&str> = own.map(|push| push["text"].as_str().unwrap()).collect();
                let all: Vec<String> = (0..30).map(|round| format!("{nth} {round}")).collect();
                assert_eq!(texts, all, "none missing, none twice, in order");
            }
        }
        let tell = json!({ "action": "tell", "room": "lobby", "to": "m2", "text": "psst" });
        assert_eq!(members[0].ask(&tell)["result"], "told");
        let told = json!({ "event": "told", "room": "lobby", "name": "m0", "text": "psst" });
        assert_eq!(members[2].push(), told);
        // One node is told to stop, and one is killed.
        let mut nodes = nodes.into_iter();
        let (first, second, third) =
            (nodes.next().unwrap(), nodes.next().unwrap(), nodes.next().unwrap());
        let ended = third.stop();
        assert_eq!(ended.status, Some(0));
        assert_eq!(ended.count("broker_lost"), 0);
        assert!(ended.count("broker_received") >= 61, "{:?}", ended.stderr);
        for member in &mut members[..2] {
            assert_eq!(member.push(), json!({ "event": "left", "room": "lobby", "name": "m2" }));
        }
        second.signal(Signal::SIGKILL);
        wait_until("one is left", || broker.channels() == ["myriapod.lobby"]);
        members[0].say("lobby", "alone");
        assert_eq!(members[0].push()["text"], "alone");
        // The last member takes the subscription with it.
        members.truncate(1);
        members[0].ask(&json!({ "action": "leave", "room": "lobby" }));
        wait_until("none is left", || broker.channels().is_empty());
        let ended = first.stop();
        assert_eq!((ended.count("broker_lost"), ended.count("broker_up")), (0, 1));
    });
}

#[test]
fn is_there_exactly_one_subscription_for_each_room_of_a_node() {
    with_each(|broker| {
        let nodes: Vec<Serving> =
            (0..2).map(|_| node(&broker, &["--cluster-prefix", "chat."])).collect();
        let rooms = ["a", "b*", "c>"];
        let mut members: Vec<Member> = Vec::new();
        for nth in 0..4 {
            for room in rooms {
                members.push(Member::join(nodes[0].port(), room, &format!("m{nth}")));
            }
        }
        let other = Member::join(nodes[1].port(), "a", "other");
        let all = ["chat.a", "chat.a", "chat.b%2A", "chat.c%3E"];
        wait_until("exactly these", || broker.channels() == all);
        members.truncate(3);
        members[0].say("a", "x");
        assert_eq!(broker.channels(), all, "one member of each is left");
        drop(other);
        members.truncate(1);
        wait_until("exactly one", || broker.channels() == ["chat.a"]);
    });
}

#[test]
fn does_a_broker_that_dies_lose_what_is_counted_and_come_back() {
    with_each(|mut broker| {
        let nodes: Vec<Serving> = (0..2).map(|_| node(&broker, &[])).collect();
        let mut speaker = Member::join(nodes[0].port(), "r", "speaker");
        let mut listener = Member::join(nodes[1].port(), "r", "listener");
        let _others: Vec<Member> =
            (0..10).map(|nth| Member::join(nodes[1].port(), &format!("other{nth}"), "x")).collect();
        wait_until("all are subscribed", || broker.channels().len() == 12);
        let mut said = 0_u64;
        let mut say = |speaker: &mut Member| {
            said += 1;
            assert_eq!(speaker.say("r", &said.to_string())["result"], "said");
            said
        };
        for _ in 0..10 {
            say(&mut speaker);
        }
        // What a broker has taken and not handed on when it dies, nobody can count.
        let mut heard: Vec<u64> = Vec::new();
        let mut hear = |listener: &mut Member| {
            let push = listener.push_of("said");
            heard.push(push["text"].as_str().unwrap().parse().unwrap());
            assert_eq!(push["n"], heard.len(), "numbered on its own node");
            heard.last().copied().unwrap()
        };
        while hear(&mut listener) < 10 {}
        broker.kill();
        nodes.iter().for_each(|node| drop(node.wait_for("is away")));
        for _ in 0..10 {
            say(&mut speaker);
        }
        broker.start_again();
        nodes.iter().for_each(|node| drop(node.wait_for("is there")));
        wait_until("all are subscribed again", || broker.channels().len() == 12);
        let last = (0..10).map(|_| say(&mut speaker)).last().unwrap();
        // Nobody on its own node misses anything.
        for n in 1..=last {
            assert_eq!(speaker.push_of("said")["n"], n);
        }
        while hear(&mut listener) < last {}
        assert!(heard.windows(2).all(|pair| pair[0] < pair[1]), "in order and once: {heard:?}");
        let missing = last - heard.len() as u64;
        drop((speaker, listener));
        let mut nodes = nodes.into_iter();
        let lost = nodes.next().unwrap().stop().count("broker_lost");
        // What was sent and not confirmed may have been heard.
        assert!(missing >= 10 && missing <= lost, "{missing} of {lost}");
    });
}

#[test]
fn do_rooms_and_their_clients_speak_tls_all_the_way() {
    for kind in [Kind::Redis, Kind::Nats] {
        let Some(broker) = Broker::secure(kind, &[]) else { continue };
        let (cert, key) = (broker.file("cert.pem"), broker.file("key.pem"));
        let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
        let trust = ["--broker-tls-ca", cert, "--broker-tls-name", Broker::NAME];
        let secure = ["--tls-cert", cert, "--tls-key", key];
        let chat = |node: &Serving, name: &str, more: &[&str]| {
            let mut command = chat(node.port(), name, &["--tls"]);
            command.args(more);
            command
        };
        let nodes: Vec<Serving> =
            (0..2).map(|_| node(&broker, &[trust, secure].concat())).collect();
        let known = ["--tls-ca", cert, "--tls-name", Broker::NAME];
        let mut listener = Chatting::start(chat(&nodes[1], "Trinity", &known));
        listener.wait_for("* here: Trinity");
        wait_until("it is subscribed", || broker.channels().len() == 1);
        let output = run(chat(&nodes[0], "Neo", &known), "hello\n");
        assert_eq!((output.status.code(), &output.stderr[..]), (Some(0), &b""[..]));
        listener.wait_for("Neo: hello");
        let output = run(chat(&nodes[0], "Neo", &["--tls-ca", cert]), "");
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), text.lines().count()), (Some(1), 1), "{text}");
        assert!(text.contains("--tls-name NAME"), "{text}");
    }
}

#[test]
fn is_a_silent_member_of_another_node_nobody_elses_matter() {
    with_each(|broker| a_silent_member(&broker));
}

fn a_silent_member(broker: &Broker) {
    let small = [
        "--high-water",
        "128KiB",
        "--low-water",
        "4KiB",
        "--kernel-send-buffer",
        "4KiB",
        "--min-read-rate",
        "0",
        "--write-timeout",
        "500ms",
        "--max-text",
        "64KiB",
    ];
    let nodes: Vec<Serving> = (0..2).map(|_| node(broker, &small)).collect();
    let mut speaker = Member::join(nodes[0].port(), "r", "speaker");
    wait_until("it is subscribed", || broker.channels().len() == 1);
    let silent = Member::join(nodes[1].port(), "r", "silent");
    assert_eq!(speaker.push()["name"], "silent");
    let text = "x".repeat(60_000);
    loop {
        speaker.send(&json!({ "action": "say", "room": "r", "text": text }));
        speaker.reply();
        if speaker.push()["event"] == "left" {
            break;
        }
    }
    drop((speaker, silent));
    let ended: Vec<_> = nodes.into_iter().map(Serving::stop).collect();
    assert_eq!(ended[1].count("closed_write_timeout"), 1);
    assert_eq!((ended[0].count("broker_lost"), ended[0].count("dropped_pushes")), (0, 0));
}

#[test]
fn is_a_broker_that_cannot_be_one_wrong_usage() {
    for (url, named) in [("http://h", "no such broker"), ("redis://h/x", "database")] {
        let args = ["serve", "127.0.0.1", "0", "--service", "rooms", "--broker", url];
        let output = myriapod().args(args).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), text.contains(named)), (Some(2), true), "{url}: {text}");
    }
    let rooms = ["serve", "127.0.0.1", "0", "--service", "rooms", "--broker"];
    for (more, named) in [
        (&["redis://h", "--broker-tls-insecure"][..], "rediss://"),
        (&["tls://a..b", "--broker-tls-insecure"], "no name"),
    ] {
        let output = myriapod().args(rooms).args(more).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), text.contains(named)), (Some(2), true), "{text}");
    }
    let output = myriapod().args(["serve", "--broker", "redis://h"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "with another service");
}
