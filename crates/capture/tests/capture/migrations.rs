//! Installing and upgrading the schema.

use pgrelay_capture::{Error, check_schema, cursor_key, migrate, migrations};
use pgrelay_test_support::{Role, TestDatabase};

use crate::rig::{Following, config};

#[tokio::test]
async fn migrating_twice_does_nothing_the_second_time() {
    let database = TestDatabase::create().await;
    let config = config(database.url());
    let first = migrate(&config).await.unwrap();
    assert!(first.applied.contains(&"pgrelay/0001_log"));
    let second = migrate(&config).await.unwrap();
    assert_eq!(second.applied, Vec::<&str>::new());
    let key = cursor_key(&config).await.unwrap();
    assert_eq!(cursor_key(&config).await.unwrap(), key);
    assert!(migrations().contains("create schema pgrelay"));
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_that_start_together_do_not_collide() {
    let database = TestDatabase::create().await;
    let config = config(database.url());
    let (a, b, c) = futures::join!(migrate(&config), migrate(&config), migrate(&config));
    let applied: Vec<usize> = [a, b, c]
        .into_iter()
        .map(|report| report.unwrap().applied.len())
        .collect();
    assert_eq!(applied.iter().filter(|n| **n > 0).count(), 1, "{applied:?}");
}

#[tokio::test]
async fn a_plain_owner_gets_a_working_schema_and_the_sql_for_the_rest() {
    let database = TestDatabase::create_as(Role::Owner).await;
    let config = config(database.url());
    let report = migrate(&config).await.unwrap();
    assert!(
        report
            .needs
            .iter()
            .any(|sql| sql.contains("create event trigger")),
        "{:?}",
        report.needs
    );
    let sql = database.connect().await;
    sql.run("create table t (id int primary key)").await;
    sql.run("select pgrelay.enable('t')").await;
    let following = Following::start(config).live().await;
    sql.run("insert into t values (1)").await;
    assert_eq!(following.changes(1).await, [r#"I t {"id":1}"#]);
    following.stop().await;
}

#[tokio::test]
async fn a_released_file_that_changed_is_an_error() {
    let database = TestDatabase::create().await;
    let config = config(database.url());
    migrate(&config).await.unwrap();
    database
        .connect()
        .await
        .run("update pgrelay.schema_migrations set checksum = 'x' where name like '%0002%'")
        .await;
    assert!(
        matches!(migrate(&config).await, Err(Error::MigrationChanged { name }) if name == "pgrelay/0002_capture")
    );
}

#[tokio::test]
async fn a_schema_that_is_missing_or_older_is_named() {
    let database = TestDatabase::create().await;
    let config = config(database.url());
    let missing = cursor_key(&config).await.unwrap_err();
    assert_eq!(
        missing.to_string(),
        "schema pgrelay is missing and needs installing; run `pgrelay migrate`"
    );
    migrate(&config).await.unwrap();
    check_schema(&config).await.unwrap();
    database
        .connect()
        .await
        .run("delete from pgrelay.schema_migrations where name like '%0005%'")
        .await;
    assert!(
        matches!(cursor_key(&config).await, Err(Error::Schema { found, .. }) if found == "without pgrelay/0005_publish")
    );
}

#[tokio::test]
async fn a_publication_of_another_name_is_made_and_followed() {
    let database = TestDatabase::create().await;
    let mut config = config(database.url());
    "my \"own\" publication".clone_into(&mut config.publication);
    let report = migrate(&config).await.unwrap();
    assert!(
        report
            .needs
            .iter()
            .all(|sql| !sql.contains("create publication"))
    );
    let sql = database.connect().await;
    sql.run(r#"create table t (id int primary key); alter publication "my ""own"" publication" add table t"#).await;
    sql.run("select pgrelay.sync()").await;
    let following = Following::start(config).live().await;
    sql.run("insert into t values (1)").await;
    assert_eq!(following.changes(1).await, [r#"I t {"id":1}"#]);
    following.stop().await;
}
