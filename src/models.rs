//! What threads do to each other, in many orders, found by loom: each test runs its model again
//! for each way in which the steps of its threads can follow one another, and what a thread that
//! is not synchronized may see. Not every order: each model says how often, two to four times,
//! threads that could go on are interrupted, which covers what so few switches can do. A wake-up
//! that is lost is a deadlock here.
//!
//! Loom knows no sequential consistency beyond acquire and release, so what holds here does not
//! lean on it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::mpsc::{TryRecvError, channel};

use loom::thread;

use crate::connection_id::ConnectionId;
use crate::deferred::Deferred;
use crate::handle_error::HandleError;
use crate::loops::{Member, members_of};
use crate::mailbox::{Item, MAX_ITEMS, Mailbox};
use crate::outgoing::Outgoing;
use crate::slab::Key;
use crate::sync::Waker;
use crate::sync::atomic::{AtomicUsize, Ordering::AcqRel};

/// Checks every order with no more than `switches` switches of threads that could go on.
fn check(switches: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(switches);
    builder.check(model);
}

fn mailbox() -> Arc<Mailbox> {
    Arc::new(Mailbox::new(Waker::new()))
}

fn item() -> Item {
    Item::Close { key: Key::from_bits(1) }
}

/// What a loop does: waits, and takes what is there.
fn turn(mailbox: &Mailbox) -> Vec<Item> {
    mailbox.wait();
    mailbox.take()
}

/// A loops and its mailboxes.
fn loops(count: usize, max_connections: usize) -> (Vec<Member>, Vec<Arc<Mailbox>>) {
    let mailboxes: Vec<_> = (0..count).map(|_| mailbox()).collect();
    (members_of(mailboxes.clone(), max_connections), mailboxes)
}

#[test]
fn is_no_wake_up_lost_to_a_reset() {
    // It takes a third wake to miss the second, which a reset took for its own.
    check(3, || {
        let shared = Arc::new((Waker::new(), AtomicUsize::new(0)));
        let workers: Vec<_> = [2, 1]
            .map(|count| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    for _ in 0..count {
                        shared.1.fetch_add(1, AcqRel);
                        shared.0.wake().unwrap();
                    }
                })
            })
            .into();
        let mut seen = 0;
        while seen < 3 {
            shared.0.wait();
            shared.0.reset();
            seen += shared.1.swap(0, AcqRel);
        }
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
}

#[test]
fn is_no_wake_up_lost_to_another_that_fails() {
    // Whichever of the first raises it is that fails. More switches find nothing else.
    for failing in [0..1, 1..2, 0..2] {
        check(3, move || {
            let shared = Arc::new((Waker::failing(failing.clone()), AtomicUsize::new(0)));
            let gives_up = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.0.wake().is_ok())
            };
            let goes_on = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    shared.1.fetch_add(1, AcqRel);
                    while shared.0.wake().is_err() {}
                })
            };
            // A sender that was told "it is awake" is heard.
            while shared.1.swap(0, AcqRel) == 0 {
                shared.0.wait();
                shared.0.reset();
            }
            gives_up.join().unwrap();
            goes_on.join().unwrap();
        });
    }
}

#[test]
fn is_an_item_seen_whose_wake_up_failed_at_first() {
    for failing in [0..1, 1..2, 2..3] {
        check(3, move || {
            let mailbox = Arc::new(Mailbox::new(Waker::failing(failing.clone())));
            let posters: Vec<_> = (0..2)
                .map(|_| {
                    let mailbox = Arc::clone(&mailbox);
                    thread::spawn(move || assert_eq!(mailbox.post(item()), Ok(())))
                })
                .collect();
            let mut taken = 0;
            while taken < 2 {
                taken += turn(&mailbox).len();
            }
            posters.into_iter().for_each(|poster| poster.join().unwrap());
        });
    }
}

#[test]
fn is_an_item_seen_whose_wake_up_failed() {
    check(3, || {
        // As many as one post tries.
        let mailbox = Arc::new(Mailbox::new(Waker::failing(0..3)));
        let gives_up = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || mailbox.post(Item::CutOff))
        };
        let goes_on = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || while mailbox.post(item()) == Err(HandleError::NotWoken) {})
        };
        let mut taken = Vec::new();
        while !taken.iter().any(|item| matches!(item, Item::Close { .. })) {
            taken.extend(turn(&mailbox));
        }
        let posted = gives_up.join().unwrap();
        assert!(matches!(posted, Ok(()) | Err(HandleError::NotWoken)), "{posted:?}");
        goes_on.join().unwrap();
    });
}

#[test]
fn is_every_item_taken_without_a_wake_up_from_elsewhere() {
    check(3, || {
        let mailbox = mailbox();
        let posters: Vec<_> = [2, 1]
            .map(|count| {
                let mailbox = Arc::clone(&mailbox);
                thread::spawn(move || (0..count).for_each(|_| mailbox.post(item()).unwrap()))
            })
            .into();
        let mut taken = 0;
        while taken < 3 {
            taken += turn(&mailbox).len();
        }
        posters.into_iter().for_each(|poster| poster.join().unwrap());
    });
}

#[test]
fn is_nothing_left_in_a_mailbox_that_closes() {
    check(4, || {
        let mailbox = mailbox();
        let posters: Vec<_> = (0..2)
            .map(|_| {
                let mailbox = Arc::clone(&mailbox);
                let (to, answer) = channel();
                thread::spawn(move || (mailbox.post(Item::Stats { to }), answer))
            })
            .collect();
        drop(mailbox.take());
        drop(mailbox.close());
        assert_eq!(mailbox.post(item()), Err(HandleError::Gone));
        for poster in posters {
            let (posted, answer) = poster.join().unwrap();
            assert!(matches!(posted, Ok(()) | Err(HandleError::Gone)), "{posted:?}");
            // Who waits for an answer would wait on.
            assert_eq!(answer.try_recv().err(), Some(TryRecvError::Disconnected));
        }
    });
}

#[test]
fn are_two_stops_one_and_both_are_heard() {
    check(4, || {
        let mailbox = mailbox();
        let stops: Vec<_> = (0..2)
            .map(|_| {
                let mailbox = Arc::clone(&mailbox);
                thread::spawn(move || mailbox.post(Item::Shutdown))
            })
            .collect();
        let mut taken = 0;
        while taken == 0 {
            taken += turn(&mailbox).len();
        }
        assert_eq!(taken + mailbox.close().len(), 1);
        // The second may come when it is all over.
        stops.into_iter().for_each(|stop| assert_eq!(stop.join().unwrap(), Ok(())));
    });
}

#[test]
fn is_each_deferred_reply_answered_or_abandoned_once() {
    check(3, || {
        let mailbox = mailbox();
        let deferred = |sequence| {
            let id = ConnectionId { event_loop: 0, key: Key::from_bits(1) };
            Deferred::new(Arc::clone(&mailbox), id, sequence)
        };
        let (answered, abandoned) = (deferred(1), deferred(2));
        let answer = thread::spawn(move || {
            answered.send(Outgoing::binary("binary/any", Vec::new())).unwrap();
        });
        let abandon = thread::spawn(move || drop(abandoned));
        let mut taken = Vec::new();
        while taken.len() < 2 {
            taken.extend(turn(&mailbox));
        }
        answer.join().unwrap();
        abandon.join().unwrap();
        taken.extend(mailbox.take());
        let answers = taken.iter().filter(|item| matches!(item, Item::Answer { sequence: 1, .. }));
        let abandons =
            taken.iter().filter(|item| matches!(item, Item::Abandon { sequence: 2, .. }));
        assert_eq!((answers.count(), abandons.count(), taken.len()), (1, 1, 2));
    });
}

/// A loop that is stopping: serves what it is given, until it may end. Returns how much that was.
fn wind_down(member: &Member, mailbox: &Mailbox) -> usize {
    let mut served = 0;
    while !member.may_end() {
        for item in turn(mailbox) {
            if matches!(item, Item::HandOver { .. }) {
                served += 1;
                member.release();
            }
        }
    }
    served
}

// Any does.
fn peer() -> myriapod_sys::SocketAddr {
    std::net::SocketAddr::from(([127, 0, 0, 1], 1)).into()
}

fn socket() -> myriapod_sys::Descriptor {
    std::io::pipe().unwrap().0.into()
}

#[test]
fn is_a_socket_served_that_is_handed_to_a_loop_about_to_end() {
    check(2, move || {
        let (mut members, mailboxes) = loops(2, 2);
        let (first, second) = (Arc::clone(&mailboxes[0]), Arc::clone(&mailboxes[1]));
        let mut other = members.pop().unwrap();
        let ending = thread::spawn(move || {
            other.stop_accepting();
            wind_down(&other, &second)
        });
        let mut member = members.pop().unwrap();
        // Its own place is in use, so the next goes to the other.
        assert_eq!(member.reserve(false), Some(0));
        let to = member.reserve(false).unwrap();
        assert_eq!(to, 1);
        member.hand_over(to, socket(), peer(), None).unwrap();
        member.release();
        member.stop_accepting();
        assert_eq!(wind_down(&member, &first), 0);
        assert_eq!(ending.join().unwrap(), 1, "the socket was served");
    });
}

#[test]
fn is_a_socket_served_that_is_handed_to_the_first_loop() {
    check(2, || {
        let (mut members, mailboxes) = loops(2, 2);
        let (first, second) = (Arc::clone(&mailboxes[0]), Arc::clone(&mailboxes[1]));
        let mut other = members.pop().unwrap();
        let mut member = members.pop().unwrap();
        let handing = thread::spawn(move || {
            assert_eq!(other.reserve(false), Some(1));
            assert_eq!(other.reserve(false), Some(0));
            other.hand_over(0, socket(), peer(), None).unwrap();
            other.release();
            other.stop_accepting();
            wind_down(&other, &second)
        });
        member.stop_accepting();
        assert_eq!(wind_down(&member, &first), 1, "the socket was served");
        assert_eq!(handing.join().unwrap(), 0);
        assert_eq!(member.open(), 0);
    });
}

#[test]
fn is_the_place_of_a_socket_for_a_failed_loop_given_back() {
    // It may have panicked, or another has and pulls the stop_all.
    for is_braked in [false, true] {
        check(3, move || {
            let (mut members, mailboxes) = loops(2, 2);
            let other = members.pop().unwrap();
            let member = members.pop().unwrap();
            assert_eq!(member.reserve(false), Some(0));
            assert_eq!(member.reserve(false), Some(1));
            let mailbox = Arc::clone(&mailboxes[1]);
            let failing = thread::spawn(move || {
                let served = if is_braked { wind_down(&other, &mailbox) } else { 0 };
                drop(other);
                served
            });
            if is_braked {
                member.stop_all().now();
            }
            let handed = member.hand_over(1, socket(), peer(), None);
            assert!(matches!(handed, Ok(()) | Err(HandleError::Gone)), "{handed:?}");
            let served = failing.join().unwrap();
            assert!(served == 0 || handed.is_ok());
            member.release();
            assert_eq!(member.open(), 0);
            assert!(member.may_end() || !is_braked);
        });
    }
}

#[test]
fn is_the_last_place_taken_once() {
    check(4, || {
        let (members, _) = loops(2, 1);
        let reserve = |member: Member| thread::spawn(move || (member.reserve(false), member));
        let loops: Vec<_> = members.into_iter().map(reserve).collect();
        let done: Vec<_> = loops.into_iter().map(|one| one.join().unwrap()).collect();
        assert_eq!(done.iter().filter(|(place, _)| place.is_some()).count(), 1);
        assert_eq!(done[0].1.open(), 1);
    });
}

#[test]
fn is_a_loop_that_wants_a_place_told_of_one() {
    check(3, || {
        let (mut members, mailboxes) = loops(2, 1);
        let closes = members.pop().unwrap();
        let wants = members.pop().unwrap();
        // The only place is in the first loop; somebody has it who is about to give it back.
        assert_eq!(closes.reserve(false), Some(0));
        let closing = thread::spawn(move || {
            closes.release_at(0);
            closes
        });
        while wants.reserve_or_want(false).is_none() {
            turn(&mailboxes[0]);
        }
        assert_eq!(wants.open(), 1);
        closing.join().unwrap();
    });
}

#[test]
fn is_a_loop_with_a_full_mailbox_told_of_a_place() {
    check(3, || {
        let (mut members, mailboxes) = loops(2, 1);
        let closes = members.pop().unwrap();
        let wants = members.pop().unwrap();
        assert_eq!(closes.reserve(false), Some(0));
        for _ in 0..MAX_ITEMS {
            mailboxes[0].post(item()).unwrap();
        }
        assert_eq!(mailboxes[0].post(item()), Err(HandleError::Full));
        let closing = thread::spawn(move || {
            closes.release_at(0);
            closes
        });
        let is_told = |item: &Item| matches!(item, Item::Resume);
        while wants.reserve_or_want(false).is_none() {
            // It accepts nobody until it is told.
            while !turn(&mailboxes[0]).iter().any(is_told) {}
        }
        assert_eq!(wants.open(), 1);
        closing.join().unwrap();
    });
}

#[test]
fn does_a_loop_end_though_another_can_never_be_woken() {
    check(3, || {
        let mailboxes = [mailbox(), Arc::new(Mailbox::new(Waker::failing(0..usize::MAX)))];
        let mut members = members_of(mailboxes.to_vec(), 2);
        let (_deaf, ends) = (members.pop().unwrap(), members.pop().unwrap());
        thread::spawn(move || drop(ends)).join().unwrap();
        // It looks in its next turn, whatever that is for.
        assert!(mailboxes[1].take_unheard());
        assert!(matches!(mailboxes[1].take()[..], [Item::Shutdown]));
    });
}
