//! What an operator does by hand.

use pgrelay_capture::{Verdict, admin, doctor, migrate};
use pgrelay_test_support::{PostgresServer, Role, TestDatabase};

use crate::rig::{Rig, config};

#[tokio::test]
async fn a_table_is_published_and_withdrawn_and_the_sql_shown() {
    let rig = Rig::new().await;
    rig.sql
        .run(r#"create table "Odd name" (id int primary key)"#)
        .await;
    let enabled = admin::enable(&rig.config(), r#""Odd name""#).await.unwrap();
    assert!(
        enabled[0].contains(r#"alter publication supabase_realtime add table public."Odd name""#),
        "{enabled:?}"
    );
    let status = admin::status(&rig.config()).await.unwrap();
    let names: Vec<_> = status
        .tables
        .iter()
        .map(|table| (&*table.name, &table.missing))
        .collect();
    assert_eq!(names, [(r#""Odd name""#, &None), ("t", &None)]);
    let disabled = admin::disable(&rig.config(), r#"public."Odd name""#)
        .await
        .unwrap();
    assert_eq!(disabled.len(), 3, "{disabled:?}");
    assert_eq!(admin::status(&rig.config()).await.unwrap().tables.len(), 1);
    let error = admin::enable(&rig.config(), "no_such").await.unwrap_err();
    assert_eq!(
        error.report().to_string(),
        r#"publish a table: relation "no_such" does not exist (SQLSTATE 42P01)"#
    );
}

#[tokio::test]
async fn the_status_tells_position_and_who_sleeps() {
    let rig = Rig::new().await;
    let before = admin::status(&rig.config()).await.unwrap();
    assert_eq!(
        (before.head, before.leader, before.doorbell),
        (None, None, None)
    );
    let following = rig.follow().await;
    following.armed().await;
    let status = admin::status(&rig.config()).await.unwrap();
    assert_eq!(status.head, following.health.head());
    assert_eq!(
        status.leader.as_ref().map(|holder| &*holder.application),
        Some("pgrelay")
    );
    assert_eq!(status.leader, status.doorbell);
    assert!(status.log_bytes > 0 && !status.log_is_full);
    following.stop().await;
}

#[tokio::test]
async fn uninstalling_leaves_tables_and_writers_alone() {
    let rig = Rig::new().await;
    let statements = admin::uninstall(&rig.config()).await.unwrap();
    assert_eq!(statements.last().unwrap(), "drop schema pgrelay cascade");
    assert_eq!(
        rig.sql
            .value("select count(*) from pg_trigger where tgname like '!pgrelay%'")
            .await,
        "0"
    );
    rig.sql.run("insert into t values (1)").await;
    assert!(admin::uninstall(&rig.config()).await.unwrap().is_empty());
    assert!(
        !migrate(&rig.config()).await.unwrap().applied.is_empty(),
        "and it can be installed again"
    );
}

/// Findings that are not as they should be.
async fn complaints(config: &pgrelay_capture::Config) -> Vec<(&'static str, Verdict, String)> {
    let findings = doctor(config).await;
    assert!(
        findings
            .iter()
            .all(|finding| finding.verdict != Verdict::Red || finding.cure.is_some())
    );
    findings
        .into_iter()
        .filter(|finding| finding.verdict != Verdict::Ok)
        .map(|finding| (finding.name, finding.verdict, finding.detail))
        .collect()
}

#[tokio::test]
async fn the_doctor_is_content_with_a_fresh_installation_on_a_new_server() {
    let database = TestDatabase::create_as(Role::Superuser).await;
    let config = config(database.url());
    migrate(&config).await.unwrap();
    let sql = database.connect().await;
    sql.run("create table t (id int primary key)").await;
    admin::enable(&config, "t").await.unwrap();
    let version: u32 = sql
        .value("select current_setting('server_version_num')")
        .await
        .parse()
        .unwrap();
    let others: Vec<_> = complaints(&config)
        .await
        .into_iter()
        .filter(|(name, ..)| *name != "version")
        .collect();
    assert_eq!(others, []);
    assert_eq!(
        doctor(&config)
            .await
            .iter()
            .any(|f| f.name == "version" && f.verdict == Verdict::Ok),
        version >= 140_000
    );
}

#[tokio::test]
async fn the_doctor_names_what_is_wrong() {
    let rig = Rig::new().await;
    let superuser = rig.database.connect_superuser().await;
    superuser
        .run("drop event trigger if exists pgrelay_ddl")
        .await;
    rig.sql.run("alter table t disable trigger user").await;
    rig.sql
        .run("create table bare (v text); select pgrelay.enable('bare')")
        .await;
    superuser
        .run("alter publication supabase_realtime set (publish = 'insert, update')")
        .await;
    rig.sql
        .run("select pg_advisory_lock(pgrelay.doorbell_key())")
        .await;
    let found = complaints(&rig.config()).await;
    let has = |name: &str, verdict: Verdict, part: &str| {
        assert!(
            found
                .iter()
                .any(|(n, v, d)| *n == name && *v == verdict && d.contains(part)),
            "{name}: {found:?}"
        );
    };
    has("event trigger", Verdict::Warn, "missing");
    has("triggers", Verdict::Red, "missing on t");
    has("publication", Verdict::Red, "bare");
    has("doorbell", Verdict::Red, "which is no relay");
}

#[tokio::test]
async fn the_doctor_says_why_it_cannot_look() {
    let mut server = PostgresServer::builder().start().await;
    let fresh = complaints(&config(&server.url())).await;
    assert_eq!(fresh.last().unwrap().0, "schema");
    server.stop().await;
    let away = complaints(&config(&server.url())).await;
    assert_eq!(
        (away.len(), away[0].0, away[0].1),
        (1, "direct connection", Verdict::Red)
    );
}
