//! `myriapod resolve`.

use serde_json::{Value, json};

use crate::support::{myriapod, seen};

#[test]
fn is_a_numeric_address_taken_as_it_is() {
    let output = myriapod(&["resolve", "::1", "65432"]);
    let (stdout, stderr, status) = seen(&output);
    let mut lines = stdout.lines();
    assert_eq!(lines.next(), Some("1 AF_INET6 [::1]:65432 loopback: this machine only"));
    assert!(lines.next().is_some_and(|line| line.starts_with("nobody had to be asked: ")));
    assert_eq!((lines.next(), stderr, status), (None, "", 0));
}

#[test]
fn is_every_address_of_a_name_listed_in_the_librarys_order() {
    let expected = myriapod::sys::resolve("localhost", 80).unwrap();
    let output = myriapod(&["resolve", "localhost", "80", "--json"]);
    let (stdout, _, status) = seen(&output);
    let lines: Vec<Value> =
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let addresses: Vec<_> = lines.iter().map(|line| line["address"].clone()).collect();
    let expected: Vec<_> = expected.iter().map(|address| json!(address.to_string())).collect();
    assert_eq!((addresses, status), (expected, 0));

    let output = myriapod(&["resolve", "localhost", "80"]);
    let last = seen(&output).0.lines().last();
    assert!(last.is_some_and(|line| line.starts_with("asking for the name took ")), "{last:?}");
}

#[test]
fn does_a_name_without_an_address_say_so() {
    let output = myriapod(&["resolve", "no such name"]);
    let (stdout, stderr, status) = seen(&output);
    assert!(stderr.starts_with("myriapod: getaddrinfo no such name: EAI_"), "{stderr}");
    assert_eq!((stdout, status, stderr.lines().count()), ("", 1, 1));
}
