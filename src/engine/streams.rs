//! Contents that come in pieces: asking the handler about a head, handing it the pieces, and its reply.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Engine, OwnOf};
use crate::body::Incoming;
use crate::context::Orders;
use crate::handler::Handler;
use crate::handler_error::HandlerError;
use crate::intake::{Flow, Intake};
use crate::protocol::{Fault, Framing, MessageHead, ProtocolError};
use crate::reply::Reply;
use crate::stats::Cause;
use crate::view::{About, View};

/// What is to become of a message whose head may be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Its head is not there: it is decoded as any other.
    Nothing,
    /// The handler wants it whole.
    Hold,
    /// So many bytes are its head; what comes behind them, the context has an [`Incoming`] for.
    Stream(usize),
    /// It was refused, and so is whatever follows.
    Close(Cause),
}

/// What became of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The handler has it.
    Piece(Flow),
    /// The handler wants no more, and an error reply says so.
    Refused,
    /// The handler panicked.
    Panicked,
}

impl<H: Handler, F: Framing> Engine<H, F> {
    /// Asks the handler about the message that `bytes` begin with, if its head is there.
    #[inline(never)]
    pub(super) fn ask(&mut self, about: &About<'_>, own: &mut OwnOf<H, F>, bytes: &[u8]) -> Asked {
        let start = self.context.out.len();
        self.context.start = start;
        self.context.extra.clear();
        let (framing, frame) = (&mut self.framing, &mut self.frame);
        let told = catch_unwind(AssertUnwindSafe(|| framing.announced(&own.stream, bytes, frame)));
        let len = match told {
            Ok(Some(len)) if self.frame.len() <= bytes.len() && !self.frame.is_empty() => len,
            Ok(_) => return Asked::Nothing,
            Err(_panic) => {
                self.panicked(self.id(about.key), start, "announced");
                return Asked::Close(Cause::Panic);
            }
        };
        if len > self.config.limits.max_content_len as u64 && len > self.context.max_stream_len {
            // Whatever the handler would say.
            self.stats.refused_streams += 1;
            self.refuse(about, &ProtocolError::new(Fault::ContentTooLong));
            return Asked::Close(Cause::Fault);
        }
        let head = MessageHead::new(bytes, &self.frame, len);
        self.context.note_id(self.framing.id(&head));
        let (handler, framing, context) = (&mut self.handler, &mut self.framing, &mut self.context);
        let intake = catch_unwind(AssertUnwindSafe(|| {
            handler.on_head(&mut own.state, &head, &mut View { framing, context, about })
        }));
        let intake = match intake {
            Ok(intake) => intake,
            Err(_panic) => {
                self.panicked(self.id(about.key), start, "on_head");
                return Asked::Close(Cause::Panic);
            }
        };
        if self.context.orders.has(Orders::CLOSE_NOW | Orders::RESET | Orders::CLOSE) {
            return Asked::Close(Cause::Handler);
        }
        let place = match intake {
            Intake::Hold => return Asked::Hold,
            Intake::Stream if len > self.context.max_stream_len => {
                self.stats.refused_streams += 1;
                self.refuse(about, &ProtocolError::new(Fault::ContentTooLong));
                return Asked::Close(Cause::Fault);
            }
            Intake::Stream => match self.context.places.take() {
                Some(place) => {
                    self.stats.streams_in += 1;
                    Some(place)
                }
                None => {
                    self.stats.refused_streams += 1;
                    let text = "too many contents are streamed; try again later";
                    self.reply_error(about, &HandlerError::new("TooManyStreams", text));
                    None
                }
            },
            Intake::Refuse(error) => {
                self.reply_error(about, &error);
                None
            }
        };
        if place.is_none() && !self.may_drop(about, len) {
            return Asked::Close(Cause::Handler);
        }
        let id = Box::from(&*self.context.reply_id);
        self.context.incoming = Some(Incoming::new(len, place, id));
        Asked::Stream(self.frame.len())
    }

    /// Whether so much of a content that nobody wants is dropped as it comes; or else the connection is
    /// closed.
    pub(crate) fn may_drop(&self, about: &About<'_>, len: u64) -> bool {
        about.origin != crate::connection::Origin::CONNECTED
            && len <= self.config.limits.max_content_len as u64
    }

    /// Hands the next piece of a content to the handler.
    pub(crate) fn take_piece(
        &mut self,
        about: &About<'_>,
        own: &mut OwnOf<H, F>,
        id: &[u8],
        piece: &[u8],
    ) -> Taken {
        let start = self.context.out.len();
        self.context.start = start;
        let (handler, framing, context) = (&mut self.handler, &mut self.framing, &mut self.context);
        let taken = catch_unwind(AssertUnwindSafe(|| {
            handler.on_piece(&mut own.state, piece, &mut View { framing, context, about })
        }));
        match taken {
            Ok(Ok(flow)) => Taken::Piece(flow),
            Ok(Err(error)) => {
                self.context.note_id(Some(id));
                self.reply_error(about, &error);
                self.context.forget_id();
                Taken::Refused
            }
            Err(_panic) => {
                self.panicked(self.id(about.key), start, "on_piece");
                Taken::Panicked
            }
        }
    }

    /// A content has come whole: the handler answers it.
    pub(crate) fn end_stream(&mut self, about: &About<'_>, own: &mut OwnOf<H, F>, id: &[u8]) {
        let start = self.context.out.len();
        self.context.note_id(Some(id));
        let (handler, framing, context) = (&mut self.handler, &mut self.framing, &mut self.context);
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let mut reply = Reply::new(View { framing, context, about });
            if !id.is_empty() {
                reply.put_id();
            }
            handler.on_end(&mut own.state, &mut reply).map(|()| reply.is_replied())
        }));
        match ended {
            Ok(Ok(replied)) => {
                self.stats.replies += u64::from(replied);
                if self.config.one_shot && replied {
                    self.context.orders.give(Orders::CLOSE);
                }
            }
            Ok(Err(error)) => self.reply_error(about, &error),
            Err(_panic) => self.panicked(self.id(about.key), start, "on_end"),
        }
        self.context.forget_id();
    }
}
