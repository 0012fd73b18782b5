//! What a client has heard, and what it makes of it.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde_json::{Value, json};

use crate::book::{Change, Op, Version};
use crate::table::{ROOMS, SECRET, TABLES, body};
use crate::violation::{Kind, Violation};

/// One entry of a join.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// Place of the table; `None` for every table of the schema.
    pub(crate) table: Option<usize>,
    pub(crate) condition: Condition,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    Always,
    /// Decided by the relay.
    Rooms(Vec<i64>),
    /// True for every row, but only the database can tell.
    Asked,
}

impl Wish {
    pub(crate) fn wants(&self, version: Version) -> bool {
        let here = self.table.is_none_or(|table| table == version.table);
        here && match &self.condition {
            Condition::Always | Condition::Asked => true,
            Condition::Rooms(rooms) => rooms.contains(&(version.id % ROOMS)),
        }
    }

    fn entry(&self) -> Value {
        let table = self.table.map_or("*", |table| TABLES[table].name);
        let mut entry = json!({"event": "*", "schema": "public", "table": table});
        match &self.condition {
            Condition::Always => {}
            Condition::Asked => entry["filter"] = "tx=like.%.%".into(),
            Condition::Rooms(rooms) => {
                let rooms: Vec<String> = rooms.iter().map(ToString::to_string).collect();
                entry["filter"] = format!("room=in.({})", rooms.join(",")).into();
            }
        }
        entry
    }
}

/// A change as it was heard.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) change: Change,
    /// Of the transaction that wrote the row.
    pub(crate) tag: String,
    /// Of its cursor, where it had one.
    pub(crate) cursor: Option<u64>,
    /// Unix time at which the token ran out by which it came.
    pub(crate) expires_at: Option<u64>,
}

/// What a client has heard, in order.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Change(Heard),
    /// It was told to fetch again, and did.
    Refetch(&'static str),
}

/// A client's memory outlives its sockets.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) name: String,
    /// Asks for cursors and comes back with them.
    pub(crate) resumes: bool,
    pub(crate) wishes: Vec<Wish>,
    /// The newest cursor.
    pub(crate) since: String,
    pub(crate) events: Vec<Event>,
    /// Rows as they are by what was heard.
    pub(crate) rows: HashMap<(usize, i64), (i64, i64)>,
    /// What began after this moment must have come.
    pub(crate) owed_from: u64,
    /// It has been live.
    pub(crate) was_live: bool,
    /// It is live now.
    pub(crate) is_live: bool,
    /// It has to fetch, because of this.
    pub(crate) must_fetch: Option<&'static str>,
    pub(crate) connections: usize,
    pub(crate) overflows: usize,
    /// Unix time at which its token runs out.
    pub(crate) expires_at: Option<u64>,
    pub(crate) noticed: Vec<Violation>,
}

/// Words of a `must_refetch`.
const REASONS: [&str; 6] = [
    "retention",
    "epoch",
    "forged",
    "schema",
    "hole",
    "authorization",
];

impl Memory {
    pub(crate) fn new(name: String, resumes: bool, wishes: Vec<Wish>) -> Self {
        Self {
            name,
            resumes,
            wishes,
            since: "now".into(),
            events: Vec::new(),
            rows: HashMap::new(),
            owed_from: 0,
            was_live: false,
            is_live: false,
            must_fetch: None,
            connections: 0,
            overflows: 0,
            expires_at: None,
            noticed: Vec::new(),
        }
    }

    pub(crate) fn wants(&self, version: Version) -> bool {
        version.table != SECRET && self.wishes.iter().any(|wish| wish.wants(version))
    }

    /// The `config` of its next join.
    pub(crate) fn join(&self) -> Value {
        let entry = |wish: &Wish| {
            let mut entry = wish.entry();
            if self.resumes {
                entry["since"] = self.since.as_str().into();
            }
            entry
        };
        json!({"postgres_changes": self.wishes.iter().map(entry).collect::<Vec<_>>()})
    }

    /// Takes in a change.
    pub(crate) fn change(&mut self, payload: &Value) {
        let data = &payload["data"];
        let (op, row) = match data["type"].as_str() {
            Some("INSERT") => (Op::Insert, &data["record"]),
            Some("UPDATE") => (Op::Update, &data["record"]),
            _ => (Op::Delete, &data["old_record"]),
        };
        let table = TABLES.iter().position(|table| data["table"] == table.name);
        let number = |name: &str| row[name].as_i64();
        let has_only_key =
            row.as_object().is_some_and(|row| row.len() == 1) && !row["id"].is_null();
        if op == Op::Delete && table == Some(SECRET) && has_only_key {
            // Under row security everybody is told which row is gone, and nothing else of it.
            return self.newest(payload);
        }
        let (Some(table), Some(id), Some(life), Some(v), Some(tag)) = (
            table,
            number("id"),
            number("life"),
            number("v"),
            row["tx"].as_str(),
        ) else {
            self.notice(
                Kind::Altered,
                format!("no row of ours: {:.300}", payload.to_string()),
            );
            return;
        };
        let version = Version { table, id, life, v };
        let kind = number("kind").and_then(|kind| kind.try_into().ok());
        // Of a change that is too large its large values are left out, and that is said.
        let is_whole = data["errors"].is_null();
        let as_written = |kind| row["body"] == body(kind) || (!is_whole && row["body"].is_null());
        if !kind.is_some_and(as_written) {
            self.notice(
                Kind::Altered,
                format!("{version:?} came as {:.300}", row.to_string()),
            );
        }
        match op {
            Op::Delete => drop(self.rows.remove(&(table, id))),
            Op::Insert | Op::Update => drop(self.rows.insert((table, id), (life, v))),
        }
        let cursor = payload["cursor"].as_str();
        if cursor.is_some() != self.resumes {
            self.notice(
                Kind::Cursor,
                format!("{version:?} came with cursor {cursor:?}"),
            );
        }
        self.events.push(Event::Change(Heard {
            change: Change { op, version },
            tag: tag.into(),
            cursor: cursor.map(hash),
            expires_at: self.expires_at,
        }));
        self.newest(payload);
    }

    /// It was told to fetch again.
    pub(crate) fn refetch(&mut self, payload: &Value) {
        let reason = REASONS
            .into_iter()
            .find(|reason| payload["reason"] == *reason);
        match reason {
            Some(reason) if self.resumes => self.must_fetch = Some(reason),
            _ => self.notice(Kind::Refetch, payload.to_string()),
        }
        self.newest(payload);
    }

    /// Rows as a SELECT has them now.
    pub(crate) fn fetched(&mut self, rows: impl Iterator<Item = Version>, now: u64) {
        self.rows = rows
            .filter(|version| self.wants(*version))
            .map(|it| ((it.table, it.id), (it.life, it.v)))
            .collect();
        self.owed_from = now;
        if let Some(reason) = self.must_fetch.take() {
            self.events.push(Event::Refetch(reason));
        }
    }

    /// Keeps the cursor that came with a message.
    pub(crate) fn newest(&mut self, payload: &Value) {
        if let Some(cursor) = payload["cursor"].as_str() {
            self.since = cursor.into();
        }
    }

    pub(crate) fn notice(&mut self, kind: Kind, mut what: String) {
        what.insert_str(0, &format!("{}: ", self.name));
        self.noticed.push(Violation { kind, what });
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
