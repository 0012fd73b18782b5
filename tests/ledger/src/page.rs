//! Reading a batch in small pages, the versions of each row in their order.

use std::collections::{BTreeMap, BTreeSet};

use pgrelay_test_support::Session;
use serde_json::Value;

use crate::history::{Change, Image, Row};
use crate::table::Table;
use crate::world::Failure;

/// One way to read: how many rows at a time, and of which tables.
#[derive(Debug, Clone)]
pub(crate) struct Pages {
    pub(crate) rows_max: i32,
    pub(crate) relations: Option<Vec<u32>>,
}

impl Pages {
    /// The rows of a batch whose place is after `after`.
    pub(crate) async fn read(
        &self,
        session: &Session,
        batch: i64,
        after: i64,
    ) -> Result<Vec<Row>, Failure> {
        let moved = places(session, batch).await?;
        let mut rows = Vec::new();
        let mut position = after;
        loop {
            let page = self.page(session, batch, position, self.rows_max).await?;
            let is_last = page.len() < usize::try_from(self.rows_max).unwrap();
            for row in page {
                let place = row.seq;
                position = place;
                // Another version of the row may belong here.
                let row = match moved.get(&place) {
                    Some(&seq) if seq != place => {
                        self.page(session, batch, seq - 1, 1).await?.pop()
                    }
                    _ => Some(row),
                };
                rows.extend(row.map(|row| Row { place, ..row }));
            }
            if is_last {
                return Ok(rows);
            }
        }
    }

    async fn page(
        &self,
        session: &Session,
        batch: i64,
        after: i64,
        rows_max: i32,
    ) -> Result<Vec<Row>, Failure> {
        let rows = session
            .query(
                "select r.seq, r.xid::text, coalesce(c.relname::text, ''), r.op::text, r.new_row, r.old_row
                   from pgrelay.read($1, $2, $3, $4) r left join pg_class c on c.oid = r.relid",
                &[&batch, &after, &rows_max, &self.relations],
            )
            .await?;
        Ok(rows.iter().map(parse).collect())
    }
}

/// The seq of the row at each place where that is not its own.
async fn places(session: &Session, batch: i64) -> Result<BTreeMap<i64, i64>, Failure> {
    let summary = session
        .query_one(
            "select coalesce(sum(s.followers), 0)::bigint from pgrelay.batch_summary($1) s",
            &[&batch],
        )
        .await?;
    if summary.get::<_, i64>(0) == 0 {
        return Ok(BTreeMap::new());
    }
    let rows = session
        .query(
            "select i.seq, i.after_seq from pgrelay.inversions($1) i",
            &[&batch],
        )
        .await?;
    let links = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    Ok(order(&links))
}

/// From links (version, the version that it is built on) to the version at each place: the places of a chain are the seqs of its
/// members, the members follow one another.
fn order(links: &BTreeMap<i64, i64>) -> BTreeMap<i64, i64> {
    let next: BTreeMap<i64, i64> = links
        .iter()
        .map(|(version, base)| (*base, *version))
        .collect();
    let mut places = BTreeMap::new();
    for first in next.keys().filter(|seq| !links.contains_key(seq)) {
        let mut chain = vec![*first];
        while let Some(version) = next.get(&chain[chain.len() - 1]) {
            chain.push(*version);
        }
        let sorted: BTreeSet<i64> = chain.iter().copied().collect();
        places.extend(sorted.into_iter().zip(chain));
    }
    places
}

fn parse(row: &tokio_postgres::Row) -> Row {
    let image = |column| row.get::<_, Option<&str>>(column).map(Image::parse);
    let new = image(4);
    let old = image(5);
    let seq = row.get(0);
    let change = match (row.get(3), new, old) {
        ("I", Some(new), None) => Change::Insert { new },
        ("U", Some(new), Some(old)) => Change::Update { old, new },
        ("D", None, Some(old)) => Change::Delete { old },
        ("H", None, None) => Change::Hole,
        (op, new, old) => panic!("row {seq} of the log: {op} from {old:?} to {new:?}"),
    };
    Row {
        place: seq,
        seq,
        xid: row.get::<_, &str>(1).parse().expect("a transaction id"),
        table: Table::named(row.get(2)),
        change,
    }
}

impl Image {
    fn parse(text: &str) -> Self {
        let row: Value = serde_json::from_str(text).expect("a row as JSON");
        let number = |column: &str| row[column].as_i64().expect("a number");
        Self {
            id: number("id"),
            life: number("life"),
            v: number("v"),
            tag: row["tx"].as_str().expect("a text").into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_take_the_places_of_their_chain() {
        // 19 <- 17 <- 18, and 20 <- 21 apart from it.
        let links = BTreeMap::from([(17, 19), (18, 17), (21, 20)]);
        let places = BTreeMap::from([(17, 19), (18, 17), (19, 18), (20, 20), (21, 21)]);
        assert_eq!(order(&links), places);
    }
}
