//! Do the engine's parts agree with the plainest model of each, over any history?

#![cfg(feature = "json")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddrV4, SocketAddrV6};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use myriapod::proxy_protocol::{Command, Header, kind, parse, write_v1, write_v2};
use myriapod::slab::{Key, Slab};
use myriapod::sys::UnixAddr;
use myriapod::timer::{Tick, TimerEntries, TimerLinks, Wheel, until};
use myriapod::{Backend, Interest, Selector, SocketAddr};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::common::on_every_backend;

on_every_backend! {
    does_a_selector_agree_with_a_model,
}

fn address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        any::<SocketAddrV4>().prop_map(SocketAddr::from),
        // The text has no flow label.
        any::<SocketAddrV6>()
            .prop_map(|v6| { SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into() }),
        "[^@\0][^\0]{0,30}".prop_map(|path| UnixAddr::Path(path.into()).into()),
        vec(any::<u8>(), 0..30).prop_map(|name| UnixAddr::Abstract(name).into()),
        Just(UnixAddr::Unnamed.into()),
    ]
}

proptest! {
    #[test]
    #[cfg(target_os = "linux")]
    fn does_every_address_read_back_from_its_text(address in address()) {
        prop_assert_eq!(address.to_string().parse(), Ok(address));
    }

    #[test]
    fn is_any_text_an_address_or_refused(text in "(unix:|\\[|[0-9.]{0,9}:)?.{0,12}(\\]|%7\\])?(:[0-9]{0,6})?") {
        // No name server is asked, and what is read shows itself in a form that reads the same.
        if let Ok(address) = text.parse::<SocketAddr>() {
            prop_assert_eq!(address.to_string().parse(), Ok(address));
        }
    }
}

/// What `ppp` says of a whole header: source and destination, bytes, and the further fields.
type Told = (Option<(SocketAddr, SocketAddr)>, usize, Vec<(u8, Vec<u8>)>);

fn as_ppp_reads(bytes: &[u8]) -> Option<Told> {
    use ppp::{HeaderResult, v1, v2};
    let pair = |from: (std::net::IpAddr, u16), to: (std::net::IpAddr, u16)| {
        let address = |(ip, port)| SocketAddr::from(std::net::SocketAddr::new(ip, port));
        Some((address(from), address(to)))
    };
    match HeaderResult::parse(bytes) {
        HeaderResult::V1(header) => {
            let header = header.ok()?;
            let addresses = match header.addresses {
                v1::Addresses::Unknown => None,
                v1::Addresses::Tcp4(ip) => pair(
                    (ip.source_address.into(), ip.source_port),
                    (ip.destination_address.into(), ip.destination_port),
                ),
                v1::Addresses::Tcp6(ip) => pair(
                    (ip.source_address.into(), ip.source_port),
                    (ip.destination_address.into(), ip.destination_port),
                ),
            };
            Some((addresses, header.header.len(), Vec::new()))
        }
        HeaderResult::V2(header) => {
            let header = header.ok()?;
            let unix = |bytes: &[u8]| SocketAddr::Unix(UnixAddr::from_zero_padded(bytes));
            let addresses = match header.addresses {
                v2::Addresses::Unspecified => None,
                v2::Addresses::IPv4(ip) => pair(
                    (ip.source_address.into(), ip.source_port),
                    (ip.destination_address.into(), ip.destination_port),
                ),
                v2::Addresses::IPv6(ip) => pair(
                    (ip.source_address.into(), ip.source_port),
                    (ip.destination_address.into(), ip.destination_port),
                ),
                v2::Addresses::Unix(ends) => Some((unix(&ends.source), unix(&ends.destination))),
            };
            let tlvs = header.tlvs().map(|tlv| tlv.ok().map(|t| (t.kind, t.value.to_vec())));
            let is_local = header.command == v2::Command::Local;
            let said = if is_local {
                (None, Vec::new())
            } else {
                (addresses, tlvs.collect::<Option<_>>()?)
            };
            Some((said.0, header.len(), said.1))
        }
    }
}

fn as_we_read(header: &Header<'_>) -> Told {
    let addresses = header.source().cloned().zip(header.destination().cloned());
    let tlvs = header.tlvs().into_iter().map(|(kind, value)| (kind, value.to_vec()));
    (addresses, header.len(), tlvs.collect())
}

/// Two addresses of one family, as a header of version 2 can hold them.
fn ends() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    let v6 = || any::<SocketAddrV6>().prop_map(|v6| SocketAddrV6::new(*v6.ip(), v6.port(), 0, 0));
    let path = || "/[a-z]{0,100}".prop_map(|path| UnixAddr::Path(path.into()));
    prop_oneof![
        any::<(SocketAddrV4, SocketAddrV4)>().prop_map(|(a, b)| (a.into(), b.into())),
        (v6(), v6()).prop_map(|(a, b)| (a.into(), b.into())),
        (path(), path()).prop_map(|(a, b)| (a.into(), b.into())),
    ]
}

/// A header, and bytes of it that are changed.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let fields = vec((any::<u8>(), vec(any::<u8>(), 0..20)), 0..4);
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    (ends(), fields, changes, any::<bool>()).prop_map(|((from, to), fields, changes, is_text)| {
        let mut bytes = Vec::new();
        let fields: Vec<_> = fields.iter().map(|(kind, value)| (*kind, &value[..])).collect();
        if is_text {
            write_v1(&mut bytes, &from, &to);
        } else {
            assert!(write_v2(&mut bytes, Command::Proxy, &from, &to, &fields));
        }
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #[test]
    fn does_a_second_opinion_read_the_headers_we_write((from, to) in ends(), id in vec(any::<u8>(), 0..128)) {
        let fields = [(kind::UNIQUE_ID, &id[..]), (kind::CRC32C, &[])];
        let mut bytes = Vec::new();
        prop_assert!(write_v2(&mut bytes, Command::Proxy, &from, &to, &fields));
        let told = as_ppp_reads(&bytes).unwrap();
        prop_assert_eq!(&told.0, &Some((from.clone(), to.clone())));
        prop_assert_eq!(&told, &as_we_read(&parse(&bytes).unwrap().unwrap()));
        let mut line = Vec::new();
        write_v1(&mut line, &from, &to);
        let told = as_ppp_reads(&line).unwrap();
        prop_assert_eq!(told, as_we_read(&parse(&line).unwrap().unwrap()));
    }

    #[test]
    fn do_both_opinions_agree_on_what_they_accept(bytes in damaged()) {
        let Ok(Some(header)) = parse(&bytes) else { return Ok(()) };
        if let Some(told) = as_ppp_reads(&bytes) {
            prop_assert_eq!(told, as_we_read(&header));
        }
        // In pieces it is the same.
        for end in 0..header.len() {
            prop_assert_eq!(parse(&bytes[..end]), Ok(None));
        }
    }
}

#[derive(Clone, Debug)]
enum SlabStep {
    Insert(u16),
    Remove(usize),
    Change(usize, u16),
}

fn slab_step() -> impl Strategy<Value = SlabStep> {
    prop_oneof![
        3 => any::<u16>().prop_map(SlabStep::Insert),
        2 => any::<usize>().prop_map(SlabStep::Remove),
        1 => (any::<usize>(), any::<u16>()).prop_map(|(at, value)| SlabStep::Change(at, value)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn does_a_slab_agree_with_a_map(steps in vec(slab_step(), 0..400)) {
        let (mut slab, mut model) = (Slab::new(), BTreeMap::new());
        // Every key there ever was: a stale one must find nothing.
        let mut keys: Vec<Key> = Vec::new();
        for step in steps {
            match step {
                SlabStep::Insert(value) => {
                    let key = slab.insert(value).unwrap();
                    prop_assert!(!keys.contains(&key), "a key given twice");
                    keys.push(key);
                    model.insert(key, value);
                }
                SlabStep::Remove(at) if !keys.is_empty() => {
                    let key = keys[at % keys.len()];
                    prop_assert_eq!(slab.remove(key), model.remove(&key));
                }
                SlabStep::Change(at, value) if !keys.is_empty() => {
                    let key = keys[at % keys.len()];
                    let (found, expected) = (slab.get_mut(key), model.get_mut(&key));
                    prop_assert_eq!(found.is_some(), expected.is_some());
                    if let (Some(found), Some(expected)) = (found, expected) {
                        (*found, *expected) = (value, value);
                    }
                }
                SlabStep::Remove(_) | SlabStep::Change(..) => {}
            }
            prop_assert_eq!(slab.len(), model.len());
        }
        for key in &keys {
            prop_assert_eq!(slab.get(*key), model.get(key));
            prop_assert_eq!(Key::from_bits(key.to_bits()), *key);
        }
        let mut all: Vec<_> = slab.iter().map(|(key, value)| (key, *value)).collect();
        all.sort_unstable();
        prop_assert_eq!(all, model.into_iter().collect::<Vec<_>>());
    }
}

struct Entries(Vec<TimerLinks>);

impl TimerEntries for Entries {
    fn links(&mut self, index: u32) -> Option<&mut TimerLinks> {
        self.0.get_mut(index as usize)
    }
}

const TIMERS: u32 = 24;

#[derive(Clone, Debug)]
enum WheelStep {
    Arm(u32, u32),
    Cancel(u32),
    /// Time goes on, and no more than so many timers are moved or fired at once.
    Advance(u32, u32),
}

/// Near and far: each level of the wheel is as likely.
fn distance() -> impl Strategy<Value = u32> {
    (0_u32..26, any::<u32>()).prop_map(|(bits, number)| number % (1 << bits))
}

fn wheel_step() -> impl Strategy<Value = WheelStep> {
    prop_oneof![
        3 => (0..TIMERS, distance()).prop_map(|(index, ahead)| WheelStep::Arm(index, ahead)),
        1 => (0..TIMERS).prop_map(WheelStep::Cancel),
        2 => (distance(), 1_u32..40).prop_map(|(ahead, budget)| WheelStep::Advance(ahead, budget)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn does_a_timing_wheel_agree_with_a_sorted_list(
        // Also where the count of ticks wraps around.
        start in prop_oneof![Just(0), Just(u32::MAX - 5_000), any::<Tick>()],
        steps in vec(wheel_step(), 0..200),
    ) {
        let mut now = start;
        let mut wheel = Wheel::starting_at(now);
        let mut entries = Entries(vec![TimerLinks::UNARMED; TIMERS as usize]);
        let mut model: BTreeMap<u32, Tick> = BTreeMap::new();
        for step in steps {
            match step {
                WheelStep::Arm(index, ahead) => {
                    let due = now.wrapping_add(ahead);
                    wheel.arm(&mut entries, index, due);
                    model.insert(index, due);
                }
                WheelStep::Cancel(index) => {
                    let was = wheel.cancel(&mut entries, index);
                    prop_assert_eq!(was, model.remove(&index).is_some());
                }
                WheelStep::Advance(ahead, at_once) => {
                    let soonest = model.values().map(|due| until(now, *due)).min();
                    if let Some(soonest) = soonest {
                        let next = wheel.next().expect("timers are armed");
                        prop_assert!(until(now, next) <= soonest, "it would be woken too late");
                    }
                    let later = now.wrapping_add(ahead);
                    // However small the steps, all that is due fires in the end, once.
                    let mut rounds = 0;
                    loop {
                        let mut budget = at_once;
                        while let Some(index) = wheel.expire(&mut entries, later, &mut budget) {
                            let due = model.remove(&index);
                            prop_assert!(
                                due.is_some_and(|due| until(now, due) <= ahead),
                                "timer {} fired early", index
                            );
                        }
                        if budget > 0 {
                            break;
                        }
                        rounds += 1;
                        prop_assert!(rounds < 10_000, "the wheel goes round and round");
                    }
                    let late = model.values().filter(|due| until(now, **due) <= ahead).count();
                    prop_assert_eq!(late, 0, "timers that were due did not fire");
                    now = later;
                }
            }
            prop_assert_eq!(wheel.len(), model.len());
        }
    }
}

#[derive(Clone, Debug)]
enum SelectorStep {
    Register(u8),
    Watch(usize, u8),
    Unregister(usize),
    Close(usize),
    /// The other end writes, or is dropped.
    Write(usize),
    Read(usize),
    Leave(usize),
}

fn selector_step() -> impl Strategy<Value = SelectorStep> {
    use SelectorStep::{Close, Leave, Read, Register, Unregister, Watch, Write};
    prop_oneof![
        3 => (0_u8..4).prop_map(Register),
        3 => (any::<usize>(), 0_u8..4).prop_map(|(at, interest)| Watch(at, interest)),
        1 => any::<usize>().prop_map(Unregister),
        1 => any::<usize>().prop_map(Close),
        3 => any::<usize>().prop_map(Write),
        2 => any::<usize>().prop_map(Read),
        1 => any::<usize>().prop_map(Leave),
    ]
}

fn interest_of(number: u8) -> Interest {
    match number {
        0 => Interest::NONE,
        1 => Interest::READABLE,
        2 => Interest::WRITABLE,
        _ => Interest::READABLE | Interest::WRITABLE,
    }
}

/// What a registered socket is known to be.
struct Modelled {
    key: Key,
    ours: UnixStream,
    theirs: Option<UnixStream>,
    interest: Interest,
    unread: usize,
}

impl Modelled {
    /// Of what it is watched for: it is always writable, and readable with bytes or at the end.
    fn ready(&self) -> Interest {
        let mut ready = Interest::NONE;
        if self.interest.is_readable() && (self.unread > 0 || self.theirs.is_none()) {
            ready |= Interest::READABLE;
        }
        if self.interest.is_writable() {
            ready |= Interest::WRITABLE;
        }
        ready
    }
}

fn follow(backend: Backend, steps: &[SelectorStep]) -> Result<(), TestCaseError> {
    let mut selector = Selector::with_backend(backend).unwrap();
    let mut model: Vec<Modelled> = Vec::new();
    let mut gone: Vec<Key> = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let place = |at: usize| (!model.is_empty()).then(|| at % model.len());
        match *step {
            SelectorStep::Register(interest) => {
                let (ours, theirs) = UnixStream::pair().unwrap();
                ours.set_nonblocking(true).unwrap();
                let interest = interest_of(interest);
                let copy = ours.try_clone().unwrap();
                let key = selector.register(copy, interest, number).unwrap();
                let theirs = Some(theirs);
                model.push(Modelled { key, ours, theirs, interest, unread: 0 });
            }
            SelectorStep::Watch(at, interest) => {
                let Some(place) = place(at) else { continue };
                let interest = interest_of(interest);
                selector.modify(model[place].key, interest).unwrap();
                model[place].interest = interest;
            }
            SelectorStep::Unregister(at) => {
                let Some(place) = place(at) else { continue };
                let modelled = model.swap_remove(place);
                prop_assert!(selector.unregister(modelled.key).is_some());
                gone.push(modelled.key);
            }
            SelectorStep::Close(at) => {
                let Some(place) = place(at) else { continue };
                let modelled = model.swap_remove(place);
                // `close` lets the poller go by the close itself: no copy may stay open.
                drop(modelled.ours);
                prop_assert!(selector.close(modelled.key).is_some());
                gone.push(modelled.key);
            }
            SelectorStep::Write(at) => {
                let Some(place) = place(at) else { continue };
                if let Some(theirs) = &mut model[place].theirs {
                    theirs.write_all(b"x").unwrap();
                    model[place].unread += 1;
                }
            }
            SelectorStep::Read(at) => {
                let Some(place) = place(at) else { continue };
                let read = model[place].ours.read(&mut [0; 256]).unwrap_or(0);
                prop_assert_eq!(read, model[place].unread.min(256));
                model[place].unread -= read;
            }
            SelectorStep::Leave(at) => {
                let Some(place) = place(at) else { continue };
                model[place].theirs = None;
            }
        }
        selector.select(Some(Duration::ZERO)).unwrap();
        let mut seen = BTreeMap::new();
        while let Some(ready) = selector.next_ready() {
            prop_assert!(!gone.contains(&ready.key), "an event of what is gone");
            let wanted = model.iter().find(|one| one.key == ready.key).map(|one| one.interest);
            let readiness = ready.readiness & wanted.unwrap_or(Interest::NONE);
            prop_assert!(seen.insert(ready.key, readiness).is_none(), "two events of one socket");
        }
        let expected: BTreeMap<Key, Interest> = model
            .iter()
            .map(|one| (one.key, one.ready()))
            .filter(|(_, ready)| !ready.is_empty())
            .collect();
        prop_assert_eq!(seen, expected, "after step {}: {:?}", number, step);
        for key in &gone {
            prop_assert_eq!(selector.get(*key), None);
        }
    }
    Ok(())
}

fn does_a_selector_agree_with_a_model(backend: Backend) {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 30,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner.run(&vec(selector_step(), 0..120), |steps| follow(backend, &steps)).unwrap();
}
