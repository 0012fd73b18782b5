//! Batches: complete, in order, bounded.

use std::sync::Arc;

use pgrelay_relay::{change::Page, ports::FeedEvent};

use crate::rig::{Following, Rig, told};

fn values(pages: &[Arc<Page>]) -> Vec<String> {
    pages
        .iter()
        .flat_map(|page| page.changes.iter().map(told))
        .collect()
}

#[tokio::test]
async fn transactions_are_told_whole_and_when_they_commit() {
    let rig = Rig::new().await;
    let following = rig.follow().await;
    let slow = rig.database.connect().await;
    slow.run("begin; insert into t values (1)").await;
    rig.sql.run("insert into t values (2)").await;
    following.changes(1).await;
    slow.run("insert into t values (3)").await;
    slow.run("commit").await;
    let told = following.changes(3).await;
    assert_eq!(
        told,
        [
            r#"I t {"id":2,"v":null}"#,
            r#"I t {"id":1,"v":null}"#,
            r#"I t {"id":3,"v":null}"#
        ]
    );
    let pages = following.feed.pages();
    assert!(pages[0].end < pages[1].end);
    assert_eq!(pages[1].changes.len(), 2, "one transaction is in one batch");
    assert_eq!(
        pages[1].changes[0].commit_timestamp,
        pages[1].changes[1].commit_timestamp
    );
    following.stop().await;
}

#[tokio::test]
async fn images_are_whole_and_rendered_alike_in_every_session() {
    let rig = Rig::new().await;
    rig.table(
        r#"create table "Odd, ""Name""" (k int primary key, at timestamptz, b bytea)"#,
        r#""Odd, ""Name""""#,
    )
    .await;
    let following = rig.follow().await;
    rig.sql
        .run("set timezone = 'Asia/Tokyo'; set bytea_output = 'escape'; set datestyle = 'German'")
        .await;
    rig.sql
        .run(r#"insert into "Odd, ""Name""" values (1, '2024-01-02 03:04:05+00', '\x01ff')"#)
        .await;
    rig.sql.run(r#"update "Odd, ""Name""" set at = null"#).await;
    rig.sql.run(r#"delete from "Odd, ""Name""""#).await;
    let v1 = r#"{"k":1,"at":"2024-01-02T03:04:05+00:00","b":"\\x01ff"}"#;
    let v2 = r#"{"k":1,"at":null,"b":"\\x01ff"}"#;
    let name = r#"Odd, "Name""#;
    assert_eq!(
        following.changes(3).await,
        [
            format!("I {name} {v1}"),
            format!("U {name} {v2} {v1}"),
            format!("D {name} {v2}")
        ]
    );
    following.stop().await;
}

#[tokio::test]
async fn versions_logged_out_of_order_are_told_in_the_order_they_were_made() {
    let rig = Rig::new().await;
    // The first row's trigger changes the second row, twice, before that row's own trigger has had its turn.
    rig.sql
        .run(
            "create function meddle() returns trigger language plpgsql as $$
             begin
               if new.v = 'first' then
                 update t set v = 'second, again' where id = new.id + 1;
                 update t set v = 'second, at last' where id = new.id + 1;
               end if;
               return null;
             end $$;
             create trigger meddle after insert on t for each row execute function meddle()",
        )
        .await;
    let following = rig.follow().await;
    rig.sql
        .run("insert into t values (1, 'first'), (2, 'second')")
        .await;
    // The same in a batch that is much larger than a page.
    rig.sql
        .run(
            "insert into t select i, case when i % 2 = 1 then 'first' else 'second' end
               from generate_series(1001, 3000) i",
        )
        .await;
    let changes = following.changes(4 + 4000).await;
    let history = |id: i32| -> Vec<&String> {
        changes
            .iter()
            .filter(|change| change.contains(&format!(r#"{{"id":{id},"#)))
            .collect()
    };
    for id in (2..=2).chain((1002..=3000).step_by(2)) {
        let v = |text: &str| format!(r#"{{"id":{id},"v":"{text}"}}"#);
        assert_eq!(
            history(id),
            [
                &format!("I t {}", v("second")),
                &format!("U t {} {}", v("second, again"), v("second")),
                &format!("U t {} {}", v("second, at last"), v("second, again")),
            ]
        );
    }
    // A replay tells the same at the same positions.
    let pages = following.feed.pages();
    let from = pages[0].end;
    let replayed = following.replay(from, 1 << 30).await.unwrap();
    assert_eq!(values(&replayed), changes[4..]);
    following.stop().await;
}

#[tokio::test]
async fn a_large_batch_comes_in_bounded_pages_as_fast_as_the_relay_takes_them() {
    const ROWS: usize = 20_000;
    let rig = Rig::new().await;
    let following = Following::start_gated(rig.config()).live().await;
    rig.sql
        .run(&format!(
            "insert into t select i, 'x' from generate_series(1, {ROWS}) i"
        ))
        .await;
    following.feed.admit(3);
    following.changes(1500).await;
    assert!(
        following.feed.pages().len() <= 3,
        "nothing is told before the relay takes it"
    );
    // The session outlives a relay that takes its time.
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    following.feed.admit(1_000_000);
    let told = following.changes(ROWS).await;
    let expected: Vec<_> = (1..=ROWS)
        .map(|i| format!(r#"I t {{"id":{i},"v":"x"}}"#))
        .collect();
    assert_eq!(told, expected);
    let pages = following.feed.pages();
    assert!(pages.iter().all(|page| page.changes.len() <= 512));
    let (last, others) = pages.split_last().unwrap();
    assert_eq!(last.end.seq, i64::MAX);
    assert!(
        others
            .iter()
            .all(|page| page.end.seq == page.changes.last().unwrap().seq)
    );
    assert!(
        pages
            .iter()
            .flat_map(|page| &page.changes)
            .all(|c| c.commit_timestamp == last.changes[0].commit_timestamp)
    );
    assert_eq!(following.metric("reconnects_total"), 0);
    following.stop().await;
}

#[tokio::test]
async fn pages_of_large_rows_are_bounded_in_bytes() {
    let rig = Rig::new().await;
    let following = rig.follow().await;
    rig.sql
        .run("insert into t select i, repeat('x', 200000) from generate_series(1, 30) i")
        .await;
    following.changes(30).await;
    let pages = following.feed.pages();
    assert!(pages.len() >= 5, "{}", pages.len());
    assert!(pages.iter().all(|page| page.bytes < 1_500_000));
    following.stop().await;
}

#[tokio::test]
async fn partitions_are_told_under_the_name_the_publication_gives_them() {
    let rig = Rig::new().await;
    rig.sql
        .run(
            "create table root (id int primary key, v text) partition by range (id);
             create table low partition of root for values from (0) to (100);
             create table high (v text, id int not null);
             alter table root attach partition high for values from (100) to (200)",
        )
        .await;
    rig.sql.run("select pgrelay.enable('root')").await;
    let following = rig.follow().await;
    rig.sql.run("insert into root values (1, 'a')").await;
    assert_eq!(following.changes(1).await, [r#"I low {"id":1,"v":"a"}"#]);
    rig.sql
        .run("alter publication supabase_realtime set (publish_via_partition_root = true)")
        .await;
    following
        .event("news of the catalog", |event| {
            matches!(event, FeedEvent::CatalogChanged).then_some(())
        })
        .await;
    rig.sql
        .run("insert into root values (2, 'b'), (101, 'c')")
        .await;
    assert_eq!(
        following.changes(3).await[1..],
        [r#"I root {"id":2,"v":"b"}"#, r#"I root {"v":"c","id":101}"#]
    );
    let page = following.feed.pages().pop().unwrap();
    let high = &page.changes[page.changes.len() - 1];
    assert_eq!(
        high.new.as_ref().unwrap().value(0),
        Some("101"),
        "columns are found by name"
    );
    following.stop().await;
}

#[tokio::test]
async fn renamed_and_dropped_things_never_stop_the_stream() {
    let rig = Rig::new().await;
    rig.table("create table doomed (id int primary key)", "doomed")
        .await;
    let following = rig.follow().await;
    let open = rig.database.connect().await;
    open.run(
        "begin;
         insert into t values (1, 'a');
         alter table t rename column v to w;
         alter table t add column x int default 7;
         insert into t values (2, 'b');
         insert into doomed values (1);
         drop table doomed;
         alter table t rename to u;
         insert into u values (3, 'c');
         commit",
    )
    .await;
    open.run("alter table u drop column w; insert into u values (4)")
        .await;
    let told = following.changes(4).await;
    let kept: Vec<_> = told
        .iter()
        .filter(|change| !change.contains("doomed"))
        .collect();
    assert_eq!(
        kept,
        [
            r#"I u {"id":1,"v":"a"}"#,
            r#"I u {"id":2,"w":"b","x":7}"#,
            r#"I u {"id":3,"w":"c","x":7}"#,
            r#"I u {"id":4,"x":7}"#
        ]
    );
    following.stop().await;
}

#[tokio::test]
async fn a_definition_that_changes_is_known_before_the_next_row() {
    let rig = Rig::new().await;
    let following = rig.follow().await;
    rig.sql
        .run("insert into t values (1); alter table t replica identity full; grant select on t to anon")
        .await;
    rig.sql.run("insert into t values (2)").await;
    following.changes(2).await;
    rig.sql
        .run("alter table t enable row level security; insert into t values (3)")
        .await;
    following.changes(3).await;
    let pages = following.feed.pages();
    let relations: Vec<_> = pages
        .iter()
        .flat_map(|page| &page.changes)
        .map(|change| Arc::clone(&change.relation))
        .collect();
    assert!(relations[1].identity_full);
    assert!(relations[1].columns.iter().all(|column| column.identity));
    // What roles may do is asked again when the definition is another one.
    assert!(!Arc::ptr_eq(&relations[1], &relations[2]));
    following.stop().await;
}

#[tokio::test]
async fn a_truncate_and_an_uncaptured_time_are_holes() {
    let rig = Rig::new().await;
    let following = rig.follow().await;
    rig.sql.run("truncate t").await;
    assert_eq!(following.changes(1).await, ["H t"]);
    rig.sql.run("alter table t disable trigger user").await;
    assert_eq!(following.changes(2).await[1], "H t");
    rig.sql.run("insert into t values (2)").await;
    assert_eq!(following.changes(3).await[2], r#"I t {"id":2,"v":null}"#);
    following.stop().await;
}
