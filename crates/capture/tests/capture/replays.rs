//! Past changes through the ledger, and cursors that cannot be honoured.

use std::sync::Arc;

use pgrelay_protocol::{Position, RefetchReason};
use pgrelay_relay::{change::Page, ports::ReplayError};

use crate::rig::{Rig, told};

/// Position and content of every change.
fn listed(pages: &[Arc<Page>]) -> Vec<(Position, String, String)> {
    pages
        .iter()
        .flat_map(|page| {
            page.changes.iter().map(|change| {
                (
                    page.position(change),
                    change.commit_timestamp.to_string(),
                    told(change),
                )
            })
        })
        .collect()
}

#[tokio::test]
async fn a_replay_from_anywhere_tells_what_was_told_live() {
    let rig = Rig::new().await;
    let following = rig.follow().await;
    let start = following.health.head().unwrap();
    for id in 0..30 {
        rig.sql
            .run(&format!("insert into t values ({id}), ({})", 1000 + id))
            .await;
    }
    rig.sql.run("update t set v = 'x'").await;
    rig.sql
        .run("insert into t select i from generate_series(10001, 12000) i")
        .await;
    rig.sql.run("delete from t where id < 10000").await;
    following.changes(60 + 60 + 2000 + 60).await;
    let live = listed(&following.feed.pages());
    for bytes_max in [1, 10_000, 1 << 30] {
        assert_eq!(
            listed(&following.replay(start, bytes_max).await.unwrap()),
            live,
            "{bytes_max}"
        );
    }
    // From within batches small and large.
    for at in [0, 1, 2, 59, 60, 90, 120, 700, 2119, 2120, 2178] {
        let rest = listed(&following.replay(live[at].0, 1 << 30).await.unwrap());
        assert_eq!(rest, live[at + 1..], "{at}");
    }
    let end = following.feed.pages().last().unwrap().end;
    let nothing = following.replay(end, 1 << 20).await.unwrap();
    assert!(nothing.is_empty());
    following.stop().await;
}

#[tokio::test]
async fn a_replay_is_bounded_in_bytes() {
    use pgrelay_relay::ports::ChangeLog as _;
    let rig = Rig::new().await;
    let following = rig.follow().await;
    let start = following.health.head().unwrap();
    rig.sql
        .run("insert into t select i, repeat('x', 100000) from generate_series(1, 50) i")
        .await;
    following.changes(50).await;
    let part = following.log.read(start, 300_000).await.unwrap();
    let bytes: usize = part.pages.iter().map(|page| page.bytes).sum();
    assert!((300_000..2_000_000).contains(&bytes), "{bytes}");
    following.stop().await;
}

#[tokio::test]
async fn cursors_of_another_history_are_refused() {
    let rig = Rig::new().await;
    let following = rig.follow().await;
    rig.sql.run("insert into t values (1)").await;
    following.changes(1).await;
    let here = following.feed.pages()[0].end;
    let refused = async |position| match following.replay(position, 1000).await {
        Err(ReplayError::Refetch(reason)) => reason,
        other => panic!("{position:?}: {other:?}"),
    };
    assert_eq!(
        refused(Position {
            tag: !here.tag,
            ..here
        })
        .await,
        RefetchReason::Epoch
    );
    assert_eq!(
        refused(Position {
            epoch: here.epoch + 1,
            ..here
        })
        .await,
        RefetchReason::Epoch
    );
    assert_eq!(
        refused(Position {
            batch: here.batch + 100,
            ..here
        })
        .await,
        RefetchReason::Epoch
    );
    assert_eq!(
        refused(Position {
            batch: u64::MAX,
            ..here
        })
        .await,
        RefetchReason::Forged
    );
    assert_eq!(
        refused(Position { seq: -5, ..here }).await,
        RefetchReason::Forged
    );
    following.stop().await;
}

#[tokio::test]
async fn what_was_recycled_is_refused_and_what_was_not_is_told() {
    let rig = Rig::new().await;
    let following = rig.follow().await;
    let start = following.health.head().unwrap();
    rig.sql.run("insert into t values (1)").await;
    following.changes(1).await;
    rig.sql.run("insert into t values (2), (3)").await;
    following.changes(3).await;
    let old = following.feed.pages();
    // Writers move on, and the segment they leave is given up at once.
    rig.sql.run("select pgrelay.switch_segment()").await;
    rig.sql.run("insert into t values (4)").await;
    following.changes(4).await;
    rig.sql
        .run("do $$ begin perform pgrelay.maintain('0 seconds', 1000000000) from generate_series(1, 1); end $$")
        .await;
    assert_eq!(
        rig.sql.value("select count(*) from pgrelay.log_0").await,
        "0"
    );
    for gone in [start, old[0].end] {
        assert_eq!(
            following.replay(gone, 1000).await.unwrap_err(),
            ReplayError::Refetch(RefetchReason::Retention),
            "{gone:?}"
        );
    }
    let within = old[1].position(&old[1].changes[0]);
    assert_eq!(
        following.replay(within, 1000).await.unwrap_err(),
        ReplayError::Refetch(RefetchReason::Retention)
    );
    let rest = following.replay(old[1].end, 1000).await.unwrap();
    assert_eq!(listed(&rest).len(), 1);
    following.stop().await;
}

#[tokio::test]
async fn a_database_that_is_away_is_not_a_lost_history() {
    let server = pgrelay_test_support::PostgresServer::builder()
        .start()
        .await;
    let mut server = server;
    let database = pgrelay_test_support::TestDatabase::create_on(
        &server.url(),
        pgrelay_test_support::Role::Superuser,
    )
    .await;
    let config = crate::rig::config(database.url());
    pgrelay_capture::migrate(&config).await.unwrap();
    let following = crate::rig::Following::start(config).live().await;
    let head = following.health.head().unwrap();
    server.stop().await;
    assert!(matches!(
        following.replay(head, 1000).await,
        Err(ReplayError::Unavailable(_))
    ));
    server.start().await;
    pgrelay_test_support::wait_for("an answer", async || {
        following.replay(head, 1000).await.ok()
    })
    .await;
    following.stop().await;
}
