//! The server crashes under load and comes back: what was delivered must still be there.

use std::time::Duration;

use futures::FutureExt as _;
use pgrelay_test_support::{PostgresServer, Role, Session, TestDatabase};
use tokio::time::sleep;

use crate::attempt::{Attempt, Outcome};
use crate::run::{Load, Telling, Verdict, begin_epoch, conclude, contents, disturb, install};
use crate::schema::Schema;
use crate::violation::Kind;
use crate::world::World;
use crate::writer::settle_prepared;

/// Delivered batches after which the server is crashed.
const BATCHES: usize = 40;

const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// Runs the load of a seed, crashes the server in the middle and goes on with the load of another.
///
/// The database prefers asynchronous commits: the schema itself must see to it that a step is durable. `server` should keep its
/// log in memory for as long as it can.
pub async fn survive(
    server: &mut PostgresServer,
    schema: &Schema,
    load: Load,
    seed: u64,
) -> Verdict {
    // Whoever waits for the disk saves all that was committed before.
    let load = Load {
        asynchronous_percent: 95,
        ..load
    };
    let database = TestDatabase::create_on(&server.url(), Role::Superuser).await;
    let session = Session::connect(database.url()).await;
    install(&session, schema).await;
    session
        .run("do $$ begin execute format('alter database %I set synchronous_commit = off', current_database()); end $$")
        .await;
    let start = begin_epoch(&session, "first").await;
    let before = contents(&session).await;
    // What the tables held is durable; only then is it known what a crash may take.
    session.run("checkpoint").await;
    drop(session);

    let world = World::new(database.url().clone(), start).await;
    let crash = async {
        tell_the_last(&world).await;
        world.close_doors().await;
        server.crash().await;
    };
    let intruder = Some(crash.boxed_local());
    disturb(&world, load, seed, Telling::AfterCommit, intruder).await;
    server.start().await;

    let world = world.continued(database.url().clone()).await;
    let session = world.connect().await;
    settle(&world, &session).await;
    check_ledger(&world, &session).await;
    if world.noticed.borrow().is_empty() {
        disturb(&world, load, seed + 1000, Telling::AfterCommit, None).await;
    }
    conclude(&world, &before, &contents(&session).await)
}

/// Waits for some batches, then makes everybody hold still, so that nobody saves what comes now by chance: one change that does
/// not wait for the disk. Returns when it has been delivered.
async fn tell_the_last(world: &World) {
    while world.delivered.borrow().len() < BATCHES && world.writers_left.get() > 1 {
        sleep(LOOK_INTERVAL).await;
    }
    let session = world.connect().await;
    session.run("set lock_timeout = '100ms'").await;
    let mut attempt = Attempt::begin("last".into(), world.tick(), false);
    attempt.changes = 1;
    attempt.xid = loop {
        world.held.set(true);
        let insert =
            "insert into plain (id, tx) values (1000, 'last') returning pg_current_xact_id()::text";
        match session.query_one(insert, &[]).await {
            Ok(row) => break row.get::<_, &str>(0).parse().ok(),
            // Somebody holds still with a lock on the table.
            Err(_) => world.held.set(false),
        }
        sleep(LOOK_INTERVAL * 10).await;
    };
    attempt.outcome = Outcome::Committed {
        acknowledged: world.tick(),
    };
    let xid = attempt.xid;
    world.attempts.borrow_mut().push(attempt);
    while !is_delivered(world, xid) {
        sleep(LOOK_INTERVAL).await;
    }
}

fn is_delivered(world: &World, xid: Option<u64>) -> bool {
    let delivered = world.delivered.borrow();
    let mut rows = delivered.iter().flat_map(|batch| &batch.rows);
    rows.any(|row| Some(row.xid) == xid)
}

/// What the crash makes of the attempts: the prepared are still there; of those that did not wait for the disk, only the
/// delivered are sure.
async fn settle(world: &World, session: &Session) {
    for row in session.rows("select gid from pg_prepared_xacts").await {
        let tag = row[0].clone().unwrap();
        let attempt = world
            .attempts
            .borrow()
            .iter()
            .position(|attempt| attempt.tag == tag);
        settle_prepared(world, attempt.unwrap(), &tag).await;
    }
    for attempt in &mut *world.attempts.borrow_mut() {
        let is_committed = matches!(attempt.outcome, Outcome::Committed { .. });
        if is_committed && !attempt.synchronous && !is_delivered(world, attempt.xid) {
            attempt.outcome = Outcome::Unknown;
        }
    }
}

/// The last batch that was delivered is in the ledger as it was.
async fn check_ledger(world: &World, session: &Session) {
    let (id, tag) = {
        let delivered = world.delivered.borrow();
        let last = delivered.last().expect("a batch");
        (last.id, last.tag)
    };
    let row = session
        .query_opt("select l.tag from pgrelay.ledger l where l.id = $1", &[&id])
        .await
        .unwrap();
    let kept: Option<uuid::Uuid> = row.map(|row| row.get(0));
    if kept != Some(tag) {
        let what = format!("batch {id} was delivered as {tag}, the ledger has {kept:?}");
        world.notice(Kind::Gone, what);
    }
}
