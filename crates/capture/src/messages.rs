//! Broadcasts that live in the database: out of the log for those who listen now, out of their table
//! for those who join later.
//!
//! Called by `reader.rs` and `log.rs`. Refuses to know who may read them.

use std::time::Duration;

use bytes::Bytes;
use pgrelay_protocol::Topic;
use pgrelay_relay::ports::{StoredMessage, StoredPayload};
use serde::Deserialize;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    error::Error,
    logged::{Logged, Matter},
    pool::Pool,
    statements,
};

/// Longest time PostgreSQL may take to find old messages.
const REPLAY_MAX: Duration = Duration::from_secs(5);
/// 9999-12-31: what comes later is no date of PostgreSQL's any more.
const SINCE_MAX_MS: i64 = 253_402_214_400_000;

/// What the trigger says about a message.
#[derive(Deserialize)]
struct About {
    id: Uuid,
    topic: Box<str>,
    event: Box<str>,
    private: bool,
    at: i64,
}

/// The messages among rows of the log. One that was not written by our trigger is left out.
pub(crate) fn told(rows: &[Logged]) -> Vec<StoredMessage> {
    rows.iter()
        .filter_map(|row| {
            let said = row.said()?;
            let message = read(row.matter, row.about()?, said);
            if message.is_none() {
                tracing::warn!(seq = row.seq, "a logged message cannot be read");
            }
            message
        })
        .collect()
}

fn read(matter: Matter, about: &str, said: &str) -> Option<StoredMessage> {
    let About {
        id,
        topic,
        event,
        private,
        at,
    } = serde_json::from_str(about).ok()?;
    let payload = match matter {
        Matter::BinaryMessage => StoredPayload::Binary(unhex(said)?),
        Matter::JsonMessage | Matter::Change(_) => StoredPayload::Json(said.into()),
    };
    Some(StoredMessage {
        id,
        topic,
        event,
        private,
        payload,
        inserted_at_us: at,
    })
}

/// Whether a message says at most `bytes_max` bytes; a word in the log where it does not.
pub(crate) fn fits(message: &StoredMessage, bytes_max: usize) -> bool {
    let bytes = match &message.payload {
        StoredPayload::Json(text) => text.len(),
        StoredPayload::Binary(bytes) => bytes.len(),
    };
    if bytes > bytes_max {
        tracing::warn!(id = %message.id, bytes, "a stored message is too large to be broadcast");
    }
    bytes <= bytes_max
}

fn unhex(text: &str) -> Option<Bytes> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => u8::try_from(digit(*high)? << 4 | digit(*low)?).ok(),
            _ => None,
        })
        .collect()
}

/// The newest `limit` private messages of `topic` since `since_ms`, oldest first.
pub(crate) async fn replay(
    pool: &Pool,
    topic: &Topic,
    since_ms: i64,
    limit: u8,
    bytes_max: usize,
) -> Result<Vec<StoredMessage>, Error> {
    let since = since_ms.clamp(0, SINCE_MAX_MS);
    let limit = i64::from(limit.clamp(1, 25));
    let bytes_max = i64::try_from(bytes_max).unwrap_or(i64::MAX);
    let rows = pool
        .ask_alone(
            "read old messages",
            REPLAY_MAX,
            &statements::messages::REPLAY,
            &[&topic.sub_topic(), &since, &limit, &bytes_max],
        )
        .await?;
    Ok(rows.iter().rev().map(stored).collect())
}

fn stored(row: &Row) -> StoredMessage {
    let payload = match row.get::<_, Option<&[u8]>>(4) {
        Some(bytes) => StoredPayload::Binary(Bytes::copy_from_slice(bytes)),
        None => StoredPayload::Json(row.get::<_, &str>(3).into()),
    };
    StoredMessage {
        id: row.get(0),
        topic: row.get::<_, &str>(1).into(),
        event: row.get::<_, &str>(2).into(),
        private: true,
        payload,
        inserted_at_us: row.get(5),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABOUT: &str = r#"{"id" : "eb763fc0-5c16-4a48-b50d-81e5df50d908", "topic" : "a:b", "event" : "e", "private" : true, "at" : 7}"#;

    #[test]
    fn what_the_trigger_wrote_is_read() {
        let message = read(Matter::JsonMessage, ABOUT, r#"{"a": 1}"#).unwrap();
        assert_eq!((&*message.topic, &*message.event), ("a:b", "e"));
        assert_eq!((message.private, message.inserted_at_us), (true, 7));
        assert_eq!(message.payload, StoredPayload::Json(r#"{"a": 1}"#.into()));
        let binary = |said| read(Matter::BinaryMessage, ABOUT, said).map(|it| it.payload);
        let bytes = Bytes::from_static(&[0, 255, 171]);
        assert_eq!(binary("00ffab"), Some(StoredPayload::Binary(bytes)));
        assert_eq!(binary(""), Some(StoredPayload::Binary(Bytes::new())));
        for garbage in ["0", "0g", "é", "\\x00"] {
            assert_eq!(binary(garbage), None, "{garbage}");
        }
        for garbage in ["", "{}", "[]", &ABOUT.replace("true", "null")] {
            assert_eq!(read(Matter::JsonMessage, garbage, "{}"), None);
        }
    }

    #[test]
    fn a_message_may_be_as_large_as_the_limit() {
        let message = read(Matter::BinaryMessage, ABOUT, "000000").unwrap();
        assert!(fits(&message, 3) && !fits(&message, 2));
    }
}
