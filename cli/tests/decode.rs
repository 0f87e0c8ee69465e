//! Does `myriapod decode` print what the bytes say, and nothing else?

#![expect(clippy::unwrap_used, reason = "tests fail by it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use myriapod::protocol::{ByteOrder, ExtraHeaders, Head, encode};
use serde_json::{Value, json};

fn decode(args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_myriapod"))
        .arg("decode")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs it to its end with `input` as standard input.
fn run(args: &[&str], input: &[u8]) -> Output {
    let mut child = decode(args);
    let mut stdin = child.stdin.take().unwrap();
    thread::scope(|scope| {
        // It may stop reading at a fault.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().unwrap()
    })
}

fn status(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

fn vectors(name: &str) -> Vec<Value> {
    let path = format!("{}/../tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    file["vectors"].as_array().unwrap().clone()
}

fn limit_args(vector: &Value) -> Vec<String> {
    let limits = vector.get("limits").and_then(Value::as_object).into_iter().flatten();
    limits.map(|(name, limit)| format!("--{}={limit}", name.replace('_', "-"))).collect()
}

/// The lines that a vector asks for: the error of a content stands behind its message, an error of
/// the framing at the end.
fn expected_lines(vector: &Value, messages: &str) -> Vec<Value> {
    let mut lines = vector[messages].as_array().unwrap().clone();
    if messages == "texts" {
        lines = lines.into_iter().map(|text| json!({ "text": text })).collect();
    }
    if let Some(error) = vector.get("error") {
        let of_content = ["ContentNotJson", "ContentNotText", "UnknownEncoding"];
        let behind = if of_content.iter().any(|kind| error["kind"] == *kind) {
            // All such vectors have their fault in the first message.
            assert_eq!(error["offset"], 0);
            1
        } else {
            lines.len()
        };
        lines.insert(behind, json!({ "error": error }));
    } else if vector["rest"] != 0 {
        lines.push(json!({ "rest": vector["rest"] }));
    }
    lines
}

fn check_vectors(file: &str, messages: &str, protocol: &str) {
    for vector in vectors(file) {
        let name = &vector["name"];
        let limits = limit_args(&vector);
        let mut args = vec!["--protocol", protocol];
        args.extend(limits.iter().map(String::as_str));
        let output = run(&args, &unhex(vector["wire"].as_str().unwrap()));
        let lines: Vec<Value> =
            stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines, expected_lines(&vector, messages), "{name}");
        assert_eq!(status(&output), i32::from(vector.get("error").is_some()), "{name}");
        // Some faults look like another framing.
        let stderr = String::from_utf8_lossy(&output.stderr);
        let advice = "myriapod: standard input: that looks like ";
        assert!(stderr.is_empty() || stderr.starts_with(advice), "{name}: {stderr}");
    }
}

#[test]
fn does_every_vector_decode_to_what_it_says() {
    check_vectors("messages.json", "messages", "json-header");
}

#[test]
fn does_every_padded_vector_decode_to_what_it_says() {
    check_vectors("padded.json", "texts", "padded");
}

/// A message that uses everything, and the line that it becomes.
fn everything() -> (Vec<u8>, String) {
    let mut extra = ExtraHeaders::new();
    extra.push("zeta", &[1.5, -0.0, 1e16]).unwrap();
    extra.push("alpha", "é\n").unwrap();
    let mut wire = Vec::new();
    let head = Head { byteorder: ByteOrder::Big, extra: &extra, ..Head::json() };
    let content = r#"{"z": "\ud83d\udc30", "a": [true, null, 18446744073709551615], "z": "🐰"}"#;
    encode(&mut wire, &head, content.as_bytes()).unwrap();
    let hex: String = content.bytes().map(|byte| format!("{byte:02x}")).collect();
    let line = format!(
        "{{\"header\": {{\"byteorder\": \"big\", \"content-type\": \"text/json\", \
         \"content-encoding\": \"utf-8\", \"content-length\": {}, \
         \"zeta\": [1.5, -0.0, 1e+16], \"alpha\": \"é\\n\"}}, \"content\": \"{hex}\", \
         \"json\": {{\"z\": \"🐰\", \"a\": [true, null, 18446744073709551615]}}}}\n",
        content.len(),
    );
    (wire, line)
}

#[test]
fn is_the_line_exactly_this() {
    let (mut wire, line) = everything();
    wire.extend_from_slice(b"\0");
    let output = run(&[], &wire);
    assert_eq!(stdout(&output), format!("{line}{{\"rest\": 1}}\n"));
    assert_eq!(status(&output), 0);
}

#[test]
fn is_a_number_of_any_length_shown_as_it_came() {
    let content = r#"{"n": 12345678901234567890123,"x":0.10}"#;
    let header = format!(
        r#"{{"byteorder":"little","content-type":"text/json","content-encoding":"utf-8","content-length":{},"id":98765432109876543210}}"#,
        content.len()
    );
    let len = u16::try_from(header.len()).unwrap().to_be_bytes();
    let output = run(&[], &[&len, header.as_bytes(), content.as_bytes()].concat());
    let shown = r#""json": {"n": 12345678901234567890123, "x": 0.10}}"#;
    assert!(stdout(&output).ends_with(&format!("{shown}\n")), "{output:?}");
    assert!(stdout(&output).contains(r#""id": 98765432109876543210}"#), "{output:?}");
    let output = run(&["--framing", "lines"], format!("{content}\n").as_bytes());
    assert!(stdout(&output).ends_with(&format!("{shown}\n")), "{output:?}");
}

#[test]
fn do_the_four_keys_come_first_whatever_the_sender_did() {
    let header = r#"{"b": 1, "content-length": 0, "a": 2, "content-type": "x", "byteorder": "big", "content-encoding": "binary"}"#;
    let wire = [&u16::try_from(header.len()).unwrap().to_be_bytes(), header.as_bytes()].concat();
    let expected = "{\"header\": {\"byteorder\": \"big\", \"content-type\": \"x\", \
        \"content-encoding\": \"binary\", \"content-length\": 0, \"b\": 1, \"a\": 2}, \
        \"content\": \"\"}\n";
    assert_eq!(stdout(&run(&[], &wire)), expected);
}

#[test]
fn is_an_error_line_exactly_this() {
    let (good, line) = everything();
    let header = r#"{"byteorder": "big"}"#;
    let bad = [&[0, 20], header.as_bytes(), b"more"].concat();
    let output = run(&[], &[good.clone(), bad].concat());
    let error =
        "{\"error\": {\"kind\": \"MissingHeader\", \"header\": \"content-type\", \"offset\":";
    assert_eq!(stdout(&output), format!("{line}{error} {}}}}}\n", good.len()));
    assert_eq!(status(&output), 1);
}

#[test]
fn does_nothing_from_an_empty_stream_print_nothing() {
    let output = run(&[], b"");
    assert_eq!((stdout(&output), status(&output)), ("", 0));
}

#[test]
fn is_a_message_printed_before_the_next_has_come() {
    let (wire, line) = everything();
    let mut child = decode(&[]);
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    for _ in 0..3 {
        for piece in wire.chunks(50) {
            stdin.write_all(piece).unwrap();
        }
        let mut printed = String::new();
        lines.read_line(&mut printed).unwrap();
        assert_eq!(printed, line);
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn is_a_file_read_that_is_larger_than_what_is_held() {
    let (wire, line) = everything();
    let path = std::env::temp_dir().join(format!("myriapod-decode-{}", std::process::id()));
    std::fs::write(&path, wire.repeat(2000)).unwrap();
    let output = run(&[path.to_str().unwrap()], b"");
    std::fs::remove_file(&path).unwrap();
    assert!(stdout(&output) == line.repeat(2000));
    assert_eq!(status(&output), 0);
}

#[test]
fn does_a_reader_that_leaves_end_it_quietly() {
    let (wire, line) = everything();
    let mut child = decode(&[]);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&wire).unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut printed = String::new();
    lines.read_line(&mut printed).unwrap();
    assert_eq!(printed, line);
    drop(lines);
    // It finds out when it prints the next line, and is gone for a later one.
    while stdin.write_all(&wire).is_ok() {}
    let mut complaint = String::new();
    child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
    assert_eq!(complaint, "");
    assert!(child.wait().unwrap().code().is_some(), "not killed by a signal, no panic");
}

#[test]
fn does_a_missing_file_name_call_and_path() {
    let output = run(&["/nonexistent/capture"], b"");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr, "myriapod: open /nonexistent/capture: ENOENT (No such file or directory)\n");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn is_wrong_usage_status_2() {
    for args in [
        &["--max-header-len=0"][..],
        &["--max-header-len=65536"],
        &["--max-content-len=5GiB"],
        &["--protocol=http"],
        &["one", "two"],
    ] {
        let output = run(args, b"");
        assert_eq!(status(&output), 2, "{args:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn are_all_lines_written_to_a_pipe_that_does_not_block() {
    let mut input = Vec::new();
    for _ in 0..3000 {
        encode(&mut input, &Head::binary("x"), &[7; 100]).unwrap();
    }
    let (reader, writer) = std::io::pipe().unwrap();
    myriapod::sys::set_nonblocking(&writer, true).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_myriapod"))
        .arg("decode")
        .stdin(Stdio::piped())
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let lines = thread::scope(|scope| {
        scope.spawn(move || drop(stdin.write_all(&input)));
        BufReader::new(reader).lines().map(Result::unwrap).count()
    });
    let output = child.wait_with_output().unwrap();
    assert_eq!((lines, status(&output)), (3000, 0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn is_a_message_without_a_header_shown_as_what_it_is() {
    for (spec, input, lines) in [
        (
            "length:2be",
            &b"\0\x02[]\0\x02hi\0\x01\xff\0"[..],
            &[
                r#"{"content": "5b5d", "json": []}"#,
                r#"{"content": "6869", "text": "hi"}"#,
                r#"{"content": "ff"}"#,
                r#"{"rest": 1}"#,
            ][..],
        ),
        (
            "lines",
            b"1\r\n{\"a\": 1}\nend",
            &[
                r#"{"content": "31", "text": "1"}"#,
                r#"{"content": "7b2261223a20317d", "json": {"a": 1}}"#,
                r#"{"content": "656e64", "text": "end"}"#,
            ],
        ),
        (
            "json",
            b"1 [}",
            &[
                r#"{"content": "31", "json": 1}"#,
                r#"{"content": "5b7d", "text": "[}"}"#,
                r#"{"error": {"kind": "ContentNotJson", "offset": 2}}"#,
            ],
        ),
        (
            "json-header:lenient",
            b"\0\x14{\"CONTENT-LENGTH\":2}[]",
            &[r#"{"header": {"CONTENT-LENGTH": 2}, "content": "5b5d", "json": []}"#],
        ),
    ] {
        let output = run(&["--framing", spec], input);
        assert_eq!(stdout(&output).lines().collect::<Vec<_>>(), lines, "{spec}");
    }
}

#[test]
fn is_what_a_peer_speaks_told_where_it_is_something_else() {
    let output = run(&[], b"{\"a\": 1}\n{}\n");
    let stderr = String::from_utf8(output.stderr).unwrap();
    let expected = "myriapod: standard input: that looks like --framing json (2 JSON values, the first of 8 bytes)\n";
    assert_eq!(stderr, expected);
    let output = run(&["--framing=tabs"], b"");
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(status(&output), 2);
    assert!(stderr.contains("no framing is called \"tabs\"; there are json-header,"), "{stderr}");
}

#[test]
fn does_identify_print_the_likely_framings() {
    let identify = |args: &[&str], input: &[u8]| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_myriapod"))
            .arg("identify")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    };
    let capture = b"\0\0\0\x08{\"a\": 1}\0\0\0\x0c";
    let output = identify(&[], capture);
    let reason = "00 00 00 08 is followed by 8 bytes of JSON, then by 00 00 00 0c …";
    assert_eq!(stdout(&output).lines().next(), Some(&*format!("length:4be: {reason}")));
    assert_eq!(status(&output), 0);
    let output = identify(&["--json", "-"], capture);
    let first: Value = serde_json::from_str(stdout(&output).lines().next().unwrap()).unwrap();
    assert_eq!(first, json!({ "framing": "length:4be", "reason": reason }));
    let output = identify(&[], b"\xff\xfe\xfd");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((stdout(&output), status(&output)), ("", 1));
    assert!(stderr.starts_with("myriapod: standard input: no framing fits the first bytes; "));
}
