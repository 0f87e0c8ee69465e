use super::*;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn v2(command: Command, source: &str, destination: &str, tlvs: &[(u8, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    assert!(write_v2(&mut out, command, &address(source), &address(destination), tlvs));
    out
}

/// A header of version 2 as it is told: version and command, family and transport, block.
fn raw(how: u8, what: u8, block: &[u8]) -> Vec<u8> {
    let len = u16::try_from(block.len()).unwrap().to_be_bytes();
    [v2::SIGNATURE, &[how, what], &len, block].concat()
}

#[test]
fn is_each_line_of_the_specification_read() {
    let lines: [(&str, Option<(&str, &str)>); 7] = [
        (
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            Some(("255.255.255.255:65535", "255.255.255.255:65535")),
        ),
        (
            "PROXY TCP6 2001:db8::1 ::ffff:192.0.2.1 0 80\r\n",
            Some(("[2001:db8::1]:0", "[::ffff:192.0.2.1]:80")),
        ),
        (
            "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
             ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
            Some((
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
            )),
        ),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN \r\n", None),
        ("PROXY UNKNOWN whatever  it says\r\n", None),
        (
            "PROXY UNKNOWN ffff:f...f:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
             ffff:ffff:ffff:ffff 65535 65535\r\n",
            None,
        ),
    ];
    for (line, addresses) in lines {
        let bytes = [line.as_bytes(), b"PROXY "].concat();
        let header = parse(&bytes).unwrap().unwrap();
        assert_eq!((header.version(), header.len()), (1, line.len()));
        let expected = addresses.map(|(from, to)| (address(from), address(to)));
        assert_eq!(header.addresses, expected, "{line}");
        for end in 0..line.len() {
            assert_eq!(parse(&bytes[..end]), Ok(None), "{end} of {line}");
        }
    }
}

#[test]
fn is_every_other_line_refused() {
    let malformed = [
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
        "PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4  1\r\n",
        "PROXY TCP4 1.2.3.04 1.2.3.4 1 2\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rx",
        "PROXY UNKNOWNX\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.\u{ff} 1 2\r\n",
    ];
    for line in malformed {
        assert_eq!(parse(line.as_bytes()), Err(Refusal::Malformed), "{line}");
    }
    for bytes in [&b"\0\x61{"[..], b"PROXY\t", b"proxy ", b"\r\n\r\n\0\r\nQUIT\r", b"GET /"] {
        assert_eq!(parse(bytes), Err(Refusal::Missing));
    }
    assert_eq!(parse(b""), Ok(None));
}

#[test]
fn is_a_line_of_107_bytes_the_longest() {
    let mut line = b"PROXY UNKNOWN ".to_vec();
    line.resize(MAX_V1_LEN - 2, b'x');
    line.extend_from_slice(b"\r\n");
    assert_eq!(parse(&line).map(|header| header.unwrap().len()), Ok(107));
    assert_eq!(parse(&line[..106]), Ok(None));
    line.insert(20, b'x');
    assert_eq!(parse(&line[..106]), Ok(None), "it may end with the next byte");
    assert_eq!(parse(&line[..107]), Err(Refusal::TooLong));
    assert_eq!(parse(&line), Err(Refusal::TooLong));
    line.insert(20, b'x');
    assert_eq!(parse(&line[..107]), Err(Refusal::TooLong));
}

#[test]
fn are_addresses_of_every_family_read() {
    let path = format!("unix:/{}", "x".repeat(106));
    for (from, to) in [
        ("192.0.2.7:1", "192.0.2.1:65535"),
        ("[2001:db8::7]:1", "[::1]:2"),
        ("unix:/tmp/a", "unix:"),
        ("unix:@name", path.as_str()),
    ] {
        let bytes = [v2(Command::Proxy, from, to, &[]), b"rest".to_vec()].concat();
        let header = parse(&bytes).unwrap().unwrap();
        assert_eq!((header.version(), header.command()), (2, Command::Proxy));
        assert_eq!(
            (header.source(), header.destination()),
            (Some(&address(from)), Some(&address(to)))
        );
        assert_eq!(&bytes[header.len()..], b"rest");
        for end in 0..header.len() {
            assert_eq!(parse(&bytes[..end]), Ok(None), "{end}");
        }
    }
    // Datagrams have the same form.
    let mut bytes = v2(Command::Proxy, "192.0.2.7:1", "192.0.2.1:2", &[]);
    bytes[13] = 0x12;
    assert_eq!(parse(&bytes).unwrap().unwrap().source(), Some(&address("192.0.2.7:1")));
    // Different families have nothing to say.
    let bytes = v2(Command::Proxy, "192.0.2.7:1", "[::1]:2", &[]);
    assert_eq!((bytes[13], parse(&bytes).unwrap().unwrap().source()), (0, None));
    let mut out = b"before".to_vec();
    let (long, unnamed) = (address(&format!("unix:/{}", "x".repeat(108))), address("unix:"));
    assert!(!write_v2(&mut out, Command::Proxy, &long, &unnamed, &[]));
    assert!(!write_v2(&mut out, Command::Proxy, &unnamed, &unnamed, &[(1, &[0; 4096])]));
    assert_eq!(out, b"before");
}

#[test]
fn does_a_header_without_addresses_name_none() {
    // HAProxy's health check, and one with a family and a block that is to be passed over.
    for (what, block) in [(0, &[][..]), (0x11, &[1, 2, 3]), (0xff, &[0xff; 20])] {
        let bytes = raw(0x20, what, block);
        let header = parse(&bytes).unwrap().unwrap();
        assert_eq!((header.command(), header.source()), (Command::Local, None));
        assert_eq!(header.len(), 16 + block.len());
    }
    for (what, block) in [(0, &[0x04, 0, 1, 9][..]), (0x10, &[0; 12]), (0x02, &[])] {
        let bytes = raw(0x21, what, block);
        let header = parse(&bytes).unwrap().unwrap();
        assert_eq!((header.command(), header.source()), (Command::Proxy, None), "{what:x}");
    }
    assert_eq!(v2(Command::Local, "192.0.2.7:1", "192.0.2.1:2", &[]), raw(0x20, 0, &[]));
}

#[test]
fn is_what_breaks_the_rules_of_version_2_refused() {
    for (how, what, block) in [
        (0x11, 0x11, &[0; 12][..]),
        (0x22, 0x11, &[0; 12]),
        (0x2f, 0x11, &[0; 12]),
        (0x31, 0x11, &[0; 12]),
        (0x21, 0x11, &[0; 11]),
        (0x21, 0x21, &[0; 35]),
        (0x21, 0x31, &[0; 215]),
        (0x21, 0x41, &[0; 216]),
        (0x21, 0x13, &[0; 12]),
    ] {
        assert_eq!(parse(&raw(how, what, block)), Err(Refusal::Malformed), "{how:x} {what:x}");
    }
    // As soon as it is known.
    assert_eq!(parse(&raw(0x22, 0, &[])[..16]), Err(Refusal::Malformed));
    let long = raw(0x21, 0, &[0; 4097]);
    assert_eq!((parse(&long[..15]), parse(&long[..16])), (Ok(None), Err(Refusal::TooLong)));
    for fields in [&[1][..], &[1, 0], &[1, 0, 1], &[1, 0, 2, 9], &[4, 0, 0, 1, 0xff, 0xff, 0]] {
        let block = [&[0; 12], fields].concat();
        assert_eq!(parse(&raw(0x21, 0x11, &block)), Err(Refusal::BadTlv), "{fields:?}");
    }
}

#[test]
fn do_the_fields_say_what_the_proxy_knows() {
    let mut inside = vec![3, 0, 0, 0, 0];
    for (kind, value) in
        [(kind::SSL_VERSION, "TLSv1.3"), (kind::SSL_CN, "a client"), (kind::SSL_CIPHER, "AES")]
    {
        inside.push(kind);
        inside.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
        inside.extend_from_slice(value.as_bytes());
    }
    let bytes = v2(
        Command::Proxy,
        "192.0.2.7:1",
        "192.0.2.1:2",
        &[
            (kind::ALPN, b"h2"),
            (kind::AUTHORITY, b"example.com"),
            (kind::UNIQUE_ID, b"\x01\x02"),
            (kind::SSL, &inside),
            (0xe0, b""),
        ],
    );
    let tlvs = parse(&bytes).unwrap().unwrap().tlvs();
    assert_eq!((tlvs.alpn(), tlvs.authority()), (Some(&b"h2"[..]), Some("example.com")));
    assert_eq!((tlvs.unique_id(), tlvs.get(0xe0)), (Some(&[1, 2][..]), Some(&[][..])));
    assert_eq!((tlvs.get(0xe1), tlvs.into_iter().count()), (None, 5));
    let ssl = tlvs.ssl().unwrap();
    assert!(ssl.is_secure() && ssl.has_certificate() && !ssl.has_session_certificate());
    assert!(ssl.is_verified());
    assert_eq!((ssl.version(), ssl.common_name()), (Some("TLSv1.3"), Some("a client")));
    assert_eq!((ssl.cipher(), ssl.fields().into_iter().count()), (Some("AES"), 3));
    // What is inside of a field and runs over its end is nobody's fault but the field's.
    let bytes = raw(0x21, 0, &[kind::SSL, 0, 6, 1, 0, 0, 0, 0, 0x21]);
    assert_eq!(parse(&bytes).unwrap().unwrap().tlvs().ssl(), None);
}

#[test]
fn is_the_checksum_checked_where_there_is_one() {
    let tlvs = [(kind::NOOP, &b"12"[..]), (kind::CRC32C, &[]), (kind::ALPN, b"h2")];
    let good = v2(Command::Proxy, "192.0.2.7:1", "192.0.2.1:2", &tlvs);
    assert!(parse(&good).unwrap().is_some());
    let kind_of_the_sum = 16 + 12 + 5;
    for at in (16..good.len()).filter(|at| *at != kind_of_the_sum) {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        assert!(parse(&bad).is_err(), "byte {at}");
    }
    assert_eq!(parse(&raw(0x21, 0, &[kind::CRC32C, 0, 1, 0])), Err(Refusal::Checksum));
}
