//! A database that is not the one it was: a dump restored into another cluster, a copy of the files that went its own way.

use std::pin::pin;

use futures::{FutureExt as _, SinkExt as _, TryStreamExt as _};
use pgrelay_test_support::{PostgresServer, Role, Session, TestDatabase};
use tokio::time::sleep;

use crate::attempt::{Attempt, Outcome};
use crate::reader::{Cursor, is_valid};
use crate::run::{Load, Telling, Verdict, begin_epoch, conclude, contents, disturb, install};
use crate::schema::Schema;
use crate::violation::Kind;
use crate::world::World;

/// Transaction ids that the first cluster is ahead of the second.
const AHEAD: usize = 4000;

/// What a dump of the data holds; the log comes last, because the triggers are there already.
const DUMPED: [&str; 7] = [
    "plain",
    "chained",
    "calling",
    "pgrelay.meta",
    "pgrelay.epoch",
    "pgrelay.ledger",
    "pgrelay.log",
];

const SEQUENCES: [&str; 4] = [
    "lives",
    "pgrelay.log_seq",
    "pgrelay.log_segment",
    "pgrelay.log_holes",
];

/// Restores a dump into a cluster whose transaction ids are lower, begins an epoch, and lets the new cluster use each id of the
/// old one again: nothing of the old cluster is delivered, everything of the new one is, and cursors are told apart.
pub async fn restore(
    old: &PostgresServer,
    new: &PostgresServer,
    schema: &Schema,
    load: Load,
    seed: u64,
) -> Verdict {
    let old_database = TestDatabase::create_on(&old.url(), Role::Superuser).await;
    let session = Session::connect(old_database.url()).await;
    burn_ids(&session, AHEAD).await;
    install(&session, schema).await;
    let start = begin_epoch(&session, "first").await;
    let old_world = World::new(old_database.url().clone(), start).await;
    disturb(&old_world, load, seed, Telling::AfterCommit, None).await;

    // A hole whose time has not come.
    session
        .run("select nextval('pgrelay.log_holes'); select pgrelay.settle_holes()")
        .await;
    let new_database = TestDatabase::create_on(&new.url(), Role::Superuser).await;
    let new_session = Session::connect(new_database.url()).await;
    install(&new_session, schema).await;
    dump_and_restore(&session, &new_session).await;
    let old_world = old_world.continued(old_database.url().clone()).await;
    disturb(&old_world, load, seed + 1000, Telling::AfterCommit, None).await;

    let straggler = Session::connect(new_database.url()).await;
    straggler
        .run("begin; update plain set v = v + 1, tx = 'straggler' where id = (select min(id) from plain)")
        .await;
    let start = begin_epoch(&new_session, "restored").await;
    let before = contents(&new_session).await;
    let world = World::new(new_database.url().clone(), start).await;
    commit(&world, &straggler).await;
    let intruder = burn_ids_slowly(&world, &new_session).boxed_local();
    disturb(
        &world,
        load,
        seed + 2000,
        Telling::AfterCommit,
        Some(intruder),
    )
    .await;
    refuse_cursors(&world, &old_world, i64::MIN, &new_session).await;
    tell_hole(&world, &new_session).await;
    conclude(&world, &before, &contents(&new_session).await)
}

/// Nothing runs any more, so the hole that was pending is seen and then told.
async fn tell_hole(world: &World, session: &Session) {
    let settle = "select pgrelay.settle_holes()";
    let told = (session.value(settle).await, session.value(settle).await);
    if told != ("0".into(), "1".into()) {
        world.notice(Kind::Lost, format!("holes told: {told:?}, not 1"));
    }
}

/// Copies the files of a stopped server and lets original and copy go on: each keeps the promises to its own readers, and tells
/// the cursors of the other apart from its own.
pub async fn fork(
    server: &mut PostgresServer,
    schema: &Schema,
    load: Load,
    seed: u64,
) -> [Verdict; 2] {
    let database = TestDatabase::create_on(&server.url(), Role::Superuser).await;
    let session = Session::connect(database.url()).await;
    install(&session, schema).await;
    let start = begin_epoch(&session, "first").await;
    let before = contents(&session).await;
    let world = World::new(database.url().clone(), start).await;
    disturb(&world, load, seed, Telling::AfterCommit, None).await;

    server.stop().await;
    let mut copy = server.copy();
    server.start().await;
    copy.start().await;
    let parted = world.position();
    let urls = [
        database.url().clone(),
        database.url().through(copy.url().address()),
    ];
    let worlds = [
        world.continued(urls[0].clone()).await,
        world.continued(urls[1].clone()).await,
    ];
    let mut verdicts = Vec::new();
    for (world, seed) in worlds.iter().zip([seed + 1000, seed + 2000]) {
        disturb(world, load, seed, Telling::AfterCommit, None).await;
    }
    for (world, other) in [(&worlds[0], &worlds[1]), (&worlds[1], &worlds[0])] {
        let session = world.connect().await;
        refuse_cursors(world, other, parted, &session).await;
        verdicts.push(conclude(world, &before, &contents(&session).await));
    }
    verdicts.try_into().expect("two verdicts")
}

/// Every cursor of the other history, from a batch after `after`, is refused here.
async fn refuse_cursors(world: &World, other: &World, after: i64, session: &Session) {
    let cursors: Vec<_> = other
        .delivered
        .borrow()
        .iter()
        .filter(|batch| batch.id > after)
        .map(|batch| Cursor {
            batch: batch.id,
            place: batch.rows.last().map_or(0, |row| row.place),
            tag: batch.tag,
        })
        .collect();
    for cursor in cursors {
        if is_valid(session, cursor).await.unwrap() {
            world.notice(Kind::Confused, format!("{cursor:?} was accepted"));
        }
    }
}

/// Commits a transaction that was open when the epoch began: it belongs to the new history.
async fn commit(world: &World, straggler: &Session) {
    let mut attempt = Attempt::begin("straggler".into(), world.tick(), true);
    let xid = straggler.value("select pg_current_xact_id()").await;
    attempt.xid = xid.parse().ok();
    attempt.changes = 1;
    straggler.run("commit").await;
    attempt.outcome = Outcome::Committed {
        acknowledged: world.tick(),
    };
    world.attempts.borrow_mut().push(attempt);
}

async fn burn_ids(session: &Session, ids: usize) {
    session
        .run(&format!(
            "do $$ begin for i in 1..{ids} loop perform pg_current_xact_id(); commit; end loop; end $$"
        ))
        .await;
}

/// Twice as many as the clusters are apart, spread over the load.
async fn burn_ids_slowly(world: &World, session: &Session) {
    let mut left = 2 * AHEAD;
    while left > 0 {
        burn_ids(session, 100).await;
        left -= 100;
        if world.writers_left.get() > 1 {
            sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

async fn dump_and_restore(from: &Session, to: &Session) {
    let segments = "select max(segment) from pgrelay.segments()";
    let highest: i64 = from.value(segments).await.parse().unwrap();
    let own: i64 = to.value(segments).await.parse().unwrap();
    for segment in own + 1..=highest {
        to.run(&format!(
            "create table pgrelay.log_{segment} partition of pgrelay.log for values in ({segment})"
        ))
        .await;
    }
    for table in DUMPED {
        to.run(&format!("delete from {table}")).await;
        let dump = format!("copy (select * from {table}) to stdout");
        let mut rows = pin!(from.copy_out(&dump).await.unwrap());
        let restore = format!("copy {table} from stdin");
        let mut sink = pin!(to.copy_in(&restore).await.unwrap());
        while let Some(part) = rows.try_next().await.unwrap() {
            sink.send(part).await.unwrap();
        }
        sink.finish().await.unwrap();
    }
    for sequence in SEQUENCES {
        let value = from
            .value(&format!("select last_value from {sequence}"))
            .await;
        to.run(&format!("select setval('{sequence}', {value})"))
            .await;
    }
}
