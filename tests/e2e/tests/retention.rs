//! The log takes a bounded place, and making room never loses a row that nobody has told yet, nor holds up a writer.
#![allow(
    clippy::unwrap_used,
    reason = "this is test code: it fails the test that uses it"
)]

use pgrelay_e2e::CaptureDatabase;
use pgrelay_test_support::{Session, wait_for};

const MESSAGES: &str = "create table public.messages (id int primary key, body text)";

/// No time at all, and room enough: everything may go as soon as it is in a batch.
const AT_ONCE: &str =
    "select concat_ws(' ', action, detail) from pgrelay.maintain('0', 1000000000)";

/// All the time in the world, and room enough.
const NEVER: &str =
    "select concat_ws(' ', action, detail) from pgrelay.maintain('1 year', 1000000000)";

async fn messages() -> CaptureDatabase {
    let database = CaptureDatabase::create().await;
    database.capture(MESSAGES, "public.messages").await;
    database
}

/// The same, after the first start of a relay.
async fn sequenced_messages() -> CaptureDatabase {
    let database = messages().await;
    database
        .session()
        .run("select pgrelay.begin_epoch('test')")
        .await;
    database
}

async fn round(session: &Session, maintain: &str) -> Vec<String> {
    let rows = session.rows(maintain).await;
    rows.into_iter()
        .map(|row| row[0].clone().unwrap())
        .collect()
}

async fn insert(session: &Session, id: u32) {
    session
        .run(&format!("insert into public.messages values ({id}, 'a')"))
        .await;
}

/// Where writers write.
async fn segment(session: &Session) -> String {
    session
        .value("select last_value from pgrelay.log_segment")
        .await
}

async fn segments(session: &Session) -> String {
    session
        .value("select count(segment) from pgrelay.segments()")
        .await
}

/// The ids of the messages of a batch.
async fn read(session: &Session, batch: u32) -> String {
    session
        .value(&format!(
            "select string_agg(new_row::json ->> 'id', ',') from pgrelay.read({batch}, 0, 1000)"
        ))
        .await
}

async fn floor(session: &Session) -> String {
    session
        .value("select value from pgrelay.meta where key = 'floor'")
        .await
}

#[tokio::test]
async fn a_segment_is_emptied_when_all_its_rows_are_in_batches_and_old() {
    let database = sequenced_messages().await;
    let session = database.session();
    insert(session, 1).await;
    assert_eq!(round(session, AT_ONCE).await, ["switched segment 1"]);
    // The row is in no batch yet, whatever its age.
    assert_eq!(round(session, AT_ONCE).await, [""; 0]);
    session.run("select pgrelay.step()").await;
    assert_eq!(read(session, 2).await, "1");
    // It is in one now, which is too young.
    assert_eq!(round(session, NEVER).await, [""; 0]);
    assert_eq!(read(session, 2).await, "1");
    assert_eq!(round(session, AT_ONCE).await, ["recycled pgrelay.log_0"]);
    assert_eq!(floor(session).await, "2");
    assert_eq!(database.log().await, []);
}

#[tokio::test]
async fn history_gives_way_to_disk() {
    let database = sequenced_messages().await;
    let session = database.session();
    let small = "select concat_ws(' ', action, detail) from pgrelay.maintain('1 year', 1)";
    session
        .run("insert into public.messages select i, repeat(md5(i::text), 100) from generate_series(1, 500) i")
        .await;
    session.run("select pgrelay.step()").await;
    assert_eq!(
        round(session, small).await,
        ["switched segment 1", "recycled pgrelay.log_0"]
    );
}

#[tokio::test]
async fn a_long_transaction_keeps_its_rows_and_they_are_told_once() {
    let database = sequenced_messages().await;
    let session = database.session();
    let long = database.another_session().await;
    long.run("begin; insert into public.messages values (1, 'long')")
        .await;
    insert(session, 2).await;
    session.run("select pgrelay.step()").await;
    assert_eq!(round(session, AT_ONCE).await, ["switched segment 1"]);
    // The other writers' rows in that segment could go, and the transaction is still open.
    assert_eq!(round(session, AT_ONCE).await, [""; 0]);
    // It goes on where the others are.
    long.run("insert into public.messages values (3, 'long'); commit")
        .await;
    // Its rows are committed and in no batch.
    assert_eq!(round(session, AT_ONCE).await, ["switched segment 2"]);
    session.run("select pgrelay.step()").await;
    assert_eq!(
        (read(session, 2).await, read(session, 3).await),
        ("2".to_owned(), "1,3".to_owned())
    );
    let mut recycled = Vec::new();
    for _ in 0..2 {
        recycled.extend(round(session, AT_ONCE).await);
    }
    assert_eq!(
        recycled,
        ["recycled pgrelay.log_0", "recycled pgrelay.log_1"]
    );
    assert_eq!(database.log().await, []);
}

#[tokio::test]
async fn a_transaction_that_does_not_know_a_new_segment_is_never_sent_there() {
    let database = messages().await;
    let session = database.session();
    for id in 1..=3 {
        insert(session, id).await;
        round(session, AT_ONCE).await;
    }
    // It holds the log in its own view from before the segment was there.
    let old = database.another_session().await;
    old.run("begin; insert into public.messages values (10, 'old')")
        .await;
    insert(session, 4).await;
    for _ in 0..3 {
        round(session, AT_ONCE).await;
    }
    assert_eq!(segments(session).await, "5");
    assert_eq!(segment(session).await, "3");
    old.run("insert into public.messages values (11, 'old'); commit")
        .await;
    wait_for("writers to move on", async || {
        round(session, AT_ONCE).await;
        (segment(session).await == "4").then_some(())
    })
    .await;
}

#[tokio::test]
async fn writers_go_on_while_a_round_is_under_way() {
    let database = sequenced_messages().await;
    let session = database.session();
    for id in 1..=2 {
        insert(session, id).await;
        round(session, AT_ONCE).await;
    }
    insert(session, 3).await;
    session.run("select pgrelay.step()").await;
    // A round that moves writers, empties a segment and is not committed yet.
    let housekeeper = database.another_session().await;
    housekeeper.run("begin").await;
    assert_eq!(
        round(&housekeeper, AT_ONCE).await,
        ["switched segment 3", "recycled pgrelay.log_0"]
    );
    insert(session, 4).await;
    housekeeper.run("commit").await;
    // And one that adds a segment.
    session
        .run("select pgrelay.begin_epoch('nothing to recycle')")
        .await;
    insert(session, 5).await;
    housekeeper.run("begin; select pgrelay.grow_ring()").await;
    insert(session, 6).await;
    housekeeper.run("rollback").await;
    insert(session, 7).await;
    assert_eq!(database.told().await, ["I messages"; 6]);
}

#[tokio::test]
async fn a_segment_that_must_stay_is_locked_for_nobody() {
    let database = sequenced_messages().await;
    let session = database.session();
    insert(session, 1).await;
    session.run("select pgrelay.step()").await;
    round(session, AT_ONCE).await;
    insert(session, 2).await;
    session.run("begin").await;
    // Young: it stays. Unsequenced: it stays.
    assert_eq!(round(session, NEVER).await, [""; 0]);
    let locks = "select count(*) from pg_locks
                  where pid = pg_backend_pid() and mode = 'AccessExclusiveLock' and relation::regclass::text like 'pgrelay.log\\_%'";
    assert_eq!(session.value(locks).await, "0");
    session.run("commit").await;
}

#[tokio::test]
async fn a_segment_is_not_emptied_on_the_word_of_an_old_snapshot() {
    let database = sequenced_messages().await;
    let session = database.session();
    insert(session, 1).await;
    assert_eq!(round(session, AT_ONCE).await, ["switched segment 1"]);
    session.run("select pgrelay.step()").await;
    session
        .run("begin isolation level repeatable read; select 1")
        .await;
    assert_eq!(CaptureDatabase::refusal(session, AT_ONCE).await, "P0001");
    session.run("rollback").await;
    assert_eq!(database.log().await.len(), 1);
}

#[tokio::test]
async fn a_log_that_no_relay_has_read_yet_is_left_alone() {
    let database = messages().await;
    let session = database.session();
    for id in 1..=2 {
        insert(session, id).await;
        let small = "select concat_ws(' ', action, detail) from pgrelay.maintain('0', 1)";
        assert_eq!(
            round(session, small).await,
            [format!("switched segment {id}")]
        );
    }
    assert_eq!(database.log().await.len(), 2);
}

#[tokio::test]
async fn without_a_relay_the_log_stops_at_its_cap_and_says_so_when_one_comes() {
    let database = sequenced_messages().await;
    let session = database.session();
    // What the last round of a relay left behind, with a bound of one megabyte.
    session.run("select pgrelay.maintain('1 hour', 1)").await;
    let room = session
        .value(
            "select last_value - (select bytes from pgrelay.segments() where segment = 0)
               from pgrelay.log_segment_bytes_max",
        )
        .await;
    assert_eq!(room, "1048576");
    // Large rows are not let pass until a round number comes.
    session
        .run(
            "insert into public.messages select i, string_agg(md5(i || ' ' || j), '')
                from generate_series(1, 30) i, generate_series(1, 2500) j group by i",
        )
        .await;
    assert_eq!(segment(session).await, "-1");
    let logged = database.log().await.len();
    assert!((10..30).contains(&logged), "{logged} rows in a megabyte");
    // Writers go on.
    session
        .run("update public.messages set body = 'b'; delete from public.messages where id = 1; truncate public.messages")
        .await;
    assert_eq!(database.log().await.len(), logged);
    let holes = database.holes_counted().await;
    assert_eq!(holes, (30 - logged + 30 + 1 + 1).to_string());

    // A relay is back.
    assert_eq!(
        round(
            session,
            "select concat_ws(' ', action, detail) from pgrelay.maintain('1 hour', 100000000)"
        )
        .await,
        ["resumed segment 1"]
    );
    let settled = wait_for("the holes to be told", async || {
        let settled = session.value("select pgrelay.settle_holes()").await;
        (settled != "0").then_some(settled)
    })
    .await;
    assert_eq!(settled, holes);
    insert(session, 1).await;
    let told = database.told().await;
    assert_eq!(told[logged..], ["H", "I messages"]);
}

#[tokio::test]
async fn the_cap_stays_ahead_of_a_segment_that_cannot_be_left() {
    let database = sequenced_messages().await;
    let session = database.session();
    session
        .run("insert into public.messages select i, repeat(md5(i::text), 100) from generate_series(1, 500) i")
        .await;
    // No segment to move to: each has something in it.
    session
        .run("insert into pgrelay.log (segment, relid, op) select s, 0, 'H' from generate_series(1, 3) s")
        .await;
    let dump = database.another_session().await;
    dump.run("begin; lock table pgrelay.log in access share mode")
        .await;
    assert_eq!(
        round(
            session,
            "select concat_ws(' ', action, detail) from pgrelay.maintain('1 year', 800000)"
        )
        .await,
        [""; 0]
    );
    let ahead = "select last_value > (select bytes from pgrelay.segments() where segment = 0) from pgrelay.log_segment_bytes_max";
    assert_eq!(session.value(ahead).await, "t");
}

#[tokio::test]
async fn a_round_names_the_range_of_the_ledger_that_it_dropped() {
    let database = sequenced_messages().await;
    let session = database.session();
    session
        .run(
            "create table pgrelay.ledger_1 (like pgrelay.ledger including all);
             alter table pgrelay.ledger attach partition pgrelay.ledger_1 for values from (1048576) to (2097152);
             insert into pgrelay.ledger (epoch, id, snap, n) values (1, 1048576, pg_current_snapshot(), 0);
             update pgrelay.meta set value = '1048576' where key = 'floor'",
        )
        .await;
    assert_eq!(
        round(session, NEVER).await,
        ["ledger pgrelay.ledger_0 dropped"]
    );
}
