//! `pgrelay tail`: a terminal client of the wire protocol.
//!
//! Prints one line per event to `out`, and what happens to the connection to `notes`. Reconnects by
//! itself and goes on from the last cursor it saw; holds one message at a time and nothing else.

mod connection;
mod frame;

use std::{io::Write, time::Duration};

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

pub use connection::ConnectError;

use crate::{
    auth::{MintError, mint},
    cli::TailFlags,
    clock::unix_now,
    config,
    secret::Secret,
};
use connection::Connection;
use frame::Incoming;

/// Time between two heartbeats; one that is not answered before the next is a dead connection.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(25);
/// Longest time from connecting to the answer of the join: the server delays refusals.
const JOIN_TIMEOUT: Duration = Duration::from_secs(15);
/// Waits before the first, second, ... try to reconnect; the last one repeats.
const RECONNECT_DELAYS: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];
/// Lifetime of a token that is made for one connection.
const TOKEN_LIFETIME_SECONDS: u64 = 86_400;
/// The topic of the channel when a table is followed.
const TABLE_TOPIC: &str = "pgrelay-tail";

/// Why following ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TailError {
    /// There is neither a key nor a secret to make one from.
    #[error("no key: give --key, or set PGRELAY_KEY, or PGRELAY_JWT_SECRET to make one from")]
    NoKey,
    /// A key could not be made.
    #[error(transparent)]
    Mint(#[from] MintError),
    /// The relay will never let this client in.
    #[error(transparent)]
    Connect(ConnectError),
    /// The channel was refused.
    #[error("the relay refused the channel: {0}")]
    Refused(String),
    /// The output is gone.
    #[error("print an event")]
    Output(#[source] std::io::Error),
}

/// What to follow.
#[derive(Debug, Clone)]
pub struct Follow {
    topic: String,
    /// The `postgres_changes` entry, if a table is followed.
    entry: Option<Map<String, Value>>,
    since: Option<String>,
    events_left: Option<u64>,
}

impl From<&TailFlags> for Follow {
    fn from(flags: &TailFlags) -> Self {
        let entry = flags.table.as_ref().map(|name| {
            let (schema, table) = name.split_once('.').unwrap_or(("public", name));
            let (schema, table) = if name == "*" {
                ("*", "*")
            } else {
                (schema, table)
            };
            let mut entry = Map::new();
            for (key, value) in [
                ("event", &*flags.event),
                ("schema", schema),
                ("table", table),
            ] {
                entry.insert(key.to_owned(), value.into());
            }
            if let Some(filter) = &flags.filter {
                entry.insert("filter".to_owned(), filter.as_str().into());
            }
            entry
        });
        Self {
            topic: flags
                .topic
                .clone()
                .unwrap_or_else(|| TABLE_TOPIC.to_owned()),
            entry,
            since: flags.since.clone(),
            events_left: flags.count,
        }
    }
}

impl Follow {
    /// The payload of the join. A table is followed from the last cursor, or from now with cursors.
    fn join(&self) -> Value {
        let entries: Vec<_> = self
            .entry
            .iter()
            .map(|entry| {
                let mut entry = entry.clone();
                let since = self.since.as_deref().unwrap_or("now");
                entry.insert("since".to_owned(), since.into());
                entry
            })
            .collect();
        json!({ "config": {
            "broadcast": { "ack": false, "self": true },
            "presence": { "enabled": false },
            "postgres_changes": entries,
            "private": false,
        }})
    }
}

/// How one connection ended, where the next may do better.
enum Ended {
    /// All events that were asked for have come.
    Enough,
    /// It broke.
    Broken(String),
}

/// Follows until `follow` has had enough, or for ever.
///
/// # Errors
/// For what a reconnect cannot cure: a refused key, a refused channel, a closed output.
pub async fn run(
    settings: &config::Tail,
    mut follow: Follow,
    out: &mut (dyn Write + Send),
    notes: &mut (dyn Write + Send),
) -> Result<(), TailError> {
    let mut failures = 0;
    let mut live_once = false;
    loop {
        let connected = connection::open(&settings.url, &key(settings)?).await;
        let why = match connected {
            Ok(connection) => {
                let mut session = Session {
                    follow: &mut follow,
                    out,
                    notes,
                    joined: false,
                    live: false,
                };
                let ended = session.run(connection).await;
                if session.live {
                    (failures, live_once) = (0, true);
                }
                match ended {
                    Ok(Ended::Enough) => return Ok(()),
                    Ok(Ended::Broken(why)) => why,
                    Err(TailError::Refused(reason)) if live_once => reason,
                    Err(error) => return Err(error),
                }
            }
            Err(error) if error.is_final() && !live_once => {
                return Err(TailError::Connect(error));
            }
            Err(error) => crate::chain::Chain(&error).to_string(),
        };
        let delay = RECONNECT_DELAYS[usize::min(failures, RECONNECT_DELAYS.len() - 1)];
        failures += 1;
        note(
            notes,
            &format!(
                "disconnected ({why}); trying again in {} s",
                delay.as_secs()
            ),
        )?;
        sleep(delay).await;
    }
}

fn key(settings: &config::Tail) -> Result<Secret, TailError> {
    if let Some(key) = &settings.key {
        return Ok(key.clone());
    }
    let secret = settings.secret.as_ref().ok_or(TailError::NoKey)?;
    let mut claims = Map::new();
    claims.insert("role".to_owned(), "service_role".into());
    claims.insert(
        "exp".to_owned(),
        (unix_now() + TOKEN_LIFETIME_SECONDS).into(),
    );
    Ok(Secret::new(mint(secret, &claims)?))
}

fn note(notes: &mut (dyn Write + Send), text: &str) -> Result<(), TailError> {
    writeln!(notes, "pgrelay tail: {text}").map_err(TailError::Output)
}

/// One connection's life.
struct Session<'a> {
    follow: &'a mut Follow,
    out: &'a mut (dyn Write + Send),
    notes: &'a mut (dyn Write + Send),
    joined: bool,
    /// Events can come: from here on, trouble may pass by itself.
    live: bool,
}

impl Session<'_> {
    async fn run(&mut self, mut connection: Connection) -> Result<Ended, TailError> {
        let topic = format!("realtime:{}", self.follow.topic);
        let join = json!(["1", "1", topic, "phx_join", self.follow.join()]).to_string();
        if let Err(error) = connection.send(Message::text(join)).await {
            return Ok(Ended::Broken(error.to_string()));
        }
        let deadline = Instant::now() + JOIN_TIMEOUT;
        let mut heartbeat =
            tokio::time::interval_at(Instant::now() + HEARTBEAT_INTERVAL, HEARTBEAT_INTERVAL);
        let mut heartbeat_unanswered = false;
        loop {
            let patience = if self.joined {
                HEARTBEAT_INTERVAL * 2
            } else {
                deadline - Instant::now()
            };
            let message = tokio::select! {
                message = timeout(patience, connection.next()) => message,
                _ = heartbeat.tick() => {
                    if std::mem::replace(&mut heartbeat_unanswered, true) {
                        return Ok(Ended::Broken("no answer to a heartbeat".to_owned()));
                    }
                    let beat = r#"[null,"0","phoenix","heartbeat",{}]"#;
                    if let Err(error) = connection.send(Message::text(beat)).await {
                        return Ok(Ended::Broken(error.to_string()));
                    }
                    continue;
                }
            };
            let text = match message {
                Err(_elapsed) => return Ok(Ended::Broken("no answer to the join".to_owned())),
                Ok(None) => return Ok(Ended::Broken("the connection ended".to_owned())),
                Ok(Some(Err(error))) => return Ok(Ended::Broken(error.to_string())),
                Ok(Some(Ok(Message::Close(frame)))) => return Ok(Ended::Broken(close_text(frame))),
                Ok(Some(Ok(Message::Text(text)))) => text,
                Ok(Some(Ok(_))) => continue,
            };
            match Incoming::read(&text) {
                Some(Incoming::Heartbeat) => heartbeat_unanswered = false,
                Some(incoming) => {
                    if let Some(ended) = self.take(incoming)? {
                        return Ok(ended);
                    }
                }
                None => {}
            }
        }
    }

    /// Acts on one message; `Some` ends the connection.
    fn take(&mut self, incoming: Incoming) -> Result<Option<Ended>, TailError> {
        match incoming {
            Incoming::Heartbeat => {}
            Incoming::Joined => {
                self.joined = true;
                if self.follow.entry.is_none() {
                    self.live = true;
                    note(self.notes, "connected")?;
                }
            }
            Incoming::Refused(reason) => return Err(TailError::Refused(reason)),
            Incoming::Closed => {
                return Ok(Some(Ended::Broken("the channel was closed".to_owned())));
            }
            Incoming::System {
                message,
                failed,
                cursor,
            } => {
                if failed && cursor.is_none() && !self.live {
                    return Err(TailError::Refused(message));
                }
                self.live |= !failed;
                self.keep(cursor);
                note(self.notes, &message)?;
            }
            Incoming::Checkpoint { cursor } => self.keep(Some(cursor)),
            Incoming::Event { line, cursor } => {
                writeln!(self.out, "{line}")
                    .and_then(|()| self.out.flush())
                    .map_err(TailError::Output)?;
                self.keep(cursor);
                if let Some(left) = &mut self.follow.events_left {
                    *left = left.saturating_sub(1);
                    if *left == 0 {
                        return Ok(Some(Ended::Enough));
                    }
                }
            }
        }
        Ok(None)
    }

    fn keep(&mut self, cursor: Option<String>) {
        if let Some(cursor) = cursor {
            self.follow.since = Some(cursor);
        }
    }
}

fn close_text(frame: Option<tokio_tungstenite::tungstenite::protocol::CloseFrame>) -> String {
    match frame {
        Some(frame) => format!("closed with code {}", u16::from(frame.code)),
        None => "closed".to_owned(),
    }
}

#[cfg(test)]
mod tests;
