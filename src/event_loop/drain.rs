//! A graceful stop: accept what already waits, finish what is in flight, within a deadline.

use std::collections::VecDeque;

use myriapod_sys::Interest;

use super::shared::Shared;
use super::{EventLoop, Role};
use crate::handler::Handler;
use crate::link::Link;
use crate::log::LogEvent;
use crate::protocol::Framing;
use crate::slab::Key;
use crate::stats::Cause;
use crate::timer::{self, Tick};

/// Connections that are looked at in one turn.
const BUDGET: usize = 1024;

/// A graceful stop under way.
#[derive(Debug)]
pub(super) struct Drain {
    /// When what is in flight is cut off; `None` for never.
    pub(super) deadline: Option<Tick>,
    /// The first place in the slab that has not been looked at, and the end of those to look at.
    next: u32,
    end: u32,
    /// Those that we made are looked at in their turn: nothing else is open.
    is_last: bool,
    /// Connections to look at again, since their sockets may hold more.
    again: VecDeque<Key>,
    /// A second signal came: its sender did not want to wait for a graceful end.
    pub(super) hurried: bool,
}

impl Drain {
    /// Whether there are connections to look at without waiting for any event.
    ///
    /// Once nobody is served any more, those that we made are looked at.
    pub(super) fn has_work(&self, served: usize) -> bool {
        self.next < self.end || !self.again.is_empty() || served == 0 && !self.is_last
    }
}

impl<H: Handler, F: Framing, L: Link> EventLoop<H, F, L> {
    /// Begins a graceful stop; a second call changes nothing.
    ///
    /// Peers that already wait in the backlog are accepted, then the listeners are closed.
    /// Requests that were received before this are answered; then each connection is shut down
    /// and closed. [`run_once`](Self::run_once) must go on being called until it says that the
    /// loop has finished, `drain_timeout` later at the latest.
    pub fn begin_drain(&mut self) {
        if self.drain.is_some() {
            return;
        }
        self.close_post();
        self.start_drain();
        self.acceptor.is_held = false;
        self.acceptor.is_stopped = false;
        self.resume_accepting();
        self.drain_backlog();
        self.stop_arriving();
        self.note_listeners();
        if self.member.index() == 0 {
            let open = self.member.open();
            self.tell(&LogEvent::Draining { open });
        }
    }

    /// All that could be handed over is gone: what is left is finished.
    pub(super) fn begin_end(&mut self) {
        self.start_drain();
        self.stop_arriving();
        self.note_listeners();
    }

    fn start_drain(&mut self) {
        let timeout = self.shared.engine.config.limits.drain_timeout;
        let deadline = self.shared.tick.wrapping_add(timer::ticks(timeout).saturating_add(1));
        self.ordinary = Interest::NONE;
        self.drain = Some(Drain {
            deadline: (!timeout.is_zero()).then_some(deadline),
            next: 0,
            end: self.selector.end(),
            is_last: false,
            again: VecDeque::new(),
            hurried: false,
        });
    }

    /// Accepts who already waits, and closes each listener at which nobody does. Where there is no
    /// room for all of them, the rest follow as connections close.
    fn drain_backlog(&mut self) {
        let mut at = 0;
        while let Some(listener) = self.acceptor.listeners.get(at).copied() {
            let mut left = BUDGET;
            while left > 0 && !self.acceptor.parked && self.accept_one(listener) {
                left -= 1;
            }
            if left > 0 && !self.acceptor.parked {
                self.acceptor.listeners.swap_remove(at);
                self.close_listener(listener);
            } else {
                at += 1;
            }
        }
    }

    /// Tells the other loops once nobody is accepted here any more.
    fn note_listeners(&mut self) {
        if self.acceptor.listeners.is_empty() {
            self.member.stop_accepting();
        }
    }

    /// The stop was not to wait for a graceful end.
    pub(super) fn hurry(&mut self) {
        self.cut_off();
        if let Some(drain) = &mut self.drain {
            drain.hurried = true;
        }
    }

    /// Closes what is still open, whatever is in flight.
    pub fn cut_off(&mut self) {
        self.begin_drain();
        while let Some(listener) = self.acceptor.listeners.pop() {
            self.close_listener(listener);
        }
        self.note_listeners();
        self.forget_late();
        for index in 0..self.selector.end() {
            match self.selector.at_mut(index) {
                Some((key, Role::Connection(_))) => self.close(key, Cause::CutOff),
                // It has had all its replies.
                Some((key, Role::Lingering(_))) => self.leave(key),
                Some((key, Role::Arriving(_))) => self.cut_greeting(key),
                _ => {}
            }
        }
    }

    /// Whether the loop was stopped and has nothing left to do.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.drain.is_some()
            && self.shared.engine.stats.open == 0
            && self.shared.engine.stats.lingering == 0
            && self.handshakes == 0
            && self.acceptor.listeners.is_empty()
            && !self.leaving.is_under_way()
            && self.member.may_end()
    }

    /// Looks at some connections: what their sockets still hold is received and answered.
    pub(super) fn drain(&mut self) {
        if self.drain.is_some() {
            if self.leaving.has_late() {
                self.send_late();
            }
            self.drain_backlog();
            self.note_listeners();
        }
        if self.shared.served == 0
            && let Some(drain) = self.drain.as_mut().filter(|drain| !drain.is_last)
        {
            drain.is_last = true;
            (drain.next, drain.end) = (0, self.selector.end());
        }
        for _ in 0..BUDGET {
            let Some(drain) = &mut self.drain else { return };
            if drain.next < drain.end {
                let index = drain.next;
                drain.next += 1;
                if let Some((key, Role::Connection(_))) = self.selector.at_mut(index) {
                    self.work(key, Shared::receive);
                }
            } else if let Some(key) = drain.again.pop_front() {
                self.work(key, Shared::receive);
            } else {
                break;
            }
        }
        let tick = self.shared.tick;
        let late = self.catch_up.is_under_way();
        let due = |deadline: &mut Tick| !late && timer::until(tick, *deadline) == 0;
        // Taken, since the loop may have to wait for the others after that.
        if self.drain.as_mut().and_then(|drain| drain.deadline.take_if(due)).is_some() {
            self.cut_off();
        }
    }

    /// The connection's socket may hold more than was received.
    pub(super) fn look_again(&mut self, key: Key) {
        if let Some(drain) = &mut self.drain {
            drain.again.push_back(key);
        }
    }
}
