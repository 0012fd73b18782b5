//! `pgrelay tail`: what a terminal shows.

use pgrelay_e2e::Stage;
use pgrelay_test_support::{Relay, RelayBuilder, Vsn};
use serde_json::{Value, json};

/// The events among what was printed; notes begin with the name of the program.
fn events(printed: &str) -> Vec<Value> {
    printed
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

async fn stage() -> (Stage, RelayBuilder, String) {
    let stage = Stage::open().await;
    stage
        .publish("create table t (id int primary key, v text)", &["t"])
        .await;
    let mut client = stage.connect(Vsn::V2).await;
    let entry = json!([{"schema": "public", "table": "t", "since": "now"}]);
    client
        .join("realtime:r", json!({"postgres_changes": entry}))
        .await;
    let live = client
        .expect("to be live", |frame| frame.event == "system")
        .await;
    let cursor = live.payload["cursor"].as_str().unwrap().to_owned();
    let tail = Relay::builder(stage.database.url()).set("PGRELAY_URL", &stage.relay.url(""));
    (stage, tail, cursor)
}

#[tokio::test]
async fn it_prints_the_events_of_a_table_after_a_cursor() {
    let (stage, tail, cursor) = stage().await;
    stage
        .sql
        .run("insert into t values (1, 'a'), (2, 'b'), (3, 'a'); update t set v = 'c' where id = 3")
        .await;
    let ids = |printed: &str| -> Vec<u64> {
        events(printed)
            .iter()
            .map(|event| event["data"]["record"]["id"].as_u64().unwrap())
            .collect()
    };
    let cases: [(&[&str], &[u64]); 4] = [
        (&["--count", "4"], &[1, 2, 3, 3]),
        (&["--count", "2"], &[1, 2]),
        (&["--filter", "v=eq.a", "--count", "2"], &[1, 3]),
        (&["--event", "UPDATE", "--count", "1"], &[3]),
    ];
    for (arguments, expected) in cases {
        let mut line = vec!["tail", "--table", "public.t", "--since", &cursor];
        line.extend(arguments);
        let (status, printed) = tail.run(&line).await;
        assert!(status.success(), "{printed}");
        assert_eq!(ids(&printed), expected, "{arguments:?}: {printed}");
    }
    // From the middle, with a cursor it has printed itself.
    let line = ["tail", "--table", "t", "--since", &cursor, "--count", "1"];
    let (_, printed) = tail.run(&line).await;
    let first = events(&printed).remove(0);
    let since = first["cursor"].as_str().unwrap();
    let line = ["tail", "--table", "t", "--since", since, "--count", "1"];
    let (_, printed) = tail.run(&line).await;
    assert_eq!(ids(&printed), [2]);
}

#[tokio::test]
async fn what_cannot_be_followed_ends_it_with_the_reason() {
    let (stage, tail, _) = stage().await;
    let wrong_key = tail.clone().set("PGRELAY_KEY", "potato");
    let nowhere = tail.clone().unset("PGRELAY_JWT_SECRET");
    let cases: [(&RelayBuilder, &[&str], &str); 4] = [
        (
            &tail,
            &["tail", "--table", "public.nothing"],
            "Please check Realtime is enabled",
        ),
        (
            &tail,
            &["tail", "--table", "public.t", "--filter", "v=wrong"],
            "Error parsing `filter` params",
        ),
        (
            &wrong_key,
            &["tail", "--table", "public.t"],
            "The token provided is not a valid JWT",
        ),
        (&nowhere, &["tail", "--table", "public.t"], "PGRELAY_"),
    ];
    for (tail, arguments, reason) in cases {
        let (status, printed) = tail.run(arguments).await;
        assert!(!status.success(), "{arguments:?}: {printed}");
        assert!(printed.contains(reason), "{arguments:?}: {printed}");
    }
    drop(stage);
}
