//! One world: nodes that share a broker, which loses connections, dies, delays, and hands on what
//! different nodes publish in any order.

mod broker;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use myriapod::SocketAddr;
use myriapod::sys::sim::{Faults, Rng};
use myriapod_cluster::{Arrival, Nats, Node, Prefix, Redis, Remote, Stepped};

use self::broker::{Broker, Kind};
use crate::run::Life;

const HOST: &str = "10.0.0.9";
const PORT: u16 = 6379;

/// One of them would be a pattern.
const GROUPS: [&str; 3] = ["a", "b.*", "c"];

/// Rounds of five milliseconds within which everything is in order once nothing goes wrong any more.
const MOST_ROUNDS: u32 = 20_000;

/// Rounds for which it must stay so.
const CALM_ROUNDS: u32 = 200;

type Heard = Arc<Mutex<Vec<(String, String)>>>;

/// A node, and what the world knows of it.
struct Member {
    node: Node,
    stepped: Stepped,
    heard: Heard,
    /// Groups that it has members of.
    wanted: BTreeSet<usize>,
    /// What it has published, with the group; and how many of them it was told are on their way.
    published: BTreeMap<u64, usize>,
    sent: Vec<u64>,
    /// The newest number that it has heard of each other node.
    last: BTreeMap<usize, u64>,
    /// All that it has heard.
    all: BTreeSet<(usize, u64)>,
}

impl Member {
    fn start(kind: Kind) -> Result<Self, String> {
        let remote: Remote = match kind {
            Kind::Redis => Redis::new(HOST, PORT).user("u", "p").database(1).into(),
            Kind::Nats => Nats::new(HOST, PORT).into(),
        };
        let stepped = Stepped::new(remote);
        let heard = Heard::default();
        let into = Arc::clone(&heard);
        let hears = move |arrival: Arrival<'_>| {
            if let Arrival::Message { group, payload } = arrival {
                let text = String::from_utf8_lossy(payload).into_owned();
                into.lock().unwrap_or_else(PoisonError::into_inner).push((group.to_owned(), text));
            }
        };
        let node = Node::start(stepped.clone(), Prefix::default(), hears);
        Ok(Self {
            node: node.map_err(|error| error.to_string())?,
            stepped,
            heard,
            wanted: BTreeSet::new(),
            published: BTreeMap::new(),
            sent: Vec::new(),
            last: BTreeMap::new(),
            all: BTreeSet::new(),
        })
    }

    fn toggle(&mut self, group: usize) {
        let name = GROUPS.get(group).copied().unwrap_or_default();
        if self.wanted.remove(&group) {
            self.node.unsubscribe(name);
        } else {
            self.wanted.insert(group);
            self.node.subscribe(name);
        }
    }

    fn publish(&mut self, own: usize, group: usize) -> bool {
        let number = self.published.len() as u64 + 1;
        self.published.insert(number, group);
        let name = GROUPS.get(group).copied().unwrap_or_default();
        let is_sent = self.node.publish(name, format!("{own} {number}").as_bytes());
        if is_sent {
            self.sent.push(number);
        }
        is_sent
    }
}

struct Scene<'a> {
    life: &'a mut Life,
    broker: Broker,
    members: Vec<Member>,
}

/// Lives through one world.
pub(crate) fn run(life: &mut Life) -> Result<(), String> {
    let kind = if life.rng.chance(500) { Kind::Redis } else { Kind::Nats };
    let mut members = Vec::new();
    for _ in 0..life.rng.between(2, 4) {
        // Their names come from the clock.
        life.world.pass(Duration::from_nanos(life.rng.between(1, 1000)));
        members.push(Member::start(kind)?);
    }
    let broker = Broker::new(kind, address());
    let mut scene = Scene { life, broker, members };
    scene.play()?;
    scene.conclude()?;
    let Scene { life, broker, members } = scene;
    drop((broker, members));
    match life.world.open_descriptors() {
        0 => Ok(()),
        left => Err(format!("{left} descriptors are left of the nodes")),
    }
}

fn address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 9], PORT))
}

impl Scene<'_> {
    fn rng(&mut self) -> &mut Rng {
        &mut self.life.rng
    }

    fn play(&mut self) -> Result<(), String> {
        let is_calm = self.rng().chance(700);
        let faults = if is_calm { Faults::none() } else { Faults::random(self.rng()) };
        self.life.world.set_faults(faults);
        let steps = *self.rng().pick(&[300, 2000, 6000]).unwrap_or(&500);
        if self.rng().chance(700) {
            self.broker.rise()?;
        }
        for _ in 0..steps {
            self.life.step += 1;
            match self.rng().below(100) {
                0..=34 => self.turn_one()?,
                35..=59 => {
                    let all = self.rng().chance(300);
                    self.broker.act(&mut self.life.rng, all);
                }
                60..=74 => {
                    let (own, group) = self.choose();
                    if let Some(member) = self.members.get_mut(own) {
                        member.publish(own, group);
                    }
                }
                75..=81 => {
                    let (own, group) = self.choose();
                    if let Some(member) = self.members.get_mut(own) {
                        member.toggle(group);
                    }
                }
                82..=94 => self.pass(5000),
                95 if self.rng().chance(30) => self.pass(6_000_000),
                95 => self.pass(100_000),
                96 if self.broker.is_there() && self.rng().chance(150) => {
                    self.broker.fall(&mut self.life.rng);
                }
                97 if self.rng().chance(150) => self.broker.lose_one(&mut self.life.rng),
                98.. if !self.broker.is_there() => self.broker.rise()?,
                _ => {}
            }
            self.check()?;
        }
        Ok(())
    }

    fn choose(&mut self) -> (usize, usize) {
        let members = self.members.len();
        (self.rng().index(members), self.rng().index(GROUPS.len()))
    }

    fn pass(&mut self, most: u64) {
        let time = Duration::from_micros(self.rng().between(1, most));
        self.life.world.pass(time);
    }

    fn turn_one(&mut self) -> Result<(), String> {
        let (own, _) = self.choose();
        let turned = self.members.get(own).map_or(Ok(()), |member| member.stepped.turn());
        turned.map_err(|error| error.to_string())
    }

    /// What holds at every step.
    fn check(&mut self) -> Result<(), String> {
        if let Some(wrong) = &self.broker.wrong {
            return Err(wrong.clone());
        }
        for own in 0..self.members.len() {
            let Some(member) = self.members.get(own) else { continue };
            let heard: Vec<(String, String)> =
                std::mem::take(&mut *member.heard.lock().unwrap_or_else(PoisonError::into_inner));
            for (group, text) in heard {
                self.hear(own, &group, &text)?;
            }
        }
        Ok(())
    }

    /// A node has heard something.
    fn hear(&mut self, own: usize, group: &str, text: &str) -> Result<(), String> {
        self.life.messages += 1;
        let words = text.split_once(' ').and_then(|(from, number)| {
            Some((from.parse::<usize>().ok()?, number.parse::<u64>().ok()?))
        });
        let (from, number) = words.ok_or_else(|| format!("node {own} hears {text:?}"))?;
        if from == own {
            return Err(format!("node {own} hears itself: {text}"));
        }
        let said = self.members.get(from).and_then(|member| member.published.get(&number));
        if said.and_then(|said| GROUPS.get(*said)) != Some(&group) {
            return Err(format!("node {own} hears {text} in {group}, where nobody said it"));
        }
        let Some(member) = self.members.get_mut(own) else { return Ok(()) };
        let last = member.last.entry(from).or_default();
        if number <= *last {
            return Err(format!("node {own} hears {number} of node {from} after {last}"));
        }
        *last = number;
        member.all.insert((from, number));
        Ok(())
    }

    /// The subscriptions that there have to be.
    fn wanted(&self) -> Vec<String> {
        let groups = self.members.iter().flat_map(|member| member.wanted.iter().copied());
        let names = groups.filter_map(|group| GROUPS.get(group));
        let mut all: Vec<String> =
            names.filter_map(|name| Prefix::default().channel(name)).collect();
        all.sort_unstable();
        all
    }

    fn round(&mut self) -> Result<(), String> {
        self.life.step += 1;
        for member in &self.members {
            member.stepped.turn().map_err(|error| error.to_string())?;
        }
        self.broker.act(&mut self.life.rng, true);
        self.life.world.pass(Duration::from_millis(5));
        self.check()
    }

    /// Nothing goes wrong any more: everything comes back, and every message arrives.
    fn conclude(&mut self) -> Result<(), String> {
        self.life.world.set_faults(Faults::none());
        self.life.world.set_descriptor_limit(1024);
        if !self.broker.is_there() {
            self.broker.rise()?;
        }
        self.settle()?;
        let mut due = Vec::new();
        for own in 0..self.members.len() {
            for group in 0..GROUPS.len() {
                let Some(member) = self.members.get_mut(own) else { continue };
                if !member.publish(own, group) {
                    return Err(format!("node {own} cannot publish, and nothing is wrong"));
                }
                let number = member.published.len() as u64;
                let listeners = (0..self.members.len()).filter(|other| {
                    let other = self.members.get(*other);
                    other.is_some_and(|other| other.wanted.contains(&group))
                });
                due.extend(listeners.filter(|other| *other != own).map(|to| (to, own, number)));
            }
        }
        self.settle()?;
        for (to, from, number) in due {
            let heard = self.members.get(to).is_some_and(|one| one.all.contains(&(from, number)));
            if !heard {
                return Err(format!("node {to} has not heard {number} of node {from}"));
            }
        }
        for (own, member) in self.members.iter().enumerate() {
            self.account(own, member)?;
        }
        Ok(())
    }

    /// Waits until everything is as it must be.
    fn settle(&mut self) -> Result<(), String> {
        let mut calm = 0;
        for _ in 0..MOST_ROUNDS {
            self.round()?;
            let is_well = |member: &Member| {
                let stats = member.node.stats().broker;
                stats.is_up && stats.waiting == 0
            };
            let is_calm = self.broker.is_idle()
                && self.members.iter().all(is_well)
                && self.broker.channels() == self.wanted();
            calm = if is_calm { calm + 1 } else { 0 };
            if calm == CALM_ROUNDS {
                return Ok(());
            }
        }
        let stats: Vec<String> =
            self.members.iter().map(|member| member.node.stats().to_string()).collect();
        let (there, wanted) = (self.broker.channels(), self.wanted());
        Err(format!("subscribed are {there:?}, wanted {wanted:?}; {}", stats.join("; ")))
    }

    /// Every message is confirmed or counted as lost, and none that the broker never had is confirmed.
    fn account(&self, own: usize, member: &Member) -> Result<(), String> {
        let stats = member.node.stats();
        let not_sent = (member.published.len() - member.sent.len()) as u64;
        let confirmed = stats.broker.published;
        if stats.lost + confirmed != member.published.len() as u64 {
            let all = member.published.len();
            return Err(format!("node {own} has published {all}, and counts {stats}"));
        }
        let is_missing = |number: &&u64| {
            let payload = format!("{own} {number}");
            !self.broker.has_taken(payload.as_bytes())
        };
        let missing = member.sent.iter().filter(is_missing).count() as u64;
        if missing + not_sent > stats.lost {
            return Err(format!("node {own} has lost {missing} and {not_sent}: {stats}"));
        }
        Ok(())
    }
}
