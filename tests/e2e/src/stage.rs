//! A relay, the database below it, and somebody who writes there.

use pgrelay_test_support::{Relay, RelayBuilder, Session, TestDatabase, Vsn, WsClient, token};
use serde_json::{Value, json};

use crate::Subscriber;

/// A running relay on a database of its own. The relay ends first, then its database.
#[derive(Debug)]
pub struct Stage {
    /// A writer.
    pub sql: Session,
    /// The relay.
    pub relay: Relay,
    /// The database.
    pub database: TestDatabase,
}

impl Stage {
    /// The table whose rows mark the end of what a subscriber waits for.
    pub(crate) const MARK: &str = "mark";

    /// A relay with the settings of [`Relay::builder`].
    pub async fn open() -> Self {
        Self::open_with(|relay| relay).await
    }

    /// A relay with settings of the test's own.
    pub async fn open_with(settings: impl FnOnce(RelayBuilder) -> RelayBuilder) -> Self {
        let database = TestDatabase::create().await;
        let relay = settings(Relay::builder(database.url())).start().await;
        let sql = database.connect().await;
        let stage = Self {
            sql,
            relay,
            database,
        };
        let mark = format!(
            "create table {} (id bigint generated always as identity primary key)",
            Self::MARK
        );
        stage.publish(&mark, &[Self::MARK]).await;
        stage
    }

    /// Runs `ddl`, then publishes `tables` and lets every API role read them.
    pub async fn publish(&self, ddl: &str, tables: &[&str]) {
        self.sql.run(ddl).await;
        for table in tables {
            let quoted = table.replace('\'', "''");
            self.sql
                .run(&format!(
                    "do $$ begin execute format('grant usage on schema %s to anon, authenticated, service_role',
                       (select relnamespace::regnamespace from pg_class where oid = '{quoted}'::regclass)); end $$;
                     grant select on {table} to anon, authenticated, service_role;
                     select pgrelay.enable('{quoted}')"
                ))
                .await;
        }
    }

    /// A socket of role `anon`.
    pub async fn connect(&self, vsn: Vsn) -> WsClient {
        WsClient::connect(self.relay.address(), vsn, &self.relay.anon_key()).await
    }

    /// A socket of role `anon` that has joined `topic`, whatever becomes of the entries.
    pub async fn joined(&self, topic: &str, entries: &Value) -> WsClient {
        let mut client = self.connect(Vsn::V2).await;
        client
            .join(topic, json!({"postgres_changes": entries}))
            .await;
        client
    }

    /// A subscriber of role `anon`, once these `postgres_changes` entries are live.
    pub async fn subscribe(&self, entries: Value) -> Subscriber {
        self.subscribe_as("anon", entries).await
    }

    /// The same with another role in its token.
    pub async fn subscribe_as(&self, role: &str, entries: Value) -> Subscriber {
        let key = token(&json!({"role": role}));
        let client = WsClient::connect(self.relay.address(), Vsn::V2, &key).await;
        Subscriber::join(client, entries).await
    }
}
