//! A client with one channel, and what it is told of changes.

use pgrelay_test_support::{Session, WsClient};
use serde_json::{Value, json};

use crate::Stage;

/// A channel that is live.
#[derive(Debug)]
pub struct Subscriber {
    /// The socket.
    pub client: WsClient,
    /// What the join was answered: the entries with their ids.
    pub entries: Vec<Value>,
}

impl Subscriber {
    /// The channel of every subscriber.
    pub const TOPIC: &str = "realtime:subscriber";

    /// Joins, and waits until every entry is live.
    pub async fn join(mut client: WsClient, entries: Value) -> Self {
        let mut entries = entries;
        let own = entries.as_array_mut().map_or(0, |list| {
            list.push(json!({"event": "*", "schema": "public", "table": Stage::MARK}));
            list.len() - 1
        });
        let response = client.join_changes(Self::TOPIC, entries).await;
        let Value::Array(mut entries) = response["postgres_changes"].clone() else {
            panic!("no entries in {response}");
        };
        entries.truncate(own);
        Self { client, entries }
    }

    /// The ids of the entries, in their order.
    pub fn ids(&self) -> Vec<u64> {
        self.entries
            .iter()
            .map(|entry| {
                entry["id"]
                    .as_u64()
                    .unwrap_or_else(|| panic!("no id in {entry}"))
            })
            .collect()
    }

    /// The payloads of all changes that were committed before now and not asked for yet, in order. `writer` marks what now is.
    pub async fn heard(&mut self, writer: &Session) -> Vec<Value> {
        let mark: i64 = writer
            .value(&format!(
                "insert into {} default values returning id",
                Stage::MARK
            ))
            .await
            .parse()
            .unwrap_or_else(|error| panic!("a mark: {error}"));
        let mut heard = self
            .client
            .changes_until(Self::TOPIC, |change| {
                change["data"]["table"] == Stage::MARK && change["data"]["record"]["id"] == mark
            })
            .await;
        heard.retain(|change| change["data"]["table"] != Stage::MARK);
        heard
    }

    /// [`Self::heard`], each change as [`brief`] writes it.
    pub async fn heard_briefly(&mut self, writer: &Session) -> Vec<String> {
        self.heard(writer).await.iter().map(brief).collect()
    }
}

/// A change in one line: its type, its table, the new row and `<-` the old one, where they are there.
pub fn brief(change: &Value) -> String {
    let data = &change["data"];
    let word = |key: &str| data[key].as_str().unwrap_or("?");
    let mut text = format!("{} {}", word("type"), word("table"));
    if let Some(record) = data.get("record") {
        text.push_str(&format!(" {record}"));
    }
    if let Some(old) = data.get("old_record") {
        text.push_str(&format!(" <- {old}"));
    }
    text
}
