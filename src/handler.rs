//! [`Handler`]: what is done with connections and messages.

use myriapod_sys::{Errno, SocketAddr, SystemError};

use crate::handle::Handle;
use crate::handler_error::{HandlerError, HandlerResult};
use crate::intake::{Flow, Intake};
use crate::link::LinkFault;
use crate::protocol::{Message, MessageHead};
use crate::reply::Reply;
use crate::stats::Cause;
use crate::view::View;

/// What is done with connections and messages. One handler serves all connections of one loop.
///
/// A closure `FnMut(Message<'_>, &mut Reply<'_>) -> HandlerResult` is a handler without state.
///
/// The loop waits while a callback runs: what takes long is better done elsewhere, with
/// [`Reply::defer`]. A panic in a callback closes the connection that it was about, is counted and
/// told to the log, and the loop goes on.
///
/// ```
/// use myriapod::{Handler, HandlerResult, Message, Reply, SocketAddr, View};
///
/// /// Numbers the messages of each connection.
/// struct Counting;
///
/// impl Handler for Counting {
///     type State = u64;
///
///     fn on_open(&mut self, _view: &mut View<'_>, _peer: &SocketAddr) -> u64 {
///         0
///     }
///
///     fn on_message(
///         &mut self,
///         count: &mut u64,
///         _message: Message<'_>,
///         reply: &mut Reply<'_>,
///     ) -> HandlerResult {
///         *count += 1;
///         reply.json(&serde_json::json!({ "result": *count }))?;
///         Ok(())
///     }
/// }
/// ```
pub trait Handler {
    /// What is kept beside each connection. Its size is paid once for each.
    type State;

    /// The loop is made. `handle` asks things of it, and of the server's other loops, from any
    /// thread. Called once, before anything else.
    fn on_start(&mut self, _handle: &Handle) {}

    /// A connection from `peer` was accepted, or [adopted](crate::Handle::adopt); returns what to
    /// keep beside it.
    fn on_open(&mut self, view: &mut View<'_>, peer: &SocketAddr) -> Self::State;

    /// A whole message arrived. At most one reply may be made of it; making none is fine.
    ///
    /// # Errors
    ///
    /// What is returned becomes an error reply, in place of whatever was encoded, and the
    /// connection goes on, unless [`Reply::close`] was called: then that reply is its last. On a
    /// connection that we made, no error is sent to the peer: it is told to the log, and the
    /// connection is closed.
    fn on_message(
        &mut self,
        state: &mut Self::State,
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult;

    /// Whether [`on_head`](Self::on_head) is asked. A handler that streams contents says so here; one
    /// that does not, the default, pays nothing for it.
    const STREAMS: bool = false;

    /// The head of a message is there, and with it how long its content will be: holds it, streams it
    /// or refuses it. Asked once for each message, whether its content came together with it or not;
    /// never where [`STREAMS`](Self::STREAMS) is `false`, nor with a framing that
    /// [announces](crate::protocol::Framing::announced) no length. A content that is longer than all
    /// limits is refused at once.
    ///
    /// Where a content is not streamed after all, since [`max_streams`](crate::Limits::max_streams)
    /// are, its peer gets an error reply, and the next call is about another message.
    ///
    /// ```
    /// use std::fs::File;
    /// use std::io::Write;
    /// use myriapod::{
    ///     Flow, Handler, HandlerError, HandlerResult, Intake, Message, MessageHead, Reply, SocketAddr,
    ///     View,
    /// };
    ///
    /// /// Writes each content to a file, piece by piece.
    /// struct Store;
    ///
    /// impl Handler for Store {
    ///     type State = Option<File>;
    ///     const STREAMS: bool = true;
    ///
    ///     fn on_open(&mut self, _view: &mut View<'_>, _peer: &SocketAddr) -> Option<File> {
    ///         None
    ///     }
    ///
    ///     fn on_head(
    ///         &mut self,
    ///         file: &mut Option<File>,
    ///         head: &MessageHead<'_>,
    ///         _view: &mut View<'_>,
    ///     ) -> Intake {
    ///         if head.content_len() > 1 << 30 {
    ///             return Intake::Refuse(HandlerError::new("TooLong", "1 GiB is enough"));
    ///         }
    ///         match File::create("content") {
    ///             Ok(created) => *file = Some(created),
    ///             Err(error) => return Intake::Refuse(error.into()),
    ///         }
    ///         Intake::Stream
    ///     }
    ///
    ///     fn on_piece(
    ///         &mut self,
    ///         file: &mut Option<File>,
    ///         piece: &[u8],
    ///         _view: &mut View<'_>,
    ///     ) -> Result<Flow, HandlerError> {
    ///         if let Some(file) = file {
    ///             file.write_all(piece)?;
    ///         }
    ///         Ok(Flow::Go)
    ///     }
    ///
    ///     fn on_end(&mut self, file: &mut Option<File>, reply: &mut Reply<'_>) -> HandlerResult {
    ///         *file = None;
    ///         Ok(reply.json("stored")?)
    ///     }
    ///
    ///     fn on_message(
    ///         &mut self,
    ///         _file: &mut Option<File>,
    ///         _message: Message<'_>,
    ///         _reply: &mut Reply<'_>,
    ///     ) -> HandlerResult {
    ///         Ok(())
    ///     }
    /// }
    /// # let _ = Store;
    /// ```
    fn on_head(
        &mut self,
        _state: &mut Self::State,
        _head: &MessageHead<'_>,
        _view: &mut View<'_>,
    ) -> Intake {
        Intake::Hold
    }

    /// The next piece of a content that is streamed, borrowed from the buffer that it was received in:
    /// 1 byte to 64 KiB, as they came. With [`Flow::Wait`], this piece was taken, and no other comes
    /// before the connection is [resumed](crate::View::resume).
    ///
    /// # Errors
    ///
    /// What is returned becomes an error reply, and the rest of the content is dropped. Where that is
    /// longer than `max_content_len`, the connection is closed behind the reply.
    fn on_piece(
        &mut self,
        _state: &mut Self::State,
        _piece: &[u8],
        _view: &mut View<'_>,
    ) -> Result<Flow, HandlerError> {
        Ok(Flow::Go)
    }

    /// A content that is streamed has come whole. The reply is made here, as in
    /// [`on_message`](Self::on_message). A content that is cut short ends with
    /// [`on_close`](Self::on_close) instead.
    ///
    /// # Errors
    ///
    /// As [`on_message`](Self::on_message).
    fn on_end(&mut self, _state: &mut Self::State, _reply: &mut Reply<'_>) -> HandlerResult {
        Ok(())
    }

    /// A [`connect`](crate::Handle::connect) has succeeded; returns what to keep beside the
    /// connection. As [`on_open`](Self::on_open), unless something else is said here.
    fn on_connect(&mut self, _tag: u64, view: &mut View<'_>, peer: &SocketAddr) -> Self::State {
        self.on_open(view, peer)
    }

    /// A [`connect`](crate::Handle::connect) has failed: with the errno of connect(2), with
    /// `ETIMEDOUT`, or with `ECONNABORTED` since the server is stopping. To try again, set a
    /// [`timer`](crate::Handle::timer) that grows with each failure, and not after `ECONNABORTED`.
    fn on_connect_error(&mut self, _tag: u64, _error: &SystemError) {}

    /// The handshake of a [`connect_secure`](crate::Handle::connect_secure) has failed, after the
    /// connect itself had succeeded. Unless something else is said here, `on_connect_error` is told:
    /// `handshake: EPROTO`.
    fn on_handshake_error(&mut self, tag: u64, _fault: &LinkFault) {
        let error = SystemError::call("handshake", Errno::EPROTO, "");
        self.on_connect_error(tag, &error);
    }

    /// A [`timer`](crate::Handle::timer) of the loop has fired.
    fn on_timer(&mut self, _tag: u64) {}

    /// The connection's own timer has fired ([`View::set_timer`]).
    fn on_connection_timer(&mut self, _state: &mut Self::State, _view: &mut View<'_>) {}

    /// Bytes had to wait, and now all of them are sent.
    fn on_drained(&mut self, _state: &mut Self::State, _view: &mut View<'_>) {}

    /// Messages that were to be pushed to the connection were dropped, so many, since too much
    /// waits for it already ([`Limits::overflow`](crate::Limits::overflow)).
    fn on_push_dropped(&mut self, _state: &mut Self::State, _view: &mut View<'_>, _count: u64) {}

    /// The same of one message that has a [tag](crate::Outgoing::tagged), such as the number of the
    /// group that it was for. Unless something else is said here, `on_push_dropped` is told of it.
    fn on_tagged_push_dropped(&mut self, state: &mut Self::State, view: &mut View<'_>, _tag: u64) {
        self.on_push_dropped(state, view, 1);
    }

    /// Whether connections can be [handed over](crate::ServerBuilder::handover) to another process:
    /// [`save`](Self::save) and [`restore`](Self::restore) are written. Unless this says so, a
    /// successor gets the listeners alone, and the connections end here, gracefully.
    fn hands_over(&self) -> bool {
        false
    }

    /// A connection goes to another process: appends what [`restore`](Self::restore) needs there, 1 MiB
    /// at the most, and changes nothing, since the connection may stay after all. Returns whether it
    /// can go; one that cannot ends here, gracefully. Where it is gone, [`on_close`](Self::on_close)
    /// says so ([`Cause::HandedOver`]).
    ///
    /// ```
    /// # use myriapod::{Handler, HandlerResult, Message, Reply, SocketAddr, View};
    /// struct Counting;
    ///
    /// impl Handler for Counting {
    ///     type State = u64;
    /// #   fn on_open(&mut self, _: &mut View<'_>, _: &SocketAddr) -> u64 { 0 }
    /// #   fn on_message(&mut self, _: &mut u64, _: Message<'_>, _: &mut Reply<'_>) -> HandlerResult {
    /// #       Ok(())
    /// #   }
    ///
    ///     fn hands_over(&self) -> bool {
    ///         true
    ///     }
    ///
    ///     fn save(&mut self, count: &u64, saved: &mut Vec<u8>) -> bool {
    ///         saved.extend_from_slice(&count.to_le_bytes());
    ///         true
    ///     }
    ///
    ///     fn restore(&mut self, saved: &[u8], _: &mut View<'_>, _: &SocketAddr) -> Option<u64> {
    ///         saved.try_into().ok().map(u64::from_le_bytes)
    ///     }
    /// }
    /// # let mut saved = Vec::new();
    /// # assert!(Counting.save(&7, &mut saved));
    /// # assert_eq!(saved.len(), 8);
    /// ```
    fn save(&mut self, _state: &Self::State, _saved: &mut Vec<u8>) -> bool {
        false
    }

    /// A connection came from another process, in place of [`on_open`](Self::on_open): makes its state
    /// from what was [saved](Self::save). It has its groups and its timer already, and its
    /// [id](View::id) is another. `None`: what was saved cannot be understood, and it is closed.
    fn restore(
        &mut self,
        _saved: &[u8],
        _view: &mut View<'_>,
        _peer: &SocketAddr,
    ) -> Option<Self::State> {
        None
    }

    /// The conversation is over: nothing more is received, and nothing more is sent. Called once
    /// for each `on_open`, `on_connect` and `restore` that returned, also where the server is dropped
    /// ([`Cause::Dropped`]).
    fn on_close(&mut self, _state: Self::State, _view: &mut View<'_>, _cause: Cause) {}
}

impl<C> Handler for C
where
    C: FnMut(Message<'_>, &mut Reply<'_>) -> HandlerResult,
{
    type State = ();

    fn on_open(&mut self, _view: &mut View<'_>, _peer: &SocketAddr) {}

    fn hands_over(&self) -> bool {
        true
    }

    fn save(&mut self, (): &(), _saved: &mut Vec<u8>) -> bool {
        true
    }

    fn restore(&mut self, _: &[u8], _view: &mut View<'_>, _peer: &SocketAddr) -> Option<()> {
        Some(())
    }

    #[inline]
    fn on_message(
        &mut self,
        _state: &mut (),
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        self(message, reply)
    }
}
