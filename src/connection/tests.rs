//! Every state with every fact, and every state with all that can be known when it is decided what
//! to do: tables, without a socket.

use super::*;

/// Some tick at which bytes went.
const THEN: Tick = 7;

const CAUSE: Cause = Cause::Handler;

/// The states, by the names that the drawing at the top of the file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Open,
    Waiting,
    Unsendable,
    Closing,
    /// Closing, where nothing can be sent any more.
    Cut,
}

use Name::{Closing, Cut, Open, Unsendable, Waiting};

impl Connection<()> {
    fn fresh() -> Self {
        Self::new((), (), Origin::accepted(0), 0, THEN)
    }

    fn in_state(name: Name) -> Self {
        let mut connection = Self::fresh();
        connection.state = match name {
            Open => State::Open { active: THEN },
            Waiting => State::Waiting { active: THEN, sequence: 5, last: false },
            Unsendable => State::Unsendable { active: THEN },
            Closing => State::Closing { active: THEN, cause: CAUSE, linger: true },
            Cut => State::Closing { active: THEN, cause: CAUSE, linger: false },
        };
        connection
    }

    fn name(&self) -> Name {
        match self.state {
            State::Open { .. } => Open,
            State::Waiting { .. } => Waiting,
            State::Unsendable { .. } => Unsendable,
            State::Closing { linger: true, .. } => Closing,
            State::Closing { linger: false, .. } => Cut,
        }
    }

    /// One with this mark, and with the buffers that the mark cannot be without.
    fn marked(mut self, mark: Marks) -> Self {
        if mark == Marks::READY {
            self.recv = some();
        }
        self.marks.set(mark, true);
        self
    }

    fn with_unfinished(mut self) -> Self {
        self.recv = some();
        self
    }

    fn with_unsent(mut self) -> Self {
        self.send = some();
        self
    }
}

/// A buffer that is lent.
fn some() -> Lent {
    let free = crate::shares::AddressLimit { near: usize::MAX, others: usize::MAX };
    let mut pool = crate::buffer::Pool::new(1 << 20, free, |_| 0);
    let owner = crate::shares::Owner { connection: crate::slab::Key::from_bits(1), address: 0 };
    pool.lend_recv(owner, b"x", crate::protocol::Missing::new(2, false), (0, true)).unwrap()
}

const DEFERRED: Fact = Fact::Deferred { sequence: 9, last: true };

/// One test for each pair of a state and a fact: what state follows.
macro_rules! what_follows {
    ($($test:ident: $from:ident, $fact:expr => $to:ident;)*) => {
        $(#[test]
        fn $test() {
            let mut connection = Connection::in_state($from);
            connection.step($fact);
            assert_eq!(connection.name(), $to, "{connection:?}");
            assert_eq!(connection.active(), THEN, "no fact is a byte");
            connection.check();
        })*
    };
}

mod what_becomes_of {
    use super::*;

    what_follows! {
        an_open_one_whose_peer_has_ended: Open, Fact::EndSeen => Open;
        an_open_one_that_defers: Open, DEFERRED => Waiting;
        an_open_one_that_is_answered: Open, Fact::Answered => Open;
        an_open_one_that_is_to_be_closed: Open, Fact::Asked(CAUSE) => Closing;
        an_open_one_that_cannot_send: Open, Fact::SendFailed => Unsendable;
        an_open_one_with_a_high_queue: Open, Fact::QueueHigh => Open;
        an_open_one_with_a_low_queue: Open, Fact::QueueLow => Open;
        an_open_one_that_is_ready: Open, Fact::Ready => Open;
        an_open_one_whose_turn_has_come: Open, Fact::Turn => Open;

        a_waiting_one_whose_peer_has_ended: Waiting, Fact::EndSeen => Waiting;
        a_waiting_one_that_defers: Waiting, DEFERRED => Waiting;
        a_waiting_one_that_is_answered: Waiting, Fact::Answered => Open;
        a_waiting_one_that_is_to_be_closed: Waiting, Fact::Asked(CAUSE) => Closing;
        a_waiting_one_that_cannot_send: Waiting, Fact::SendFailed => Unsendable;
        a_waiting_one_with_a_high_queue: Waiting, Fact::QueueHigh => Waiting;
        a_waiting_one_with_a_low_queue: Waiting, Fact::QueueLow => Waiting;
        a_waiting_one_that_is_ready: Waiting, Fact::Ready => Waiting;
        a_waiting_one_whose_turn_has_come: Waiting, Fact::Turn => Waiting;

        an_unsendable_one_whose_peer_has_ended: Unsendable, Fact::EndSeen => Unsendable;
        an_unsendable_one_that_defers: Unsendable, DEFERRED => Unsendable;
        an_unsendable_one_that_is_answered: Unsendable, Fact::Answered => Unsendable;
        an_unsendable_one_that_is_to_be_closed: Unsendable, Fact::Asked(CAUSE) => Cut;
        an_unsendable_one_that_cannot_send: Unsendable, Fact::SendFailed => Unsendable;
        an_unsendable_one_with_a_high_queue: Unsendable, Fact::QueueHigh => Unsendable;
        an_unsendable_one_with_a_low_queue: Unsendable, Fact::QueueLow => Unsendable;
        an_unsendable_one_that_is_ready: Unsendable, Fact::Ready => Unsendable;
        an_unsendable_one_whose_turn_has_come: Unsendable, Fact::Turn => Unsendable;

        a_closing_one_whose_peer_has_ended: Closing, Fact::EndSeen => Closing;
        a_closing_one_that_defers: Closing, DEFERRED => Closing;
        a_closing_one_that_is_answered: Closing, Fact::Answered => Closing;
        a_closing_one_that_is_to_be_closed: Closing, Fact::Asked(Cause::Fault) => Closing;
        a_closing_one_that_cannot_send: Closing, Fact::SendFailed => Cut;
        a_closing_one_with_a_high_queue: Closing, Fact::QueueHigh => Closing;
        a_closing_one_with_a_low_queue: Closing, Fact::QueueLow => Closing;
        a_closing_one_that_is_ready: Closing, Fact::Ready => Closing;
        a_closing_one_whose_turn_has_come: Closing, Fact::Turn => Closing;

        a_cut_one_that_is_to_be_closed: Cut, Fact::Asked(CAUSE) => Cut;
        a_cut_one_that_cannot_send: Cut, Fact::SendFailed => Cut;
        a_cut_one_whose_peer_has_ended: Cut, Fact::EndSeen => Cut;
        a_cut_one_with_a_high_queue: Cut, Fact::QueueHigh => Cut;

        an_open_one_whose_content_is_held: Open, Fact::Held => Open;
        an_open_one_whose_content_goes_on: Open, Fact::Resumed => Open;
        an_open_one_whose_source_is_dry: Open, Fact::Dry => Open;
        an_open_one_whose_source_is_fed: Open, Fact::Fed => Open;
        a_waiting_one_whose_content_is_held: Waiting, Fact::Held => Waiting;
        a_waiting_one_whose_content_goes_on: Waiting, Fact::Resumed => Waiting;
        a_waiting_one_whose_source_is_dry: Waiting, Fact::Dry => Waiting;
        a_waiting_one_whose_source_is_fed: Waiting, Fact::Fed => Waiting;
        an_unsendable_one_whose_content_is_held: Unsendable, Fact::Held => Unsendable;
        an_unsendable_one_whose_content_goes_on: Unsendable, Fact::Resumed => Unsendable;
        an_unsendable_one_whose_source_is_dry: Unsendable, Fact::Dry => Unsendable;
        an_unsendable_one_whose_source_is_fed: Unsendable, Fact::Fed => Unsendable;
        a_closing_one_whose_content_is_held: Closing, Fact::Held => Closing;
        a_closing_one_whose_content_goes_on: Closing, Fact::Resumed => Closing;
        a_closing_one_whose_source_is_dry: Closing, Fact::Dry => Closing;
        a_closing_one_whose_source_is_fed: Closing, Fact::Fed => Closing;
        a_cut_one_whose_content_is_held: Cut, Fact::Held => Cut;
        a_cut_one_whose_content_goes_on: Cut, Fact::Resumed => Cut;
        a_cut_one_whose_source_is_dry: Cut, Fact::Dry => Cut;
        a_cut_one_whose_source_is_fed: Cut, Fact::Fed => Cut;
    }
}

/// One test for each row: what is to be done, given what is known of the socket and of a stop.
macro_rules! what_is_decided {
    ($($test:ident: $connection:expr, $socket:ident, $draining:literal => $decision:expr;)*) => {
        $(#[test]
        fn $test() {
            let connection: Connection<()> = $connection;
            assert_eq!(connection.decide(Socket::$socket, $draining), $decision, "{connection:?}");
        })*
    };
}

mod what_is_to_be_done_about {
    use super::*;

    const READ: Decision = Decision::Watch(Interest::READABLE);
    const WRITE: Decision = Decision::Watch(Interest::WRITABLE);
    const REST: Decision = Decision::Watch(Interest::NONE);

    fn one(name: Name) -> Connection<()> {
        Connection::in_state(name)
    }

    what_is_decided! {
        an_open_one: one(Open), Empty, false => READ;
        an_open_one_with_something_unsent:
            one(Open).with_unsent(), Empty, false => Decision::Watch(Interest::BOTH);
        an_open_one_whose_queue_goes_out_at_the_end_of_the_turn:
            one(Open).with_unsent().marked(Marks::UNSENT), Empty, false => READ;
        an_open_one_that_is_paused:
            one(Open).with_unsent().marked(Marks::PAUSED), Empty, false => WRITE;
        an_ended_one: one(Open).marked(Marks::END_SEEN), Empty, false
            => Decision::Close(Cause::Peer);
        an_ended_one_with_half_a_message: one(Open).marked(Marks::END_SEEN).with_unfinished(),
            Empty, false => Decision::Close(Cause::Peer);
        an_ended_one_that_is_ready: one(Open).marked(Marks::READY).marked(Marks::END_SEEN),
            Empty, false => REST;
        an_ended_one_with_something_unsent:
            one(Open).marked(Marks::END_SEEN).with_unsent(), Empty, false => WRITE;
        an_ended_one_that_waits: one(Waiting).marked(Marks::END_SEEN), Empty, false
            => Decision::WatchOrStay(Interest::NONE);
        a_waiting_one: one(Waiting), Empty, false => Decision::WatchOrStay(Interest::NONE);
        a_waiting_one_in_a_stop: one(Waiting), Empty, true
            => Decision::WatchOrStay(Interest::NONE);
        one_whose_content_is_held: one(Open).with_unfinished().marked(Marks::HELD), Empty, false
            => REST;
        one_whose_content_is_held_and_whole: one(Open)
            .with_unfinished().marked(Marks::HELD).marked(Marks::END_SEEN), Empty, false => REST;
        one_whose_source_is_dry: one(Open).with_unsent().marked(Marks::DRY).marked(Marks::PAUSED),
            Empty, false => REST;
        an_unsendable_one: one(Unsendable), Empty, false => READ;
        an_unsendable_one_that_has_ended: one(Unsendable).marked(Marks::END_SEEN), Empty, false
            => Decision::Close(Cause::Peer);
        a_closing_one: one(Closing), Empty, false => Decision::Linger(CAUSE);
        a_closing_one_with_something_unsent: one(Closing).with_unsent(), Empty, false => WRITE;
        a_closing_one_that_has_ended: one(Closing).marked(Marks::END_SEEN), Empty, false
            => Decision::Close(CAUSE);
        a_cut_one: one(Cut), Empty, false => Decision::Close(CAUSE);
        a_quiet_one_in_a_stop: one(Open), Empty, true => Decision::Linger(Cause::Drained);
        a_quiet_one_in_a_stop_whose_socket_may_hold_more: one(Open), MayHoldMore, true
            => Decision::LookAgain(Interest::READABLE);
        a_quiet_one_outside_of_a_stop: one(Open), MayHoldMore, false => READ;
        one_in_a_stop_with_half_a_message: one(Open).with_unfinished(), Empty, true => READ;
        one_in_a_stop_that_is_ready: one(Open).marked(Marks::READY), Empty, true => READ;
    }
}

#[test]
fn is_only_the_first_cause_of_a_close_told() {
    let mut connection = Connection::in_state(Open);
    connection.step(Fact::Asked(Cause::Fault));
    connection.step(Fact::Asked(Cause::Handler));
    assert_eq!(connection.closing_cause(), Some(Cause::Fault));
}

#[test]
fn does_only_the_awaited_answer_count() {
    let mut connection = Connection::in_state(Open);
    connection.step(DEFERRED);
    assert_eq!((connection.waits_for(8), connection.waits_for(9)), (None, Some(true)));
    connection.step(Fact::Answered);
    assert_eq!(connection.waits_for(9), None);
}

#[test]
fn is_nothing_read_that_would_have_to_wait() {
    let reads = |connection: Connection<()>| connection.wants_to_read();
    assert!(reads(Connection::in_state(Open)) && reads(Connection::in_state(Unsendable)));
    for name in [Waiting, Closing, Cut] {
        assert!(!reads(Connection::in_state(name)), "{name:?}");
    }
    assert!(!reads(Connection::in_state(Open).marked(Marks::PAUSED)));
    assert!(!reads(Connection::in_state(Open).with_unfinished().marked(Marks::HELD)));
    assert!(!reads(Connection::in_state(Open).marked(Marks::END_SEEN)));
}

#[test]
fn is_the_ordinary_way_for_nothing_but_open_ones_at_rest() {
    assert!(Connection::in_state(Open).is_plain());
    for name in [Waiting, Unsendable, Closing, Cut] {
        assert!(!Connection::in_state(name).is_plain(), "{name:?}");
    }
    for mark in [Marks::END_SEEN, Marks::PAUSED, Marks::READY, Marks::UNSENT] {
        assert!(!Connection::in_state(Open).marked(mark).is_plain(), "{mark:?}");
    }
    assert!(Connection::in_state(Open).marked(Marks::TIMER).is_plain(), "a timer is no hindrance");
    assert!(!Connection::in_state(Open).with_unsent().is_plain());
    assert!(!Connection::in_state(Open).with_unfinished().is_plain());
}

#[test]
fn does_a_connection_keep_how_it_came_about() {
    assert_eq!(Origin::accepted(3).listener(), Some(3));
    assert_eq!(Origin::accepted(u16::MAX).listener(), Some(Origin::MAX_LISTENER));
    assert_eq!((Origin::CONNECTED.listener(), Origin::ADOPTED.listener()), (None, None));
    assert_ne!(Origin::accepted(u16::MAX), Origin::CONNECTED);
}

#[test]
fn does_lingering_end_when_its_bytes_are_used_up() {
    let mut lingering = Lingering { timer: TimerLinks::UNARMED, address: 0, left: 10 };
    assert!(lingering.dropped(4) && lingering.dropped(5));
    assert!(!lingering.dropped(1));
    assert!(!lingering.dropped(usize::MAX));
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "1: ")]
fn is_a_broken_invariant_seen() {
    let _ = Connection::in_state(Closing).with_unfinished().decide(Socket::Empty, false);
}
