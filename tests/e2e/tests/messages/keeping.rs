//! Partitions of messages: there in time, gone after three days, and nobody waits for it.

use pgrelay_test_support::Session;

use crate::migrated;

/// The partitions by how many days from today they are; `None` for the default one.
async fn days(sql: &Session) -> Vec<Option<i32>> {
    let rows = sql
        .rows(
            "select to_date(substring(c.relname from 'messages_(\\d{4}_\\d\\d_\\d\\d)$'), 'YYYY_MM_DD')
                      - timezone('utc', clock_timestamp())::date
               from pg_inherits i join pg_class c on c.oid = i.inhrelid
              where i.inhparent = 'realtime.messages'::regclass order by 1",
        )
        .await;
    let day = |row: Vec<Option<String>>| row[0].as_deref().map(|day| day.parse().unwrap());
    rows.into_iter().map(day).collect()
}

async fn keep(sql: &Session) -> Vec<String> {
    let rows = sql
        .rows("select action, error from pgrelay.keep_messages()")
        .await;
    rows.into_iter()
        .map(|row| {
            format!(
                "{} {}",
                row[0].as_deref().unwrap(),
                row[1].as_deref().unwrap_or_default()
            )
        })
        .collect()
}

/// A partition for a day that is so many days away.
fn partition(days: i32) -> String {
    format!(
        "do $$ declare day date := timezone('utc', now())::date + ({days}); begin
           execute format('create table realtime.%I partition of realtime.messages for values from (%L) to (%L)',
                          to_char(day, '\"messages_\"YYYY_MM_DD'), day, day + 1);
         end $$"
    )
}

fn message(days: i32) -> String {
    format!(
        "insert into realtime.messages (topic, extension, event, payload, private, inserted_at)
         values ('a', 'broadcast', '{days}', '{{}}', true, timezone('utc', now()) + interval '{days} days')"
    )
}

#[tokio::test]
async fn days_are_made_ahead_and_dropped_after_three() {
    let database = migrated().await;
    let sql = database.connect().await;
    let fresh = [Some(0), Some(1), Some(2), Some(3), None];
    assert_eq!(days(&sql).await, fresh);
    for day in [-5, -4, -3] {
        sql.run(&partition(day)).await;
        sql.run(&message(day)).await;
    }
    // A day that nobody made a partition for, and one of a future that nobody has made yet.
    for day in [-30, -2, 0, 9] {
        sql.run(&message(day)).await;
    }
    sql.run(
        "do $$ begin execute format('drop table realtime.%I',
             to_char(timezone('utc', now()) + interval '3 days', '\"messages_\"YYYY_MM_DD')); end $$",
    )
    .await;
    assert_eq!(keep(&sql).await, ["kept ", "kept ", "kept "]);
    assert_eq!(
        days(&sql).await,
        [Some(-3), Some(0), Some(1), Some(2), Some(3), None]
    );
    let left = sql
        .value("select string_agg(event, ' ' order by inserted_at) from realtime.messages")
        .await;
    assert_eq!(left, "-3 -2 0 9");
    assert_eq!(keep(&sql).await, Vec::<String>::new());
    // Nobody reads a partition past the policies of the whole.
    let open = "select count(*) from pg_inherits i join pg_class c on c.oid = i.inhrelid
                 where i.inhparent = 'realtime.messages'::regclass and not c.relrowsecurity
                   and c.relname >= to_char(timezone('utc', now()), '\"messages_\"YYYY_MM_DD')";
    assert_eq!(sql.value(open).await, "0");
}

#[tokio::test]
async fn a_table_in_use_is_kept_later_and_senders_go_on() {
    let database = migrated().await;
    let sql = database.connect().await;
    sql.run(&partition(-5)).await;
    let sender = database.connect().await;
    sender
        .run("begin; select realtime.send('{}', 'e', 'a')")
        .await;
    let answers = keep(&sql).await;
    assert!(
        answers.len() == 1 && answers[0].starts_with("locked "),
        "{answers:?}"
    );
    sender
        .run("select realtime.send('{}', 'e', 'a'); commit")
        .await;
    assert_eq!(keep(&sql).await, ["kept "]);
    assert_eq!(
        sql.value("select count(*) from realtime.messages").await,
        "2"
    );
}

#[tokio::test]
async fn a_trigger_that_is_gone_is_put_back() {
    let database = migrated().await;
    let sql = database.connect().await;
    sql.run("drop trigger \"!pgrelay_message\" on realtime.messages")
        .await;
    sql.run("select realtime.send('{}', 'lost', 'a')").await;
    assert_eq!(keep(&sql).await, ["kept "]);
    sql.run("select realtime.send('{}', 'e', 'a')").await;
    let logged = "select count(*) from pgrelay.log where op = 'M'";
    assert_eq!(sql.value(logged).await, "1");
}

#[tokio::test]
async fn a_log_that_is_gone_costs_no_message() {
    let database = migrated().await;
    let sql = database.connect().await;
    for harm in [
        "select setval('pgrelay.log_segment', -1)",
        "alter table pgrelay.log rename to gone",
        "drop schema pgrelay cascade",
    ] {
        sql.run(harm).await;
        sql.run("select realtime.send('{}', 'e', 'a')").await;
    }
    assert_eq!(
        sql.value("select count(*) from realtime.messages").await,
        "3"
    );
}
