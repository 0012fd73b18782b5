//! A client that comes back: it keeps the newest cursor it was given, connects again whenever its socket ends, and writes
//! down every change it is told.

use std::net::SocketAddr;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use pgrelay_test_support::{DEADLINE, token};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(20);

/// Where the relay is; it moves when another one takes over.
pub(crate) type Place = watch::Sender<SocketAddr>;

/// One client with one channel on one table.
pub(crate) struct Resumer {
    place: watch::Receiver<SocketAddr>,
    table: &'static str,
    /// The newest cursor.
    pub(crate) since: String,
    /// The `id` of every row it was told of, in order.
    pub(crate) rows: Vec<u64>,
    /// The cursor that came with each of them.
    pub(crate) cursors: Vec<String>,
    /// The reason of every `must_refetch`.
    pub(crate) refetches: Vec<String>,
    /// How often it was live.
    pub(crate) lives: usize,
    /// How often it was told that the database does not answer.
    pub(crate) delays: usize,
}

impl Resumer {
    /// A client of the relay at `place` that begins now.
    pub(crate) fn new(place: &Place, table: &'static str) -> Self {
        Self {
            place: place.subscribe(),
            table,
            since: "now".into(),
            rows: Vec::new(),
            cursors: Vec::new(),
            refetches: Vec::new(),
            lives: 0,
            delays: 0,
        }
    }

    /// One that has been live once: what is written from here on is meant for it.
    pub(crate) async fn begin(place: &Place, table: &'static str) -> Self {
        let mut resumer = Self::new(place, table);
        resumer.until(|resumer| resumer.lives > 0).await;
        resumer
    }

    /// Goes on until `done`. The socket it used is gone then.
    pub(crate) async fn until(&mut self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            if !self.connection(&done).await {
                sleep(PAUSE).await;
            }
        }
    }

    /// One connection, until it ends or until `done`; whether there was any.
    async fn connection(&mut self, done: &impl Fn(&Self) -> bool) -> bool {
        let key = token(&json!({"role": "anon"}));
        let address = *self.place.borrow_and_update();
        let url = format!("ws://{address}/realtime/v1/websocket?apikey={key}&vsn=2.0.0");
        let Ok(Ok((mut socket, _))) = timeout(DEADLINE, connect_async(&url)).await else {
            return false;
        };
        let entry =
            json!({"event": "*", "schema": "public", "table": self.table, "since": self.since});
        let join =
            json!(["1", "1", "realtime:r", "phx_join", {"config": {"postgres_changes": [entry]}}]);
        if socket.send(Message::text(join.to_string())).await.is_err() {
            return false;
        }
        while !done(self) {
            let message = timeout(DEADLINE, socket.next())
                .await
                .unwrap_or_else(|_| panic!("silence after {} rows", self.rows.len()));
            match message {
                Some(Ok(Message::Text(text))) => self.take(&serde_json::from_str(&text).unwrap()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return true,
            }
        }
        true
    }

    fn take(&mut self, frame: &Value) {
        let payload = &frame[4];
        let cursor = payload["cursor"].as_str().map(String::from);
        match frame[3].as_str() {
            Some("postgres_changes") => {
                let row = &payload["data"]["record"]["id"];
                self.rows.push(row.as_u64().unwrap());
                self.cursors.push(cursor.clone().unwrap());
            }
            Some("system") => match payload["message"].as_str() {
                Some("must_refetch") => {
                    let reason = payload["reason"].as_str().unwrap();
                    self.refetches.push(reason.into());
                }
                Some("Subscribed to PostgreSQL") => self.lives += 1,
                Some("checkpoint") => {}
                // A database that is away; it is asked again.
                Some("{:error, \"Too many database timeouts\"}") => self.delays += 1,
                _ => panic!("{frame}"),
            },
            Some("phx_reply") => assert_eq!(payload["status"], "ok", "{frame}"),
            _ => panic!("{frame}"),
        }
        if let Some(cursor) = cursor {
            self.since = cursor;
        }
    }

    /// It was told of the rows 1 to `last`, of each once and in this order, and never that it may have missed one.
    pub(crate) fn has_everything(&self, last: u64) {
        let (lost, twice) = (self.lost(last), self.twice());
        assert!(
            lost.is_empty() && twice.is_empty(),
            "of {last} rows {} were lost and {} came twice; lost {lost:?}, twice {twice:?}",
            lost.len(),
            twice.len()
        );
        assert!(self.rows.is_sorted(), "out of order");
        assert_eq!(self.refetches, [""; 0]);
    }

    fn lost(&self, last: u64) -> Vec<u64> {
        (1..=last).filter(|row| !self.rows.contains(row)).collect()
    }

    fn twice(&self) -> Vec<u64> {
        let mut sorted = self.rows.clone();
        sorted.sort_unstable();
        let pairs = sorted.windows(2).filter(|pair| pair[0] == pair[1]);
        pairs.map(|pair| pair[0]).collect()
    }
}
