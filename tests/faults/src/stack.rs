//! The processes of a run: servers, the relay, and the links between them and the world.

use std::time::Duration;

use pgrelay_test_support::{
    DatabaseUrl, PostgresServer, Relay, RelayBuilder, Session, TcpProxy, wait_for,
};
use tokio::time::timeout;

use crate::schedule::{Class, Schedule};
use crate::table;

pub(crate) struct Stack {
    servers: Vec<PostgresServer>,
    pub(crate) standby: Option<PostgresServer>,
    /// The database of the run.
    pub(crate) database: String,
    /// From writers to whatever server is in charge.
    pub(crate) entrance: TcpProxy,
    /// From the relay to it.
    pub(crate) link: TcpProxy,
    /// From clients to whatever relay is in charge.
    pub(crate) front: TcpProxy,
    relay: Option<Relay>,
    builder: RelayBuilder,
    /// What relays that are gone have logged.
    pub(crate) logs: Vec<Vec<String>>,
}

impl Stack {
    /// Everything up and running, tables included.
    pub(crate) async fn start(
        schedule: &Schedule,
        server: PostgresServer,
        fail_point: Option<&str>,
    ) -> Self {
        let database = format!("run_{}", schedule.seed);
        let main = server.connect().await;
        main.run(&format!("create database {database}")).await;
        let url = server.url().with_database(&database);
        let link = TcpProxy::start(url.address()).await;
        let mut builder = Relay::builder(&url.through(link.address()))
            .allow("")
            .set("PGRELAY_CHECKPOINT_INTERVAL", "500ms")
            .set("PGRELAY_START_TIMEOUT", "30s")
            .set("PGRELAY_JOIN_ERROR_DELAY", "100ms")
            .set("PGRELAY_CONNECT_ERROR_DELAY", "100ms");
        for (name, value) in &schedule.settings {
            builder = builder.set(name, value);
        }
        if let Some(name) = fail_point {
            builder = builder
                .program("pgrelay-broken")
                .set("PGRELAY_FAIL_POINT", name);
        }
        let relay = builder.clone().start().await;
        let mut stack = Self {
            standby: None,
            database,
            entrance: TcpProxy::start(url.address()).await,
            link,
            front: TcpProxy::start(relay.address()).await,
            servers: vec![server],
            relay: Some(relay),
            builder,
            logs: Vec::new(),
        };
        table::create(&stack.session().await).await;
        match schedule.class {
            Class::FailoverLosingTail => stack.add_standby(false).await,
            Class::FailoverSynchronous => stack.add_standby(true).await,
            _ => {}
        }
        stack
    }

    async fn add_standby(&mut self, synchronous: bool) {
        let server = &self.servers[0];
        self.standby = Some(server.standby().await);
        let sql = server.connect().await;
        wait_for("the standby to stream", async || {
            let streams = sql
                .value("select count(*) from pg_stat_replication where state = 'streaming'")
                .await;
            (streams == "1").then_some(())
        })
        .await;
        if synchronous {
            sql.run("alter system set synchronous_standby_names = '*'")
                .await;
            sql.run("select pg_reload_conf()").await;
            wait_for("the standby to be waited for", async || {
                let state = sql
                    .value("select sync_state from pg_stat_replication")
                    .await;
                (state == "sync").then_some(())
            })
            .await;
        }
    }

    /// The server in charge.
    pub(crate) fn server(&mut self) -> &mut PostgresServer {
        self.servers.last_mut().expect("a server")
    }

    pub(crate) fn relay(&mut self) -> &mut Relay {
        self.relay.as_mut().expect("a relay")
    }

    /// Past all links.
    pub(crate) fn database_url(&self) -> DatabaseUrl {
        let server = self.servers.last().expect("a server");
        server.url().with_database(&self.database)
    }

    pub(crate) async fn session(&self) -> Session {
        wait_for("a connection to the database", async || {
            self.try_session().await
        })
        .await
    }

    /// Where the server takes nobody at the moment, `None`.
    pub(crate) async fn try_session(&self) -> Option<Session> {
        let url = self.database_url().to_string();
        let probe = tokio_postgres::connect(&url, tokio_postgres::NoTls);
        drop(timeout(Duration::from_secs(5), probe).await.ok()?.ok()?);
        Some(Session::connect(&self.database_url()).await)
    }

    /// Another server is in charge from here on.
    pub(crate) fn move_to(&mut self, server: PostgresServer) {
        let address = server.url().address();
        self.servers.push(server);
        for proxy in [&self.entrance, &self.link] {
            proxy.redirect(address);
            proxy.cut();
        }
    }

    pub(crate) async fn kill_relay(&mut self) {
        self.end_relay().await;
        self.start_relay().await;
    }

    /// Kills it and leaves it dead.
    pub(crate) async fn end_relay(&mut self) {
        let relay = self.relay.take().expect("a relay");
        self.logs.push(relay.log());
        relay.kill().await;
    }

    /// Starts one where there is none.
    pub(crate) async fn ensure_relay(&mut self) {
        if self.relay.is_none() {
            self.start_relay().await;
        }
    }

    /// As a rolling update does it.
    pub(crate) async fn replace_relay(&mut self) {
        let old = self.relay.take().expect("a relay");
        self.start_relay().await;
        old.stop_judged(&mut self.logs).await;
    }

    async fn start_relay(&mut self) {
        let relay = self.builder.clone().launch().await;
        self.front.redirect(relay.address());
        self.relay = Some(relay);
    }

    /// Everything works again.
    pub(crate) async fn heal(&mut self) {
        self.link.open();
        self.front.open();
        self.entrance.open();
        if !self.server().is_running() {
            self.server().start().await;
        }
        let sql = self.session().await;
        for row in sql
            .rows("select gid from pg_prepared_xacts where database = current_database()")
            .await
        {
            let name = row[0].clone().unwrap();
            sql.run(&format!("rollback prepared '{name}'")).await;
        }
        self.relay().wait_ready(200).await;
    }

    /// Stops what is left. The server, where it can be used again, and all that relays have logged.
    pub(crate) async fn end(mut self, spent: bool) -> (Option<PostgresServer>, Vec<Vec<String>>) {
        if let Some(relay) = self.relay.take() {
            relay.stop_judged(&mut self.logs).await;
        }
        let logs = std::mem::take(&mut self.logs);
        (self.leave(spent).await, logs)
    }

    /// Kills what is left.
    pub(crate) async fn abandon(
        mut self,
        spent: bool,
    ) -> (Option<PostgresServer>, Vec<Vec<String>>) {
        self.end_relay().await;
        let logs = std::mem::take(&mut self.logs);
        (self.leave(spent).await, logs)
    }

    async fn leave(mut self, spent: bool) -> Option<PostgresServer> {
        let server = self.servers.pop().filter(|_| !spent)?;
        let sql = server.connect().await;
        sql.run(&format!("drop database {} with (force)", self.database))
            .await;
        Some(server)
    }
}

/// Ends a relay in good order and keeps what it has logged.
trait StopJudged {
    async fn stop_judged(self, logs: &mut Vec<Vec<String>>);
}

impl StopJudged for Relay {
    async fn stop_judged(self, logs: &mut Vec<Vec<String>>) {
        // What it says while it stops is read by `stop`, which fails the run where it does not end well.
        logs.push(self.log());
        let status = self.stop().await;
        assert!(status.success(), "the relay ended with {status}");
    }
}
