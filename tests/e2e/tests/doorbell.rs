//! Writers wake a sleeping relay, pay nothing while it is awake, and nothing while it is frozen.
#![allow(
    clippy::unwrap_used,
    reason = "this is test code: it fails the test that uses it"
)]

use std::time::Duration;

use futures::future::join_all;
use pgrelay_test_support::{DatabaseUrl, Relay, RelayBuilder, Session, TestDatabase, wait_for};
use tokio::time::sleep;

const TABLE: &str =
    "create table public.notes (id bigint generated always as identity primary key, body text);
    grant insert on public.notes to public;
    alter publication supabase_realtime add table public.notes;";
const INSERT: &str = "insert into public.notes (body) values ('x')";

/// Numbers that look random and are the same in every run of a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    async fn pause(&mut self, microseconds_max: u64) {
        sleep(Duration::from_micros(self.below(microseconds_max))).await;
    }
}

async fn relay_with_table(database: &TestDatabase) -> (Relay, Session) {
    with_table(database, Relay::builder(database.url())).await
}

async fn with_table(database: &TestDatabase, relay: RelayBuilder) -> (Relay, Session) {
    let relay = relay.start().await;
    let session = database.connect_superuser().await;
    session.run(TABLE).await;
    session.run("select pgrelay.sync()").await;
    (relay, session)
}

async fn wait_armed(relay: &Relay) {
    wait_for("the relay to sleep", async || {
        (relay.metric("pgrelay_capture_armed", "").await > 0.5).then_some(())
    })
    .await;
}

/// Waits until all that was written is in the ledger.
async fn sequenced(session: &Session, rows: usize) {
    let count = "select coalesce(sum(n), 0) from pgrelay.ledger";
    wait_for("every row to be sequenced", async || {
        (session.value(count).await == rows.to_string()).then_some(())
    })
    .await;
}

async fn assert_none_lost(relay: &Relay) {
    let lost = relay.metric("pgrelay_capture_lost_wakeups_total", "").await;
    assert_eq!(lost, 0.0, "a writer did not ring");
}

/// No batch waited longer for its STEP than anything in the relay ever sleeps (the safety poll, the
/// pause beside long transactions: 250 ms each), with room for a machine that is busy. The first
/// row of a batch is the one that waited longest.
async fn assert_bounded_delay(session: &Session) {
    const SECONDS_MAX: f64 = 5.0;
    let longest = "select extract(epoch from max(l.at - g.at))
        from pgrelay.ledger l join pgrelay.log g on g.seq = l.min_seq";
    let seconds: f64 = session.value(longest).await.parse().unwrap();
    assert!(
        seconds < SECONDS_MAX,
        "a row waited {seconds} s for its STEP"
    );
}

/// One writer of the crowd: bursts, strolls, and transactions left open for a while.
async fn crowd_member(url: DatabaseUrl, number: u64, commits: usize) {
    let session = Session::connect(&url).await;
    let insert = session.prepare(INSERT).await.unwrap();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ (number + 1));
    let mut written = 0;
    while written < commits {
        let burst = (1 + usize::try_from(dice.below(400)).unwrap()).min(commits - written);
        for _ in 0..burst {
            if dice.below(50) == 0 {
                session.run("begin").await;
                session.execute(&insert, &[]).await.unwrap();
                dice.pause(4_000).await;
                session.run("commit").await;
            } else {
                session.execute(&insert, &[]).await.unwrap();
            }
        }
        written += burst;
        dice.pause(60_000).await;
    }
}

#[tokio::test]
async fn no_wake_up_is_lost_in_a_hundred_thousand_commits() {
    const WRITERS: u64 = 20;
    const COMMITS_EACH: usize = 5_000;
    let database = TestDatabase::create().await;
    let (relay, session) = relay_with_table(&database).await;
    wait_armed(&relay).await;
    join_all((0..WRITERS).map(|number| crowd_member(database.url().clone(), number, COMMITS_EACH)))
        .await;
    let rows = COMMITS_EACH * usize::try_from(WRITERS).unwrap();
    sequenced(&session, rows).await;
    assert_none_lost(&relay).await;
    assert_bounded_delay(&session).await;
}

/// Two commits and then silence, the second transaction open while the relay falls asleep: nobody
/// else rings for it.
async fn pairs(url: DatabaseUrl, number: u64, count: usize) {
    let session = Session::connect(&url).await;
    let mut dice = Dice(0x2545_f491_4f6c_dd1d ^ (number + 1));
    for _ in 0..count {
        session.run(INSERT).await;
        dice.pause(6_000).await;
        session.run("begin").await;
        session.run(INSERT).await;
        dice.pause(15_000).await;
        session.run("commit").await;
        sleep(Duration::from_millis(400)).await;
    }
}

#[tokio::test]
async fn a_transaction_that_is_open_while_the_relay_falls_asleep_rings() {
    const PAIRS: usize = 60;
    let database = TestDatabase::create().await;
    let (relay, session) = relay_with_table(&database).await;
    wait_armed(&relay).await;
    pairs(database.url().clone(), 0, PAIRS).await;
    sequenced(&session, 2 * PAIRS).await;
    assert_none_lost(&relay).await;
    assert_bounded_delay(&session).await;
    let rings = relay.metric("pgrelay_capture_rings_total", "").await;
    assert!(
        rings >= PAIRS as f64,
        "the relay was rung for {rings} times only, so it did not sleep"
    );
}

#[tokio::test]
async fn a_bell_that_does_not_ring_is_noticed() {
    let database = TestDatabase::create().await;
    let builder = Relay::builder(database.url()).allow("committed without ringing");
    let (relay, session) = with_table(&database, builder).await;
    let mute = "do $$ begin execute replace(pg_get_functiondef('pgrelay.capture()'::regprocedure),
        'perform pg_notify', 'perform concat'); end $$";
    session.run(mute).await;
    let silent = session
        .value("select prosrc not like '%pg_notify%' from pg_proc where oid = 'pgrelay.capture()'::regprocedure")
        .await;
    assert_eq!(
        silent, "t",
        "the trigger has changed; mute it in another way"
    );
    wait_armed(&relay).await;
    session.run(INSERT).await;
    wait_for("the safety poll to find the row", async || {
        (relay.metric("pgrelay_capture_lost_wakeups_total", "").await > 0.5).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_frozen_relay_stops_costing_writers_and_goes_on_when_it_thaws() {
    let database = TestDatabase::create().await;
    let builder = Relay::builder(database.url()).allow("lost the change log");
    let (mut relay, session) = with_table(&database, builder).await;
    wait_armed(&relay).await;
    relay.freeze();
    let held = "select count(*) from pg_locks where locktype = 'advisory' and granted
        and (classid::bigint << 32) + objid::bigint = pgrelay.doorbell_key()
        and database = (select oid from pg_database where datname = current_database())";
    // PostgreSQL 13 has no idle_session_timeout: there writers ring until the client's TCP connection ends.
    let version = session.value("show server_version_num").await;
    if version.parse::<u32>().unwrap() >= 140_000 {
        wait_for("the server to take the doorbell away", async || {
            (session.value(held).await == "0").then_some(())
        })
        .await;
    }
    session.run(INSERT).await;
    relay.thaw();
    sequenced(&session, 1).await;
    assert_none_lost(&relay).await;
}
