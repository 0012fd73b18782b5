//! One seeded run: writers, two sequencers, readers and maintenance on a database of their own, judged at the end.

use std::time::Duration;

use fastrand::Rng;
use futures::StreamExt as _;
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use pgrelay_test_support::{DatabaseUrl, Role, Session, TestDatabase};
use tokio::time::timeout;

use crate::attempt::Outcome;
use crate::history::Row;
use crate::housekeeper::{Upkeep, keep_house};
use crate::judge::{Contents, Evidence, judge};
use crate::reader::{Visits, come_late, follow};
use crate::schema::Schema;
use crate::sequencer::{sequence, sequence_rashly};
use crate::table::{Life, Table};
use crate::violation::Violation;
use crate::world::World;
use crate::writer::write;

/// A run that takes longer has come to a standstill.
const RUN_DEADLINE: Duration = Duration::from_secs(300);

/// How much happens in a run.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Connections that write.
    pub writers: usize,
    /// Transactions of each.
    pub scripts: usize,
    /// Of a hundred transactions, how many do not wait for the disk.
    pub asynchronous_percent: u32,
}

/// Who tells what the ledger holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Telling {
    /// A reader, after the commit.
    AfterCommit,
    /// A defect: the sequencers, before it.
    BeforeCommit,
}

/// What a run came to.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// The promises that were broken.
    pub violations: Vec<Violation>,
    /// Transactions that were committed.
    pub committed: usize,
    /// Rows delivered.
    pub rows: usize,
    /// Rows delivered out of the order in which they were logged.
    pub moved: usize,
    /// Batches delivered.
    pub batches: usize,
    /// Steps in whose way the rival's batch was.
    pub collisions: usize,
    /// The late reader.
    pub visits: Visits,
    /// Maintenance.
    pub upkeep: Upkeep,
}

impl Verdict {
    /// How much was seen, in a line.
    pub fn summary(&self) -> String {
        let Self {
            violations,
            committed,
            rows,
            moved,
            batches,
            collisions,
            visits,
            upkeep,
        } = self;
        format!(
            "{committed} transactions, {rows} rows ({moved} moved), {batches} batches ({collisions} collisions), \
             {visits:?}, {upkeep:?}, {} promises broken",
            violations.len()
        )
    }
}

/// Runs the load of a seed on a fresh database with `schema`.
pub async fn run(server: &DatabaseUrl, schema: &Schema, load: Load, seed: u64) -> Verdict {
    run_telling(server, schema, load, seed, Telling::AfterCommit).await
}

pub(crate) async fn run_telling(
    server: &DatabaseUrl,
    schema: &Schema,
    load: Load,
    seed: u64,
    telling: Telling,
) -> Verdict {
    let database = TestDatabase::create_on(server, Role::Superuser).await;
    let session = Session::connect(database.url()).await;
    install(&session, schema).await;
    let start = begin_epoch(&session, "first").await;
    let before = contents(&session).await;
    let world = World::new(database.url().clone(), start).await;
    disturb(&world, load, seed, telling, None).await;
    let after = contents(&session).await;
    conclude(&world, &before, &after)
}

/// The schema and the tables of the workload.
pub(crate) async fn install(session: &Session, schema: &Schema) {
    schema.install(session).await;
    session.run(include_str!("workload.sql")).await;
}

/// The first batch of the epoch.
pub(crate) async fn begin_epoch(session: &Session, why: &str) -> i64 {
    let row = session
        .query_one("select e.id from pgrelay.begin_epoch($1) e", &[&why])
        .await
        .unwrap();
    row.get(0)
}

/// Everybody at once, until the writers have played their scripts, the intruder has done what it came for, and all that was
/// written is delivered.
pub(crate) async fn disturb<'a>(
    world: &'a World,
    load: Load,
    seed: u64,
    telling: Telling,
    intruder: Option<LocalBoxFuture<'a, ()>>,
) {
    let mut seeds = Rng::with_seed(seed);
    let mut dice = || seeds.fork();
    world
        .writers_left
        .set(load.writers + usize::from(intruder.is_some()));
    world.sequencers_left.set(2);
    let mut everybody: Vec<LocalBoxFuture<'a, ()>> = vec![
        Box::pin(come_late(world, dice())),
        Box::pin(keep_house(world, dice())),
    ];
    for number in 0..load.writers {
        everybody.push(Box::pin(write(world, number, dice(), load)));
    }
    match telling {
        Telling::AfterCommit => {
            everybody.push(Box::pin(sequence(world, dice())));
            everybody.push(Box::pin(sequence(world, dice())));
            everybody.push(Box::pin(follow(world, dice())));
        }
        Telling::BeforeCommit => {
            everybody.push(Box::pin(sequence_rashly(world, dice())));
            everybody.push(Box::pin(sequence_rashly(world, dice())));
        }
    }
    if let Some(intruder) = intruder {
        everybody.push(Box::pin(async {
            intruder.await;
            world.writers_left.update(|left| left - 1);
        }));
    }
    let everybody: FuturesUnordered<_> = everybody.into_iter().collect();
    timeout(RUN_DEADLINE, everybody.collect::<()>())
        .await
        .unwrap_or_else(|_| panic!("seed {seed} did not end within {RUN_DEADLINE:?}"));
}

/// What the tables of the workload hold.
pub(crate) async fn contents(session: &Session) -> Contents {
    let mut contents = Contents::new();
    for table in Table::ALL {
        let sql = format!("select life, v from {}", table.name());
        for row in session.query(&sql, &[]).await.unwrap() {
            let life = Life {
                table,
                number: row.get(0),
            };
            contents.insert(life, row.get(1));
        }
    }
    contents
}

pub(crate) fn conclude(world: &World, before: &Contents, after: &Contents) -> Verdict {
    let delivered = world.delivered.borrow();
    let attempts = world.attempts.borrow();
    let mut violations = world.noticed.borrow().clone();
    violations.extend(judge(&Evidence {
        before,
        delivered: &delivered,
        attempts: &attempts,
        after,
    }));
    let is_committed = |outcome| matches!(outcome, Outcome::Committed { .. });
    let rows = || delivered.iter().flat_map(|batch| &batch.rows);
    Verdict {
        violations,
        committed: attempts
            .iter()
            .filter(|attempt| is_committed(attempt.outcome))
            .count(),
        rows: rows().count(),
        moved: rows().filter(|row: &&Row| row.place != row.seq).count(),
        batches: delivered.len(),
        collisions: world.collisions.get(),
        visits: world.visits.get(),
        upkeep: world.upkeep.get(),
    }
}
