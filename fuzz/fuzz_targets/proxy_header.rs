//! PROXY headers: no bytes make the reader panic, and what it reads is the same in pieces, with
//! anything behind it, and written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use myriapod::proxy_protocol::{Command, MAX_V2_LEN, kind, parse, write_v1, write_v2};

fuzz_target!(|bytes: &[u8]| {
    let header = match parse(bytes) {
        Ok(Some(header)) => header,
        Ok(None) => {
            assert!(bytes.len() < 16 + MAX_V2_LEN, "no header is longer");
            return;
        }
        Err(refusal) => {
            // Once refused, more bytes change nothing.
            let more = [bytes, b"\r\n\0\xff"].concat();
            assert_eq!(parse(&more).err(), Some(refusal));
            return;
        }
    };
    assert!(header.len() <= bytes.len());
    for end in 0..header.len() {
        assert_eq!(parse(&bytes[..end]), Ok(None));
    }
    assert_eq!(parse(&bytes[..header.len()]), Ok(Some(header.clone())));
    let _ = (header.tlvs().ssl(), header.tlvs().authority(), header.tlvs().alpn());
    let (Some(from), Some(to)) = (header.source(), header.destination()) else { return };
    assert_eq!(header.command(), Command::Proxy);
    let mut again = Vec::new();
    if header.version() == 1 {
        write_v1(&mut again, from, to);
    } else {
        let tlvs: Vec<_> = header.tlvs().into_iter().collect();
        assert!(write_v2(&mut again, Command::Proxy, from, to, &tlvs));
    }
    let read = parse(&again).unwrap().unwrap();
    assert_eq!((read.source(), read.destination()), (Some(from), Some(to)));
    assert_eq!(read.tlvs().get(kind::UNIQUE_ID), header.tlvs().get(kind::UNIQUE_ID));
});
