//! [`Planted`]: bugs put into the engine on purpose, to see whether the simulation finds them.

use super::threads::peek;

macro_rules! bugs {
    ($($bug:ident $name:literal $doc:literal)*) => {
        /// A bug that the engine has only in a simulated world, and only where it is asked for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Planted {
            $(#[doc = $doc] $bug,)*
        }

        impl Planted {
            /// All of them.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$bug),*];

            /// The name in reports.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$bug => $name,)* }
            }
        }
    };
}

bugs! {
    ReusedDescriptor "reply to a reused descriptor"
        "A deferred answer goes to whatever connection has the place of the one that asked."
    LostTail "lost tail after a short write"
        "What the socket did not take is dropped."
    DoubleReply "double reply after defer"
        "A deferred answer is sent twice."
    TimerNotCancelled "timer not cancelled"
        "Closing a connection leaves its timer armed."
    ResumeForgotten "resume forgotten below the low-water mark"
        "A connection that was paused for its unsent replies stays paused."
    AcceptNotRearmed "accept not re-armed"
        "A connection that closes does not let waiting peers in."
    LingerSkipped "close without lingering"
        "A socket is closed as soon as the last reply is handed over."
    DeadlineFixed "deadline that activity does not move"
        "A timer that fires closes its connection, whatever has happened since it was armed."
    AnswerForgotten "deferred answer taken and not sent"
        "A deferred answer is taken and goes nowhere, and the connection lives on."
    DrainTooEarly "stop that forgets what sockets hold"
        "A graceful stop closes connections without looking whether requests have arrived."
}

/// Whether the engine is to have this bug.
#[must_use]
pub fn is_planted(bug: Planted) -> bool {
    peek(|kernel| kernel.planted == Some(bug))
}
