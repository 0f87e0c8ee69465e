//! The step that an arriving socket takes on a secure listener: its handshake.
//!
//! A handshake takes a processor a tenth of a millisecond or more. So few steps of handshakes are taken
//! in one turn, as many handshakes are under way at once as the limits say, and each has a deadline.

use myriapod_sys::{Errno, Interest};

use super::arrive::{Arrival, Arriving, Way};
use super::close::after;
use super::greeting::Greeting;
use super::{EventLoop, Role, Timers, arriving_at, promote};
use crate::connection::Lingering;
use crate::handler::Handler;
use crate::link::{self, Advance, Link, LinkFault};
use crate::log::LogEvent;
use crate::protocol::Framing;
use crate::proxy_protocol::parse;
use crate::slab::Key;
use crate::timer::TimerLinks;

/// Steps of handshakes in one turn. Those beyond it are told of again by the next wait.
pub(super) const HANDSHAKE_STEPS: u32 = 8;

/// Bytes that a handshake may have received and not taken in: a record, and then some.
const MOST_RECEIVED: usize = 64 << 10;

/// What a step of a handshake led to.
enum Led {
    /// It waits for this.
    On(Interest),
    /// It is over, and all is sent.
    Over,
    Failed(LinkFault),
}

impl<H: Handler, F: Framing, L: Link> EventLoop<H, F, L> {
    /// What the handshake of a socket that arrives in this way begins with; nothing where there is
    /// none.
    pub(super) fn opener(&self, way: Way) -> Option<L::Opener> {
        if L::IS_PLAIN {
            return None;
        }
        match way {
            Way::Accepted(number) => self.openers.get(usize::from(number))?.clone(),
            Way::Adopted | Way::Connects(_) => None,
        }
    }

    /// A socket has arrived on a secure listener: its handshake begins.
    /// Behind a PROXY header, `proxy` is that, and `first` what followed it.
    pub(super) fn greet(
        &mut self,
        key: Key,
        mut arrival: Arrival<L>,
        opener: &L::Opener,
        proxy: &[u8],
        first: &[u8],
    ) {
        let begun = self.may_greet().and_then(|()| self.shared.link.begin(opener));
        let handshake = match begun {
            Ok(handshake) => handshake,
            Err(fault) => {
                self.count_handshake_fault(&arrival, &fault);
                return self.turn_away(key, arrival.address);
            }
        };
        let (received, unsent, proxy) = (first.to_vec(), Vec::new(), proxy.to_vec());
        let greeting = Greeting { handshake, received, unsent, is_over: false, proxy };
        arrival.greeting = Some(Box::new(greeting));
        let address = arrival.address;
        let waits = self.arrivals.insert(arrival).ok();
        if waits.is_none() || self.selector.modify(key, Interest::READABLE).is_err() {
            waits.and_then(|waits| self.arrivals.remove(waits));
            return self.turn_away(key, address);
        }
        let arriving = Role::Arriving(Arriving { timer: TimerLinks::UNARMED, waits });
        promote(&mut self.selector, key, arriving);
        self.handshakes += 1;
        let timeout = self.shared.engine.config.limits.arrival_timeout;
        if let Some(due) = after(self.shared.tick, timeout) {
            self.wheel.arm(&mut Timers(&mut self.selector), key.index(), due);
        }
        if !first.is_empty() {
            // Nothing else may come that the selector would tell of.
            self.shake_now(key);
        }
    }

    /// Whether one more handshake may be under way.
    fn may_greet(&self) -> Result<(), LinkFault> {
        if self.handshakes < self.shared.engine.config.limits.max_handshakes {
            return Ok(());
        }
        Err(LinkFault::new(LinkFault::TOO_MANY, "as many handshakes are under way as may be"))
    }

    /// A socket of ours is connected, and has taken its place: its handshake begins. The timer of the
    /// connect runs on.
    pub(super) fn call(&mut self, key: Key, mut arrival: Arrival<L>, caller: &L::Caller) {
        let mut unsent = Vec::new();
        let begun = self.may_greet().and_then(|()| self.shared.link.call(caller, &mut unsent));
        let handshake = match begun {
            Ok(handshake) => handshake,
            Err(fault) => {
                self.count_handshake_fault(&arrival, &fault);
                self.turn_away(key, arrival.address);
                return self.call_failed(&arrival, &fault);
            }
        };
        let (received, proxy) = (Vec::new(), Vec::new());
        let greeting = Greeting { handshake, received, unsent, is_over: false, proxy };
        arrival.greeting = Some(Box::new(greeting));
        match self.arrivals.insert(arrival) {
            Ok(waits) => {
                if let Some((_, arriving)) = arriving_at(&mut self.selector, key) {
                    arriving.waits = Some(waits);
                }
                self.handshakes += 1;
                self.shake_now(key);
            }
            // There was a place for it a moment ago.
            Err(arrival) => self.arrival_failed(key, &arrival, Errno::ENOMEM),
        }
    }

    /// The handshake of a socket of ours has failed.
    fn call_failed(&mut self, arrival: &Arrival<L>, fault: &LinkFault) {
        if let Way::Connects(tag) = arrival.way {
            let engine = &mut self.shared.engine;
            engine.guard("on_handshake_error", |engine| {
                engine.handler.on_handshake_error(tag, fault);
            });
        }
    }

    /// Whether an arriving socket is in its handshake.
    pub(super) fn is_greeting(&mut self, key: Key) -> bool {
        let Some((_, arriving)) = arriving_at(&mut self.selector, key) else { return false };
        let arrival = arriving.waits.and_then(|waits| self.arrivals.get(waits));
        arrival.is_some_and(|arrival| arrival.greeting.is_some())
    }

    /// Something came for a socket in its handshake, or it has room again.
    pub(super) fn shake(&mut self, key: Key) {
        if self.handshake_steps == 0 {
            return;
        }
        self.handshake_steps -= 1;
        self.shake_now(key);
    }

    fn shake_now(&mut self, key: Key) {
        match self.shake_once(key) {
            Some(Led::On(interest)) => {
                if let Err(error) = self.selector.modify(key, interest) {
                    self.tell(&LogEvent::Failed { error: &error });
                    self.cut_greeting(key);
                }
            }
            Some(Led::Over) => self.greeted(key),
            Some(Led::Failed(fault)) => self.greeting_failed(key, &fault),
            None => {}
        }
    }

    fn shake_once(&mut self, key: Key) -> Option<Led> {
        let (source, arriving) = arriving_at(&mut self.selector, key)?;
        let arrival = self.arrivals.get_mut(arriving.waits?)?;
        let greeting = arrival.greeting.as_deref_mut()?;
        let gone = || LinkFault::new(LinkFault::TRUNCATED, "the peer left during the handshake");
        if !greeting.is_over && greeting.received.len() < MOST_RECEIVED {
            let scratch = &mut self.shared.scratch;
            scratch.clear();
            match link::receive(source, scratch) {
                Ok(0) => return Some(Led::Failed(gone())),
                Ok(_) => greeting.received.extend_from_slice(scratch),
                Err(errno) if errno.would_block() => {}
                Err(_) => return Some(Led::Failed(gone())),
            }
            let (handshake, unsent) = (&mut greeting.handshake, &mut greeting.unsent);
            match self.shared.link.advance(handshake, &greeting.received, unsent) {
                Ok(Advance::Waits { consumed }) => drop(greeting.received.drain(..consumed)),
                Ok(Advance::Over { consumed }) => {
                    greeting.received.drain(..consumed);
                    greeting.is_over = true;
                }
                Err(fault) => {
                    // The alert; where it does not fit, the peer learns by the close.
                    greeting.send(source);
                    return Some(Led::Failed(fault));
                }
            }
        }
        if !greeting.send(source) {
            return Some(Led::Failed(gone()));
        }
        Some(match (greeting.unsent.is_empty(), greeting.is_over) {
            (true, true) => Led::Over,
            (true, false) => Led::On(Interest::READABLE),
            // Who does not read what we have sent is not read from.
            (false, _) => Led::On(Interest::WRITABLE),
        })
    }

    /// A handshake is over: the socket becomes a connection, and what it has sent behind the handshake
    /// is its first message.
    fn greeted(&mut self, key: Key) {
        let Some((mut arrival, greeting)) = self.take_greeting(key) else { return };
        let Greeting { handshake, mut received, proxy, .. } = greeting;
        let secured = match self.shared.link.conclude(handshake) {
            Ok(secured) => secured,
            Err(fault) => {
                self.count_handshake_fault(&arrival, &fault);
                self.turn_away(key, arrival.address);
                return self.call_failed(&arrival, &fault);
            }
        };
        let stats = &mut self.shared.engine.stats;
        match link::Session::is_resumed(&secured.1) {
            true => stats.handshakes_resumed += 1,
            false => stats.handshakes += 1,
        }
        arrival.greeting = None;
        // It was whole and good when it came.
        let header = parse(&proxy).ok().flatten();
        self.enter(key, arrival, header.as_ref(), Some(secured), &mut received);
    }

    /// A handshake has failed. The peer may have to read an alert, so the socket lingers.
    pub(super) fn greeting_failed(&mut self, key: Key, fault: &LinkFault) {
        let Some((arrival, _)) = self.take_greeting(key) else { return };
        self.count_handshake_fault(&arrival, fault);
        let limits = &self.shared.engine.config.limits;
        let left = limits.linger_bytes;
        let Some((source, role)) = self.selector.entry_mut(key) else { return };
        let may_linger = link::finish(source).is_ok();
        let timer = match role {
            Role::Arriving(arriving) => arriving.timer,
            _ => TimerLinks::UNARMED,
        };
        *role = Role::Lingering(Lingering { timer, address: arrival.address, left });
        self.shared.engine.stats.lingering += 1;
        self.read_on(key, may_linger);
        self.call_failed(&arrival, fault);
    }

    /// Closes a socket in its handshake at once.
    pub(super) fn cut_greeting(&mut self, key: Key) {
        if let Some((arrival, _)) = self.take_greeting(key) {
            self.arrival_failed(key, &arrival, Errno::ECONNABORTED);
        }
    }

    fn take_greeting(&mut self, key: Key) -> Option<(Arrival<L>, Greeting<L>)> {
        if !self.is_greeting(key) {
            return None;
        }
        let mut arrival = self.take_arrival(key)?;
        let greeting = arrival.greeting.take()?;
        self.handshakes -= 1;
        self.wheel.cancel(&mut Timers(&mut self.selector), key.index());
        Some((arrival, *greeting))
    }

    fn count_handshake_fault(&mut self, arrival: &Arrival<L>, fault: &LinkFault) {
        let engine = &mut self.shared.engine;
        engine.stats.handshake_faults.add(fault.name, 1);
        engine.tell(&LogEvent::HandshakeFailed { peer: &arrival.peer, fault });
    }
}
