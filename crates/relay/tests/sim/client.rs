//! A client with a memory: it checks every message against the truth.

use std::collections::{BTreeMap, VecDeque};

use pgrelay_protocol::{CursorKey, Position};
use pgrelay_relay::{engine::ClientKey, outlet::Parcel};
use serde_json::{Value, json};

use crate::truth::{Entry, Truth, Wish};

pub(crate) struct Client {
    pub(crate) key: Option<ClientKey>,
    /// What the relay sent and the client has not read.
    pub(crate) queue: VecDeque<Parcel>,
    /// Asks for cursors and comes back with them.
    pub(crate) resumes: bool,
    /// Changes may be skipped without a word.
    may_lose: bool,
    /// Reasons there may be in this run.
    may_hear: Vec<&'static str>,
    pub(crate) bindings: Vec<Binding>,
    joins: u32,
    /// The reply to the last join has come.
    joined: bool,
    /// Position of the last change or checkpoint.
    last: Option<Position>,
}

pub(crate) struct Binding {
    pub(crate) wish: Wish,
    id: u64,
    /// Everything it wants up to here has come.
    seen: Option<Position>,
    /// It was told that it is live, or what it got so far shows it.
    pub(crate) live: bool,
    /// It was told that it is not live.
    refused: bool,
    /// Its position is of a history that never was; it has to be told before it gets anything.
    stale: bool,
}

/// What clients were told, by number of messages.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) changes: usize,
    pub(crate) checkpoints: usize,
    pub(crate) recovered: usize,
    pub(crate) refetch: BTreeMap<String, usize>,
}

impl Told {
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.changes += other.changes;
        self.checkpoints += other.checkpoints;
        self.recovered += other.recovered;
        for (reason, count) in other.refetch {
            *self.refetch.entry(reason).or_default() += count;
        }
        self
    }
}

impl Client {
    pub(crate) fn new(
        wishes: Vec<Wish>,
        resumes: bool,
        may_lose: bool,
        may_hear: Vec<&'static str>,
    ) -> Self {
        let bindings = wishes
            .into_iter()
            .map(|wish| Binding {
                wish,
                id: 0,
                seen: None,
                live: false,
                refused: false,
                stale: false,
            })
            .collect();
        Self {
            key: None,
            queue: VecDeque::new(),
            resumes,
            may_lose: may_lose && !resumes,
            may_hear,
            bindings,
            joins: 0,
            joined: false,
            last: None,
        }
    }

    /// The text of its next join.
    pub(crate) fn join(&mut self, key: &CursorKey, forged: bool) -> String {
        self.joins += 1;
        self.joined = false;
        self.last = None;
        let entries: Vec<Value> = self
            .bindings
            .iter_mut()
            .map(|binding| {
                let mut entry = binding.wish.entry();
                (binding.live, binding.refused) = (false, false);
                if self.resumes {
                    let since = binding.seen.map_or("now".to_owned(), |seen| key.seal(seen));
                    entry.insert(
                        "since".into(),
                        if forged {
                            "nonsense".into()
                        } else {
                            since.into()
                        },
                    );
                } else {
                    binding.seen = None;
                }
                entry.into()
            })
            .collect();
        let payload = json!({"config": {"postgres_changes": entries}});
        json!([
            self.joins.to_string(),
            self.joins.to_string(),
            "realtime:room",
            "phx_join",
            payload
        ])
        .to_string()
    }

    pub(crate) fn refresh(&self, token: &str) -> String {
        json!([self.joins.to_string(), "r", "realtime:room", "access_token", {"access_token": token}]).to_string()
    }

    /// Reads one message.
    pub(crate) fn read(&mut self, truth: &Truth, key: &CursorKey, told: &mut Told) {
        let Some(Parcel::Frame(frame)) = self.queue.pop_front() else {
            return;
        };
        let text = match frame[1] {
            126 => &frame[4..],
            127 => &frame[10..],
            _ => &frame[2..],
        };
        let message: Value = serde_json::from_slice(text).unwrap();
        let [join_ref, reference, _topic, event, payload] = &message.as_array().unwrap()[..] else {
            unreachable!()
        };
        let current = json!(self.joins.to_string());
        if event == "phx_reply" && *reference == current {
            assert_eq!(payload["status"], "ok", "{message}");
            let echo = payload["response"]["postgres_changes"].as_array().unwrap();
            assert_eq!(echo.len(), self.bindings.len());
            for (binding, entry) in self.bindings.iter_mut().zip(echo) {
                binding.id = entry["id"].as_u64().unwrap();
            }
            self.joined = true;
            return;
        }
        if !self.joined || (!join_ref.is_null() && *join_ref != current) {
            return;
        }
        match event.as_str().unwrap() {
            "system" => self.system(payload, truth, key, told),
            "postgres_changes" => self.change(payload, truth, key, told),
            _ => {}
        }
    }

    fn system(&mut self, payload: &Value, truth: &Truth, key: &CursorKey, told: &mut Told) {
        let cursor = payload["cursor"].as_str();
        let cursor = cursor.map(|cursor| key.open(cursor).unwrap());
        match payload["message"].as_str().unwrap() {
            "Subscribed to PostgreSQL" => {
                let recovered = payload["recovered"] == true;
                told.recovered += usize::from(recovered);
                self.subscribed(cursor, recovered);
            }
            "checkpoint" => {
                told.checkpoints += 1;
                self.checkpoint(cursor.unwrap(), truth);
            }
            "must_refetch" => {
                let reason = payload["reason"].as_str().unwrap();
                *told.refetch.entry(reason.to_owned()).or_default() += 1;
                let binding = payload["binding"].as_u64();
                self.must_refetch(cursor.unwrap(), reason, binding, truth);
            }
            "database away" => {}
            "not published" => {
                let id = payload["binding"].as_u64();
                for binding in self.bindings.iter_mut().filter(|it| Some(it.id) == id) {
                    (binding.refused, binding.live) = (true, false);
                    if !self.resumes {
                        binding.seen = None;
                    }
                }
            }
            other => unreachable!("{other}"),
        }
    }

    fn subscribed(&mut self, cursor: Option<Position>, recovered: bool) {
        assert_eq!(cursor.is_some(), self.resumes);
        let all_new = self.bindings.iter().all(|binding| binding.seen.is_none());
        assert!(!(recovered && all_new), "nothing was asked to be recovered");
        for binding in self.bindings.iter_mut().filter(|it| !it.refused) {
            binding.live = true;
            // Beside one that goes on from the past, a new binding starts later than that.
            if all_new {
                binding.seen = cursor;
            }
        }
    }

    fn checkpoint(&mut self, cursor: Position, truth: &Truth) {
        self.advance(cursor, "checkpoint");
        for binding in self
            .bindings
            .iter_mut()
            .filter(|it| !it.refused && !it.stale)
        {
            let owes =
                |entry: &&Entry| binding.wish.wants(entry) || binding.wish.is_hit_by_hole(entry);
            let seen = binding.seen.unwrap_or(cursor);
            if let Some(missing) = truth.between(seen, cursor).iter().find(owes) {
                unreachable!("checkpoint {cursor:?} covers {:?}", missing.position);
            }
            binding.seen = binding.seen.map(|seen| seen.max(cursor));
        }
    }

    fn must_refetch(&mut self, cursor: Position, reason: &str, id: Option<u64>, truth: &Truth) {
        assert!(self.resumes && self.may_hear.contains(&reason), "{reason}");
        if reason == "epoch" {
            // Another history, or less of it.
            self.last = Some(cursor);
        }
        self.advance(cursor, "must_refetch");
        for binding in self
            .bindings
            .iter_mut()
            .filter(|it| id.is_none_or(|id| id == it.id))
        {
            if reason == "hole" && id.is_some() {
                let seen = binding.seen.unwrap_or(truth.start());
                let mut between = truth.between(seen, cursor).iter();
                let here = between.any(|entry| binding.wish.is_hit_by_hole(entry));
                assert!(here, "no hole before {cursor:?}");
            }
            binding.seen = Some(cursor);
            (binding.stale, binding.refused, binding.live) = (false, false, true);
        }
    }

    fn change(&mut self, payload: &Value, truth: &Truth, key: &CursorKey, told: &mut Told) {
        told.changes += 1;
        let data = &payload["data"];
        let row = if data["type"] == "DELETE" {
            &data["old_record"]
        } else {
            &data["record"]
        };
        let entry = truth.by_number(row["number"].as_i64().unwrap());
        let cursor = payload["cursor"]
            .as_str()
            .map(|cursor| key.open(cursor).unwrap());
        assert_eq!(cursor, self.resumes.then_some(entry.position));
        self.advance(entry.position, "change");
        for id in payload["ids"].as_array().unwrap() {
            let binding = self
                .bindings
                .iter_mut()
                .find(|binding| id.as_u64() == Some(binding.id))
                .unwrap();
            assert!(
                binding.wish.wants(entry),
                "{:?} does not want {payload}",
                binding.wish
            );
            // That a refused binding is live again shows when it gets something.
            binding.live |= std::mem::take(&mut binding.refused);
            assert!(binding.live, "a change for a binding that is not live");
            assert!(!binding.stale, "a change after a position that never was");
            if let Some(seen) = binding.seen {
                assert!(
                    seen < entry.position,
                    "twice: {:?} after {seen:?}",
                    entry.position
                );
                let skipped = truth.between(seen, entry.position).iter().find(|other| {
                    other.number != entry.number
                        && (binding.wish.wants(other)
                            || (self.resumes && binding.wish.is_hit_by_hole(other)))
                });
                assert!(
                    self.may_lose || skipped.is_none(),
                    "{:?} was skipped before {:?}",
                    skipped.unwrap().position,
                    entry.position
                );
            }
            binding.seen = Some(entry.position);
        }
    }

    /// History has changed, and who does not ask for cursors is not told.
    pub(crate) fn lose_track(&mut self) {
        if !self.resumes {
            self.last = None;
            self.bindings
                .iter_mut()
                .for_each(|binding| binding.seen = None);
        }
    }

    /// Finds out which of its positions never were.
    pub(crate) fn look_back(&mut self, truth: &Truth) {
        for binding in &mut self.bindings {
            binding.stale = binding.seen.is_some_and(|seen| !truth.knows(seen));
        }
    }

    /// One channel never goes back.
    fn advance(&mut self, position: Position, what: &str) {
        assert!(
            self.last <= Some(position),
            "{what} {position:?} after {:?}",
            self.last
        );
        self.last = Some(position);
    }

    /// After everything has settled: nothing is owed.
    pub(crate) fn check_complete(&self, truth: &Truth, from: Position) {
        assert!(self.joined, "the join was not answered");
        for binding in &self.bindings {
            assert!(!binding.stale, "{:?} was not told", binding.wish);
            let is_live = binding.live || (binding.refused && !self.resumes);
            assert!(is_live, "{:?} never went live", binding.wish);
            let seen = binding.seen.map_or(from, |seen| seen.max(from));
            let owed = truth
                .between(seen, truth.end())
                .iter()
                .find(|entry| binding.wish.wants(entry));
            assert!(
                owed.is_none(),
                "{:?} never got {:?}",
                binding.wish,
                owed.unwrap().position
            );
        }
    }
}
