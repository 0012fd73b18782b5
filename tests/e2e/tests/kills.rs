//! The relay, or its connections to PostgreSQL, end in the middle of a burst: clients that resume have every row once.
#![allow(
    clippy::unwrap_used,
    reason = "this is test code: it fails the test that uses it"
)]

use std::net::SocketAddr;

use futures::future::{join, join_all};
use pgrelay_e2e::Stage;
use pgrelay_test_support::{DatabaseUrl, Relay, RelayBuilder, Session, Vsn, WsClient};
use serde_json::{Value, json};

const WRITERS: u64 = 3;
const ROWS_EACH: u64 = 400;
const CLIENTS: usize = 4;
const TOPIC: &str = "realtime:burst";

/// What one client has seen: for each row its writer and its number there, and the position after it.
#[derive(Debug, Default)]
struct Seen {
    rows: Vec<(u64, u64)>,
    cursor: Option<String>,
}

impl Seen {
    fn take(&mut self, change: &Value) {
        let record = &change["data"]["record"];
        let number = |key: &str| record[key].as_u64().unwrap();
        self.rows.push((number("writer"), number("n")));
        self.cursor = Some(change["cursor"].as_str().unwrap().to_owned());
    }

    /// Connects where it was, and reads until it has `rows` in all.
    async fn follow(&mut self, address: SocketAddr, key: &str, rows: usize) {
        let mut client = self.joined(address, key).await;
        self.read(&mut client, rows).await;
    }

    async fn joined(&self, address: SocketAddr, key: &str) -> WsClient {
        let mut client = WsClient::connect(address, Vsn::V2, key).await;
        let since = self.cursor.clone().unwrap_or_else(|| "now".to_owned());
        let entry =
            json!([{"event": "INSERT", "schema": "public", "table": "burst", "since": since}]);
        client.join_changes(TOPIC, entry).await;
        client
    }

    async fn read(&mut self, client: &mut WsClient, rows: usize) {
        while self.rows.len() < rows {
            let change = client.expect_change(TOPIC).await;
            self.take(&change);
        }
    }

    /// Every row of `rounds` bursts, once, and those of each writer in its order.
    fn assert_complete(&self, rounds: u64) {
        for writer in 0..WRITERS {
            let numbers: Vec<u64> = self
                .rows
                .iter()
                .filter(|(of, _)| *of == writer)
                .map(|(_, n)| *n)
                .collect();
            let all: Vec<u64> = (0..rounds * ROWS_EACH).collect();
            assert_eq!(numbers, all, "rows of writer {writer}");
        }
    }
}

async fn burst(url: &DatabaseUrl, round: u64) {
    join_all((0..WRITERS).map(async |writer| {
        let session = Session::connect(url).await;
        for n in round * ROWS_EACH..(round + 1) * ROWS_EACH {
            session
                .run(&format!(
                    "insert into burst (writer, n) values ({writer}, {n})"
                ))
                .await;
        }
    }))
    .await;
}

fn settings(builder: RelayBuilder) -> RelayBuilder {
    builder
        .allow("lost the change log")
        .allow("could not be recycled")
        .allow("housekeeping failed")
        .allow("cannot")
}

const BURST: &str = "create table burst (id bigint generated always as identity primary key, writer int not null, n int not null)";

fn rows_after(rounds: u64) -> usize {
    usize::try_from(rounds * WRITERS * ROWS_EACH).unwrap()
}

#[tokio::test]
async fn a_relay_that_is_killed_in_a_burst_costs_its_clients_nothing() {
    const ROUNDS: u64 = 4;
    let stage = Stage::open().await;
    stage.publish(BURST, &["burst"]).await;
    let Stage {
        mut relay,
        database,
        ..
    } = stage;
    let key = relay.anon_key();
    let mut clients: Vec<Seen> = (0..CLIENTS).map(|_| Seen::default()).collect();
    for round in 0..ROUNDS {
        let mut sockets = join_all(
            clients
                .iter()
                .map(|seen| seen.joined(relay.address(), &key)),
        )
        .await;
        let part = rows_after(round) + rows_after(1) / 4;
        let interrupted = async {
            join_all(
                clients
                    .iter_mut()
                    .zip(&mut sockets)
                    .enumerate()
                    .map(|(index, (seen, socket))| seen.read(socket, part + 50 * index)),
            )
            .await;
            relay.kill().await;
            settings(Relay::builder(database.url())).start().await
        };
        ((), relay) = join(burst(database.url(), round), interrupted).await;
        drop(sockets);
        let address = relay.address();
        join_all(
            clients
                .iter_mut()
                .map(|seen| seen.follow(address, &key, rows_after(round + 1))),
        )
        .await;
    }
    for seen in &clients {
        seen.assert_complete(ROUNDS);
    }
}

/// Ends every session of the relay in this database.
async fn end_sessions(superuser: &Session) {
    superuser
        .run(
            "select pg_terminate_backend(pid) from pg_stat_activity
              where datname = current_database() and application_name like 'pgrelay%'",
        )
        .await;
}

#[tokio::test]
async fn connections_that_end_in_a_burst_cost_clients_nothing() {
    const ROUNDS: u64 = 4;
    let stage = Stage::open_with(settings).await;
    stage.publish(BURST, &["burst"]).await;
    let key = stage.relay.anon_key();
    let superuser = stage.database.connect_superuser().await;
    let mut clients: Vec<Seen> = (0..CLIENTS).map(|_| Seen::default()).collect();
    let mut sockets = join_all(
        clients
            .iter()
            .map(|seen| seen.joined(stage.relay.address(), &key)),
    )
    .await;
    for round in 0..ROUNDS {
        let cut = async {
            clients[0]
                .read(&mut sockets[0], rows_after(round) + rows_after(1) / 4)
                .await;
            end_sessions(&superuser).await;
        };
        join(burst(stage.database.url(), round), cut).await;
        join_all(
            clients
                .iter_mut()
                .zip(&mut sockets)
                .map(|(seen, socket)| seen.read(socket, rows_after(round + 1))),
        )
        .await;
    }
    for seen in &clients {
        seen.assert_complete(ROUNDS);
    }
    let reconnects = stage
        .relay
        .metric("pgrelay_capture_reconnects_total", "")
        .await;
    assert!(reconnects > 0.5, "the relay was never cut off");
}
