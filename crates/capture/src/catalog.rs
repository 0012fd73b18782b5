//! What the catalog says of the tables whose changes pass: names, columns, keys, row security.
//!
//! Shared by the live reader and by replays. Definitions are cached; whether a cached one still holds
//! is asked once per batch, in one statement, so that row security switched on in a transaction is
//! known before any row of a later one goes out. Nothing here fails because a table or column is gone.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use pgrelay_relay::change::{Column, Relation, Rendering};
use tokio_postgres::{Error, Row, types::Type};

use crate::{query::Lane, statements};

/// Definitions kept before the cache starts over.
const RELATIONS_MAX: usize = 10_000;

/// The relations of a batch: captured oid -> the relation its changes are delivered as; `None` for
/// what is not published or was dropped before it was ever seen.
pub(crate) type Relations = HashMap<u32, Option<Arc<Relation>>>;

/// The shared cache.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    cache: Mutex<Cache>,
    /// Grows whenever something that was resolved before may be resolved otherwise now.
    generation: AtomicU64,
}

#[derive(Debug, Default)]
struct Cache {
    definitions: HashMap<u32, Definition>,
    /// Captured relation -> the one it is delivered as; `None` where it is not published.
    published: HashMap<u32, Option<u32>>,
    /// Grows when `published` is forgotten, so that an older answer is not kept.
    looks: u64,
}

#[derive(Debug, Clone)]
struct Definition {
    version: String,
    relation: Arc<Relation>,
}

impl Catalog {
    fn cache(&self) -> MutexGuard<'_, Cache> {
        // Nothing panics while it is held, and every entry is whole.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Grows with every change of the catalog that was noticed.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Something changed: what is published is asked again before it is next used.
    pub(crate) fn changed(&self) {
        self.look_again();
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Somebody is about to subscribe on the word of a catalog that may be newer than this cache.
    pub(crate) fn look_again(&self) {
        let mut cache = self.cache();
        cache.published.clear();
        cache.looks += 1;
    }

    /// The relations of one batch as they are now, by captured oid.
    pub(crate) async fn relations(
        &self,
        lane: Lane<'_>,
        captured: &HashSet<u32>,
    ) -> Result<Relations, Error> {
        let names = self.published(lane, captured).await?;
        let wanted: Vec<u32> = names
            .values()
            .copied()
            .collect::<HashSet<_>>()
            .into_iter()
            .collect();
        let definitions = self.definitions(lane, &wanted).await?;
        Ok(captured
            .iter()
            .map(|oid| {
                (
                    *oid,
                    names
                        .get(oid)
                        .and_then(|name| definitions.get(name))
                        .cloned(),
                )
            })
            .collect())
    }

    /// Under which relation's name each of `captured` is delivered. A table that is not known may
    /// have been published a moment ago.
    async fn published(
        &self,
        lane: Lane<'_>,
        captured: &HashSet<u32>,
    ) -> Result<HashMap<u32, u32>, Error> {
        let known = |published: &HashMap<u32, Option<u32>>| -> Option<HashMap<u32, u32>> {
            let names = captured
                .iter()
                .map(|oid| Some((*oid, *published.get(oid)?)));
            let names: Option<Vec<_>> = names.collect();
            Some(
                names?
                    .into_iter()
                    .filter_map(|(oid, name)| Some((oid, name?)))
                    .collect(),
            )
        };
        let looks = {
            let cache = self.cache();
            if let Some(found) = known(&cache.published) {
                return Ok(found);
            }
            cache.looks
        };
        let rows = lane.rows(&statements::catalog::PUBLISHED, &[]).await?;
        let published = rows.iter().map(|row| (row.get(0), Some(row.get(1))));
        let published = captured
            .iter()
            .map(|oid| (*oid, None))
            .chain(published)
            .collect();
        let found = known(&published).unwrap_or_default();
        let mut cache = self.cache();
        if cache.looks == looks {
            cache.published = published;
        }
        Ok(found)
    }

    async fn definitions(
        &self,
        lane: Lane<'_>,
        wanted: &[u32],
    ) -> Result<HashMap<u32, Arc<Relation>>, Error> {
        if wanted.is_empty() {
            return Ok(HashMap::new());
        }
        let versions: HashMap<u32, String> = lane
            .rows(&statements::catalog::VERSIONS, &[&wanted])
            .await?
            .iter()
            .map(|row| (row.get(0), row.get(1)))
            .collect();
        let stale: Vec<u32> = {
            let cache = self.cache();
            let holds = |(oid, version): &(&u32, &String)| {
                cache
                    .definitions
                    .get(oid)
                    .is_some_and(|known| known.version == **version)
            };
            versions
                .iter()
                .filter(|entry| !holds(entry))
                .map(|(oid, _)| *oid)
                .collect()
        };
        if !stale.is_empty() {
            let rows = lane
                .rows(&statements::catalog::DEFINITIONS, &[&stale])
                .await?;
            self.learn(&versions, &rows);
        }
        // One that was dropped keeps the name it had.
        let cache = self.cache();
        Ok(wanted
            .iter()
            .filter_map(|oid| Some((*oid, Arc::clone(&cache.definitions.get(oid)?.relation))))
            .collect())
    }

    fn learn(&self, versions: &HashMap<u32, String>, rows: &[Row]) {
        let mut cache = self.cache();
        if cache.definitions.len() > RELATIONS_MAX {
            cache.definitions.clear();
        }
        for rows in rows.chunk_by(|a, b| a.get::<_, u32>(0) == b.get::<_, u32>(0)) {
            let relation = Arc::new(define(rows));
            if let Some(version) = versions.get(&relation.oid) {
                let definition = Definition {
                    version: version.clone(),
                    relation: Arc::clone(&relation),
                };
                if cache.definitions.insert(relation.oid, definition).is_some() {
                    // Privileges are part of it: nobody subscribes on an older word.
                    self.generation.fetch_add(1, Ordering::AcqRel);
                }
            }
        }
    }
}

/// A relation from its rows of [`DEFINITIONS`], one per column.
fn define(rows: &[Row]) -> Relation {
    let first = &rows[0];
    let columns = rows.iter().filter_map(|row| {
        Some(Column {
            name: row.get::<_, Option<&str>>(4)?.into(),
            type_name: row.get::<_, Option<&str>>(5)?.into(),
            rendering: rendering(row.get(6)),
            primary_key: row.get(7),
            identity: row.get(8),
        })
    });
    Relation {
        oid: first.get(0),
        schema: first.get::<_, &str>(1).into(),
        table: first.get::<_, &str>(2).into(),
        columns: columns.collect(),
        identity_full: first.get(3),
    }
}

/// By type, not by name: a domain renders as PostgreSQL renders it.
fn rendering(type_oid: u32) -> Rendering {
    match Type::from_oid(type_oid) {
        Some(Type::FLOAT4 | Type::FLOAT8 | Type::NUMERIC) => Rendering::FiniteOrNull,
        Some(Type::BYTEA) => Rendering::BareHex,
        _ => Rendering::Verbatim,
    }
}

/// Stands for every table in a hole that names none.
pub(crate) fn every_table() -> Arc<Relation> {
    Arc::new(Relation {
        oid: 0,
        schema: "".into(),
        table: "".into(),
        columns: Box::new([]),
        identity_full: false,
    })
}
