//! Do the two programs of the netstat experiment show what `ss` shows?

use std::process::Command;

use crate::programs::{Running, example, patiently};

const HEADING: &str = "Proto Recv-Q Send-Q  Local Address          Foreign Address        (state)";

/// The columns of a row: Recv-Q, Send-Q, local address, foreign address.
fn columns(row: &str) -> Vec<String> {
    row.split_whitespace().skip(1).take(4).map(str::to_owned).collect()
}

/// What `ss` shows of the connections of one port, in the same columns.
fn ss(port: u16) -> Option<Vec<Vec<String>>> {
    let filter = format!("( sport = :{port} or dport = :{port} )");
    let output = Command::new("ss").args(["-tnH", &filter]).output().ok()?;
    let rows = String::from_utf8(output.stdout).unwrap();
    Some(rows.lines().map(columns).collect())
}

#[test]
#[cfg(target_os = "linux")]
fn are_the_queues_that_both_sides_print_those_that_ss_shows() {
    let mut command = example("backpressure_server");
    command.args(["127.0.0.1", "0"]);
    let mut server = Running::start(command);
    let listening = server.line();
    let port = listening.strip_prefix("listening on ('127.0.0.1', ").unwrap();
    let port: u16 = port.strip_suffix(')').unwrap().parse().unwrap();

    let mut command = example("backpressure_client");
    command.args(["127.0.0.1", &port.to_string(), "binary", "test"]);
    let mut client = Running::start(command);
    assert_eq!(client.line(), format!("starting connection to ('127.0.0.1', {port})"));
    let error = format!("error: socket.send() blocking io exception for ('127.0.0.1', {port}):");
    assert_eq!(client.line(), error);
    assert_eq!(client.line(), "BlockingIOError(11, 'Resource temporarily unavailable')");
    let stopped = client.line();
    let total = stopped.strip_prefix("send: EAGAIN after ").unwrap();
    let total: usize = total.strip_suffix(" bytes").unwrap().parse().unwrap();
    assert!(total > 0);
    assert_eq!((client.line().as_str(), server.line().as_str()), (HEADING, HEADING));

    let mut sides = [(client, Vec::new()), (server, Vec::new())];
    if ss(port).is_none() {
        println!("skipped: there is no ss to compare with");
        return;
    }
    // The kernel goes on moving bytes for a while. Then the last row of each side is what ss says.
    patiently("the same figures from ss", || {
        for (program, row) in &mut sides {
            while let Some(line) = program.line_if_any() {
                *row = columns(&line);
            }
        }
        let shown = ss(port).unwrap_or_default();
        // Somebody else may have the same port at another address; both are in a row.
        sides.iter().all(|(_, row)| shown.contains(row)).then_some(())
    });
    let [(client, ours), (server, theirs)] = sides;
    let number = |text: &String| text.parse::<usize>().unwrap();
    assert!(number(&ours[1]) > 0, "nothing waits to be sent: {ours:?}");
    assert!(number(&theirs[0]) > 0, "nothing waits to be received: {theirs:?}");

    // The side that is left alone says why it ends.
    assert_eq!(server.end(), "");
    let (_, status, errors) = client.finish();
    assert_eq!(status, Some(1));
    let says = format!("send 127.0.0.1:{port}: ECONNRESET (Connection reset by peer); ");
    assert!(errors.starts_with(&says), "{errors}");
}
