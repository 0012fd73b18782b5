//! Writers: they play seeded scripts and keep book. One that loses its connection makes another and goes on.

use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use crate::book::{Change, Op, Version};
use crate::table::{ENORMOUS, HUGE, LARGE, ORDINARY, TABLES, body};
use crate::violation::Kind;
use crate::world::{World, unix};

/// What all writers of a run do.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) writers: usize,
    /// Of each writer, spread over `time`.
    pub(crate) transactions: u32,
    pub(crate) time: Duration,
    /// Of transactions whose commit does not wait for the disk.
    pub(crate) asynchronous_percent: u32,
    /// Of transactions that are prepared first; needs a server that can.
    pub(crate) prepared_percent: u32,
    /// Of steps that are savepoints.
    pub(crate) savepoint_percent: u32,
    /// Of rows with a large body.
    pub(crate) large_percent: u32,
    /// Of those, bodies too large to be sent whole are among them.
    pub(crate) oversize: bool,
    /// Of transactions that change many rows.
    pub(crate) bulk_percent: u32,
    pub(crate) bulk_rows: i64,
    /// Of transactions that stay open for a second, holding what they wrote.
    pub(crate) idle_percent: u32,
}

/// Ids that writers fight for.
const IDS: i64 = 24;
/// Ids above belong to bulk inserts.
const BULK: i64 = 1_000_000;
/// A server that does not answer for so long has gone.
const SILENCE: Duration = Duration::from_secs(8);

/// What the workload itself, or the end of a server, brings about.
const EXPECTED: [SqlState; 7] = [
    SqlState::T_R_SERIALIZATION_FAILURE,
    SqlState::T_R_DEADLOCK_DETECTED,
    SqlState::ADMIN_SHUTDOWN,
    SqlState::CRASH_SHUTDOWN,
    SqlState::CANNOT_CONNECT_NOW,
    SqlState::TOO_MANY_CONNECTIONS,
    // A standby is promoted while somebody writes to it.
    SqlState::READ_ONLY_SQL_TRANSACTION,
];

pub(crate) struct Writer<'a> {
    pub(crate) world: &'a World,
    pub(crate) number: usize,
    pub(crate) dice: Rng,
    pub(crate) load: &'a Load,
    pub(crate) round: u32,
}

enum Stop {
    /// The transaction came to nothing; the connection is good.
    RolledBack,
    /// The connection is of no more use.
    Disconnected,
}

impl From<tokio_postgres::Error> for Stop {
    fn from(_error: tokio_postgres::Error) -> Self {
        Self::Disconnected
    }
}

impl Writer<'_> {
    pub(crate) async fn run(mut self) {
        let url = self.world.database.to_string();
        let start = Instant::now();
        while self.is_due() {
            let connecting = timeout(SILENCE, tokio_postgres::connect(&url, NoTls)).await;
            if let Ok(Ok((client, connection))) = connecting {
                // Whoever loses his connection leaves his transaction as it is; the book is settled at the end.
                tokio::select! {
                    () = self.session(&client, start) => {}
                    _ = connection => {}
                }
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn is_due(&self) -> bool {
        self.round < self.load.transactions && !self.world.is_written.get()
    }

    async fn session(&mut self, client: &Client, start: Instant) {
        while self.is_due() {
            let share = self.load.time / self.load.transactions * self.round;
            sleep_until(start + share).await;
            self.round += 1;
            let tag = format!("w.{}.{}", self.number, self.round);
            let place = self.world.book.borrow_mut().begin(
                tag.clone(),
                self.world.tick(),
                unix().as_secs(),
            );
            let playing = timeout(SILENCE, self.transaction(client, place, &tag)).await;
            match playing {
                Ok(Ok(())) => {}
                Ok(Err(Stop::RolledBack)) => {
                    if client.batch_execute("rollback").await.is_err() {
                        return;
                    }
                }
                Ok(Err(Stop::Disconnected)) | Err(_) => return,
            }
        }
    }

    async fn transaction(&mut self, client: &Client, place: usize, tag: &str) -> Result<(), Stop> {
        let asynchronous = self.chance(self.load.asynchronous_percent);
        let commit = if asynchronous { "off" } else { "on" };
        let isolation = ["read committed", "repeatable read"][usize::from(self.chance(10))];
        self.run_sql(
            client,
            &format!(
                "begin isolation level {isolation}; set local synchronous_commit = {commit};
                 insert into outcomes values ('{tag}')"
            ),
        )
        .await?;
        if self.chance(self.load.bulk_percent) {
            self.bulk(client, place, tag).await?;
        }
        let mut marks = Vec::new();
        for _ in 0..self.dice.u32(1..8) {
            if self.chance(self.load.savepoint_percent) {
                self.savepoint(client, place, &mut marks).await?;
            } else {
                self.change(client, place, tag).await?;
            }
        }
        if self.chance(self.load.idle_percent) {
            sleep(Duration::from_millis(self.dice.u64(300..1_500))).await;
        }
        self.end(client, place, tag).await
    }

    async fn end(&mut self, client: &Client, place: usize, tag: &str) -> Result<(), Stop> {
        if self.chance(10) {
            return self.run_sql(client, "rollback").await;
        }
        if self.chance(self.load.prepared_percent) {
            self.run_sql(client, &format!("prepare transaction '{tag}'"))
                .await?;
            sleep(Duration::from_millis(self.dice.u64(0..200))).await;
            match self.dice.u32(0..10) {
                // Forgotten; whoever heals the world finds it.
                0 => return Ok(()),
                1..3 => {
                    return self
                        .run_sql(client, &format!("rollback prepared '{tag}'"))
                        .await;
                }
                _ => {
                    self.run_sql(client, &format!("commit prepared '{tag}'"))
                        .await?;
                }
            }
        } else {
            self.run_sql(client, "commit").await?;
        }
        let now = self.world.tick();
        self.world.book.borrow_mut().0[place].acknowledged = Some(now);
        Ok(())
    }

    /// Sets, releases or rolls back to a savepoint, as deep as it goes.
    async fn savepoint(
        &mut self,
        client: &Client,
        place: usize,
        marks: &mut Vec<usize>,
    ) -> Result<(), Stop> {
        let depth = marks.len();
        match self.dice.u32(0..5) {
            0 if depth > 0 => {
                let length = marks[depth - 1];
                self.run_sql(client, &format!("rollback to s{depth}"))
                    .await?;
                self.world.book.borrow_mut().0[place]
                    .changes
                    .truncate(length);
            }
            1 if depth > 0 => {
                marks.pop();
                self.run_sql(client, &format!("release s{depth}")).await?;
            }
            _ => {
                marks.push(self.world.book.borrow().0[place].changes.len());
                self.run_sql(client, &format!("savepoint s{}", depth + 1))
                    .await?;
            }
        }
        Ok(())
    }

    /// Changes some rows, in the order of their ids, so that writers seldom lock each other out.
    async fn change(&mut self, client: &Client, place: usize, tag: &str) -> Result<(), Stop> {
        let table = self.dice.usize(0..TABLES.len());
        let name = TABLES[table].sql;
        let first = self.dice.i64(0..IDS);
        let last = first + self.dice.i64(0..3);
        let kind = self.kind();
        let text = body(kind);
        let (op, sql) = match self.dice.u32(0..10) {
            0..4 => (
                Op::Insert,
                format!(
                    "insert into {name} (id, room, kind, body, tx)
                     select i, i % 4, {kind}, $1, '{tag}' from generate_series({first}::bigint, {last}) i
                     on conflict do nothing returning id, life, v"
                ),
            ),
            4..8 => (
                Op::Update,
                format!(
                    "update {name} set v = v + 1, kind = {kind}, body = $1, tx = '{tag}'
                     where id between {first} and {last} returning id, life, v"
                ),
            ),
            _ => (
                Op::Delete,
                format!("delete from {name} where id = {first} and $1 <> '' returning id, life, v"),
            ),
        };
        // Statements that do not look at their parameter must have one, too.
        let text = if op == Op::Delete { "x".into() } else { text };
        self.note(client, place, (table, op), &sql, &text).await
    }

    async fn bulk(&mut self, client: &Client, place: usize, tag: &str) -> Result<(), Stop> {
        let table = self.dice.usize(0..TABLES.len());
        let name = TABLES[table].sql;
        let first = BULK + i64::try_from(place).unwrap() * BULK;
        let last = first + self.dice.i64(1..=self.load.bulk_rows);
        let kind = self.dice.i32(0..ORDINARY - 2);
        let sql = format!(
            "insert into {name} (id, room, kind, body, tx)
             select i, i % 4, {kind}, $1, '{tag}' from generate_series({first}::bigint, {last}) i
             returning id, life, v"
        );
        self.note(client, place, (table, Op::Insert), &sql, &body(kind))
            .await
    }

    /// Runs a statement and writes down what it changed.
    async fn note(
        &mut self,
        client: &Client,
        place: usize,
        (table, op): (usize, Op),
        sql: &str,
        text: &str,
    ) -> Result<(), Stop> {
        let rows = match client.query(sql, &[&text]).await {
            Ok(rows) => rows,
            Err(error) => return Err(self.failed(&error, sql)),
        };
        let changes = rows.iter().map(|row| Change {
            op,
            version: Version {
                table,
                id: row.get(0),
                life: row.get(1),
                v: row.get(2),
            },
        });
        self.world.book.borrow_mut().0[place]
            .changes
            .extend(changes);
        Ok(())
    }

    async fn run_sql(&self, client: &Client, sql: &str) -> Result<(), Stop> {
        client
            .batch_execute(sql)
            .await
            .map_err(|error| self.failed(&error, sql))
    }

    fn failed(&self, error: &tokio_postgres::Error, sql: &str) -> Stop {
        let Some(refusal) = error.as_db_error() else {
            return Stop::Disconnected;
        };
        if !EXPECTED.contains(refusal.code()) && !self.is_schema_change(refusal.code()) {
            self.world
                .notice(Kind::Aborted, format!("{refusal:?} in {sql:.200}"));
        }
        match refusal.severity() {
            "ERROR" => Stop::RolledBack,
            _ => Stop::Disconnected,
        }
    }

    /// A statement that was prepared before its table changed.
    fn is_schema_change(&self, code: &SqlState) -> bool {
        *code == SqlState::FEATURE_NOT_SUPPORTED || *code == SqlState::UNDEFINED_TABLE
    }

    fn kind(&mut self) -> i32 {
        if self.chance(self.load.large_percent) {
            return match self.dice.u32(0..20) {
                0 if self.load.oversize => ENORMOUS,
                1..4 if self.load.oversize => HUGE,
                _ => LARGE,
            };
        }
        self.dice.i32(0..ORDINARY)
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.dice.u32(0..100) < percent
    }
}
