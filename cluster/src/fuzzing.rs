//! What fuzzing asks of both brokers' protocols.

use myriapod::protocol::Decoder;

use crate::dialect::Dialect;
use crate::nats::Nats;
use crate::redis::Redis;

/// Has both protocols read a broker's bytes, in these pieces and at once.
///
/// # Panics
///
/// If that differs.
pub fn check_brokers(whole: &[u8], pieces: &[&[u8]]) {
    let (redis, nats) = (Redis::new("h", 1).password("p"), Nats::new("h", 1));
    for lane in 0..2 {
        let heard = |pieces: &[&[u8]]| hear(&mut *redis.dialect(), lane, pieces);
        assert_eq!(heard(pieces), heard(&[whole]));
    }
    assert_eq!(hear(&mut *nats.dialect(), 0, pieces), hear(&mut *nats.dialect(), 0, &[whole]));
}

/// What each message means, up to the first fault.
fn hear(dialect: &mut dyn Dialect, lane: usize, pieces: &[&[u8]]) -> Vec<String> {
    let mut decoder = Decoder::new(dialect.framing());
    let mut out = dialect.opened(lane);
    // As if a link had asked for some things before.
    for _ in 0..3 {
        dialect.subscribe("a", &mut out);
        dialect.publish("a", b"x", &mut out);
        dialect.published();
        dialect.unsubscribe("a", &mut out);
    }
    let mut heard = Vec::new();
    for piece in pieces {
        decoder.feed(piece);
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => heard.push(format!("{:?}", dialect.heard(lane, &message))),
                Ok(None) => break,
                Err(error) => {
                    heard.push(error.to_string());
                    return heard;
                }
            }
        }
    }
    heard
}
