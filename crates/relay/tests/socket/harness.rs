//! A relay of one shard over fake ports, and clients on real sockets.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{FutureExt as _, SinkExt as _, StreamExt as _, future::BoxFuture};
use pgrelay_protocol::{BindingSpec, FilterOp, NamePattern, Position, TokenError, Topic, Vsn};
use pgrelay_relay::{
    Config, Metrics, NewSocket, Ports, Relay, build,
    change::{Page, Relation},
    filter::{FilterTest, ResolvedBinding, Scalar, Test},
    ports::{
        Authorizer, BindingError, ChangeLog, ChannelError, ChannelRights, Claims, EvaluateError,
        Feed as _, FeedEvent, MessageLog, Replay, ReplayError, SessionPlace, SessionStore,
        SessionUnavailable, StoredMessage, TokenVerifier,
    },
    testing,
    view::{Glance, Rights, Sight, Viewer},
};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{Role, WebSocketConfig},
    },
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Grants everything, knows one table, has one page per batch.
pub(crate) struct Database {
    pub(crate) pages: Vec<Arc<Page>>,
}

impl ChangeLog for Database {
    fn read(
        &self,
        after: Position,
        _bytes_max: usize,
    ) -> BoxFuture<'static, Result<Replay, ReplayError>> {
        let pages: Vec<_> = self
            .pages
            .iter()
            .filter(|page| page.end > after)
            .cloned()
            .collect();
        let reached = pages.last().map_or(after, |page| page.end);
        std::future::ready(Ok(Replay { pages, reached })).boxed()
    }
}

impl Authorizer for Database {
    fn resolve(
        &self,
        spec: Arc<BindingSpec>,
        _claims: Arc<Claims>,
    ) -> BoxFuture<'static, Result<ResolvedBinding, BindingError>> {
        let known = spec.table == NamePattern::Exact("messages".into());
        let test = |filter: &pgrelay_protocol::Filter| FilterTest {
            column: filter.column.clone(),
            negate: filter.negate,
            test: match filter.op {
                FilterOp::Eq => Test::OneOf(Arc::new([Scalar::Int(filter.value.parse().unwrap())])),
                op => Test::Database {
                    op,
                    value: filter.value.clone(),
                },
            },
        };
        let error = BindingError {
            message: "no such table".to_owned(),
            retryable: false,
        };
        let tests = spec.filters.iter().map(test).collect();
        let resolved = ResolvedBinding {
            relation: Some(1),
            tests,
            rights: None,
        };
        std::future::ready(if known { Ok(resolved) } else { Err(error) }).boxed()
    }

    fn evaluate(
        &self,
        _page: Arc<Page>,
        changes: Vec<u32>,
        _tests: Arc<[FilterTest]>,
    ) -> BoxFuture<'static, Result<Vec<bool>, EvaluateError>> {
        std::future::ready(Ok(vec![true; changes.len()])).boxed()
    }

    fn look(
        &self,
        _: Arc<[Glance]>,
        viewers: Vec<Viewer>,
    ) -> BoxFuture<'static, Result<Vec<Result<Sight, EvaluateError>>, EvaluateError>> {
        let sight = Sight {
            rights: vec![(1, Arc::new(Rights::all()))],
            rows: Vec::new(),
        };
        std::future::ready(Ok(vec![Ok(sight); viewers.len()])).boxed()
    }

    fn channel(
        &self,
        _: Topic,
        _: Arc<Claims>,
    ) -> BoxFuture<'static, Result<ChannelRights, ChannelError>> {
        std::future::ready(Ok(ChannelRights::default())).boxed()
    }
}

impl SessionStore for Database {
    fn load(&self, _: Uuid) -> BoxFuture<'static, Result<Vec<SessionPlace>, SessionUnavailable>> {
        std::future::ready(Ok(Vec::new())).boxed()
    }

    fn save(&self, _: Uuid, _: SessionPlace) {}

    fn forget(&self, _: Uuid, _: &Topic) {}
}

impl MessageLog for Database {
    fn replay(
        &self,
        _: Topic,
        _: i64,
        _: u8,
    ) -> BoxFuture<'static, Result<Vec<StoredMessage>, ReplayError>> {
        std::future::ready(Ok(Vec::new())).boxed()
    }
}

struct Tokens;

impl TokenVerifier for Tokens {
    fn verify(&self, token: &str, _now: u64) -> Result<Arc<Claims>, TokenError> {
        Ok(claims_of(token))
    }
}

pub(crate) fn claims() -> Arc<Claims> {
    claims_of("anon")
}

/// Claims of the size that tokens in the field have.
fn claims_of(subject: &str) -> Arc<Claims> {
    let padding = "x".repeat(400);
    Arc::new(Claims {
        role: "authenticated".into(),
        subject: Some(subject.into()),
        expires_at: Some(u64::MAX),
        json: format!(r#"{{"sub":"{subject}","padding":"{padding}"}}"#).into(),
    })
}

pub(crate) fn config() -> Config {
    Config {
        queue_bytes_max: 64 * 1024,
        join_error_delay: Duration::ZERO,
        frame_bytes_max: 5_000_000,
        channels_per_client_max: 10,
        bindings_per_channel_max: 10,
        replay_bytes_max: 1 << 16,
        ..testing::config()
    }
}

pub(crate) struct World {
    pub(crate) relay: Relay,
    pub(crate) metrics: Arc<Metrics>,
    relation: Arc<Relation>,
    listener: TcpListener,
}

impl World {
    /// Runs `script` beside the shard; both have to end.
    pub(crate) async fn run<F: Future<Output = ()>>(
        config: Config,
        script: impl FnOnce(Self) -> F,
    ) {
        Self::run_with(config, Database { pages: Vec::new() }, script).await;
    }

    pub(crate) async fn run_with<F: Future<Output = ()>>(
        config: Config,
        database: Database,
        script: impl FnOnce(Self) -> F,
    ) {
        let database = Arc::new(database);
        let ports = Ports {
            log: Arc::<Database>::clone(&database),
            messages: Arc::<Database>::clone(&database),
            sessions: Arc::<Database>::clone(&database),
            authorizer: database,
            tokens: Arc::new(Tokens),
        };
        let metrics = Arc::new(Metrics::default());
        let (relay, shards) = build(config, &ports, &metrics);
        let relation = Arc::new(testing::table(
            1,
            "messages",
            "id:int8:pk room:int8 body:text",
        ));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let world = Self {
            relay,
            metrics,
            relation,
            listener,
        };
        world
            .relay
            .publish(FeedEvent::Head(testing::position(1, i64::MAX)))
            .await
            .unwrap();
        let stop = CancellationToken::new();
        let running = shards.into_iter().map(|shard| shard.run(stop.clone()));
        let running = futures::future::join_all(running);
        let script = async {
            script(world).await;
            stop.cancel();
        };
        tokio::time::timeout(Duration::from_secs(60), async {
            tokio::join!(running, script)
        })
        .await
        .expect("the script comes to its end");
    }

    pub(crate) async fn connect(&self) -> Client {
        self.connect_with(Bytes::new()).await
    }

    /// Connects a client whose first bytes came with its upgrade.
    pub(crate) async fn connect_with(&self, early: Bytes) -> Client {
        let address = self.listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), self.listener.accept());
        let socket = accepted.unwrap().0.into_std().unwrap();
        let (vsn, token) = (Vsn::V2, "token".into());
        self.relay
            .accept(NewSocket {
                socket,
                early,
                vsn,
                token,
                claims: claims(),
                session: None,
            })
            .unwrap();
        let small = WebSocketConfig::default()
            .read_buffer_size(1_024)
            .write_buffer_size(0);
        let socket = WebSocketStream::from_raw_socket(client.unwrap(), Role::Client, Some(small));
        Client {
            socket: socket.await,
        }
    }

    /// Batch `batch`: an insert for each room, with a body of `bytes`.
    pub(crate) fn page(&self, batch: u64, rooms: &[i64], bytes: usize) -> Arc<Page> {
        let body = "x".repeat(bytes);
        let change = |(seq, room): (i64, &i64)| {
            testing::change(
                seq,
                &self.relation,
                &format!(r#"I {{"id":{batch},"room":{room},"body":"{body}"}}"#),
            )
        };
        testing::page(batch, (1..).zip(rooms).map(change).collect())
    }

    pub(crate) async fn insert(&self, batch: u64, rooms: &[i64], bytes: usize) {
        self.relay
            .publish(FeedEvent::Page(self.page(batch, rooms, bytes)))
            .await
            .unwrap();
    }

    pub(crate) fn metric(&self, line: &str) -> bool {
        let mut registry = prometheus_client::registry::Registry::default();
        self.metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text.lines().any(|other| other == line)
    }
}

pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<TcpStream>,
}

impl Client {
    pub(crate) async fn send(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    /// The socket alone, without the buffers of a client.
    pub(crate) fn into_bare(self) -> std::net::TcpStream {
        self.socket.into_inner().into_std().unwrap()
    }

    /// The next message that is no ping or pong.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        self.socket.next().await.and_then(Result::ok)
    }

    pub(crate) async fn json(&mut self) -> Value {
        match self.next().await {
            Some(Message::Text(text)) => serde_json::from_str(&text).unwrap(),
            other => unreachable!("{other:?}"),
        }
    }

    /// Joins a channel for one room and waits until it is live; its starting cursor.
    pub(crate) async fn join(&mut self, room: i64, since: Option<&str>) -> Option<String> {
        let mut entry = json!({"event": "INSERT", "schema": "public", "table": "messages", "filter": format!("room=eq.{room}")});
        if let Some(since) = since {
            entry["since"] = since.into();
        }
        let payload = json!({
            "config": {"postgres_changes": [entry]},
            "access_token": format!("user {room}"),
        });
        let join = json!([
            "1",
            "1",
            format!("realtime:room{room}"),
            "phx_join",
            payload
        ]);
        self.send(Message::text(join.to_string())).await;
        assert_eq!(self.json().await[3], "phx_reply");
        let system = self.json().await;
        assert_eq!(system[4]["message"], "Subscribed to PostgreSQL", "{system}");
        system[4]["cursor"].as_str().map(ToOwned::to_owned)
    }

    /// The close code the relay ends with, whatever comes before it.
    pub(crate) async fn close_code(&mut self) -> u16 {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Close(frame))) => {
                    return frame.map_or(1005, |frame| frame.code.into());
                }
                Some(Ok(_)) => {}
                other => unreachable!("{other:?} before the close frame"),
            }
        }
    }
}
