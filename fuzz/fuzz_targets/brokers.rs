//! What a broker sends: no bytes make either protocol panic, and they mean the same in any pieces.
#![no_main]

mod pieces;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let (stream, pieces) = pieces::split(input);
    myriapod_cluster::check_brokers(stream, &pieces);
});
