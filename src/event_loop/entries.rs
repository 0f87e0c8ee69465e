//! Does a message cost more, and an entry take more, where there are a million of them?
//!
//! ```text
//! $ cargo test --release -p myriapod --lib entries -- --nocapture
//! ```
//!
//! prints the figures, which docs/figures.md quotes. No machine at hand has a million sockets to
//! offer, so the slab, the wheel and the engine are driven without any.

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use crate::event_loop::{EventLoop, Role};
    use crate::slab::Slab;
    use crate::timer::{self, Tick, TimerEntries, TimerLinks};
    use crate::{HandlerResult, Interest, Message, Reply, Server, sys};

    use std::os::fd::AsFd;

    use crate::connection::{Connection, Origin};
    use crate::engine::Own;
    use crate::protocol::Missing;
    use crate::view::About;

    const FEW: u32 = 1_000;
    const MANY: u32 = 1_000_000;

    /// Of each count of entries, one run sends so many messages and another so many more.
    const MESSAGES: u32 = 20_000;

    /// A busy loop's: 100,000 messages in a second.
    const MESSAGES_PER_TICK: u32 = 1_000;

    /// Five minutes.
    const IDLE_TICKS: u32 = 30_000;

    /// What the process under valgrind is to do.
    const WORK: &str = "MYRIAPOD_TEST_ENTRIES";

    type Echo = fn(Message<'_>, &mut Reply<'_>) -> HandlerResult;

    /// As the selector's, with a number in place of a descriptor that would have to be open.
    #[derive(Debug)]
    struct Entry {
        _source: i32,
        _interest: Interest,
        role: Role<Own<(), ()>>,
    }

    struct Entries(Slab<Entry>);

    impl TimerEntries for Entries {
        fn links(&mut self, index: u32) -> Option<&mut TimerLinks> {
            match self.0.at_mut(index) {
                Some((_, Entry { role: Role::Connection(connection), .. })) => {
                    Some(&mut connection.timer)
                }
                _ => None,
            }
        }
    }

    fn echo(message: Message<'_>, reply: &mut Reply<'_>) -> HandlerResult {
        reply.echo(&message)?;
        Ok(())
    }

    fn with_event_loop(work: impl FnOnce(&mut EventLoop<Echo>)) {
        let server = Server::builder().listen("127.0.0.1", 0).answer(echo as Echo);
        work(server.unwrap().event_loop());
    }

    /// Entries up to so many, their timers spread as those of idle connections are.
    fn grow(event_loop: &mut EventLoop<Echo>, entries: &mut Entries, to: u32) {
        for nth in u32::try_from(entries.0.len()).unwrap()..to {
            let connection = Connection::new(Own::default(), (), Origin::ADOPTED, u32::MAX, 0);
            let role = Role::Connection(connection);
            let entry = Entry { _source: 7, _interest: Interest::READABLE, role };
            let index = entries.0.insert(entry).unwrap().index();
            // Neighbours are not due together.
            let due = nth.wrapping_mul(7_919) % IDLE_TICKS;
            event_loop.wheel.arm(entries, index, due + 1);
        }
    }

    /// What the event loop does for each of so many messages, but for the two system calls.
    fn exchange(event_loop: &mut EventLoop<Echo>, entries: &mut Entries, messages: u32) {
        let (source, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let content = br#"{"action": "search", "value": "morpheus"}"#;
        let mut request = Vec::new();
        crate::protocol::encode(&mut request, &crate::protocol::Head::json(), content).unwrap();
        let count = u32::try_from(entries.0.len()).unwrap();
        let mut tick: Tick = 0;
        for nth in 0..messages {
            let index = nth.wrapping_mul(7_919) % count;
            let (key, entry) = entries.0.at_mut(index).unwrap();
            let Role::Connection(connection) = &mut entry.role else { panic!("connections") };
            assert!(connection.is_plain());
            event_loop.shared.scratch.clear();
            event_loop.shared.scratch.extend_from_slice(&request);
            let shared = &mut event_loop.shared;
            let about = About {
                key,
                source: source.as_fd(),
                origin: connection.origin,
                queued: 0,
                peer: None,
                is_open: true,
            };
            let own = &mut connection.own;
            if shared.engine.answer_ordinary(&about, own, &mut shared.scratch) {
                connection.touch(tick);
            } else {
                shared.engine.process(&about, own, &mut shared.scratch, Missing::default(), false);
            }
            assert_eq!(event_loop.shared.engine.context.out, request);
            event_loop.shared.engine.sent_all();
            if nth % MESSAGES_PER_TICK == 0 {
                tick += 1;
                let mut budget = u32::MAX;
                while let Some(index) = event_loop.wheel.expire(entries, tick, &mut budget) {
                    // All have been active since; none is closed.
                    event_loop.wheel.arm(entries, index, tick + IDLE_TICKS);
                    assert!(timer::until(tick, tick + IDLE_TICKS) > 0);
                }
            }
        }
        assert_eq!(event_loop.stats().replies, u64::from(messages));
    }

    #[test]
    #[ignore = "run under valgrind by the test below"]
    fn work() {
        let Ok(work) = std::env::var(WORK) else { return };
        let (entries, messages) = work.split_once(' ').unwrap();
        with_event_loop(|event_loop| {
            let mut all = Entries(Slab::new());
            grow(event_loop, &mut all, entries.parse().unwrap());
            exchange(event_loop, &mut all, messages.parse().unwrap());
        });
    }

    fn instructions(entries: u32, messages: u32) -> u64 {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "event_loop::entries::tests::work", "--ignored"])
            .env(WORK, format!("{entries} {messages}"))
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        let collected = said.lines().find_map(|line| line.split_once("Collected : "));
        collected.unwrap_or_else(|| panic!("{said}")).1.trim().parse().unwrap()
    }

    #[test]
    fn does_a_message_cost_as_much_among_a_million_entries() {
        if cfg!(debug_assertions) {
            println!("skipped: instructions of an unoptimized program mean nothing");
            return;
        }
        let valgrind = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
        if !valgrind.is_ok_and(|status| status.success()) {
            println!("skipped: valgrind is not installed");
            return;
        }
        let per_message = |entries| {
            let more = instructions(entries, 3 * MESSAGES) - instructions(entries, MESSAGES);
            more / u64::from(2 * MESSAGES)
        };
        let (few, many) = (per_message(FEW), per_message(MANY));
        println!("instructions per message: {few} with {FEW} entries, {many} with {MANY}");
        assert!(many * 10 <= few * 11);
    }

    #[test]
    fn does_one_of_a_million_entries_take_64_bytes_at_most() {
        assert_eq!(Slab::<Entry>::ENTRY_SIZE, EventLoop::<Echo>::BYTES_PER_CONNECTION);
        with_event_loop(|event_loop| {
            let mut entries = Entries(Slab::new());
            grow(event_loop, &mut entries, FEW);
            let few = sys::rss_bytes().unwrap();
            grow(event_loop, &mut entries, MANY);
            exchange(event_loop, &mut entries, MESSAGES);
            let slope = (sys::rss_bytes().unwrap() - few) / u64::from(MANY - FEW);
            println!("bytes per entry, from {FEW} to {MANY}: {slope}");
            assert!(slope <= 64);
        });
    }
}
