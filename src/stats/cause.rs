//! [`Cause`]: why a connection ended.

use std::fmt;

/// Whether the line of a server's counts names a cause that closed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Usual,
    /// Few servers have secure connections, stream contents or are replaced.
    Rare,
}

macro_rules! causes {
    ($($(#[doc = $doc:literal])+ $cause:ident: $name:literal, $told:ident;)+) => {
        /// Why a connection was closed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum Cause {
            $($(#[doc = $doc])+ $cause,)+
        }

        impl Cause {
            /// All causes, in the order of their counts in [`Stats`](crate::Stats).
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$cause),+];

            /// The name in counters: `peer`, `header_timeout`, …
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$cause => $name,)+
                }
            }

            const fn told(self) -> Told {
                match self {
                    $(Self::$cause => Told::$told,)+
                }
            }
        }
    };
}

// A further cause is one row here, and the place where a connection is closed for it.
causes! {
    /// The peer shut down its sending side and has all its replies.
    Peer: "peer", Usual;
    /// The connection failed: reset, timed out in the kernel, unreachable.
    Error: "error", Usual;
    /// The peer broke the framing; it got one error reply.
    Fault: "fault", Usual;
    /// A handler asked for it, or every connection is closed after its first reply.
    Handler: "handler", Usual;
    /// A handler panicked.
    Panic: "panic", Usual;
    /// It stayed above its high-water mark for too long while messages were pushed to it.
    Overflow: "overflow", Usual;
    /// It made room for a new one, having long been idle, when the limit of connections was reached.
    Shed: "shed", Usual;
    /// The header of a message did not arrive in time.
    HeaderTimeout: "header_timeout", Usual;
    /// The content of a message did not arrive in time.
    ContentTimeout: "content_timeout", Usual;
    /// The content of a message came too slowly.
    ContentRate: "content_rate", Usual;
    /// Nothing happened for too long.
    Idle: "idle", Usual;
    /// The peer did not read its replies.
    WriteTimeout: "write_timeout", Usual;
    /// The peer read its replies too slowly.
    ReadRate: "read_rate", Usual;
    /// The connection needed a buffer, and all buffers together hold as much as they may.
    BufferLimit: "buffer_limit", Usual;
    /// The server stopped; what was in flight was finished.
    Drained: "drained", Usual;
    /// The server stopped, and what was in flight was cut off.
    CutOff: "cut_off", Usual;
    /// The server was dropped.
    Dropped: "dropped", Usual;
    /// What came cannot be decrypted, or breaks the rules of the secure protocol.
    LinkFault: "link_fault", Rare;
    /// The stream of a secure connection ended, and the peer had not said that it would: something may
    /// be missing.
    Truncated: "truncated", Rare;
    /// Another process has taken it over, and serves it on.
    HandedOver: "handed_over", Rare;
    /// The content of a reply could not be sent whole: its file was shorter than was said, or its
    /// source ended or failed.
    StreamBroken: "stream_broken", Rare;
}

impl Cause {
    pub(super) fn is_rare(self) -> bool {
        self.told() == Told::Rare
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
