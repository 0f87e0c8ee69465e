//! The rungs: what each asks of a server, in which order, and what there is to learn from it.

use super::ground::{Ground, Verdict};
use super::service::Service;
use super::{basics, errors, flow, load, messages};

/// What must be seen to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grade {
    /// The wire: any server.
    Wire,
    /// The server's process or queues: it is on this machine.
    Machine,
    /// How it ends and starts: it is a child of ours.
    Child,
}

/// One rung of the ladder.
#[derive(Debug)]
pub(super) struct Lesson {
    pub(super) name: &'static str,
    /// What the peers do, and what is right.
    pub(super) asks: &'static str,
    /// The same, as the beginning of a sentence that ends "and your server ended".
    pub(super) deed: &'static str,
    /// What there is to learn.
    pub(super) lesson: &'static str,
    /// A page of the guide, and where to look there.
    pub(super) read: &'static str,
    /// What `myriapod errors` explains of it.
    pub(super) errors: &'static [&'static str],
    pub(super) grade: Grade,
    /// Which services have such a thing.
    pub(super) services: &'static [Service],
    /// Whether it makes sense for a server that closes after one reply.
    pub(super) one_shot: bool,
    /// Whether a new client must be answered when it is over.
    pub(super) serves_after: bool,
    /// Only with --slow.
    pub(super) slow: bool,
    pub(super) run: fn(&mut Ground<'_>) -> Verdict,
}

const ALL: &[Service] = &[Service::Echo, Service::Padded, Service::Search];
const MESSAGES: &[Service] = &[Service::Padded, Service::Search];

/// What most of them are.
const PLAIN: Lesson = Lesson {
    name: "",
    asks: "",
    deed: "",
    lesson: "",
    read: "",
    errors: &[],
    grade: Grade::Wire,
    services: ALL,
    one_shot: true,
    serves_after: true,
    slow: false,
    run: |_| Ok(None),
};

/// From the first message to what only a good server can do.
pub(super) const LADDER: &[Lesson] = &[
    Lesson {
        name: "answers",
        asks: "one message; its reply and no more",
        deed: "one client sent a message",
        lesson: "send all of the reply, and only the reply: sendall, or send until nothing is left",
        read: "one_socket",
        errors: &["send", "recv"],
        serves_after: false,
        run: basics::answers,
        ..PLAIN
    },
    Lesson {
        name: "next-client",
        asks: "a client asks and leaves; the next is answered",
        deed: "one client came and left",
        lesson: "accept stands in a loop: a server serves one client after another",
        read: "one_socket: \"This server handles one client and ends\"",
        errors: &["accept"],
        serves_after: false,
        run: basics::next_client,
        ..PLAIN
    },
    Lesson {
        name: "two-at-once",
        asks: "A is silent; B asks and is answered",
        deed: "one client was silent while another asked",
        lesson: "never wait for one client alone: a thread for each, or ask the kernel who is ready",
        read: "threads, then readiness",
        errors: &["recv", "EAGAIN"],
        run: basics::two_at_once,
        ..PLAIN
    },
    Lesson {
        name: "goodbye",
        asks: "the client ends its side; the server ends its own",
        deed: "a client said goodbye",
        lesson: "recv returns 0 when the other side has ended: close then",
        read: "closing: \"half-close\"",
        errors: &["recv"],
        run: basics::goodbye,
        ..PLAIN
    },
    Lesson {
        name: "dribble",
        asks: "one byte each millisecond; one reply",
        deed: "a message came byte by byte",
        lesson: "one recv is not one message: keep what came, and go on until the message is whole",
        read: "short_counts",
        errors: &["recv"],
        run: messages::dribble,
        ..PLAIN
    },
    Lesson {
        name: "cut",
        asks: "two pieces, cut at 1, 2, 63 to 65, the middle, within a letter; one reply each",
        deed: "a message came in two pieces",
        lesson: "keep the state of a message beside its connection; decode text only when it is whole",
        read: "state",
        errors: &["recv"],
        run: messages::cut,
        ..PLAIN
    },
    Lesson {
        name: "two-in-one",
        asks: "two messages with one send; two replies in order",
        deed: "two messages came at once",
        lesson: "after one message look at what is left: the next may be there already",
        read: "messages",
        errors: &["recv"],
        run: messages::two_in_one,
        ..PLAIN
    },
    Lesson {
        name: "large",
        asks: "4 MiB to echo, or a text of 200 KB; all of it, then the next message",
        deed: "a large message came",
        lesson: "recv and send do less than you ask: go on until all is done, edge-triggered until EAGAIN",
        read: "short_counts, then readiness",
        errors: &["send", "EAGAIN"],
        run: messages::large,
        ..PLAIN
    },
    Lesson {
        name: "rude",
        asks: "half a message, then a reset, three times; others are served",
        deed: "a client reset its connection in the middle of a message",
        lesson: "an error of one connection ends that connection, never the server",
        read: "errors: \"Which errors end what?\"",
        errors: &["ECONNRESET"],
        run: errors::rude,
        ..PLAIN
    },
    Lesson {
        name: "vanish",
        asks: "20 clients ask and reset before the reply; others are served",
        deed: "clients asked and were gone before the reply",
        lesson: "send with MSG_NOSIGNAL or ignore SIGPIPE, and take EPIPE for the end of that client",
        read: "errors: \"Which errors end what?\"",
        errors: &["EPIPE", "ECONNRESET"],
        run: errors::vanish,
        ..PLAIN
    },
    Lesson {
        name: "unread",
        asks: "one sends and never reads; the server stops reading it, and serves others",
        deed: "a client sent and did not read",
        lesson: "a reply that does not fit stays in a queue with an end: above it, stop reading that client",
        read: "backpressure",
        errors: &["EAGAIN", "send"],
        run: flow::unread,
        ..PLAIN
    },
    Lesson {
        name: "half-close",
        asks: "all is sent, then the end, and read only then; all replies, then the end",
        deed: "a client ended its side and read only then",
        lesson: "recv = 0 says that no more will come; what is still queued is owed all the same",
        read: "closing: \"half-close\"",
        errors: &["recv", "send"],
        run: flow::half_close,
        ..PLAIN
    },
    Lesson {
        name: "idle-cpu",
        asks: "three silent, one gone; under 20 % of a processor",
        deed: "three clients were silent",
        lesson: "ask for writability only while there is something to send, and forget who has ended",
        read: "readiness, then backpressure",
        errors: &["epoll_wait", "EAGAIN"],
        grade: Grade::Machine,
        run: load::idle_cpu,
        ..PLAIN
    },
    Lesson {
        name: "burst",
        asks: "500 connect and ask at once; none waits for a second try",
        deed: "500 clients connected at once",
        lesson: "listen with a large backlog, and accept all who wait before anything slow",
        read: "one_socket: \"The kernel does the handshake, not accept\"",
        errors: &["accept", "listen"],
        run: load::burst,
        ..PLAIN
    },
    Lesson {
        name: "many",
        asks: "1,100 silent connections, one asks; it is answered",
        deed: "1,100 clients connected",
        lesson: "select watches 1,024 descriptors, and each thread costs memory: epoll, kqueue or poll do not end there",
        read: "readiness: the table of select, poll and epoll",
        errors: &["EMFILE", "select"],
        // It asks at its end, and a server that spins on each end fails elsewhere.
        serves_after: false,
        run: load::many,
        ..PLAIN
    },
    Lesson {
        name: "restart",
        asks: "SIGTERM while a client is connected, then a new start; it binds",
        deed: "your server was started again",
        lesson: "set SO_REUSEADDR before bind: the last connections hold the port for a minute",
        read: "closing: \"TIME-WAIT\"",
        errors: &["EADDRINUSE"],
        grade: Grade::Child,
        serves_after: false,
        run: basics::restart,
        ..PLAIN
    },
    Lesson {
        name: "nonsense",
        asks: "headers that mean nothing; an error or a close",
        deed: "a header came that means nothing",
        lesson: "look at a length before you believe it: digits only, and close what you cannot read",
        read: "messages: \"read with suspicion\"",
        errors: &["recv"],
        services: MESSAGES,
        run: messages::nonsense,
        ..PLAIN
    },
    Lesson {
        name: "huge",
        asks: "a length of 99,999,999,999; it is refused",
        deed: "a client announced 99,999,999,999 bytes",
        lesson: "every length has a limit, and memory is taken as bytes come, not as they are announced",
        read: "messages: \"The header has a limit\"",
        errors: &["ENOMEM"],
        services: MESSAGES,
        run: messages::huge,
        ..PLAIN
    },
    Lesson {
        name: "empty",
        asks: "a content of 0 bytes; a reply",
        deed: "a message without content came",
        lesson: "an empty message is a message: compare with None, not with false",
        read: "state",
        errors: &["recv"],
        services: MESSAGES,
        run: messages::empty,
        ..PLAIN
    },
    Lesson {
        name: "no-reset",
        asks: "the last request with more behind it; the reply, then the end, no reset",
        deed: "a client sent more than was read",
        lesson: "closing with bytes unread sends a reset: shut down, read to the end, then close",
        read: "closing: \"The reset\"",
        errors: &["ECONNRESET"],
        services: MESSAGES,
        run: messages::no_reset,
        ..PLAIN
    },
    Lesson {
        name: "slowloris",
        asks: "one byte, then silence; closed within --limit",
        deed: "a client sent one byte",
        lesson: "a message that has begun has a deadline",
        read: "event_loop: \"A client sends nothing\"",
        errors: &["ETIMEDOUT"],
        services: MESSAGES,
        slow: true,
        run: basics::slowloris,
        ..PLAIN
    },
    Lesson {
        name: "descriptors",
        asks: "32 descriptors and 64 clients; it lives, rests, and serves again later",
        deed: "more clients came than your server has descriptors for",
        lesson: "EMFILE from accept is no reason to end: stop accepting for a while, and serve those you have",
        read: "errors: \"Which errors end what?\"",
        errors: &["EMFILE", "ENFILE"],
        grade: Grade::Child,
        run: errors::descriptors,
        ..PLAIN
    },
    Lesson {
        name: "fairness",
        asks: "one floods, another asks 20 times; answered within 200 ms",
        deed: "one client flooded the server",
        lesson: "read a bounded part from one client, then look at the others",
        read: "readiness: \"Edge-triggered\"",
        errors: &["recv", "EAGAIN"],
        one_shot: false,
        run: load::fairness,
        ..PLAIN
    },
    Lesson {
        name: "delay",
        asks: "12 requests in turn; no 40 ms each",
        deed: "12 requests came in turn",
        lesson: "send a reply with one call, or set TCP_NODELAY",
        read: "delay",
        errors: &["send"],
        one_shot: false,
        run: load::delay,
        ..PLAIN
    },
    Lesson {
        name: "stop",
        asks: "SIGTERM while a reply is due; information only",
        deed: "your server was told to stop",
        lesson: "finish what is under way, end the connections, then the process",
        read: "event_loop: \"You want it to stop\"",
        errors: &["EINTR"],
        grade: Grade::Child,
        serves_after: false,
        run: basics::stop,
        ..PLAIN
    },
];

/// Its place in the ladder, from 1 on.
pub(super) fn number(lesson: &Lesson) -> usize {
    LADDER.iter().position(|one| one.name == lesson.name).map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use myriapod::sys::Errno;

    use super::*;

    #[test]
    fn is_every_page_that_a_lesson_names_in_the_guide() {
        let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/guide");
        for lesson in LADDER {
            let place = lesson.read.split(':').next().unwrap_or_default();
            for page in place.split(", then ") {
                let file = guide.join(page).with_extension("md");
                assert!(file.is_file(), "{}: there is no page {page}", lesson.name);
            }
            // What is quoted stands there, but for line breaks and marks.
            let Some(quoted) = lesson.read.split('"').nth(1) else { continue };
            let text = std::fs::read_to_string(guide.join(place).with_extension("md")).unwrap();
            let text =
                text.replace(['*', '`'], "").split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(text.contains(quoted), "{}: {quoted}", lesson.name);
        }
    }

    #[test]
    fn does_the_errors_command_know_what_a_lesson_names() {
        for lesson in LADDER {
            for name in lesson.errors {
                let call = Errno::explanations().iter().any(|one| one.calls.contains(name));
                assert!(call || Errno::from_name(name).is_some(), "{}: {name}", lesson.name);
            }
            assert!(!lesson.errors.is_empty() && lesson.lesson.len() > 20, "{}", lesson.name);
        }
    }

    #[test]
    fn does_each_rung_have_a_name_of_its_own() {
        for (at, lesson) in LADDER.iter().enumerate() {
            assert_eq!(number(lesson), at + 1);
        }
        assert_eq!(LADDER.len(), 25);
    }
}
