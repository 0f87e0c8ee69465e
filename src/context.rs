//! [`Context`]: what a loop keeps for its handler's calls, and [`Orders`]: what such a call asked for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use myriapod_sys::SocketAddr;

use crate::body::{Body, Incoming, Places};
use crate::config::{Limits, Overflow};
use crate::handle::Handle;
use crate::mailbox::Mailbox;
use crate::protocol::ExtraHeaders;
use crate::slab::Key;
use crate::stats::Cause;

/// What all calls of one handler are made with.
#[derive(Debug)]
pub(crate) struct Context {
    /// The shared send buffer: the replies of the event that is being handled, and what was pushed.
    pub(crate) out: Vec<u8>,
    /// Which of the server's loops this is.
    pub(crate) event_loop: u16,
    /// The further header keys of the reply that is being made.
    pub(crate) extra: ExtraHeaders,
    /// What the replies to the message that is being handled carry, as JSON text: mostly nothing.
    pub(crate) reply_id: Vec<u8>,
    /// How many bytes of `extra` that takes, at its front.
    pub(crate) id_in_extra: usize,
    pub(crate) mailbox: Arc<Mailbox>,
    /// What the handler may ask of the server, also about other connections.
    pub(crate) handle: Handle,
    /// Where the reply to the message that is being handled begins in the send buffer. Pushes go in
    /// front of it.
    pub(crate) start: usize,
    pub(crate) orders: Orders,
    /// With [`Orders::BODY`]: the content of the reply.
    pub(crate) body: Option<Body>,
    /// The content that the handler wants in pieces, on its way to the connection.
    pub(crate) incoming: Option<Incoming>,
    /// How many contents are streamed, and may be.
    pub(crate) places: Places,
    pub(crate) max_stream_len: u64,
    /// The peers of which a proxy said who they are: the system knows the proxy alone.
    pub(crate) peers: BTreeMap<Key, SocketAddr>,
    last_sequence: u32,
    high_water: usize,
    may_exceed: bool,
}

/// What the handler asked for while it was called about a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Orders {
    flags: u8,
    /// With [`Orders::DEFERRED`]: the number of the reply.
    pub(crate) sequence: u32,
    /// With [`Orders::CLOSE`]: why.
    pub(crate) cause: Cause,
    /// With [`Orders::TIMER`]: when the connection's timer is to fire; `None` cancels it.
    pub(crate) timer: Option<Duration>,
    /// With [`Orders::COUNTED`]: messages pushed, and messages that found no room.
    pub(crate) pushed: u32,
    pub(crate) dropped: u32,
}

impl Orders {
    /// The reply to the message comes later.
    pub(crate) const DEFERRED: u8 = 1;
    /// The connection is to be closed once all is sent.
    pub(crate) const CLOSE: u8 = 1 << 1;
    /// It is to be closed at once.
    pub(crate) const CLOSE_NOW: u8 = 1 << 2;
    /// The same, by a reset.
    pub(crate) const RESET: u8 = 1 << 3;
    /// Its timer is to be set or cancelled.
    pub(crate) const TIMER: u8 = 1 << 4;
    /// There is something to count.
    pub(crate) const COUNTED: u8 = 1 << 5;
    /// The reply's content is read when there is room: it stands in [`Context::body`].
    pub(crate) const BODY: u8 = 1 << 6;
    /// The handler goes on with what it did not take, or its source has something again.
    pub(crate) const RESUME: u8 = 1 << 7;

    const NONE: Self =
        Self { flags: 0, sequence: 0, cause: Cause::Handler, timer: None, pushed: 0, dropped: 0 };

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.flags == 0
    }

    #[inline]
    pub(crate) fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    pub(crate) fn give(&mut self, flag: u8) {
        self.flags |= flag;
    }

    /// Takes an order back.
    pub(crate) fn withdraw(&mut self, flag: u8) {
        self.flags &= !flag;
    }

    /// The connection is to be closed for this cause, whatever else was asked for.
    pub(crate) fn only_close(&mut self, cause: Cause) {
        self.flags = Self::CLOSE | (self.flags & Self::COUNTED);
        self.cause = cause;
    }
}

impl Context {
    pub(crate) fn new(
        mailbox: Arc<Mailbox>,
        handle: Handle,
        event_loop: u16,
        limits: &Limits,
    ) -> Self {
        let mut context = Self {
            out: Vec::new(),
            event_loop,
            extra: ExtraHeaders::new(),
            reply_id: Vec::new(),
            id_in_extra: 0,
            mailbox,
            handle,
            start: 0,
            orders: Orders::NONE,
            body: None,
            incoming: None,
            places: Places::new(limits.max_streams),
            max_stream_len: 0,
            peers: BTreeMap::new(),
            last_sequence: 0,
            high_water: 0,
            may_exceed: false,
        };
        context.set_limits(limits);
        context
    }

    pub(crate) fn set_limits(&mut self, limits: &Limits) {
        self.places.most = limits.max_streams;
        self.max_stream_len = limits.max_stream_len;
        self.high_water = limits.high_water;
        self.may_exceed = matches!(limits.overflow, Overflow::CloseAfter(_));
    }

    /// What was asked for; nothing is from now on.
    #[inline]
    pub(crate) fn take_orders(&mut self) -> Orders {
        std::mem::replace(&mut self.orders, Orders::NONE)
    }

    /// Whether a message of `len` bytes may be pushed behind `before` bytes that wait. The first
    /// one always may.
    pub(crate) fn has_room(&self, before: usize, len: usize) -> bool {
        before == 0 || before + len <= self.high_water || self.may_exceed
    }

    /// The message that is being handled had this `id`.
    pub(crate) fn note_id(&mut self, id: Option<&[u8]>) {
        self.reply_id.clear();
        self.reply_id.extend_from_slice(id.unwrap_or_default());
    }

    /// That message is done with.
    pub(crate) fn forget_id(&mut self) {
        self.reply_id.clear();
        self.id_in_extra = 0;
    }

    /// The handler says itself what the reply carries.
    pub(crate) fn withdraw_id(&mut self) {
        self.extra.take_id(std::mem::take(&mut self.id_in_extra));
    }

    /// Takes back a reply whose content would have been read later.
    pub(crate) fn drop_body(&mut self) {
        self.orders.withdraw(Orders::BODY);
        self.body = None;
    }

    /// The number of the next deferred reply: 1 to 2^32 - 1, then 1 again.
    pub(crate) fn next_sequence(&mut self) -> u32 {
        self.last_sequence = self.last_sequence.wrapping_add(1).max(1);
        self.last_sequence
    }
}
