//! Stored messages: out of the log for those who listen, out of their table for those who join later.

use pgrelay_capture::Log;
use pgrelay_protocol::Topic;
use pgrelay_relay::ports::{FeedEvent, MessageLog as _, StoredMessage, StoredPayload};
use pgrelay_test_support::wait_for;

use crate::rig::{Following, Rig};

/// `topic event payload` of a message, with a mark where it is public.
fn shown(message: &StoredMessage) -> String {
    let payload = match &message.payload {
        StoredPayload::Json(text) => text.to_string(),
        StoredPayload::Binary(bytes) => format!("{bytes:?}"),
    };
    let mark = if message.private { "" } else { " (public)" };
    format!("{} {} {payload}{mark}", message.topic, message.event)
}

fn messages(following: &Following) -> Vec<StoredMessage> {
    let events = following.feed.events().into_iter();
    events
        .filter_map(|event| match event {
            FeedEvent::Messages(messages) => Some(messages.to_vec()),
            _ => None,
        })
        .flatten()
        .collect()
}

/// Waits for `n` messages in all.
async fn told(following: &Following, n: usize) -> Vec<String> {
    wait_for(&format!("{n} messages"), async || {
        let told = messages(following);
        (told.len() >= n).then(|| told.iter().map(shown).collect())
    })
    .await
}

/// `realtime.send` of a payload that has an id, so that none is added.
fn send(topic: &str, n: usize) -> String {
    format!(r#"select realtime.send('{{"id": {n}}}', 'e', '{topic}', true);"#)
}

#[tokio::test]
async fn messages_are_told_once_in_the_order_of_their_commits() {
    let rig = Rig::new().await;
    let following = rig.follow().await;
    let early = rig.database.connect().await;
    early.run(&format!("begin; {}", send("early", 1))).await;
    rig.sql
        .run(&format!("begin; {} {} commit", send("a", 2), send("a", 3)))
        .await;
    rig.sql
        .run(&format!("begin; {} rollback", send("never", 4)))
        .await;
    told(&following, 2).await;
    early.run(&format!("{} commit", send("early", 5))).await;
    rig.sql
        .run(
            "select realtime.send_binary('\\x00ff', 'b', 'c:d', false);
             select realtime.send_binary('', 'b', 'c:d');
             insert into t values (1)",
        )
        .await;
    let told = told(&following, 6).await;
    assert_eq!(
        told,
        [
            r#"a e {"id": 2}"#,
            r#"a e {"id": 3}"#,
            r#"early e {"id": 1}"#,
            r#"early e {"id": 5}"#,
            r#"c:d b b"\0\xff" (public)"#,
            r#"c:d b b"""#,
        ]
    );
    // They are no changes, neither live nor later.
    assert_eq!(following.changes(1).await, [r#"I t {"id":1,"v":null}"#]);
    let ids: Vec<_> = messages(&following).iter().map(|it| it.id).collect();
    let stored = rig
        .sql
        .rows("select id::text from realtime.messages order by inserted_at")
        .await;
    assert_eq!(stored.len(), 6);
    assert!(
        stored
            .iter()
            .all(|row| ids.iter().any(|id| Some(id.to_string()) == row[0]))
    );
    following.stop().await;
}

#[tokio::test]
async fn half_a_message_is_told_to_nobody() {
    let rig = Rig::new().await;
    let following = rig.follow().await;
    rig.sql
        .run(
            "insert into realtime.messages (topic, extension) values ('a', 'broadcast');
             insert into realtime.messages (topic, extension, event, payload, private) values ('a', 'broadcast', 'e', null, true);
             insert into realtime.messages (topic, extension, event, payload, private) values ('a', 'broadcast', null, '{}', true);
             insert into realtime.messages (topic, extension, event, payload, private) values ('a', 'broadcast', 'e', '{}', null);
             insert into realtime.messages (topic, extension, event, payload, private)
               values ('a', 'whatever', 'e', '1', true), ('a', 'broadcast', 'e', '[\"\\u00e9\"]', false);
             update realtime.messages set event = 'changed' where payload is not null;
             delete from realtime.messages",
        )
        .await;
    assert_eq!(told(&following, 2).await, ["a e 1", "a e [\"é\"] (public)"]);
    following.stop().await;
}

#[tokio::test]
async fn a_message_that_is_too_large_holds_nobody_up() {
    let rig = Rig::new().await;
    let mut config = rig.config();
    config.message_bytes_max = 1_000;
    let following = Following::start(config).live().await;
    rig.sql
        .run(
            "select realtime.send(jsonb_build_object('id', 1, 'x', repeat('x', 1000)), 'large', 'a');
             select realtime.send_binary(decode(repeat('00', 1001), 'hex'), 'large', 'a');
             select realtime.send_binary(decode(repeat('00', 9000000), 'hex'), 'huge', 'a');
             select realtime.send_binary(decode(repeat('00', 1000), 'hex'), 'fits', 'a')",
        )
        .await;
    let told = told(&following, 1).await;
    assert!(told[0].starts_with("a fits"), "{}", told[0]);
    assert_eq!(messages(&following).len(), 1);
    following.stop().await;
}

#[tokio::test]
async fn a_lost_connection_neither_loses_a_message_nor_repeats_one() {
    let rig = Rig::new().await;
    let following = rig.follow().await;
    let killer = rig.database.connect_superuser().await;
    for n in 0..200 {
        rig.sql.run(&send("a", n)).await;
        if n % 50 == 25 {
            killer
                .run(
                    "select pg_terminate_backend(pid) from pg_stat_activity
                      where datname = current_database() and application_name = 'pgrelay'",
                )
                .await;
        }
    }
    let wanted: Vec<_> = (0..200).map(|n| format!(r#"a e {{"id": {n}}}"#)).collect();
    assert_eq!(told(&following, 200).await, wanted);
    assert!(following.metric("reconnects_total") > 0);
    following.stop().await;
}

#[tokio::test]
async fn a_restart_repeats_nothing() {
    let rig = Rig::new().await;
    let following = rig.follow().await;
    rig.sql.run(&send("a", 1)).await;
    told(&following, 1).await;
    following.stop().await;
    let following = rig.follow().await;
    rig.sql.run(&send("a", 2)).await;
    assert_eq!(told(&following, 1).await, [r#"a e {"id": 2}"#]);
    following.stop().await;
}

async fn replayed(log: &Log, topic: &str, since_ms: i64, limit: u8) -> Vec<String> {
    let topic = Topic::parse(&format!("realtime:{topic}")).unwrap();
    let messages = log.replay(topic, since_ms, limit).await.unwrap();
    messages.iter().map(shown).collect()
}

#[tokio::test]
async fn the_newest_private_messages_are_replayed_oldest_first() {
    let rig = Rig::new().await;
    let log = rig.log();
    rig.sql
        .run(&format!(
            "begin; {} commit;
             select realtime.send_binary('\\xff', 'b', 'a');
             select realtime.send('{{}}', 'public', 'a', false);
             select realtime.send('{{}}', 'e', 'b');
             insert into realtime.messages (topic, extension, event, payload, private) values ('a', 'presence', 'e', '{{}}', true);
             insert into realtime.messages (topic, extension, event, payload, private, inserted_at)
               values ('a', 'broadcast', 'old', '1', true, timezone('utc', now()) - interval '1 hour'),
                      ('a', 'broadcast', 'future', '1', true, timezone('utc', now()) + interval '1 hour')",
            (1..=30).map(|n| send("a", n)).collect::<String>(),
        ))
        .await;
    let minute_ago = rig
        .sql
        .value("select trunc(extract(epoch from now() - interval '1 minute') * 1000)")
        .await;
    let minute_ago = minute_ago.parse().unwrap();
    let all = replayed(&log, "a", minute_ago, 25).await;
    let json = |n: usize| format!(r#"a e {{"id": {n}}}"#);
    let mut wanted: Vec<_> = (7..=30).map(json).collect();
    wanted.push(r#"a b b"\xff""#.to_owned());
    assert_eq!(all, wanted);
    assert_eq!(replayed(&log, "a", 0, 255).await.len(), 25);
    assert_eq!(replayed(&log, "a", minute_ago, 2).await, wanted[23..]);
    assert_eq!(replayed(&log, "a", minute_ago, 0).await, wanted[24..]);
    assert_eq!(replayed(&log, "b", i64::MIN, 25).await.len(), 1);
    for (topic, since) in [("a", i64::MAX), ("c", 0), ("a'; --", 0)] {
        assert!(replayed(&log, topic, since, 25).await.is_empty());
    }
}

#[tokio::test]
async fn the_order_of_messages_does_not_depend_on_the_writers_settings() {
    let rig = Rig::new().await;
    let following = rig.follow().await;
    for (n, zone) in ["Asia/Tokyo", "America/New_York", "UTC"].iter().enumerate() {
        rig.sql
            .run(&format!(
                "set timezone = '{zone}'; set datestyle = 'German'; {}",
                send("a", n)
            ))
            .await;
    }
    let wanted: Vec<_> = (0..3).map(|n| format!(r#"a e {{"id": {n}}}"#)).collect();
    assert_eq!(told(&following, 3).await, wanted);
    let minute_ago = rig
        .sql
        .value("select trunc(extract(epoch from now() - interval '1 minute') * 1000)")
        .await;
    let again = replayed(&rig.log(), "a", minute_ago.parse().unwrap(), 25).await;
    assert_eq!(again, wanted);
    following.stop().await;
}
