//! The booking chat in front of a database of its own: the real router and a real PostgreSQL, without sockets; and, as
//! [`LiveChat`], inside the real binary.

mod document;
mod live;
mod person;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request};
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use pgrelay_chat::schema::{SchemaName, migrate};
use pgrelay_chat::{Chat, Config, SendRate, router};
use pgrelay_test_support::{DatabaseUrl, Session, TestDatabase, within};
use serde_json::Value;
use tokio_postgres::NoTls;
use tower::ServiceExt as _;

use crate::files_of_the_schema;

pub use document::Document;
pub use live::{LiveChat, request};
pub use person::Person;

const ROLES: &str = include_str!("../../../sql/realtime/0001_roles.sql");

/// Largest body that [`ChatServer`] reads.
pub const BODY_BYTES_MAX: usize = 65_536;

/// The chat on a fresh database.
#[derive(Debug)]
pub struct ChatServer {
    routes: Router,
    database: TestDatabase,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// The body; null where there is none.
    pub json: Value,
}

impl ChatServer {
    /// Migrated, with a rate that no test reaches by accident.
    pub async fn start() -> Self {
        Self::start_on(TestDatabase::create().await, 10_000).await
    }

    /// On a database that is there, with so many messages per 10 s.
    pub async fn start_on(database: TestDatabase, messages_max: u16) -> Self {
        install(&database).await;
        let recycling_method = RecyclingMethod::Fast;
        let config = database.url().to_string().parse().unwrap();
        let manager = Manager::from_config(config, NoTls, ManagerConfig { recycling_method });
        let pool = Pool::builder(manager)
            .max_size(64)
            .runtime(Runtime::Tokio1)
            .build()
            .unwrap();
        let config = Config {
            statement_timeout: Duration::from_secs(60),
            lock_timeout: Duration::from_secs(60),
            answer_timeout: Duration::from_secs(60),
            body_bytes_max: BODY_BYTES_MAX,
            body_timeout: Duration::from_secs(60),
            send_rate: SendRate {
                messages_max,
                period: Duration::from_secs(10),
            },
        };
        let chat = Chat::new(pool, Arc::new(person::Tokens), config);
        Self {
            routes: router(chat),
            database,
        }
    }

    /// The database behind it.
    pub fn database(&self) -> &TestDatabase {
        &self.database
    }

    /// Opens a booking of `client` as a plain SQL client does; its id.
    pub async fn open_booking(&self, code: &str, client: &Person) -> String {
        let session = self.database.connect().await;
        open_booking(&session, code, client).await
    }

    /// A request with a JSON body, or without one.
    pub async fn ask(&self, who: &Person, method: &str, path: &str, body: Option<Value>) -> Answer {
        let body = body.map(|body| body.to_string());
        self.ask_with(who, method, path, &[], body.unwrap_or_default())
            .await
    }

    /// `GET path`.
    pub async fn get(&self, who: &Person, path: &str) -> Answer {
        self.ask(who, "GET", path, None).await
    }

    /// `POST path` with a JSON body.
    pub async fn post(&self, who: &Person, path: &str, body: Value) -> Answer {
        self.ask(who, "POST", path, Some(body)).await
    }

    /// Any request.
    pub async fn ask_with(
        &self,
        who: &Person,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json");
        if let Some(token) = who.token() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.into()).unwrap();
        let what = format!("{method} {path}");
        let response = within(&what, self.routes.clone().oneshot(request))
            .await
            .unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        let json = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes)
                .unwrap_or_else(|error| panic!("{what}: {error} in {bytes:?}"))
        };
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            json,
        }
    }
}

impl Answer {
    /// The answer's body, which must have come with this status.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.json);
        self.json
    }
}

/// What the chat builds on: the change log, and the roles that tokens name.
pub async fn install_base(session: &Session) {
    for file in files_of_the_schema() {
        session.run(&file).await;
    }
    session.run(ROLES).await;
}

/// Installs the chat, and before it what it builds on where that is missing; in schema public.
pub async fn install(database: &TestDatabase) {
    let session = database.connect().await;
    if session
        .value("select to_regnamespace('pgrelay')")
        .await
        .is_empty()
    {
        install_base(&session).await;
    }
    install_in(database.url(), &SchemaName::default())
        .await
        .unwrap();
}

/// Installs the chat alone; the files that were applied.
pub async fn install_in(
    url: &DatabaseUrl,
    schema: &SchemaName,
) -> Result<Vec<&'static str>, pgrelay_chat::Error> {
    let (mut client, connection) = tokio_postgres::connect(&url.to_string(), NoTls)
        .await
        .unwrap();
    // The connection ends with the client.
    let (_, outcome) = futures::join!(connection, async move {
        let outcome = migrate(&mut client, schema).await;
        drop(client);
        outcome
    });
    outcome
}

/// Opens a booking of `client` as a plain SQL client does; its id.
pub async fn open_booking(session: &Session, code: &str, client: &Person) -> String {
    let sql = format!(
        "insert into public.bookings (code, client_id) values ('{code}', '{}') returning id",
        client.id()
    );
    session.value(&sql).await
}
