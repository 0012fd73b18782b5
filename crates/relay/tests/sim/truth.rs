//! The log as the database has it, and what each binding should receive from it.

use std::sync::Arc;

use pgrelay_protocol::{FilterOp, Position, RefetchReason};
use pgrelay_relay::{
    change::{Change, Operation, Page, Relation, Row},
    filter::{FilterTest, ResolvedBinding, Scalar, Test},
    ports::{Replay, ReplayError},
    testing,
    view::{Glance, Rights, Sight, Viewer},
};

use crate::random::Random;

pub(crate) const TABLES: u32 = 2;
pub(crate) const ROOMS: i64 = 3;

/// All changes ever, in position order, each with the number its row carries.
pub(crate) struct Truth {
    changes: Vec<Entry>,
    relations: Vec<Arc<Relation>>,
    /// Ends of all batches, the empty ones too.
    pub(crate) ends: Vec<Position>,
    /// Positions before this one are gone from the log.
    pub(crate) floor: Position,
    epoch: u32,
    batch: u64,
    number: i64,
}

pub(crate) struct Entry {
    pub(crate) position: Position,
    pub(crate) change: Change,
    /// Unique; 0 for holes.
    pub(crate) number: i64,
    room: i64,
}

/// What one binding asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wish {
    /// `None`: every table.
    pub(crate) table: Option<u32>,
    pub(crate) event: Option<&'static str>,
    pub(crate) room: Option<i64>,
    /// Numbers divisible by this: decided by the database.
    pub(crate) divisor: Option<i64>,
    pub(crate) select: bool,
}

impl Wish {
    pub(crate) fn random(random: &mut Random) -> Self {
        let table = random
            .chance(80)
            .then(|| 1 + u32::try_from(random.below(TABLES as usize)).unwrap());
        Self {
            table,
            event: random.pick(&[None, None, Some("INSERT"), Some("UPDATE"), Some("DELETE")]),
            room: table.and_then(|_| {
                random
                    .chance(60)
                    .then(|| i64::try_from(random.below(3)).unwrap())
            }),
            divisor: table.and_then(|_| {
                random
                    .chance(30)
                    .then(|| i64::try_from(2 + random.below(2)).unwrap())
            }),
            select: table.is_some() && random.chance(20),
        }
    }

    /// The entry of the join, without `since`.
    pub(crate) fn entry(&self) -> serde_json::Map<String, serde_json::Value> {
        let mut entry = serde_json::Map::new();
        entry.insert("event".into(), self.event.unwrap_or("*").into());
        entry.insert("schema".into(), "public".into());
        if let Some(table) = self.table {
            entry.insert("table".into(), format!("t{table}").into());
        }
        let room = self.room.map(|room| format!("room=eq.{room}"));
        let divisor = self.divisor.map(|divisor| format!("number=like.{divisor}"));
        let filters: Vec<_> = room.into_iter().chain(divisor).collect();
        if !filters.is_empty() {
            entry.insert("filter".into(), filters.join(",").into());
        }
        if self.select {
            entry.insert("select".into(), serde_json::json!(["number"]));
        }
        entry
    }

    pub(crate) fn wants(&self, entry: &Entry) -> bool {
        let operation = entry.change.operation;
        operation != Operation::Hole
            && self
                .table
                .is_none_or(|table| table == entry.change.relation.oid)
            && self.event.is_none_or(|event| event == operation.name())
            && is_visible(&entry.change)
            && self.room.is_none_or(|room| room == entry.room)
            && self
                .divisor
                .is_none_or(|divisor| entry.number % divisor == 0)
    }

    pub(crate) fn is_hit_by_hole(&self, entry: &Entry) -> bool {
        let oid = entry.change.relation.oid;
        entry.change.operation == Operation::Hole
            && (oid == 0 || self.table.is_none_or(|table| table == oid))
    }
}

/// What the database would make of a filter list of a [`Wish`].
pub(crate) fn resolve(spec: &pgrelay_protocol::BindingSpec) -> ResolvedBinding {
    let relation = match &spec.table {
        pgrelay_protocol::NamePattern::Any => None,
        pgrelay_protocol::NamePattern::Exact(name) => Some(name[1..].parse().unwrap()),
    };
    let tests = spec.filters.iter().map(|filter| {
        let test = match filter.op {
            FilterOp::Eq => Test::OneOf(Arc::new([Scalar::Int(filter.value.parse().unwrap())])),
            op => Test::Database {
                op,
                value: filter.value.clone(),
            },
        };
        FilterTest {
            column: filter.column.clone(),
            negate: filter.negate,
            test,
        }
    });
    ResolvedBinding {
        relation,
        tests: tests.collect(),
        rights: None,
    }
}

/// Whether the table of a change has policies.
fn has_policies(oid: u32) -> bool {
    oid == TABLES
}

/// What the policies of the database say: some rows are seen by nobody, their deletions by everybody.
fn is_visible(change: &Change) -> bool {
    let number = |row: &Row| row.value(2).unwrap().parse::<i64>().unwrap();
    !has_policies(change.relation.oid) || change.new.as_ref().is_none_or(|row| number(row) % 4 != 3)
}

/// The database's answer about one viewer.
pub(crate) fn look(changes: &[Glance], viewer: &Viewer) -> Sight {
    let rights = (1..=TABLES).map(|oid| {
        // Not told that there is row security: changes are known by their numbers here.
        let rights = Rights {
            policies: has_policies(oid),
            ..Rights::all()
        };
        (oid, Arc::new(rights))
    });
    let is_seen = |place: &u32| {
        let (page, index) = &changes[*place as usize];
        is_visible(&page.changes[*index as usize])
    };
    let seen = viewer.places.iter().copied().filter(is_seen);
    Sight {
        rights: rights.collect(),
        rows: seen.map(|place| (place, None)).collect(),
    }
}

/// The database's answer about one change.
pub(crate) fn evaluate(change: &Change, tests: &[FilterTest]) -> bool {
    tests.iter().all(|test| {
        let value: i64 = change.filter_value(&test.column).unwrap().parse().unwrap();
        match &test.test {
            Test::OneOf(values) => values.contains(&Scalar::Int(value)),
            Test::Database { value: divisor, .. } => value % divisor.parse::<i64>().unwrap() == 0,
            other => unreachable!("{other:?}"),
        }
    })
}

impl Truth {
    pub(crate) fn new() -> Self {
        let table = |oid| {
            Arc::new(testing::table(
                oid,
                &format!("t{oid}"),
                "full id:int8:pk room:int4 number:int8",
            ))
        };
        let start = Position {
            epoch: 1,
            batch: 1,
            seq: i64::MAX,
            tag: 17,
        };
        Self {
            changes: Vec::new(),
            relations: (0..=TABLES).map(table).collect(),
            ends: vec![start],
            floor: start,
            epoch: 1,
            batch: 1,
            number: 0,
        }
    }

    pub(crate) fn end(&self) -> Position {
        *self.ends.last().unwrap()
    }

    /// Commits a batch of up to `most` changes, perhaps none.
    pub(crate) fn commit(&mut self, random: &mut Random, most: usize, holes: bool) {
        self.batch += 1;
        let end = Position {
            epoch: self.epoch,
            batch: self.batch,
            seq: i64::MAX,
            tag: random.next(),
        };
        let mut seq = 0;
        for _ in 0..random.below(most + 1) {
            seq += 1 + i64::try_from(random.below(3)).unwrap();
            let position = Position { seq, ..end };
            let entry = self.entry(position, random, holes);
            self.changes.push(entry);
        }
        self.ends.push(end);
    }

    fn entry(&mut self, position: Position, random: &mut Random, holes: bool) -> Entry {
        if holes && random.chance(3) {
            let relation = &self.relations[random.below(self.relations.len())];
            let change = testing::change(position.seq, relation, "H");
            return Entry {
                position,
                change,
                number: 0,
                room: 0,
            };
        }
        let relation = &self.relations[1 + random.below(TABLES as usize)];
        self.number += 1;
        let (number, room) = (self.number, i64::try_from(random.below(3)).unwrap() % ROOMS);
        let row = |number: i64, room: i64| {
            format!(r#"{{"id":{},"room":{room},"number":{number}}}"#, number % 5)
        };
        let images = match random.below(3) {
            0 => format!("I {}", row(number, room)),
            1 => format!("U {} {}", row(number, room), row(-1, room + 1)),
            _ => format!("D {}", row(number, room)),
        };
        Entry {
            position,
            change: testing::change(position.seq, relation, &images),
            number,
            room,
        }
    }

    /// A new history: what was before cannot be continued. Either an epoch begins, or the newest
    /// batches were never there and others will have their numbers.
    pub(crate) fn break_off(&mut self, random: &mut Random) -> Position {
        if random.chance(50) {
            self.epoch += 1;
            self.batch += 1;
            let head = Position {
                epoch: self.epoch,
                batch: self.batch,
                seq: i64::MAX,
                tag: random.next(),
            };
            self.ends.push(head);
        } else {
            let older = self
                .ends
                .iter()
                .filter(|end| end.epoch < self.epoch)
                .count();
            let kept = self.ends.len().saturating_sub(1 + random.below(5));
            self.ends.truncate(kept.max(older + 1));
            let end = self.end();
            self.batch = end.batch;
            self.changes.retain(|entry| entry.position <= end);
        }
        if self.epoch > self.floor.epoch {
            self.floor = self.end();
        }
        self.floor = self.floor.min(self.end());
        self.end()
    }

    /// The changes after `after` up to the end of batch `end`, cut into pages at random places;
    /// some pages hold the end of the batch, some batches have no page.
    pub(crate) fn pages(
        &self,
        after: Position,
        end: Position,
        random: &mut Random,
    ) -> Vec<Arc<Page>> {
        let first = self
            .changes
            .partition_point(|entry| entry.position <= after);
        let last = self.changes.partition_point(|entry| entry.position <= end);
        let mut pages = Vec::new();
        let mut rest = &self.changes[first..last];
        while let Some(entry) = rest.first() {
            let batch = rest
                .iter()
                .take_while(|other| other.position.batch == entry.position.batch)
                .count();
            let length = if random.chance(50) {
                batch
            } else {
                1 + random.below(batch)
            };
            let (page, left) = rest.split_at(length);
            let is_whole = left
                .first()
                .is_none_or(|next| next.position.batch != entry.position.batch);
            let seq = if is_whole {
                i64::MAX
            } else {
                page[length - 1].position.seq
            };
            let changes = page.iter().map(|entry| entry.change.clone()).collect();
            pages.push(Arc::new(Page::new(
                changes,
                Position {
                    seq,
                    ..entry.position
                },
            )));
            rest = left;
        }
        pages
    }

    /// The log's answer: a part of what follows `after`.
    pub(crate) fn read(&self, after: Position, random: &mut Random) -> Result<Replay, ReplayError> {
        let known = self
            .ends
            .iter()
            .find(|end| (end.epoch, end.batch) == (after.epoch, after.batch));
        if after.epoch != self.epoch || known.is_none_or(|known| known.tag != after.tag) {
            return Err(ReplayError::Refetch(RefetchReason::Epoch));
        }
        if after < self.floor {
            return Err(ReplayError::Refetch(RefetchReason::Retention));
        }
        let later: Vec<_> = self
            .ends
            .iter()
            .copied()
            .filter(|end| *end > after)
            .collect();
        let Some(reached) = later.get(random.below(later.len().max(1)).min(3)).copied() else {
            return Ok(Replay {
                pages: Vec::new(),
                reached: after,
            });
        };
        Ok(Replay {
            pages: self.pages(after, reached, random),
            reached,
        })
    }

    pub(crate) fn start(&self) -> Position {
        self.ends[0]
    }

    /// Whether a position is of this history.
    pub(crate) fn knows(&self, position: Position) -> bool {
        let same = |end: &Position| {
            (end.epoch, end.batch, end.tag) == (position.epoch, position.batch, position.tag)
        };
        position.epoch == self.epoch && self.ends.iter().any(same)
    }

    /// Changes in `(after, up_to]`.
    pub(crate) fn between(&self, after: Position, up_to: Position) -> &[Entry] {
        let first = self
            .changes
            .partition_point(|entry| entry.position <= after);
        let last = self
            .changes
            .partition_point(|entry| entry.position <= up_to);
        &self.changes[first..last.max(first)]
    }

    pub(crate) fn by_number(&self, number: i64) -> &Entry {
        let entry = self
            .changes
            .iter()
            .rev()
            .find(|entry| entry.number == number);
        entry.expect("a change that was committed")
    }
}
