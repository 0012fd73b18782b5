//! Connections that end, servers that vanish, histories that are not the same any more.

use std::sync::Arc;

use pgrelay_capture::{Metrics, open};
use pgrelay_protocol::RefetchReason;
use pgrelay_relay::ports::{FeedEvent, SessionStore as _};
use pgrelay_test_support::{PostgresServer, Role, TcpProxy, TestDatabase, wait_for};
use uuid::Uuid;

use crate::rig::{Following, Rig, config};

/// Ends every session of the source.
const KILL: &str = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                     where application_name = 'pgrelay' and datname = current_database()";

fn broken(event: &FeedEvent) -> Option<RefetchReason> {
    match event {
        FeedEvent::Break { reason, .. } => Some(*reason),
        FeedEvent::Head(_)
        | FeedEvent::Page(_)
        | FeedEvent::CatalogChanged
        | FeedEvent::Messages(_) => None,
    }
}

fn ids(n: usize) -> Vec<String> {
    (1..=n)
        .map(|id| format!(r#"I t {{"id":{id},"v":null}}"#))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_sessions_lose_nothing_and_repeat_nothing() {
    let rig = Rig::new().await;
    let following = rig.follow().await;
    let write = async {
        for id in 1..=600 {
            rig.sql.run(&format!("insert into t values ({id})")).await;
        }
    };
    let kill = async {
        let killer = rig.database.connect().await;
        for n in 1..=6 {
            following.changes(n * 80).await;
            killer.run(KILL).await;
        }
    };
    futures::join!(write, kill);
    assert_eq!(following.changes(600).await, ids(600));
    assert!(following.metric("reconnects_total") >= 1);
    assert!(
        following
            .feed
            .events()
            .iter()
            .all(|event| broken(event).is_none())
    );
    following.stop().await;
}

#[tokio::test]
async fn a_batch_cut_in_its_middle_goes_on_where_it_was() {
    let rig = Rig::new().await;
    let following = Following::start_gated(rig.config()).live().await;
    rig.sql
        .run("insert into t select i from generate_series(1, 5000) i")
        .await;
    following.feed.admit(3);
    following.changes(1000).await;
    rig.sql.run(KILL).await;
    following.feed.admit(1_000_000);
    assert_eq!(following.changes(5000).await, ids(5000));
    assert_eq!(following.metric("reconnects_total"), 1);
    following.stop().await;
}

#[tokio::test]
async fn a_server_that_goes_and_comes_back_is_waited_for() {
    let mut server = PostgresServer::builder().start().await;
    let database = TestDatabase::create_on(&server.url(), Role::Superuser).await;
    pgrelay_capture::migrate(&config(database.url()))
        .await
        .unwrap();
    let sql = database.connect().await;
    sql.run("create table t (id int primary key, v text)").await;
    sql.run("select pgrelay.enable('t')").await;
    let following = Following::start(config(database.url())).live().await;
    sql.run("insert into t values (1)").await;
    following.changes(1).await;
    server.crash().await;
    wait_for("the outage to be noticed", async || {
        (!following.health.is_live()).then_some(())
    })
    .await;
    server.start().await;
    database
        .connect()
        .await
        .run("insert into t values (2)")
        .await;
    assert_eq!(following.changes(2).await, ids(2));
    following.stop().await;
}

#[tokio::test]
async fn a_half_open_connection_is_noticed_and_replaced() {
    let rig = Rig::new().await;
    let proxy = TcpProxy::start(rig.database.url().address()).await;
    let following = Following::start(config(&rig.database.url().through(proxy.address())))
        .live()
        .await;
    following.armed().await;
    proxy.swallow();
    rig.sql.run("insert into t values (1)").await;
    wait_for("the outage to be noticed", async || {
        (!following.health.is_live()).then_some(())
    })
    .await;
    proxy.cut();
    proxy.open();
    assert_eq!(following.changes(1).await, ids(1));
    following.stop().await;
}

#[tokio::test]
async fn a_database_copied_from_another_cluster_begins_an_epoch() {
    let rig = Rig::new().await;
    let first = rig.follow().await;
    rig.sql.run("insert into t values (1)").await;
    first.changes(1).await;
    first.stop().await;
    // What a restored dump looks like: the ledger was written by another cluster.
    rig.sql
        .run("update pgrelay.meta set value = '1' where key = 'system_identifier'")
        .await;
    let second = rig.follow().await;
    let head = second.health.head().unwrap();
    assert_eq!(head.epoch, 2);
    rig.sql.run("insert into t values (2)").await;
    assert_eq!(second.changes(1).await, [r#"I t {"id":2,"v":null}"#]);
    second.stop().await;
    let third = rig.follow().await;
    assert_eq!(third.health.head().unwrap().epoch, 2, "once is enough");
    third.stop().await;
}

#[tokio::test]
async fn rows_of_a_foreign_future_are_not_told_for_ever() {
    let rig = Rig::new().await;
    let first = rig.follow().await;
    first.stop().await;
    rig.sql
        .run(
            "insert into pgrelay.log (segment, xid, relid, op) values (0, '999999999999', 't'::regclass, 'I');
             update pgrelay.ledger set snap = '888888888888:888888888888:'",
        )
        .await;
    let second = rig.follow().await;
    assert_eq!(second.health.head().unwrap().epoch, 2);
    rig.sql.run("insert into t values (1)").await;
    assert_eq!(second.changes(1).await, ids(1));
    second.stop().await;
}

#[tokio::test]
async fn a_lost_tail_is_told_to_subscribers() {
    let rig = Rig::new().await;
    let following = rig.follow().await;
    for id in 1..=3 {
        rig.sql.run(&format!("insert into t values ({id})")).await;
        following.changes(id).await;
    }
    // A failover to a standby that had not received the last batch.
    rig.sql
        .run("delete from pgrelay.ledger where id = (select max(id) from pgrelay.ledger)")
        .await;
    rig.sql.run(KILL).await;
    assert_eq!(
        following.event("the break", broken).await,
        RefetchReason::Epoch
    );
    rig.sql.run("insert into t values (4)").await;
    assert_eq!(following.changes(4).await[3], r#"I t {"id":4,"v":null}"#);
    assert_eq!(following.health.head().unwrap().epoch, 2);
    following.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_tell_the_same_and_one_takes_over_from_the_other() {
    let rig = Rig::new().await;
    let one = rig.follow().await;
    wait_for("a leader", async || one.health.is_leader().then_some(())).await;
    let two = rig.follow().await;
    for id in 1..=50 {
        rig.sql.run(&format!("insert into t values ({id})")).await;
    }
    assert_eq!(one.changes(50).await, ids(50));
    assert_eq!(two.changes(50).await, ids(50));
    let positions = |following: &Following| -> Vec<_> {
        following.feed.pages().iter().map(|page| page.end).collect()
    };
    let head = positions(&one);
    assert_eq!(
        positions(&two)[positions(&two).len() - 1],
        head[head.len() - 1]
    );
    assert!(!two.health.is_leader());
    one.stop().await;
    rig.sql.run("insert into t values (51)").await;
    assert_eq!(two.changes(51).await, ids(51));
    wait_for("the other to lead", async || {
        two.health.is_leader().then_some(())
    })
    .await;
    rig.sql.run("insert into t values (52)").await;
    assert_eq!(two.changes(52).await, ids(52));
    two.stop().await;
}

#[tokio::test]
async fn a_follower_sequences_when_the_leader_stands_still() {
    let rig = Rig::new().await;
    // Somebody who holds the lease and does nothing.
    rig.sql
        .run("select pg_advisory_lock(pgrelay.lease_key())")
        .await;
    let following = rig.follow().await;
    let writer = rig.database.connect().await;
    writer.run("insert into t values (1)").await;
    assert_eq!(following.changes(1).await, ids(1));
    assert!(!following.health.is_leader());
    following.stop().await;
}

#[tokio::test]
async fn a_connection_outlives_whoever_it_was_made_for() {
    const ASKED: &str = "select pid from pg_stat_activity where datname = current_database() \
         and pid <> pg_backend_pid() and query like '%from pgrelay.session%'";
    let rig = Rig::new().await;
    let sessions = open(rig.config(), Arc::new(Metrics::default())).sessions;
    let asking = sessions.load(Uuid::nil());
    let shard = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(asking).unwrap();
    });
    tokio::task::spawn_blocking(|| shard.join().unwrap())
        .await
        .unwrap();
    let made = rig.sql.rows(ASKED).await;
    assert_eq!(made.len(), 1);
    sessions.load(Uuid::nil()).await.unwrap();
    assert_eq!(rig.sql.rows(ASKED).await, made);
}
