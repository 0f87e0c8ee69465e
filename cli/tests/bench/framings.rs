//! Is every reply checked in every framing, and any whole reply right where that is asked for?

use myriapod::protocol::FramingSpec;

use super::support::{LEN, bench, faulty, reply};

#[test]
fn is_an_echo_checked_in_every_framing() {
    for spec in FramingSpec::ALL {
        let args = ["--service", "echo", "--framing", spec, "-m", "100", "-c", "2", "-i", "3"];
        let ran = bench(&args);
        assert_eq!((ran.fates(), ran.status), ([100, 0, 0, 0, 0], 0), "{spec}: {ran:?}");
        assert_eq!(ran.json["settings"]["framing"], spec);
    }
}

#[test]
fn is_a_search_checked_where_a_framing_carries_it() {
    for spec in ["length:2le", "lines", "json", "padded", "json-header:lenient"] {
        let ran = bench(&["--framing", spec, "-m", "100", "-c", "2", "-i", "3"]);
        assert_eq!((ran.fates(), ran.status), ([100, 0, 0, 0, 0], 0), "{spec}: {ran:?}");
        let traced = ran.json["settings"]["verification"].as_str().unwrap();
        assert!(traced.starts_with("every reply's content is checked and traced"), "{traced}");
    }
}

/// Requests of [`LEN`] bytes, of which four are a length.
const ANY: [&str; 10] =
    ["--service", "any", "--framing", "length:4be", "--content", "60", "-m", "100", "-c", "2"];

#[test]
fn is_any_whole_reply_right_and_half_a_one_lost() {
    let port = faulty(|nth, _, stream| {
        let content = vec![b'x'; (nth % 7) as usize];
        let len = u32::try_from(content.len()).unwrap().to_be_bytes();
        reply(stream, &[&len, &content[..]].concat());
    });
    let ran = bench(&[&["127.0.0.1", &port.to_string()], &ANY[..]].concat());
    assert_eq!((ran.fates(), ran.status), ([100, 0, 0, 0, 0], 0), "{ran:?}");
    assert!(ran.json["settings"]["verification"].as_str().unwrap().contains("not checked"));

    let port = faulty(|nth, message, stream| {
        let half = if nth == 40 { &message[..LEN / 2] } else { &message[..] };
        reply(stream, half);
        if nth == 40 {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    });
    let ran = bench(&[&["127.0.0.1", &port.to_string()], &ANY[..]].concat());
    assert_eq!(ran.status, 1, "{ran:?}");
    assert_eq!(ran.fates()[1], 1, "{ran:?}");
}

#[test]
fn is_what_a_framing_cannot_carry_refused_before_the_load() {
    for (args, text) in [
        (&["--service", "raw", "--framing", "lines"][..], "has a framing of its own"),
        (&["--service", "echo", "--framing", "json", "--content", "8"], "has at least 34 bytes"),
        (&["--service", "echo", "--framing", "length:1", "--content", "300"], "cannot carry it"),
        (&["--service", "any", "--framing", "padded"], "nothing says where the reply"),
    ] {
        let ran = bench(&[args, &["-m", "1"]].concat());
        assert_eq!(ran.status, 2, "{args:?}");
        assert!(ran.stderr.contains(text), "{}", ran.stderr);
    }
}
