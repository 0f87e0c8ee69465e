//! The scan of a header against the full parse by `serde_json`: the same result for any bytes. Small
//! inputs also stand as a member's value, and as its key, in a header that is valid without them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use myriapod::protocol::check_scan;

fuzz_target!(|input: &[u8]| {
    check_scan(input);
    let (before, behind): (&[u8], &[u8]) = (
        br#"{"byteorder": "little", "content-type": "text/json", "content-encoding": "utf-8", "content-length": 41, "#,
        br#""a": 1}"#,
    );
    check_scan(&[before, b"\"k\": ", input, b", ", behind].concat());
    check_scan(&[before, b"\"", input, b"\":0,", behind].concat());
    check_scan(&[before, input, b"}"].concat());
});
