//! Sleeping, ringing and waking up.

use pgrelay_capture::Arm;
use pgrelay_test_support::{PostgresServer, Role, TestDatabase, wait_for};

use crate::rig::{Following, Rig, config};

#[tokio::test]
async fn a_sleeping_relay_is_woken_by_the_bell_and_sleeps_again() {
    let rig = Rig::new().await;
    let following = rig.follow().await;
    for id in 1..=3 {
        following.armed().await;
        rig.sql
            .run(&format!("insert into t values ({id}, 'x')"))
            .await;
        let told = following.changes(id).await;
        assert_eq!(
            told.last().unwrap(),
            &format!(r#"I t {{"id":{id},"v":"x"}}"#)
        );
    }
    following.armed().await;
    assert_eq!(following.metric("lost_wakeups_total"), 0);
    assert!(following.metric("rings_total") >= 3);
    following.stop().await;
}

#[tokio::test]
async fn a_rolled_back_row_is_never_told() {
    let rig = Rig::new().await;
    let following = rig.follow().await;
    rig.sql
        .run("begin; insert into t values (1); rollback")
        .await;
    rig.sql.run("begin; savepoint s; insert into t values (2); rollback to s; insert into t values (3); commit").await;
    assert_eq!(following.changes(1).await, [r#"I t {"id":3,"v":null}"#]);
    following.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_commit_is_missed_by_the_bell_around_falling_asleep() {
    let rig = Rig::new().await;
    let following = rig.follow().await;
    // Pairs of commits with silence after them, the second opened while the relay falls asleep.
    let writer = async |number: u32| {
        let sql = rig.database.connect().await;
        for round in 0..40 {
            let id = number * 1000 + round * 2;
            sql.run(&format!("insert into t values ({id})")).await;
            tokio::time::sleep(std::time::Duration::from_micros(u64::from(id % 7) * 700)).await;
            sql.run(&format!("begin; insert into t values ({})", id + 1))
                .await;
            tokio::time::sleep(std::time::Duration::from_micros(u64::from(id % 5) * 1500)).await;
            sql.run("commit").await;
            tokio::time::sleep(std::time::Duration::from_millis(40)).await;
        }
    };
    futures::join!(writer(1), writer(2), writer(3));
    assert_eq!(following.changes(240).await.len(), 240);
    assert_eq!(following.metric("lost_wakeups_total"), 0);
    assert!(following.metric("arms_total") > 20);
    following.stop().await;
}

#[tokio::test]
async fn an_open_transaction_keeps_the_relay_awake_but_not_from_telling() {
    let rig = Rig::new().await;
    let following = Following::start(pgrelay_capture::Config {
        arm: Arm::Never,
        ..rig.config()
    })
    .live()
    .await;
    let open = rig.database.connect().await;
    open.run("begin; insert into t values (1)").await;
    following.stop().await;
    let following = rig.follow().await;
    rig.sql.run("insert into t values (2)").await;
    assert_eq!(following.changes(1).await, [r#"I t {"id":2,"v":null}"#]);
    assert_eq!(
        following.metric("arms_total"),
        0,
        "the transaction found the key free"
    );
    open.run("commit").await;
    assert_eq!(following.changes(2).await[1], r#"I t {"id":1,"v":null}"#);
    following.armed().await;
    following.stop().await;
}

#[tokio::test]
async fn where_transactions_are_prepared_nobody_is_asked_to_ring() {
    let server = PostgresServer::builder()
        .set("max_prepared_transactions", "5")
        .start()
        .await;
    let database = TestDatabase::create_on(&server.url(), Role::Superuser).await;
    pgrelay_capture::migrate(&config(database.url()))
        .await
        .unwrap();
    let sql = database.connect().await;
    sql.run("create table t (id int primary key)").await;
    sql.run("select pgrelay.enable('t')").await;
    let following = Following::start(config(database.url())).live().await;
    sql.run("begin; insert into t values (1); prepare transaction 'p'")
        .await;
    sql.run("insert into t values (2)").await;
    assert_eq!(following.changes(1).await, [r#"I t {"id":2}"#]);
    sql.run("commit prepared 'p'").await;
    assert_eq!(following.changes(2).await[1], r#"I t {"id":1}"#);
    assert_eq!(following.metric("arms_total"), 0);
    following.stop().await;
}

#[tokio::test]
async fn a_table_published_while_the_relay_runs_is_captured() {
    let rig = Rig::new().await;
    let following = rig.follow().await;
    rig.sql.run("create table late (id int primary key)").await;
    rig.sql
        .run("alter publication supabase_realtime add table late")
        .await;
    wait_for("the trigger", async || {
        let attached = rig
            .sql
            .value("select count(*) from pg_trigger where tgrelid = 'late'::regclass")
            .await;
        (attached == "2").then_some(())
    })
    .await;
    rig.sql.run("insert into late values (1)").await;
    assert_eq!(following.changes(1).await, [r#"I late {"id":1}"#]);
    following
        .event("news of the catalog", |event| match event {
            pgrelay_relay::ports::FeedEvent::CatalogChanged => Some(()),
            _ => None,
        })
        .await;
    following.stop().await;
}
