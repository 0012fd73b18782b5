//! Maintenance harms nobody: writers, readers, or what it has not been allowed to take.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is test code: it fails the test that uses it"
)]

use pgrelay_ledger_test::Schema;
use pgrelay_test_support::{Role, Session, TestDatabase};

/// Rounds after which a state that must come counts as not coming.
const ROUNDS_MAX: usize = 50;

/// A database with a captured table `t` and a history that has begun.
struct Rig {
    database: TestDatabase,
    sql: Session,
}

impl Rig {
    async fn new() -> Self {
        let database = TestDatabase::create_as(Role::Superuser).await;
        let sql = database.connect().await;
        Schema::shipped().install(&sql).await;
        sql.run(
            "create table t (id bigserial primary key);
             select pgrelay.enable('t');
             select pgrelay.begin_epoch('first')",
        )
        .await;
        Self { database, sql }
    }

    async fn connect(&self) -> Session {
        self.database.connect().await
    }

    async fn write(&self) {
        self.sql.run("insert into t default values").await;
    }

    /// One round that may recycle all that has been sequenced.
    async fn round(&self) -> Vec<String> {
        let rows = self
            .sql
            .rows("select action from pgrelay.maintain('0 s', 1000000000)")
            .await;
        rows.into_iter().flatten().flatten().collect()
    }

    /// Writes and keeps house until `action` is taken.
    async fn until(&self, action: &str) {
        for _ in 0..ROUNDS_MAX {
            self.write().await;
            if self.round().await.iter().any(|taken| taken == action) {
                return;
            }
        }
        panic!("never {action}");
    }

    async fn number(&self, sql: &str) -> i64 {
        self.sql.value(sql).await.parse().unwrap()
    }

    async fn segment(&self) -> i64 {
        self.number("select last_value from pgrelay.log_segment")
            .await
    }

    async fn segments(&self) -> i64 {
        self.number("select max(segment) from pgrelay.segments()")
            .await
    }
}

#[tokio::test]
async fn rounds_end_while_somebody_reads_the_whole_log() {
    let rig = Rig::new().await;
    let reader = rig.connect().await;
    reader.run("begin; select count(*) from pgrelay.log").await;
    for _ in 0..8 {
        rig.write().await;
        rig.sql.run("select from pgrelay.step()").await;
        let taken = rig.round().await;
        assert!(taken.iter().all(|action| action == "switched"), "{taken:?}");
    }
    reader.run("commit").await;
    rig.until("grown").await;
    rig.until("recycled").await;
}

#[tokio::test]
async fn a_round_that_is_cut_off_leaves_writers_and_the_next_round_alone() {
    let rig = Rig::new().await;
    let cut_off = rig.connect().await;
    for _ in 0..ROUNDS_MAX {
        rig.write().await;
        cut_off.run("begin").await;
        let taken = cut_off
            .rows("select action from pgrelay.maintain('0 s', 1000000000)")
            .await;
        cut_off.run("rollback").await;
        if taken
            .iter()
            .flatten()
            .flatten()
            .any(|action| action == "grown")
        {
            break;
        }
    }
    assert_eq!(rig.segments().await, 3);
    rig.write().await;
    rig.until("grown").await;
    assert_eq!(
        rig.number("select count(*) from pgrelay.log_default").await,
        0
    );
}

#[tokio::test]
async fn nobody_is_sent_to_a_segment_that_he_does_not_see() {
    let rig = Rig::new().await;
    let writer = rig.connect().await;
    writer.run("begin; insert into t default values").await;
    rig.until("grown").await;
    for _ in 0..5 {
        rig.write().await;
        rig.round().await;
        writer.run("insert into t default values").await;
    }
    assert!(rig.segment().await < rig.segments().await);
    writer.run("commit").await;
    rig.until("switched").await;
    assert_eq!(rig.segment().await, rig.segments().await);
    rig.write().await;
    assert_eq!(
        rig.number("select count(*) from pgrelay.log_default").await,
        0
    );
}

#[tokio::test]
async fn a_segment_in_use_does_not_keep_the_others() {
    let rig = Rig::new().await;
    let straggler = rig.connect().await;
    straggler.run("begin; insert into t default values").await;
    rig.until("switched").await;
    rig.until("switched").await;
    rig.sql.run("select from pgrelay.step()").await;
    rig.until("recycled").await;
    straggler.run("commit").await;
    rig.sql.run("select from pgrelay.step()").await;
    let last = rig
        .number("select n from pgrelay.ledger order by id desc limit 1")
        .await;
    let read = "select count(*) from pgrelay.read((select max(id) from pgrelay.ledger), 0, 1000)";
    assert_eq!(rig.number(read).await, last);
}

#[tokio::test]
async fn a_full_log_is_used_again() {
    let rig = Rig::new().await;
    rig.write().await;
    rig.sql
        .run("select setval('pgrelay.log_segment', -1)")
        .await;
    rig.write().await;
    assert_eq!(
        rig.number("select last_value from pgrelay.log_holes").await,
        1
    );
    rig.until("resumed").await;
    rig.write().await;
    assert!(rig.segment().await >= 0);
}

#[tokio::test]
async fn nothing_is_recycled_in_repeatable_read() {
    let rig = Rig::new().await;
    rig.until("switched").await;
    rig.sql.run("select from pgrelay.step()").await;
    rig.sql
        .run("set default_transaction_isolation = 'repeatable read'")
        .await;
    let refused = rig
        .sql
        .batch_execute("select from pgrelay.maintain('0 s', 1000000000)")
        .await
        .unwrap_err();
    let message = refused.as_db_error().unwrap().message();
    assert!(message.contains("read committed"), "{message}");
}

#[tokio::test]
async fn a_round_leaves_the_session_as_it_was() {
    let rig = Rig::new().await;
    rig.sql.run("begin").await;
    rig.round().await;
    assert_eq!(rig.sql.value("show lock_timeout").await, "0");
}

#[tokio::test]
async fn ranges_of_the_ledger_come_early_and_go_below_the_floor() {
    let rig = Rig::new().await;
    rig.sql.run("update pgrelay.ledger set id = 917503").await;
    rig.sql
        .run("update pgrelay.meta set value = '917503' where key = 'floor'")
        .await;
    rig.write().await;
    rig.sql.run("select from pgrelay.step()").await;
    assert_eq!(rig.round().await, ["switched", "ledger"]);
    rig.sql
        .run("update pgrelay.ledger set id = id + 200000; update pgrelay.meta set value = '1117504' where key = 'floor'")
        .await;
    assert!(rig.round().await.contains(&"ledger".into()));
    assert_eq!(
        rig.sql
            .value("select to_regclass('pgrelay.ledger_0')")
            .await,
        ""
    );
    rig.write().await;
    let id = rig.number("select id from pgrelay.step()").await;
    assert_eq!(id, 1_117_505);
}
