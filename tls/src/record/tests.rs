#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by them")]

use super::*;
use crate::asleep::{RECORDS_PER_SECRET, Secrets, Side};

const SUITES: [Suite; 3] = [Suite::Aes128Gcm, Suite::ChaCha20Poly1305, Suite::Aes256Gcm];

/// Two ends that know the same secrets.
struct Ends {
    client: Asleep<48>,
    server: Asleep<48>,
    ciphers: Ciphers,
}

const CLIENT: u64 = 1;
const SERVER: u64 = 2;

impl Ends {
    fn new(suite: Suite, awake: usize) -> Self {
        let len = suite.secret_len();
        let (up, down) = ([1; 48], [2; 48]);
        let of = |side, theirs: &[u8; 48], ours: &[u8; 48]| {
            let secrets = Secrets { theirs: (&theirs[..len], 0), ours: (&ours[..len], 0) };
            Asleep::new(side, suite, &secrets).unwrap()
        };
        let (client, server) = (of(Side::Client, &down, &up), of(Side::Server, &up, &down));
        Self { client, server, ciphers: Ciphers::new(awake).unwrap() }
    }

    fn client_says(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.client.seal(&mut self.ciphers, CLIENT, plain, &mut out).unwrap();
        out
    }

    fn server_says(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.server.seal(&mut self.ciphers, SERVER, plain, &mut out).unwrap();
        out
    }

    /// A record of the client with this type and content.
    fn other(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        let (mut out, suite) = (Vec::new(), self.client.suite().unwrap());
        self.client.seal_one(&mut self.ciphers, CLIENT, suite, kind, content, &mut out).unwrap();
        out
    }

    fn at_server(&mut self, bytes: &[u8]) -> (Vec<u8>, Opened) {
        let mut bytes = bytes.to_vec();
        let opened = self.server.open(&mut self.ciphers, SERVER, &mut bytes);
        bytes.truncate(opened.plain);
        (bytes, opened)
    }

    fn at_client(&mut self, bytes: &[u8]) -> (Vec<u8>, Opened) {
        let mut bytes = bytes.to_vec();
        let opened = self.client.open(&mut self.ciphers, CLIENT, &mut bytes);
        bytes.truncate(opened.plain);
        (bytes, opened)
    }

    /// What the server makes of bytes that come in pieces of this size.
    fn in_pieces(&mut self, bytes: &[u8], size: usize) -> (Vec<u8>, Option<End>) {
        let (mut buffer, mut plain) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(size) {
            buffer.extend_from_slice(piece);
            let opened = self.server.open(&mut self.ciphers, SERVER, &mut buffer);
            plain.extend_from_slice(&buffer[..opened.plain]);
            buffer.drain(..opened.consumed);
            assert!(opened.end.is_some() || buffer.len() < opened.needed);
            if opened.end.is_some() {
                return (plain, opened.end);
            }
        }
        (plain, None)
    }

    fn fault(&mut self, bytes: &[u8]) -> Option<Fault> {
        match self.at_server(bytes).1.end {
            Some(End::Fault(fault)) => Some(fault),
            _ => None,
        }
    }
}

fn update(asks: u8) -> [u8; 5] {
    [KEY_UPDATE, 0, 0, 1, asks]
}

#[test]
fn do_both_ends_agree_in_every_suite_and_length() {
    for suite in SUITES {
        for awake in [0, 1, 64] {
            let mut ends = Ends::new(suite, awake);
            for len in [1, 2, 146, MOST_PLAIN - 1, MOST_PLAIN, MOST_PLAIN + 1, 100_000] {
                let plain: Vec<u8> = (0..len).map(|n| u8::try_from(n % 251).unwrap()).collect();
                let sealed = ends.client_says(&plain);
                assert!(sealed.len() <= sealed_room(len));
                let (got, opened) = ends.at_server(&sealed);
                assert!(got == plain, "{suite:?} {len}");
                assert_eq!((opened.consumed, opened.end), (sealed.len(), None));
            }
        }
    }
}

#[test]
fn does_every_cut_of_records_give_the_same_bytes() {
    for awake in [0, 8] {
        for size in 1..120 {
            let mut ends = Ends::new(Suite::Aes128Gcm, awake);
            let mut sent = ends.client_says(b"one");
            sent.extend(ends.other(HANDSHAKE, &update(1)));
            ends.client.renew_ours(Suite::Aes128Gcm, CLIENT, &mut ends.ciphers).unwrap();
            sent.extend(ends.client_says(b"two and some more"));
            sent.extend(ends.other(DATA, b""));
            sent.extend(ends.client_says(b"three"));
            sent.extend(ends.other(ALERT, &[1, 0]));
            let (plain, end) = ends.in_pieces(&sent, size);
            assert_eq!(plain, b"onetwo and some morethree", "{size}");
            assert_eq!(end, Some(End::Closed));
        }
    }
}

#[test]
fn are_good_records_before_a_bad_one_told_of() {
    let mut ends = Ends::new(Suite::ChaCha20Poly1305, 8);
    let mut sent = ends.client_says(b"good");
    sent.extend(ends.client_says(b"also good"));
    let mut bad = ends.client_says(b"bad");
    bad[7] ^= 1;
    sent.extend(bad);
    sent.extend(ends.client_says(b"behind"));
    let (plain, opened) = ends.at_server(&sent);
    assert_eq!(plain, b"goodalso good");
    assert_eq!(opened.end, Some(End::Fault(Fault::BadRecordMac)));
    // Nothing is opened any more, whatever comes.
    let later = ends.client_says(b"later");
    assert_eq!(ends.at_server(&later).0, b"");
}

#[test]
fn is_every_flipped_bit_of_a_record_a_fault() {
    for suite in SUITES {
        let sealed = Ends::new(suite, 8).client_says(b"a message");
        for bit in 0..sealed.len() * 8 {
            let mut ends = Ends::new(suite, 8);
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let (plain, opened) = ends.at_server(&changed);
            assert_eq!(plain, b"", "bit {bit}");
            // A length that grew asks for more bytes; those will not fit either.
            assert!(opened.end.is_some() || opened.needed > changed.len(), "bit {bit}: {opened:?}");
        }
    }
}

#[test]
fn does_noise_end_in_a_fault_and_never_in_data() {
    let mut state = 7_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut ends = Ends::new(Suite::Aes128Gcm, 8);
    for _ in 0..20_000 {
        let mut noise: Vec<u8> = (0..next() % 64).map(|_| (next() & 0xff) as u8).collect();
        if let Some(start) = noise.first_chunk_mut::<5>() {
            *start = [DATA, 3, 3, 0, (next() % 64) as u8];
        }
        let opened = ends.server.open(&mut ends.ciphers, SERVER, &mut noise);
        assert_eq!(opened.plain, 0);
        if opened.end.is_some() {
            ends.server = Ends::new(Suite::Aes128Gcm, 1).server;
        }
    }
}

#[test]
fn is_a_key_update_answered_once_before_the_next_data() {
    for suite in SUITES {
        let mut ends = Ends::new(suite, 8);
        for _ in 0..3 {
            let request = ends.other(HANDSHAKE, &update(1));
            ends.client.renew_ours(suite, CLIENT, &mut ends.ciphers).unwrap();
            assert_eq!(ends.at_server(&request).1.end, None);
        }
        let data = ends.client_says(b"under the new key");
        assert_eq!(ends.at_server(&data).0, b"under the new key");
        // One answer to three requests, then the data.
        let answer = ends.server_says(b"answer");
        assert_eq!(answer.len(), OVERHEAD + 5 + OVERHEAD + 6);
        assert_eq!(ends.at_client(&answer).0, b"answer");
        assert_eq!(ends.ciphers.counts().updates_out, 3 + 1);
        // The answer was no request.
        assert_eq!(ends.client_says(b"x").len(), OVERHEAD + 1);
    }
}

#[test]
fn does_a_renewal_that_asks_renew_both_ways() {
    let mut ends = Ends::new(Suite::Aes256Gcm, 0);
    ends.server.renew(true);
    let sent = ends.server_says(b"1");
    assert_eq!(ends.at_client(&sent).0, b"1");
    let sent = ends.client_says(b"2");
    assert_eq!(sent.len(), OVERHEAD + 5 + OVERHEAD + 1);
    assert_eq!(ends.at_server(&sent).0, b"2");
    assert_eq!((ends.ciphers.counts().updates_in, ends.ciphers.counts().updates_out), (2, 2));
}

#[test]
fn is_the_key_renewed_before_it_is_used_up() {
    let mut ends = Ends::new(Suite::Aes128Gcm, 8);
    ends.client.forward(0, RECORDS_PER_SECRET - 3);
    ends.server.forward(u64::from(RECORDS_PER_SECRET - 3), 0);
    for (at, len) in [1, 6 + OVERHEAD, 1].into_iter().enumerate() {
        let sent = ends.client_says(b"x");
        assert_eq!(sent.len(), OVERHEAD + len, "{at}");
        assert_eq!(ends.at_server(&sent).0, b"x");
    }
    // A peer may count farther than we do.
    ends.client.forward(0, 5);
    ends.server.forward((1 << 32) - 1, 0);
    assert_eq!(ends.server.count_opened(), Ok(()));
    assert_eq!(ends.server.opened(), 1 << 32);
}

#[test]
fn does_a_flood_of_key_updates_end_with_its_fault() {
    let mut ends = Ends::new(Suite::Aes128Gcm, 8);
    for _ in 0..MOST_QUIET {
        let sent = ends.other(HANDSHAKE, &update(0));
        ends.client.renew_ours(Suite::Aes128Gcm, CLIENT, &mut ends.ciphers).unwrap();
        assert_eq!(ends.fault(&sent), None);
    }
    // Data between them, and it may go on.
    let data = ends.client_says(b"data");
    assert_eq!(ends.at_server(&data).0, b"data");
    for _ in 0..MOST_QUIET {
        let sent = ends.other(HANDSHAKE, &update(0));
        ends.client.renew_ours(Suite::Aes128Gcm, CLIENT, &mut ends.ciphers).unwrap();
        assert_eq!(ends.fault(&sent), None);
    }
    let sent = ends.other(HANDSHAKE, &update(0));
    assert_eq!(ends.fault(&sent), Some(Fault::TooManyKeyUpdates));
    assert_eq!(ends.server.last_word, alert::UNEXPECTED_MESSAGE);
}

#[test]
fn does_a_flood_of_empty_records_end_with_its_fault() {
    let mut ends = Ends::new(Suite::Aes128Gcm, 8);
    for _ in 0..MOST_QUIET {
        let sent = ends.other(DATA, b"");
        assert_eq!(ends.fault(&sent), None);
    }
    let sent = ends.other(DATA, b"");
    assert_eq!(ends.fault(&sent), Some(Fault::TooManyEmptyRecords));
}

#[test]
fn does_each_malformed_message_have_its_fault() {
    use Fault::{DecodeError, IllegalParameter, PeerAlert, SplitHandshake, UnexpectedMessage};
    let rows: [(u8, &[u8], Fault); 17] = [
        (ALERT, &[], UnexpectedMessage),
        (ALERT, &[2], DecodeError),
        (ALERT, &[2, 40, 0], DecodeError),
        (ALERT, &[2, 40], PeerAlert(40)),
        (ALERT, &[1, 40], PeerAlert(40)),
        (HANDSHAKE, &[], UnexpectedMessage),
        (HANDSHAKE, &[KEY_UPDATE], SplitHandshake),
        (HANDSHAKE, &[KEY_UPDATE, 0, 0, 1], SplitHandshake),
        (HANDSHAKE, &[KEY_UPDATE, 0, 0, 2, 0, 0], DecodeError),
        (HANDSHAKE, &[KEY_UPDATE, 0, 0, 0], DecodeError),
        (HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, 2], IllegalParameter),
        (HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, 0, KEY_UPDATE, 0, 0, 1, 0], UnexpectedMessage),
        // A ticket goes from a server to a client; a ClientHello is a renegotiation.
        (HANDSHAKE, &[NEW_SESSION_TICKET, 0, 0, 0], UnexpectedMessage),
        (HANDSHAKE, &[1, 0, 0, 0], UnexpectedMessage),
        (CHANGE_CIPHER_SPEC, &[1], UnexpectedMessage),
        (24, &[1], UnexpectedMessage),
        (0, &[0, 0], UnexpectedMessage),
    ];
    for (kind, content, fault) in rows {
        let mut ends = Ends::new(Suite::Aes128Gcm, 8);
        let sent = ends.other(kind, content);
        assert_eq!(ends.fault(&sent), Some(fault), "{kind} {content:?}");
    }
    for (bytes, fault) in [
        (&[21, 3, 3, 0, 2, 1, 0][..], Fault::UnexpectedMessage),
        (&[20, 3, 3, 0, 1, 1], Fault::UnexpectedMessage),
        (&[DATA, 3, 3, 0x41, 1], Fault::RecordOverflow),
        (&[DATA, 3, 3, 0, 3, 1, 2, 3], Fault::BadRecordMac),
        (b"GET / HTTP/1.1\r\n", Fault::NotARecord),
    ] {
        assert_eq!(Ends::new(Suite::Aes128Gcm, 8).fault(bytes), Some(fault), "{bytes:?}");
    }
}

#[test]
fn is_user_canceled_passed_over() {
    let mut ends = Ends::new(Suite::Aes128Gcm, 8);
    let mut sent = ends.other(ALERT, &[1, alert::USER_CANCELED]);
    sent.extend(ends.client_says(b"more"));
    sent.extend(ends.other(ALERT, &[1, 0]));
    let (plain, opened) = ends.at_server(&sent);
    assert_eq!((plain.as_slice(), opened.end), (&b"more"[..], Some(End::Closed)));
}

#[test]
fn may_a_record_be_padded_up_to_its_limit() {
    let mut ends = Ends::new(Suite::Aes128Gcm, 8);
    let (suite, mut out) = (Suite::Aes128Gcm, Vec::new());
    // A type, then zeros: as long as a record may be, and one byte longer.
    for (len, fault) in [(MOST_PLAIN, None), (MOST_PLAIN + 1, Some(Fault::RecordOverflow))] {
        let mut content = vec![0; len];
        content[..3].copy_from_slice(&[b'a', b'b', DATA]);
        out.clear();
        ends.client.seal_one(&mut ends.ciphers, CLIENT, suite, 0, &content, &mut out).unwrap();
        let (plain, opened) = ends.at_server(&out);
        assert_eq!(opened.end, fault.map(End::Fault));
        assert_eq!(plain, if fault.is_none() { &b"ab"[..] } else { b"" });
    }
}

#[test]
fn is_nothing_sealed_behind_the_last_word() {
    let mut ends = Ends::new(Suite::Aes128Gcm, 8);
    let mut out = Vec::new();
    ends.server.finish(&mut ends.ciphers, SERVER, &mut out).unwrap();
    assert_eq!(ends.at_client(&out).1.end, Some(End::Closed));
    let len = out.len();
    assert_eq!(
        ends.server.seal(&mut ends.ciphers, SERVER, b"more", &mut out),
        Err(Fault::Exhausted)
    );
    ends.server.finish(&mut ends.ciphers, SERVER, &mut out).unwrap();
    assert_eq!(out.len(), len);
}

#[test]
fn does_a_client_pass_tickets_over() {
    let mut ends = Ends::new(Suite::Aes128Gcm, 8);
    let (suite, mut out) = (Suite::Aes128Gcm, Vec::new());
    let tickets = [NEW_SESSION_TICKET, 0, 0, 2, 7, 7, NEW_SESSION_TICKET, 0, 0, 0];
    ends.server.seal_one(&mut ends.ciphers, SERVER, suite, HANDSHAKE, &tickets, &mut out).unwrap();
    out.extend(ends.server_says(b"data"));
    assert_eq!(ends.at_client(&out).0, b"data");
}

#[test]
fn does_a_place_serve_its_next_owner_with_other_keys() {
    // Two connections with other secrets take turns in a cache with one place.
    let mut ciphers = Ciphers::new(1).unwrap();
    let mut pairs: Vec<_> = (0..2_u8)
        .map(|n| {
            let (up, down) = ([n; 32], [n + 100; 32]);
            let of = |side, theirs: &[u8; 32], ours: &[u8; 32]| {
                let secrets = Secrets { theirs: (theirs, 0), ours: (ours, 0) };
                Asleep::<32>::new(side, Suite::Aes128Gcm, &secrets).unwrap()
            };
            (of(Side::Client, &down, &up), of(Side::Server, &up, &down))
        })
        .collect();
    for round in 0..10_u8 {
        for (number, (client, server)) in pairs.iter_mut().enumerate() {
            let owner = number as u64 * 2;
            let mut sent = Vec::new();
            client.seal(&mut ciphers, owner, &[round], &mut sent).unwrap();
            let opened = server.open(&mut ciphers, owner + 1, &mut sent);
            assert_eq!(&sent[..opened.plain], [round]);
        }
    }
    assert_eq!(ciphers.counts().wakes, 40, "nobody found its own ciphers");
}

/// RFC 8448, section 3: what client and server send behind the handshake.
#[test]
fn are_records_those_of_rfc_8448() {
    let of_client = hex("9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5");
    let of_server = hex("a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643");
    // The server has sent a ticket already.
    let secrets = Secrets { theirs: (&of_client, 0), ours: (&of_server, 1) };
    let mut server = Asleep::<32>::new(Side::Server, Suite::Aes128Gcm, &secrets).unwrap();
    let mut ciphers = Ciphers::new(4).unwrap();
    let data: Vec<u8> = (0..50).collect();
    let mut from_client = hex(
        "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a\
         20441e2b62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4",
    );
    from_client.extend(hex("1703030013c9872760655666b74d7ff1153efd6db6d0b0e3"));
    let opened = server.open(&mut ciphers, 0, &mut from_client);
    assert_eq!((&from_client[..opened.plain], opened.end), (&data[..], Some(End::Closed)));
    let mut out = Vec::new();
    server.seal(&mut ciphers, 0, &data, &mut out).unwrap();
    server.finish(&mut ciphers, 0, &mut out).unwrap();
    let mut expected = hex(
        "17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e30efaf97d90e6dffc602dcb\
         501a59a8fcc49c4bf2e5f0a21c0047c2abf332540dd032e167c2955d",
    );
    expected.extend(hex("1703030013b58fd67166ebf599d24720cfbe7efa7a8864a9"));
    assert_eq!(out, expected);
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .map(|digit| u8::try_from((digit as char).to_digit(16).unwrap()).unwrap())
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
