//! A loop goes on with a connection of another process: a birth without `on_open`.

use myriapod_sys::{self as sys, Descriptor, Interest, SocketAddr};

use super::addresses::Entered;
use super::arrive::{Arriving, Way};
use super::send::Unsent as Queued;
use super::shared::{After, At, Shared};
use super::{EventLoop, Role, promote};
use crate::connection::{Connection, Origin, Socket};
use crate::engine::{Own, OwnOf};
use crate::handler::Handler;
use crate::handover::{Parcel, Unread, Unsent};
use crate::link::Link;
use crate::log::LogEvent;
use crate::protocol::{Framing, Missing};
use crate::slab::Key;
use crate::stats::Cause;
use crate::timer::{TICK, TimerLinks};
use crate::view::{About, Peer};

impl<H: Handler, F: Framing, L: Link> EventLoop<H, F, L> {
    /// Goes on with a connection, which has its place in this loop.
    pub(super) fn take_over(&mut self, parcel: Parcel, socket: Descriptor) {
        if parcel.is_arriving {
            return self.go_on_arriving(parcel, socket);
        }
        self.shared.engine.stats.taken_over += 1;
        let asked = || sys::peer_address(&socket);
        let Ok(peer) = parcel.peer.clone().map_or_else(asked, Ok) else {
            // It is broken already.
            return self.not_taken_over(Cause::Error);
        };
        let Some(Entered { address, first }) = self.acceptor.addresses.enter_anyway(&peer) else {
            return self.not_taken_over(Cause::BufferLimit);
        };
        if let Some((usage, is_near)) = first {
            self.shared.pool.open_address(address, usage, is_near);
        }
        let arriving = Role::Arriving(Arriving { timer: TimerLinks::UNARMED, waits: None });
        match self.selector.register(socket, Interest::NONE, arriving) {
            Ok(key) => self.go_on(key, parcel, &peer, address),
            Err(error) => {
                self.acceptor.addresses.leave(address);
                self.tell(&LogEvent::Failed { error: &error });
                self.not_taken_over(Cause::Error);
            }
        }
    }

    /// A socket goes on waiting for its PROXY header.
    fn go_on_arriving(&mut self, parcel: Parcel, socket: Descriptor) {
        let begun = parcel.unread.map(|unread| unread.bytes).unwrap_or_default();
        match sys::peer_address(&socket) {
            Ok(peer) => self.wait_for_header(socket, peer, Way::Accepted(parcel.origin), begun),
            // It is broken already.
            Err(_) => self.give_place_back(),
        }
    }

    fn not_taken_over(&mut self, cause: Cause) {
        self.shared.engine.stats.count_closed(cause);
        self.give_place_back();
    }

    fn go_on(&mut self, key: Key, parcel: Parcel, peer: &SocketAddr, address: u32) {
        let origin = Origin::from_bits(parcel.origin);
        let engine = &mut self.shared.engine;
        let id = engine.id(key);
        engine.tell(&LogEvent::Opened { id, peer });
        if parcel.peer.is_some() {
            engine.context.peers.insert(key, peer.clone());
        }
        let Some(source) = self.selector.source(key) else { return };
        let who = Peer { address: peer, proxy: None, session: None };
        let about = About { key, source, origin, queued: 0, peer: Some(&who), is_open: true };
        let restored = engine
            .call(&about, "restore", |handler, view| handler.restore(&parcel.state, view, peer));
        let Some(Some(state)) = restored else {
            let cause = if restored.is_some() { Cause::Handler } else { Cause::Panic };
            engine.take_orders();
            engine.clear_out();
            engine.context.peers.remove(&key);
            let unsent = parcel.unsent.map_or(0, |unsent| unsent.bytes.len());
            engine.stats.discarded_out += unsent as u64;
            engine.stats.count_closed(cause);
            engine.tell(&LogEvent::Closed { id, cause });
            return self.turn_away(key, address);
        };
        engine.stats.open += 1;
        self.shared.served += 1;
        let own = Own { state, stream: F::Stream::default() };
        let active = self.shared.tick.wrapping_sub(parcel.idle);
        let mut connection = Connection::new(own, L::Kept::default(), origin, address, active);
        for group in &parcel.groups {
            connection.groups = self.inbox.join(key, connection.groups, group);
        }
        promote(&mut self.selector, key, Role::Connection(connection));
        self.work(key, |shared, at| {
            shared.nearer = true;
            shared.unpack(at, parcel);
            shared.obey(at);
            After::Settle(Socket::MayHoldMore)
        });
        // One that is back where all others are finished.
        self.look_again(key);
    }
}

impl<H: Handler, F: Framing, L: Link> Shared<H, F, L> {
    /// What was unread, unsent and set of a connection is so again.
    fn unpack(&mut self, at: &mut At<'_, OwnOf<H, F>, L::Kept>, parcel: Parcel) {
        if let Some(ticks) = parcel.timer {
            self.set_timer(at, Some(TICK * ticks));
        }
        if let Some(Unsent { bytes, stalled }) = parcel.unsent {
            if self.queue(at, Queued::Own(&bytes)).is_err() {
                self.engine.stats.discarded_out += bytes.len() as u64;
                self.stop_sending(at);
                return self.begin_close(at.connection, Cause::BufferLimit);
            }
            if let Some(queue) = self.pool.send_mut(at.connection.send) {
                queue.stalled_since = self.tick.wrapping_sub(stalled);
            }
        }
        let Some(Unread { bytes, in_content, used }) = parcel.unread else { return };
        // All of it is looked at again, so nothing else needs to be known.
        let missing = Missing::new(0, in_content);
        let runs = !at.connection.is_held();
        let Ok(own) = self.pool.lend_recv(at.owner(), &bytes, missing, (self.tick, runs)) else {
            self.engine.stats.discarded_in += bytes.len() as u64;
            return self.refuse_for_buffers(at);
        };
        if let Some(buffer) = self.pool.recv_mut(own) {
            buffer.set_used(self.tick, runs, used);
        }
        at.connection.recv = own;
        self.resume_reading(at);
    }
}
