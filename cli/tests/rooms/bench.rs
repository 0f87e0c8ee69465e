//! `myriapod bench --service rooms`.

use serde_json::Value;

use crate::broker::{Broker, Kind};
use crate::support::{Serving, myriapod};

/// Runs it with `--json -`; its status and its report.
fn bench(ports: &str, args: &[&str]) -> (Option<i32>, Value) {
    let run = ["bench", "127.0.0.1", "--ports", ports, "--service", "rooms", "--json", "-"];
    let output = myriapod().args(run).args(args).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text} {error}"));
    (output.status.code(), report)
}

#[test]
fn does_bench_check_every_delivery_over_several_servers() {
    let Some(broker) = Broker::start(Kind::Nats, &[]) else { return };
    let nodes =
        [(); 2].map(|()| Serving::on_loopback(&["--service", "rooms", "--broker", &broker.url()]));
    let ports = format!("{},{}", nodes[0].port(), nodes[1].port());
    let load = ["--rooms", "3", "--members", "4", "--rate", "50", "-d", "500ms"];
    let (status, report) = bench(&ports, &load);
    assert_eq!(status, Some(0), "{report}");
    let said = report["said"].as_u64().unwrap();
    assert!(said > 0);
    assert_eq!(report["expected"], said * 4);
    assert_eq!(report["delivered"], said * 4);
    for name in ["refused", "lost", "duplicated", "disordered", "dropped", "closed"] {
        assert_eq!(report[name], 0, "{name}");
    }
    assert!(report["latency_ns"]["p50"].as_u64().unwrap() > 0);
}

#[test]
fn are_messages_that_a_server_refuses_counted_by_bench() {
    let serving = Serving::on_loopback(&[
        "--service",
        "rooms",
        "--request-rate",
        "1",
        "--request-burst",
        "5",
    ]);
    let port = serving.port().to_string();
    let load = ["--rooms", "1", "--members", "2", "--rate", "100", "-d", "300ms"];
    let (status, report) = bench(&port, &load);
    assert_eq!((status, &report["lost"]), (Some(1), &0.into()), "{report}");
    assert!(report["refused"].as_u64().unwrap() > 0, "{report}");
    // Without a server there is nobody to ask.
    let alone = myriapod().args(["bench", "--service", "rooms"]).output().unwrap();
    assert_eq!(alone.status.code(), Some(2));
}
