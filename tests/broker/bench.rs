//! The program that measures: what it says is counted, and its parts are real.

use serde_json::Value;

use crate::support::{Done, bare, tool};

/// A debug build is far too slow for the floor, and so the run is void; its counts are true all the same.
#[tokio::test]
async fn a_measurement_counts_what_was_asked_answered_and_followed() {
    let server = tool("NATS_SERVER_BIN", "nats-server").expect("a nats-server: scripts/tools.py test");
    let mut args =
        vec!["--json", "--only", "closed,breakers,open,results,tracing,accounts,pushed", "--rounds", "1"];
    args.extend(["--for", "400ms", "--tenants", "20", "--nats-server", server.to_str().unwrap()]);
    // A debug build on a busy machine: a request that waits long is late, and not lost.
    args.extend(["--", "--max-queue-ms", "60000"]);
    let done = bench(&args).await;
    let told: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done:?}"));
    assert_eq!(
        (told["rounds"].as_u64(), told["optimized"].as_bool()),
        (Some(1), Some(!cfg!(debug_assertions)))
    );
    let void = told["void"].as_str().unwrap_or_default();
    if cfg!(debug_assertions) {
        assert!(done.code == 1 && void.starts_with("the floor is "), "{done:?}");
    }

    let measurements = told["measurements"].as_array().unwrap();
    let targets = |group: &str| {
        let of_group = measurements.iter().filter(|m| m["group"] == group);
        of_group
            .map(|m| format!("{}: {}", m["load"].as_str().unwrap(), m["target"].as_str().unwrap()))
            .collect::<Vec<_>>()
    };
    assert_eq!(targets("closed").len(), 16);
    assert_eq!(
        targets("closed")[..4],
        ["1 in flight: floor", "1 in flight: router", "1 in flight: raw echo", "1 in flight: floor again"]
    );
    assert_eq!(targets("open").len(), 8);
    assert_eq!(targets("results"), ["512 in flight: usageoff", "512 in flight: usageon"]);
    assert_eq!(targets("tracing").len(), 4);
    assert_eq!(targets("accounts").len(), 8);
    assert_eq!(targets("pushed").len(), 4);
    assert_eq!(targets("accounts")[7], "512 in flight: through accounts, results");
    for m in measurements {
        let count = |name: &str| m[name].as_u64().unwrap();
        assert!(count("sent") > 0 && count("sent") == count("answered") && count("bad") == 0, "{m:#}");
        let figure = |name: &str| m["figures"][name]["median"].as_f64().unwrap();
        assert!(figure("per_second") > 0.0 && figure("resident_mb") > 1.0, "{m:#}");
        assert!(figure("responder_cpu_us") > 0.0 && figure("broker_cpu_us") > 0.0, "{m:#}");
        assert!(figure("p50_us") > 0.0 && figure("p50_us") <= figure("p999_us"), "{m:#}");
        if m["results"].is_object() {
            // One result for each decision, each in the log, and each metered where it is to be.
            let flown = |name: &str| m["results"][name].as_u64().unwrap();
            assert!(
                flown("published") == count("answered") && flown("in_log") == flown("published"),
                "{m:#}"
            );
            let metered = if m["target"] == "usageon" { flown("published") } else { 0 };
            assert_eq!(flown("usage_events"), metered, "{m:#}");
        }
    }
    assert!(told["trace_bytes"].as_u64().unwrap() > 1_000, "spans of every decision were exported");
    let bars = told["bars"].as_array().unwrap();
    assert!(bars.len() >= 13 && bars.iter().all(|bar| bar["met"].is_boolean()), "{bars:#?}");
}

/// In blocks of a second, which are as long as a tally interval.
#[tokio::test]
async fn a_rollout_is_measured_beside_the_same_load_without_one() {
    let server = tool("NATS_SERVER_BIN", "nats-server").expect("a nats-server: scripts/tools.py test");
    let mut args = vec!["--json", "--only", "rollout", "--rounds", "1", "--for", "100ms", "--tenants", "20"];
    args.extend(["--nats-server", server.to_str().unwrap(), "--", "--max-queue-ms", "60000"]);
    let done = bench(&args).await;
    let told: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done:?}"));
    assert_eq!(told["void"], Value::Null, "{done:?}");
    let measurements = told["measurements"].as_array().unwrap();
    let targets: Vec<_> =
        measurements.iter().map(|m| (m["load"].as_str().unwrap(), m["target"].as_str().unwrap())).collect();
    let (few, many) = ("64 in flight", "512 in flight");
    assert_eq!(targets, [(few, "rollout"), (few, "without"), (many, "rollout"), (many, "without")]);
    let rollout = &told["rollout"];
    assert_eq!((rollout["tenants"].as_u64(), rollout["per_second"].as_u64()), (Some(20), Some(40)));
    let loads = rollout["loads"].as_array().unwrap();
    assert_eq!(loads.len(), 2);
    for load in loads {
        for who in ["without", "rollout"] {
            let count = |name: &str| load[who][name].as_u64().unwrap();
            assert!(count("sent") >= 190 && count("results") == count("sent"), "{load:#}");
            assert_eq!(count("answered"), count("sent"), "{load:#}");
        }
        assert_eq!(load["without"]["tallies"]["messages"], 0, "{load:#}");
        assert!(load["rollout"]["tallies"]["messages"].as_u64() > Some(2), "{load:#}");
        let blocks = &load["blocks"];
        assert!(blocks["windows"].as_u64() >= Some(2), "{load:#}");
        assert_eq!((&blocks["rows"]["median"], &blocks["messages"]["median"]), (&20.0.into(), &1.0.into()));
        // All are in the sample, and each has a result.
        let rate = |name: &str| blocks[name].as_f64().unwrap();
        assert!((20.0..60.0).contains(&rate("asked_per_second")), "{load:#}");
        assert!((20.0..60.0).contains(&rate("units_per_second")), "{load:#}");
        let longer = |name: &str| blocks["longer"][name]["bytes"].as_f64().unwrap();
        let short = blocks["bytes"]["median"].as_f64().unwrap();
        assert!(short < longer("5m") && longer("5m") <= longer("1h"), "{load:#}");
    }
    // What fails is said by the exit code.
    let bars = told["bars"].as_array().unwrap();
    assert_eq!(bars.len(), 4, "{bars:#?}");
    let met = bars.iter().all(|bar| bar["met"] == true);
    assert_eq!(done.code, i32::from(!met), "{done:?}");
}

#[tokio::test]
async fn what_cannot_be_measured_is_refused_at_once() {
    for arguments in [
        vec!["--rounds", "0"],
        vec!["--for", "1ms"],
        vec!["--only", "nonsense"],
        vec!["--quick", "--rounds", "3"],
    ] {
        assert_eq!(bench(&arguments).await.code, 2, "{arguments:?}");
    }
    let done = bench(&["--nats-server", "/nonexistent/nats-server"]).await;
    assert!(done.code == 2 && done.stderr.contains("cannot start /nonexistent/nats-server"), "{done:?}");
}

async fn bench(args: &[&str]) -> Done {
    let folder = tempfile::tempdir().unwrap();
    bare(&[&["bench"], args].concat(), &[], folder.path()).await
}
