//! The page of `--live`: is it there, does it move, and can nobody do anything with it but look?

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::{Serving, myriapod, search};

/// A server, and where its page is.
fn with_page(args: &[&str]) -> (Serving, String) {
    let serving = Serving::on_loopback(&[args, &["--live", "0"]].concat());
    let line = serving.wait_for("live at http://");
    let address = line.strip_prefix("live at http://").unwrap().trim_end_matches('/').to_owned();
    (serving, address)
}

/// A request, and the answer as far as it has come.
fn ask(address: &str, request: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    BufReader::new(stream)
}

fn whole(address: &str, request: &str) -> String {
    let mut answer = String::new();
    ask(address, request).read_to_string(&mut answer).unwrap();
    answer
}

/// A stream of events; its answer has begun.
fn events(address: &str) -> BufReader<TcpStream> {
    let mut stream = ask(address, "GET /events HTTP/1.1\r\n\r\n");
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    assert_eq!(line, "HTTP/1.1 200 OK\r\n");
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).unwrap();
    }
    stream
}

/// The next event: its name and what it says.
fn next(stream: &mut BufReader<TcpStream>) -> (String, Value) {
    let mut lines = [String::new(), String::new(), String::new()];
    for line in &mut lines {
        assert!(stream.read_line(line).unwrap() > 0, "the stream has ended");
    }
    assert_eq!(lines[2], "\n");
    let name = lines[0].trim_end().strip_prefix("event: ").unwrap().to_owned();
    let data = lines[1].trim_end().strip_prefix("data: ").unwrap();
    (name, serde_json::from_str(data).unwrap())
}

#[test]
fn do_viewers_see_what_the_server_does_until_it_ends() {
    let (serving, address) = with_page(&["--threads", "2"]);
    let mut viewer = events(&address);
    let (name, board) = next(&mut viewer);
    assert_eq!(name, "board");
    let charts = board["head"]["charts"].as_array().unwrap();
    assert_eq!(charts[0]["title"], "Connections");
    let mut client = serving.connect();
    client.ask(&search("ring"));
    // Sooner or later a second has it.
    let point = loop {
        let (name, point) = next(&mut viewer);
        assert_eq!(name, "point");
        assert_eq!(point["values"].as_array().unwrap().len(), charts.len());
        if point["values"][0][0] == 1.0 {
            break point;
        }
    };
    assert!(point["at_s"].as_f64().unwrap() > 0.0);
    // Who comes later is told what was before.
    let mut later = events(&address);
    let (_, board) = next(&mut later);
    assert!(!board["points"].as_array().unwrap().is_empty(), "{board}");
    drop(client);
    loop {
        let (_, point) = next(&mut viewer);
        let counts = point["counts"].as_array().unwrap();
        if counts.iter().any(|count| count[0] == "closed: peer" && count[1] == 1) {
            break;
        }
    }
    let ended = serving.stop();
    assert_eq!((ended.status, ended.count("accepted")), (Some(0), 1), "viewers are not counted");
    let last = std::iter::from_fn(|| Some(next(&mut viewer))).find(|(name, _)| name == "ended");
    assert_eq!(last.unwrap().1, "the server has ended");
}

#[test]
fn is_the_page_only_to_look_at_and_for_a_bounded_number() {
    let (serving, address) = with_page(&[]);
    let page = whole(&address, "GET / HTTP/1.1\r\n\r\n");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n"));
    assert!(page.contains("default-src 'none'") && page.contains("connect-src 'self'"));
    for method in ["POST", "PUT", "DELETE"] {
        let answer = whole(&address, &format!("{method} /events HTTP/1.1\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    }
    assert!(whole(&address, "GET /other HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
    let viewers: Vec<_> = (0..16).map(|_| events(&address)).collect();
    let answer = whole(&address, "GET /events HTTP/1.1\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    // The page is still there, and so is room once somebody leaves.
    assert!(whole(&address, "HEAD / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 OK\r\n"));
    drop(viewers);
    let again = || whole_status(&address);
    while again() != "HTTP/1.1 200 OK\r\n" {}
    assert_eq!(serving.stop().status, Some(0));
}

/// The status of a stream of events.
fn whole_status(address: &str) -> String {
    let mut line = String::new();
    ask(address, "GET /events HTTP/1.1\r\n\r\n").read_line(&mut line).unwrap();
    line
}

#[test]
fn is_a_load_shown_and_counted_while_it_runs() {
    let mut command = myriapod();
    command.args(["bench", "-c", "3", "-d", "1h", "--live", "0", "--metrics", "127.0.0.1:0"]);
    let mut bench = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(bench.stderr.take().unwrap()).lines();
    let mut place = |what: &str| {
        let line = said.find(|line| line.as_ref().unwrap().starts_with(what)).unwrap().unwrap();
        line.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned()
    };
    let (live, metrics) = (place("live at"), place("metrics at"));
    let mut viewer = events(&live);
    let (_, board) = next(&mut viewer);
    assert!(board["head"]["title"].as_str().unwrap().starts_with("bench -c 3"), "{board}");
    loop {
        let (_, point) = next(&mut viewer);
        if point["values"][0][0] == 3.0 && point["values"][1][0].as_f64() > Some(0.0) {
            break;
        }
    }
    let answer = whole(&metrics, "GET /metrics HTTP/1.1\r\n\r\n");
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("application/openmetrics-text; version=1.0.0; charset=utf-8"), "{head}");
    assert!(text.ends_with("# EOF\n"), "{text}");
    let ok = text.lines().find_map(|line| line.strip_prefix("myriapod_bench_messages_ok_total "));
    assert!(ok.unwrap().parse::<u64>().unwrap() > 0, "{text}");
    assert!(text.contains("myriapod_bench_connections_open 3\n"), "{text}");
    let pid = nix::unistd::Pid::from_raw(bench.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let last = std::iter::from_fn(|| Some(next(&mut viewer))).find(|(name, _)| name == "ended");
    assert!(last.unwrap().1.as_str().unwrap().starts_with("interrupted: "));
    // What it says to the end is read, or it would wait for that.
    said.for_each(drop);
    assert_eq!(bench.wait().unwrap().code(), Some(130));
}

#[test]
fn does_a_browser_draw_what_the_stream_tells() {
    let found = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| {
        let mut command = Command::new(name);
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    });
    let Some(browser) = found else {
        println!("SKIPPED: chromium is not installed, so the page is not shown to a browser");
        return;
    };
    let (serving, address) = with_page(&[]);
    let mut client = serving.connect();
    client.ask(&search("ring"));
    // Two seconds make a line.
    let mut viewer = events(&address);
    for _ in 0..3 {
        next(&mut viewer);
    }
    let profile = std::env::temp_dir().join(format!("myriapod-live-{}", std::process::id()));
    let shown = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--dump-dom"])
        .args(["--disable-dev-shm-usage", "--disable-background-networking"])
        .args(["--enable-logging=stderr", "--window-size=412,900", "--timeout=3000"])
        .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("http://{address}/"))
        .output()
        .unwrap();
    let _ = std::fs::remove_dir_all(&profile);
    let page = String::from_utf8_lossy(&shown.stdout);
    let said = String::from_utf8_lossy(&shown.stderr);
    assert_eq!(page.matches("<figure class=\"card chart\"").count(), 6, "{page}\n{said}");
    assert!(page.matches("<path class=\"line a\" d=\"M").count() >= 5, "{page}");
    assert!(page.contains("id=\"tile0\">1</dd>"), "{page}");
    assert!(!said.contains("CONSOLE"), "{said}");
    assert_eq!(serving.stop().status, Some(0));
}
