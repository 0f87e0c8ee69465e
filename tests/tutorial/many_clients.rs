//! Does the event loop hold ten thousand clients of the first program, and lose no message?

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Barrier;
use std::time::Duration;

use myriapod::protocol::encode_padded;
use myriapod::sys;

use crate::programs::{Running, example};

const CLIENTS: usize = 10_000;
/// That many threads share the clients out among themselves.
const THREADS: usize = 4;
const MESSAGES: usize = 3;

/// Descriptors of this process that are no client's.
const OTHERS: u64 = 200;

#[test]
fn are_ten_thousand_clients_served_without_a_message_lost() {
    let allowed = sys::raise_descriptor_limit().unwrap().soft.saturating_sub(OTHERS);
    let clients = CLIENTS.min(usize::try_from(allowed).unwrap()) / THREADS * THREADS;
    if clients < CLIENTS {
        println!("only {clients} clients, since RLIMIT_NOFILE allows no more");
    }
    let mut command = example("padded_on_engine");
    command.args(["127.0.0.1", "0"]);
    let mut server = Running::start(command);
    let port = server.port();

    let barrier = Barrier::new(THREADS);
    let addresses: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..THREADS).map(|_| scope.spawn(|| talk(port, clients / THREADS, &barrier))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(addresses.len(), clients);

    // For each client one line that it came and one for each of its texts; as many lines again
    // that count them all.
    let mut conversations: HashMap<String, Vec<String>> = HashMap::new();
    let mut active = Vec::new();
    for line in server.lines(clients * (1 + 1 + MESSAGES + 1)) {
        if let Some(count) = line.strip_prefix("[ACTIVE CONNECTIONS] ") {
            active.push(count.parse::<usize>().unwrap());
            continue;
        }
        let address = &line[line.find('(').unwrap()..=line.find(')').unwrap()];
        let told = line.replace(address, "PEER");
        conversations.entry(address.to_owned()).or_default().push(told);
    }
    assert_eq!(active, (1..=clients).collect::<Vec<_>>(), "all of them at the same time");
    assert_eq!(conversations.len(), clients);
    for address in addresses {
        let mut expected = vec!["[NEW CONNECTION] PEER connected.".to_owned()];
        expected.extend((1..=MESSAGES).map(|nth| format!("[PEER] {}", text(nth, &address))));
        expected.push("[PEER] !DISCONNECT".to_owned());
        assert_eq!(conversations[&address], expected, "{address}");
    }
    assert_eq!(server.end(), "");
}

/// No two messages are the same.
fn text(nth: usize, address: &str) -> String {
    let port: u16 = address.trim_end_matches(')').rsplit(' ').next().unwrap().parse().unwrap();
    format!("message {nth} from port {port}")
}

/// Some of the clients: all say the same thing before any says the next.
fn talk(port: u16, count: usize, barrier: &Barrier) -> Vec<String> {
    let mut clients: Vec<(TcpStream, String)> = (0..count)
        .map(|_| {
            let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            let address = format!("('127.0.0.1', {})", stream.local_addr().unwrap().port());
            (stream, address)
        })
        .collect();
    // Nobody leaves before everybody is there.
    barrier.wait();
    for nth in 1..=MESSAGES + 1 {
        for (stream, address) in &mut clients {
            let mut wire = Vec::new();
            let text = if nth > MESSAGES { "!DISCONNECT".to_owned() } else { text(nth, address) };
            encode_padded(&mut wire, &text).unwrap();
            stream.write_all(&wire).unwrap();
        }
        for (stream, _) in &mut clients {
            let mut answer = [0; "Msg received".len()];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"Msg received");
        }
        barrier.wait();
    }
    for (stream, address) in &mut clients {
        let mut more = Vec::new();
        stream.read_to_end(&mut more).unwrap();
        assert_eq!(more, b"", "{address}: more than it asked for");
    }
    clients.into_iter().map(|(_, address)| address).collect()
}
