//! What the services answer.

use crate::support::{Serving, binary, json, message, search};

#[test]
fn does_search_answer_as_the_tutorials_server_does() {
    let serving = Serving::on_loopback(&[]);
    let mut client = serving.connect();
    for (value, result) in [
        ("morpheus", "Follow the white rabbit. 🐰"),
        ("ring", "In the caves beneath the Misty Mountains. 💍"),
        ("🐶", "🐾 Playing ball! 🏐"),
        ("Ring", "No match for 'Ring'."),
        ("", "No match for ''."),
        (r#"it's \"é\"\n"#, "No match for 'it's \"é\"\n'."),
        (r"r\u0069ng", "In the caves beneath the Misty Mountains. 💍"),
    ] {
        assert_eq!(client.ask(&search(value)).result(), result);
    }
    let answer = client.ask(&search("ring"));
    let order = if cfg!(target_endian = "big") { "big" } else { "little" };
    assert_eq!(
        answer.header,
        serde_json::json!({
            "byteorder": order, "content-type": "text/json",
            "content-encoding": "utf-8", "content-length": answer.content.len(),
        })
    );
    assert_eq!(
        answer.content,
        r#"{"result": "In the caves beneath the Misty Mountains. 💍"}"#.as_bytes()
    );
    drop(client);
    let ended = serving.stop();
    assert_eq!((ended.count("accepted"), ended.count("messages")), (1, 8));
}

#[test]
fn does_search_show_what_is_no_string_as_json() {
    let serving = Serving::on_loopback(&[]);
    let mut client = serving.connect();
    for (content, result) in [
        (r#"{"action": "search", "value": 7}"#, "No match for '7'."),
        (r#"{"action": "search", "value": -7}"#, "No match for '-7'."),
        (r#"{"action": "search", "value": 1.50}"#, "No match for '1.5'."),
        (r#"{"action": "search", "value": true}"#, "No match for 'true'."),
        (r#"{"action": "search", "value": null}"#, "No match for 'null'."),
        (r#"{"action": "search"}"#, "No match for 'null'."),
        (r#"{"action":"search","value":["a",1]}"#, r#"No match for '["a", 1]'."#),
        (r#"{"action":"search","value":{"é":{}}}"#, r#"No match for '{"é": {}}'."#),
        (r#"{"action": "find", "value": "ring"}"#, "Error: invalid action 'find'."),
        (r#"{"action": ["search"]}"#, r#"Error: invalid action '["search"]'."#),
        ("{}", "Error: invalid action 'null'."),
    ] {
        let answer = client.ask(&json(content));
        assert_eq!(answer.result(), result, "{content}");
        assert_eq!(answer.header.get("status"), None, "{content}");
    }
}

#[test]
fn does_the_last_of_two_equal_keys_count() {
    let serving = Serving::on_loopback(&[]);
    let content = r#"{"value": "ring", "action": 1, "x": [{}], "\u0061ction": "search", "value": "morpheus"}"#;
    assert_eq!(serving.connect().ask(&json(content)).result(), "Follow the white rabbit. 🐰");
}

#[test]
fn does_a_connection_survive_a_content_of_another_form() {
    let serving = Serving::on_loopback(&["-v"]);
    let mut client = serving.connect();
    for (request, kind) in [
        (json("[1]"), "ContentMismatch"),
        (json("\"search\""), "ContentMismatch"),
        (json("{\"action\": }"), "ContentNotJson"),
        (json("{\"skipped\": \"\\ud800\"}"), "ContentNotJson"),
        (json("{\"skipped\": 1e999}"), "ContentNotJson"),
        (json(""), "ContentNotJson"),
        (message("text/json", "utf-8", b"\"\xff\""), "ContentNotText"),
        (message("text/json", "klingon", b"{}"), "UnknownEncoding"),
    ] {
        let answer = client.ask(&request);
        assert_eq!(
            (&answer.header["status"], &answer.header["error"]),
            (&"error".into(), &kind.into())
        );
        assert!(answer.result().starts_with("Error: "));
    }
    assert_eq!(client.ask(&search("x")).result(), "No match for 'x'.");
    serving.wait_for("ContentMismatch");
}

#[test]
fn is_json_in_another_encoding_understood() {
    let serving = Serving::on_loopback(&[]);
    let text = r#"{"action": "search", "value": "🐶"}"#;
    let utf_16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut client = serving.connect();
    assert_eq!(
        client.ask(&message("text/json", "utf-16", &utf_16)).result(),
        "🐾 Playing ball! 🏐"
    );
    let latin_1 = b"{\"action\": \"search\", \"value\": \"\xe9\"}";
    assert_eq!(client.ask(&message("text/json", "latin-1", latin_1)).result(), "No match for 'é'.");
}

#[test]
fn are_ten_bytes_of_a_binary_request_told() {
    let serving = Serving::on_loopback(&[]);
    let mut client = serving.connect();
    for (request, told) in [
        (binary(b"binary\xf0\x9f\x98\x83"), &b"binary\xf0\x9f\x98\x83"[..]),
        (binary(b"0123456789abc"), b"0123456789"),
        (binary(b""), b""),
        (message("text/JSON", "utf-8", b"{}"), b"{}"),
    ] {
        let answer = client.ask(&request);
        assert_eq!(answer.header["content-type"], "binary/custom-server-binary-type");
        assert_eq!(answer.header["content-encoding"], "binary");
        assert_eq!(answer.content, [b"First 10 bytes of request: ", told].concat());
    }
}

#[test]
fn does_echo_send_a_message_back_under_its_own_header() {
    let serving = Serving::on_loopback(&["--service", "echo"]);
    let mut client = serving.connect();
    let header = r#"{"id": [1, {"a": null}], "content-length": 4, "byteorder": "big", "content-type": "image/é", "content-encoding": "binary", "\u0061": 1.50}"#;
    let mut request = u16::try_from(header.len()).unwrap().to_be_bytes().to_vec();
    request.extend_from_slice(header.as_bytes());
    request.extend_from_slice(b"\x00\xff\r\n");
    let answer = client.ask(&request);
    assert_eq!(answer.header, serde_json::from_str::<serde_json::Value>(header).unwrap());
    assert_eq!(answer.content, b"\x00\xff\r\n");
    // A content that is not what its header says is none of an echo's business.
    assert_eq!(client.ask(&json("nonsense")).content, b"nonsense");
}

#[test]
fn are_pipelined_requests_answered_in_order_on_every_backend() {
    for backend in ["epoll", "kqueue", "poll", "select", "portable"] {
        if (backend == "epoll") != cfg!(any(target_os = "linux", target_os = "android"))
            && matches!(backend, "epoll" | "kqueue")
        {
            println!("this system has no {backend}");
            continue;
        }
        let serving = Serving::on_loopback(&["--backend", backend, "--messages-per-event", "3"]);
        let mut client = serving.connect();
        let requests: Vec<u8> = (0..100).flat_map(|n| search(&n.to_string())).collect();
        for piece in requests.chunks(777) {
            client.send(piece);
        }
        for n in 0..100 {
            assert_eq!(client.receive().result(), format!("No match for '{n}'."), "{backend}");
        }
        drop(client);
        let ended = serving.stop();
        assert_eq!((ended.status, ended.count("messages")), (Some(0), 100), "{backend}");
    }
}

#[test]
fn does_one_shot_close_after_one_reply() {
    let serving = Serving::on_loopback(&["--one-shot"]);
    let mut client = serving.connect();
    client.send(&[search("ring"), search("morpheus")].concat());
    assert_eq!(client.receive().result(), "In the caves beneath the Misty Mountains. 💍");
    client.expect_end();
    assert_eq!(serving.connect().ask(&search("x")).result(), "No match for 'x'.");
}

#[test]
fn does_verbose_tell_of_connections_and_messages() {
    let serving = Serving::on_loopback(&["-v"]);
    let mut client = serving.connect();
    let peer = client.0.local_addr().unwrap().to_string();
    client.ask(&message("a\\nb", "binary", b"x"));
    drop(client);
    assert!(serving.wait_for("opened").ends_with(&peer));
    // What a peer sends stays on its line.
    assert!(serving.wait_for("message").ends_with("a\\nb"));
    assert!(serving.wait_for("closed").ends_with("peer"));

    let quiet = Serving::on_loopback(&[]);
    quiet.connect().ask(&search("ring"));
    let said = quiet.stop().stderr;
    assert_eq!(said.iter().filter(|line| line.contains("connection 0")).count(), 0, "{said:?}");
}
