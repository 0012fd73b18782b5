//! Clients: they connect, join, remember, and come back whenever their socket ends.

use std::net::SocketAddr;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use pgrelay_test_support::token;
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, interval, sleep, timeout};
use tokio_postgres::{NoTls, SimpleQueryMessage};
use tokio_tungstenite::tungstenite::{Message, protocol::CloseFrame};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::book::Version;
use crate::memory::Memory;
use crate::table::TABLES;
use crate::violation::Kind;
use crate::world::{World, unix};

/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(25);
/// A relay that does not answer a heartbeat for so long is given up.
const SILENCE: Duration = Duration::from_secs(2);
const TOPIC: &str = "realtime:room";

/// How a client behaves.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Manner {
    /// Takes little at a time, straight from this relay, and nothing while the world is stalled.
    pub(crate) slow: Option<SocketAddr>,
    /// Its tokens live so many seconds, and are refreshed or not.
    pub(crate) token_seconds: Option<u64>,
}

pub(crate) struct Client<'a> {
    pub(crate) world: &'a World,
    pub(crate) place: usize,
    pub(crate) manner: Manner,
}

/// How a connection ended.
enum End {
    /// At once on to the next.
    Again,
    /// After a while: it was refused.
    Later,
}

type Socket = WebSocketStream<TcpStream>;

impl Client<'_> {
    /// Until it is dropped.
    pub(crate) async fn run(self) {
        loop {
            let end = self.connection().await;
            self.memory(|memory| memory.is_live = false);
            sleep(match end {
                Some(End::Again) => PAUSE,
                Some(End::Later) | None => PAUSE * 4,
            })
            .await;
        }
    }

    fn memory<T>(&self, look: impl FnOnce(&mut Memory) -> T) -> T {
        look(&mut self.world.memories[self.place].borrow_mut())
    }

    async fn connect(&self) -> Option<TcpStream> {
        let Some(relay) = self.manner.slow else {
            return TcpStream::connect(self.world.front).await.ok();
        };
        let socket = TcpSocket::new_v4().ok()?;
        socket.set_recv_buffer_size(4 * 1024).ok()?;
        socket.connect(relay).await.ok()
    }

    /// One connection, from its start to its end; `None` where there was none.
    async fn connection(&self) -> Option<End> {
        let stream = timeout(SILENCE, self.connect()).await.ok()??;
        let key = self.token();
        let url = format!("ws://relay/realtime/v1/websocket?apikey={key}&vsn=2.0.0");
        let opening = timeout(SILENCE, client_async(url, stream)).await;
        let (mut socket, _) = opening.ok()?.ok()?;
        self.memory(|memory| memory.connections += 1);
        let join = self.memory(|memory| {
            json!(["1", "1", TOPIC, "phx_join", {"config": memory.join()}]).to_string()
        });
        socket.send(Message::text(join)).await.ok()?;
        Some(self.listen(&mut socket).await)
    }

    async fn listen(&self, socket: &mut Socket) -> End {
        let mut beat = interval(Duration::from_millis(500));
        let mut heard = Instant::now();
        loop {
            while self.manner.slow.is_some() && self.world.is_stalled.get() {
                sleep(PAUSE).await;
                heard = Instant::now();
            }
            tokio::select! {
                message = socket.next() => {
                    heard = Instant::now();
                    match message {
                        Some(Ok(Message::Text(text))) => {
                            let frame = serde_json::from_str(&text);
                            let Ok(frame) = frame else {
                                self.memory(|it| it.notice(Kind::Altered, format!("no JSON: {text:.300}")));
                                return End::Later;
                            };
                            if let Some(end) = self.take(&frame) {
                                return end;
                            }
                            self.fetch_if_told().await;
                        }
                        Some(Ok(Message::Close(frame))) => self.closed(frame.as_ref()),
                        Some(Ok(_)) => {}
                        Some(Err(_)) | None => return End::Again,
                    }
                }
                now = beat.tick() => {
                    if now.duration_since(heard) > SILENCE {
                        return End::Again;
                    }
                    let beat = json!([null, "b", "phoenix", "heartbeat", {}]);
                    for frame in [Some(beat), self.refresh()].into_iter().flatten() {
                        let sending = socket.send(Message::text(frame.to_string()));
                        if !matches!(timeout(SILENCE, sending).await, Ok(Ok(()))) {
                            return End::Again;
                        }
                    }
                }
            }
        }
    }

    /// Takes in a frame; whether the connection is of no more use.
    fn take(&self, frame: &Value) -> Option<End> {
        let payload = &frame[4];
        match frame[3].as_str()? {
            "postgres_changes" => self.memory(|memory| memory.change(payload)),
            "phx_reply" if payload["status"] != "ok" => return Some(End::Later),
            // Its token ran out: it comes back with another one.
            "phx_close" | "phx_error" => return Some(End::Again),
            "system" => return self.system(payload),
            _ => {}
        }
        None
    }

    fn system(&self, payload: &Value) -> Option<End> {
        let now = self.world.tick();
        match payload["message"].as_str()? {
            "Subscribed to PostgreSQL" => self.memory(|memory| {
                memory.newest(payload);
                memory.is_live = true;
                memory.was_live = true;
                if !memory.resumes {
                    memory.owed_from = now;
                }
            }),
            "must_refetch" => self.memory(|memory| memory.refetch(payload)),
            "checkpoint" => self.memory(|memory| memory.newest(payload)),
            // A database that is away is asked again, a token that ran out is followed by the end.
            text if text.contains("database timeouts") || text.contains("expired") => {}
            // A table that is being changed, and all else.
            _ => return Some(End::Later),
        }
        None
    }

    fn closed(&self, frame: Option<&CloseFrame>) {
        let code: u16 = frame.map_or(0, |frame| frame.code.into());
        if code == 1013 {
            self.memory(|memory| memory.overflows += 1);
        }
    }

    /// Fetches what it cannot hear any more, as every client has to.
    async fn fetch_if_told(&self) {
        while self.memory(|memory| memory.must_fetch.is_some()) {
            if let Some(rows) = fetch(self.world).await {
                let now = self.world.tick();
                self.memory(|memory| memory.fetched(rows.into_iter(), now));
            } else {
                sleep(PAUSE).await;
            }
        }
    }

    /// A new token shortly before the old one runs out. Every second client forgets to.
    fn refresh(&self) -> Option<Value> {
        let expires_at = self.memory(|memory| memory.expires_at)?;
        let is_due = self.place % 4 < 2 && expires_at <= unix().as_secs() + 1;
        is_due.then(|| {
            let token = self.token();
            json!(["1", "t", TOPIC, "access_token", {"access_token": token}])
        })
    }

    fn token(&self) -> String {
        let Some(seconds) = self.manner.token_seconds else {
            return token(&json!({"role": "anon"}));
        };
        // Clocks of issuers differ: `iat` is a day ahead or behind.
        let now = unix().as_secs();
        let issued = if self.place.is_multiple_of(2) {
            now + 86_400
        } else {
            now - 86_400
        };
        let expires_at = now + seconds;
        self.memory(|memory| memory.expires_at = Some(expires_at));
        token(&json!({"role": "anon", "exp": expires_at, "iat": issued}))
    }
}

/// All rows of all tables, if the database answers.
pub(crate) async fn fetch(world: &World) -> Option<Vec<Version>> {
    let selects: Vec<String> = TABLES
        .iter()
        .enumerate()
        .map(|(place, table)| format!("select {place}, id, life, v from {}", table.sql))
        .collect();
    let sql = selects.join(" union all ");
    let url = world.database.to_string();
    let work = async {
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.ok()?;
        tokio::select! {
            rows = client.simple_query(&sql) => rows.ok(),
            _ = connection => None,
        }
    };
    let messages = timeout(SILENCE, work).await.ok()??;
    let version = |message| match message {
        SimpleQueryMessage::Row(row) => {
            let number = |place: usize| row.get(place)?.parse::<i64>().ok();
            Some(Version {
                table: number(0)?.try_into().ok()?,
                id: number(1)?,
                life: number(2)?,
                v: number(3)?,
            })
        }
        _ => None,
    };
    Some(messages.into_iter().filter_map(version).collect())
}
