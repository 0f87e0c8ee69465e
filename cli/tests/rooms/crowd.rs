//! Many members on several servers, whose broker dies, and whose servers come and go.

use std::collections::{BTreeMap, BTreeSet};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::broker::{Broker, wait_until};
use crate::member::Member;
use crate::nodes::{node, with_each};
use crate::support::Serving;

const ROOMS: usize = 30;

/// A member, and all that it has heard.
struct Ear {
    node: usize,
    room: usize,
    /// Whether it speaks for its node in its room.
    speaks: bool,
    member: Member,
    /// What it has heard of each node's speaker.
    heard: BTreeMap<usize, Vec<u64>>,
}

/// All members, and how often the speakers of each node have spoken.
#[derive(Default)]
struct Crowd {
    ears: Vec<Ear>,
    said: BTreeMap<usize, u64>,
}

impl Crowd {
    /// So many members of each room join on a node; the first one speaks.
    fn join(&mut self, node: usize, port: u16, each: usize) {
        for (room, nth) in (0..ROOMS).flat_map(|room| (0..each).map(move |nth| (room, nth))) {
            let member = Member::join(port, &format!("room {room}"), &format!("{node} {nth}"));
            let heard = BTreeMap::new();
            self.ears.push(Ear { node, room, speaks: nth == 0, member, heard });
        }
        self.said.insert(node, 0);
    }

    /// The speakers of all nodes say something in their rooms.
    fn say(&mut self) {
        self.said.values_mut().for_each(|said| *said += 1);
        for ear in self.ears.iter_mut().filter(|ear| ear.speaks) {
            let reply =
                ear.member.say(&format!("room {}", ear.room), &self.said[&ear.node].to_string());
            assert_eq!(reply["result"], "said");
        }
    }

    /// Everybody listens until the last word of each speaker is there.
    fn listen(&mut self) {
        for ear in &mut self.ears {
            let is_behind = |heard: &BTreeMap<usize, Vec<u64>>| {
                self.said.iter().any(|(node, said)| {
                    heard.get(node).and_then(|numbers| numbers.last()) != Some(said)
                })
            };
            while is_behind(&ear.heard) {
                let push = ear.member.push_of("said");
                assert_eq!(push["room"], format!("room {}", ear.room));
                let name = push["name"].as_str().unwrap();
                let from = name.strip_suffix(" 0").unwrap().parse().unwrap();
                let number = push["text"].as_str().unwrap().parse().unwrap();
                let numbers = ear.heard.entry(from).or_default();
                assert!(numbers.last() < Some(&number), "{number} after {numbers:?} of {name}");
                numbers.push(number);
            }
        }
    }

    /// A node is gone, with its members.
    fn forget(&mut self, node: usize) {
        self.ears.retain(|ear| ear.node != node);
        self.said.remove(&node);
    }

    /// Messages of a node that somebody has not heard.
    fn missing(&self, node: usize) -> usize {
        let mut missing = BTreeSet::new();
        for ear in &self.ears {
            let heard = &ear.heard[&node];
            for number in (1..=self.said[&node]).filter(|number| !heard.contains(number)) {
                assert!(ear.node != node, "its own node misses nothing");
                missing.insert((ear.room, number));
            }
        }
        missing.len()
    }
}

fn wait_for_channels(broker: &Broker, nodes: usize) {
    wait_until("every room of every node is subscribed", || {
        broker.channels().len() == nodes * ROOMS
    });
}

#[test]
fn do_300_members_outlive_three_deaths_of_their_broker() {
    with_each(|mut broker| {
        let mut nodes: Vec<Serving> = (0..3).map(|_| node(&broker, &[])).collect();
        let mut crowd = Crowd::default();
        for (number, each) in [(0, 4), (1, 3), (2, 3)] {
            crowd.join(number, nodes[number].port(), each);
        }
        assert_eq!(crowd.ears.len(), 300);
        wait_for_channels(&broker, 3);
        for _ in 0..3 {
            crowd.say();
            // What a broker has taken and not handed on when it dies, nobody can count.
            crowd.listen();
            broker.kill();
            nodes.iter().for_each(|node| drop(node.wait_for("is away")));
            crowd.say();
            broker.start_again();
            wait_for_channels(&broker, 3);
            nodes.iter().for_each(|node| drop(node.wait_for("is there")));
            crowd.say();
            crowd.listen();
        }
        let missing: Vec<usize> = (0..3).map(|node| crowd.missing(node)).collect();
        assert_eq!(missing, [3 * ROOMS; 3], "what was said while the broker was away, and no more");

        // Another one comes, one is told to stop, one is killed: the others' rooms go on.
        nodes.push(node(&broker, &[]));
        crowd.join(3, nodes[3].port(), 1);
        wait_for_channels(&broker, 4);
        crowd.say();
        crowd.listen();
        let stopped = nodes.remove(1).stop();
        assert_eq!(stopped.status, Some(0));
        crowd.forget(1);
        let ear = crowd.ears.iter_mut().find(|ear| ear.node == 0).unwrap();
        let left = ear.member.push_of("left");
        assert!(left["name"].as_str().unwrap().starts_with("1 "), "{left}");
        let killed = nodes.remove(1);
        killed.signal(Signal::SIGKILL);
        crowd.forget(2);
        wait_for_channels(&broker, 2);
        crowd.say();
        crowd.listen();
        // The subscriptions go with the members.
        let one = json!({ "action": "leave", "room": "room 7" });
        for ear in crowd.ears.iter_mut().filter(|ear| ear.room == 7) {
            assert_eq!(ear.member.ask(&one)["result"], "left");
        }
        wait_until("nobody needs that room", || broker.channels().len() == 2 * (ROOMS - 1));
        drop(crowd);
        let ended: Vec<_> = nodes.into_iter().map(Serving::stop).collect();
        // What was sent to a broker and not confirmed may have been heard.
        assert!(stopped.count("broker_lost") >= missing[1] as u64, "{:?}", stopped.stderr);
        assert!(ended[0].count("broker_lost") >= missing[0] as u64, "{:?}", ended[0].stderr);
        assert_eq!(ended[1].count("broker_lost"), 0);
    });
}
