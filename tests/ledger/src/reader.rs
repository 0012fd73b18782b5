//! The reader that follows the ledger, batch by batch, and the one that comes late.

use std::time::Duration;

use fastrand::Rng;
use pgrelay_test_support::Session;
use tokio::time::sleep;

use crate::history::{Batch, Row};
use crate::page::Pages;
use crate::script::{chance, millis};
use crate::table::Table;
use crate::violation::Kind;
use crate::world::{Failure, World};

/// Between two looks at the ledger.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// Delivers batch after batch until nobody makes any.
pub(crate) async fn follow(world: &World, mut dice: Rng) {
    let session = world.connect().await;
    loop {
        let is_end = world.sequencers_left.get() == 0;
        let pages = Pages {
            rows_max: dice.i32(1..60),
            relations: None,
        };
        match next_batch(&session, world.position(), &pages).await {
            Ok(Some(batch)) => world.deliver(batch),
            Ok(None) if is_end => return,
            Ok(None) => sleep(LOOK_INTERVAL).await,
            Err(Failure::Disconnected) if world.crashing.get() => return,
            Err(failure) => {
                world.notice(Kind::RelayFailed, format!("the reader: {failure:?}"));
                return;
            }
        }
    }
}

/// The batch after `last`, whole.
pub(crate) async fn next_batch(
    session: &Session,
    last: i64,
    pages: &Pages,
) -> Result<Option<Batch>, Failure> {
    let rows = session
        .query(
            "select l.id, l.tag, l.n from pgrelay.ledger l
              where l.id = (select min(m.id) from pgrelay.ledger m where m.id > $1)",
            &[&last],
        )
        .await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let id = row.get(0);
    Ok(Some(Batch {
        id,
        tag: row.get(1),
        n: row.get(2),
        namesakes: rows.len() - 1,
        rows: pages.read(session, id, 0).await?,
    }))
}

impl World {
    pub(crate) fn deliver(&self, batch: Batch) {
        let (id, n, found) = (batch.id, batch.n, batch.rows.len());
        if usize::try_from(n) != Ok(found) {
            let what = format!("batch {id} has {found} rows, the ledger says {n}");
            self.notice(Kind::Miscounted, what);
        }
        if batch.namesakes > 0 {
            let what = format!("{} more batches are numbered {id}", batch.namesakes);
            self.notice(Kind::Numbering, what);
        }
        self.delivered.borrow_mut().push(batch);
    }
}

/// A place in what was delivered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor {
    pub(crate) batch: i64,
    pub(crate) place: i64,
    pub(crate) tag: uuid::Uuid,
}

/// Comes back again and again with cursors of some time ago: it must be given what followed then, or be told that it is gone.
pub(crate) async fn come_late(world: &World, mut dice: Rng) {
    let session = world.connect().await;
    while world.sequencers_left.get() > 0 {
        if let Some(cursor) = draw_cursor(world, &mut dice) {
            match visit(world, &session, cursor, &mut dice).await {
                Ok(honoured) => world.visits.update(|visits| visits.plus(honoured)),
                Err(Failure::Disconnected) if world.crashing.get() => break,
                Err(failure) => {
                    world.notice(Kind::RelayFailed, format!("a late reader: {failure:?}"));
                    break;
                }
            }
        }
        sleep(millis(&mut dice, 40)).await;
    }
}

/// What became of the cursors of a late reader.
#[derive(Debug, Clone, Copy, Default)]
pub struct Visits {
    /// Given all that followed.
    pub honoured: usize,
    /// Told to fetch again.
    pub refused: usize,
}

impl Visits {
    fn plus(self, honoured: bool) -> Self {
        Self {
            honoured: self.honoured + usize::from(honoured),
            refused: self.refused + usize::from(!honoured),
        }
    }
}

fn draw_cursor(world: &World, dice: &mut Rng) -> Option<Cursor> {
    let delivered = world.delivered.borrow();
    let recent = delivered.len().saturating_sub(dice.usize(1..80));
    let batch = delivered.get(recent)?;
    let row = if chance(dice, 30) || batch.rows.is_empty() {
        None
    } else {
        Some(&batch.rows[dice.usize(0..batch.rows.len())])
    };
    Some(Cursor {
        batch: batch.id,
        place: row.map_or(0, |row| row.place),
        tag: batch.tag,
    })
}

/// What the ledger says about a cursor, by the rules that the schema promises.
pub(crate) async fn is_valid(session: &Session, cursor: Cursor) -> Result<bool, Failure> {
    let row = session
        .query_opt(
            "select l.tag, l.n, l.max_seq, m.value::bigint from pgrelay.ledger l, pgrelay.meta m
              where l.id = $1 and m.key = 'floor'",
            &[&cursor.batch],
        )
        .await?;
    Ok(row.is_some_and(|row| {
        let floor: i64 = row.get(3);
        let is_end = row.get::<_, i64>(1) == 0 || Some(cursor.place) >= row.get(2);
        row.get::<_, uuid::Uuid>(0) == cursor.tag
            && (cursor.batch > floor || cursor.batch == floor && is_end)
    }))
}

/// Reads on from a cursor for a few batches; whether it was honoured.
async fn visit(
    world: &World,
    session: &Session,
    cursor: Cursor,
    dice: &mut Rng,
) -> Result<bool, Failure> {
    if !is_valid(session, cursor).await? {
        return Ok(false);
    }
    let tables = chance(dice, 30).then_some([Table::Plain, Table::Calling]);
    let relations = match tables {
        Some(tables) => Some(oids(session, &tables).await?),
        None => None,
    };
    let pages = Pages {
        rows_max: dice.i32(1..40),
        relations,
    };
    let mut after = cursor.place;
    for batch in cursor.batch..=cursor.batch + dice.i64(0..5) {
        let Some(expected) = world.rows(batch, after, tables.as_ref().map(<[_; 2]>::as_slice))
        else {
            return Ok(true);
        };
        let rows = pages.read(session, batch, after).await?;
        // Asked afterwards: rows that went while they were read went together with the floor.
        if !is_above_floor(session, batch).await? {
            return Ok(false);
        }
        if rows != expected {
            let (found, expected) = (summary(&rows), summary(&expected));
            world.notice(
                Kind::Rewritten,
                format!("batch {batch} after {after}: {found}, not {expected}"),
            );
        }
        after = 0;
    }
    Ok(true)
}

async fn oids(session: &Session, tables: &[Table]) -> Result<Vec<u32>, Failure> {
    let names: Vec<_> = tables.iter().map(|table| table.name()).collect();
    let rows = session
        .query(
            "select t.name::regclass::oid from unnest($1::text[]) t (name)",
            &[&names],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn is_above_floor(session: &Session, batch: i64) -> Result<bool, Failure> {
    let row = session
        .query_one(
            "select m.value::bigint < $1 from pgrelay.meta m where m.key = 'floor'",
            &[&batch],
        )
        .await?;
    Ok(row.get(0))
}

impl World {
    /// What was delivered of a batch after a place; `None` where it was not delivered yet.
    fn rows(&self, batch: i64, after: i64, tables: Option<&[Table]>) -> Option<Vec<Row>> {
        let delivered = self.delivered.borrow();
        let batch = delivered.iter().rev().find(|other| other.id == batch)?;
        let is_wanted = |row: &&Row| {
            row.place > after
                && tables
                    .is_none_or(|tables| row.table.is_some_and(|table| tables.contains(&table)))
        };
        Some(batch.rows.iter().filter(is_wanted).cloned().collect())
    }
}

fn summary(rows: &[Row]) -> String {
    let places: Vec<_> = rows.iter().map(|row| (row.place, row.seq)).collect();
    format!("{} rows {places:?}", rows.len())
}
