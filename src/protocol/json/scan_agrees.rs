//! Does the scan of a header say what the full parse by `serde_json` says?

use super::scan::check;

/// Ours to the byte, as compact as others write it, and strange.
const HEADERS: [&str; 6] = [
    r#"{"byteorder": "little", "content-type": "text/json", "content-encoding": "utf-8", "content-length": 41}"#,
    r#"{"byteorder": "big", "content-type": "a\n", "content-encoding": "é", "content-length": 0, "id": 17, "x": [1, {"y": null}]}"#,
    r#"{"byteorder":"little","content-type":"text\/json","content-encoding":"utf-8","content-length":41,"id":-1.5e3}"#,
    "\t{ \"id\" :\r\n\"\\ud83d\\udc36\" , \"byteorder\": \"b\\u0069g\",\"content-type\" :\"\", \"content\\u002dencoding\": \"latin-1\",\n\"content-length\" : 9 } ",
    r#"{"content-length": 18446744073709551615, "content-encoding": "binary", "content-type": "\"", "byteorder": "big", "a": [], "b": {}, "c": true, "d": false}"#,
    r#"{"a": [[], {}, [{}], {"a": [1, 2.5, "]", "}"], "b": {"c": ["\\", "\""]}}, -0, 0.0, 1E+2], "byteorder": "little", "content-type": "🐶", "content-encoding": "UTF8", "content-length": 7}"#,
];

/// A valid header but for what `members` make of it.
fn with(members: &str) -> String {
    HEADERS[0].replace('}', &format!(", {members}}}"))
}

/// Under Miri, which is a thousand times slower, one of many.
fn is_told(nth: usize) -> bool {
    !cfg!(miri) || nth.is_multiple_of(397)
}

#[test]
fn do_scan_and_full_parse_agree_on_all_kinds_of_values() {
    let values = "0 -0 1 -1 00 01 -01 - + +1 1. .5 1.5 1.e5 1e 1e+ 1e- 1e5 1E5 1e+5 1e-5 1.5e5 0e5 0.0e-5 0x1 1_0 1,
        1e308 1e309 -1e309 1.7976931348623157e308 1.8e308 17976931348623157e292 0e309 0e99999999999 0.000e400 1e-400
        1e-99999999999 1e99999999999 0.00001e312 0.1e309 0.1e310 9999999999999999999999 18446744073709551616
        123456789012345678901234567890.123456789012345678901234567890e-30 1e0000000000000000000000308
        true false null True tru truex nul nulll falsey NaN Infinity -Infinity undefined 'a'
        \"\" \"a\" \"a \"a\"b \"\\\" \"\\\\\" \"\\/\" \"\\b\\f\\n\\r\\t\" \"\\v\" \"\\x41\" \"\\u\" \"\\u0\" \"\\u00e\" \"\\u00e9\" \"\\u00E9\" \"\\U00e9\" \"\\u+0e9\"
        \"\\ud83d\\udc36\" \"\\ud83d\" \"\\ud83dx\" \"\\ud83d\\n\" \"\\ud83d\\u0041\" \"\\ud83d\\ud83d\" \"\\udc36\" \"\\udc36\\ud83d\" \"\\u0000\" \"\\uffff\" \"\\uD800\\uDC00\" \"\\uDBFF\\uDFFF\"
        \"\u{7f}\" \"\u{80}\" \"\u{feff}\" \u{feff}1 \u{a0}1 \"é\" \"🐶\" é
        [] {} [ ] [1] [1,] [,1] [,] [1,2] [1;2] [1 2] [[ ]] [} {] {1:2} {\"a\"} {\"a\":} {\"a\":1} {\"a\":1,} {,\"a\":1} {\"a\":1,\"a\":2} {\"a\":1;\"b\":2}
        {\"a\":1}} [1]] {\"a\":[{\"b\":[{}]}]} [{},{},[]] {\"a\":{},\"b\":[]} {\"\\u0061\":\"\\n\"} {\"\\u006\":1} // /**/1 1# <1>";
    let mut valid = 0;
    for value in values.split_ascii_whitespace().step_by(if cfg!(miri) { 7 } else { 1 }) {
        for spaced in [
            value.to_owned(),
            value.replace(',', " ,\t").replace(':', "\r:\n"),
            format!(" {value} "),
        ] {
            for wrapped in [
                spaced.clone(),
                format!("[{spaced}]"),
                format!("[0, {spaced} ,1]"),
                format!("{{\"k\":{spaced}}}"),
            ] {
                valid += usize::from(check(with(&format!("\"x\": {wrapped}")).as_bytes()));
                valid += usize::from(check(
                    HEADERS[3].replace(" \"byte", &format!("\"v\": {wrapped}, \"byte")).as_bytes(),
                ));
            }
        }
        // In the place of each of the four.
        for old in ["\"little\"", "\"text/json\"", "\"utf-8\"", "41"] {
            valid += usize::from(check(HEADERS[0].replace(old, value).as_bytes()));
            valid +=
                usize::from(check(HEADERS[0].replace(": ", ":").replace(old, value).as_bytes()));
        }
        check(value.as_bytes());
    }
    assert!(valid > if cfg!(miri) { 50 } else { 1_000 }, "{valid}");
}

#[test]
fn do_scan_and_full_parse_agree_on_every_changed_byte() {
    let mut valid = 0;
    for (nth, header) in HEADERS.iter().enumerate() {
        assert!(check(header.as_bytes()), "{header}");
        let header = header.as_bytes();
        for at in 0..header.len() {
            for byte in (0..=255).filter(|&byte| is_told(at * 256 + nth + usize::from(byte))) {
                let mut changed = header.to_vec();
                changed[at] = byte;
                valid += usize::from(check(&changed));
            }
            if is_told(at) {
                check(&header[..at]);
                for piece in
                    [&b" "[..], b"\\", b"\"", b"0", b",", b"\xff", b"\\u0041", b"[", b"}", b".5"]
                {
                    valid += usize::from(check(&[&header[..at], piece, &header[at..]].concat()));
                    check(&[&header[..at], piece, &header[at + 1..]].concat());
                }
            }
        }
    }
    assert!(valid > if cfg!(miri) { 20 } else { 5_000 }, "{valid}");
}

#[test]
fn do_scan_and_full_parse_agree_on_the_depth_of_nesting() {
    for depth in [1, 2, 63, 64, 65, 125, 126, 127, 128, 129, 200] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"a\": ", "} ]")] {
            let pairs = depth / (open.matches(['[', '{']).count());
            for inner in ["", "1", "[]", "{}"] {
                let text = format!("\"x\": {}{inner}{}", open.repeat(pairs), close.repeat(pairs));
                let valid = check(with(&text).as_bytes());
                if open == "[" && inner.is_empty() {
                    assert_eq!(valid, depth <= 126, "{depth}");
                }
            }
        }
    }
}

#[test]
fn do_scan_and_full_parse_agree_on_keys_that_occur_twice() {
    let keys = [
        "a",
        "b",
        "",
        "byteorder",
        "content-length",
        "content-lengths",
        "12345678",
        "1234567",
        "123456789",
        "1234567812345678",
        "a\\u0000",
        "é",
        "\\n",
        "ab",
        "content\\u002dtype",
    ];
    let escaped = |key: &str| match key.chars().next() {
        Some(first) if first != '\\' => {
            format!("\\u{:04x}{}", u32::from(first), &key[first.len_utf8()..])
        }
        _ => key.to_owned(),
    };
    // Beside none, and beside so many that they are sorted.
    for others in [0, 3, 27, 28, 29, 30, 31, 32, 33, 400] {
        let mut more = String::new();
        for nth in 0..others {
            more += &format!("\"key {nth}\": {nth},");
        }
        for first in keys {
            for second in keys.iter().step_by(if cfg!(miri) { 5 } else { 1 }) {
                for second in [(*second).to_owned(), escaped(second)] {
                    let valid = check(
                        with(&format!("\"{first}\": 1, {more}\"{second}\": {{}}")).as_bytes(),
                    );
                    assert!(!valid || *first != *second, "{first} {second}");
                }
            }
            if cfg!(miri) && others > 3 {
                break;
            }
        }
    }
}

#[test]
fn are_keys_with_the_same_hash_told_apart() {
    // Two keys of 16 bytes with the same hash: the second word makes up for the first.
    let mix = |word: u64| word.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let is_text = |word: u64| {
        word.to_le_bytes().iter().all(|byte| (b' '..0x7f).contains(byte) && !b"\"\\".contains(byte))
    };
    let word = |text: &[u8; 8]| u64::from_le_bytes(*text);
    let mut pairs = (0..u64::MAX).filter_map(|nth| {
        let first = word(b"aaaaaaaa").wrapping_add(nth & 0xf) ^ (nth >> 4 & 0x0f0f_0f0f_0f0f) << 8;
        let wanted = mix(word(b"bbbbbbbb")) ^ word(b"cccccccc");
        let second = mix(first) ^ wanted;
        (first != word(b"bbbbbbbb") && is_text(first) && is_text(second)).then_some((first, second))
    });
    let Some((first, second)) = pairs.next() else { panic!("none was found") };
    let text = |word: u64| String::from_utf8(word.to_le_bytes().to_vec()).unwrap();
    let twin = format!("\"{}{}\": 2", text(first), text(second));
    let many: String = (0..50).map(|nth| format!(", \"{nth}\": 0")).collect();
    for more in ["", &many] {
        let header = with(&format!("\"bbbbbbbbcccccccc\": 1{more}, {twin}"));
        assert!(check(header.as_bytes()));
        assert!(!check(with(&format!("\"a\": 0{more}, {twin}, \"\\u0061\": 1")).as_bytes()));
        assert!(!check(with(&format!("{twin}{more}, {twin}")).as_bytes()));
    }
}
