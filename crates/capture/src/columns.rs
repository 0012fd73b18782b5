//! Columns as filters need them: how their values travel to PostgreSQL, and whether we may compare
//! them ourselves.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tokio_postgres::{Row, types::Type};

use crate::{catalog::Catalog, query::Lane, statements};

/// How long a definition is trusted without asking; the catalog's own news come sooner.
const TRUST: Duration = Duration::from_secs(1);
/// Tables remembered before the cache starts over.
const TABLES_MAX: usize = 1_000;

/// The columns of one table.
#[derive(Debug)]
pub(crate) struct Columns {
    by_name: HashMap<Box<str>, FilterColumn>,
    /// Type of the table's rows.
    pub(crate) row_type: u32,
}

/// A column that may be filtered on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FilterColumn {
    pub(crate) type_oid: u32,
    pub(crate) array_oid: u32,
    /// As messages name the type.
    pub(crate) shown: Box<str>,
    /// A domain: its checks are PostgreSQL's business.
    pub(crate) domain: bool,
    base_oid: u32,
    is_enum: bool,
    category: u8,
    delimiter: u8,
    /// Schema of the type, quoted; its operators are usually there too.
    pub(crate) type_schema: Box<str>,
    /// The collation, quoted, where equal strings may differ in bytes.
    pub(crate) collation: Option<Box<str>>,
    /// The type's owner decides what its JSON looks like, so that it cannot be read back.
    pub(crate) opaque: bool,
}

/// How values of a column go to PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// The decoded JSON string, or the number or word as it is.
    Text,
    /// The JSON text.
    Json,
    /// The JSON text, put together again by PostgreSQL: arrays and composites.
    Populate,
}

/// Types whose comparisons with a canonical value we can do on the JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Native {
    /// An integer between these bounds.
    Int(i64, i64),
    Bool,
    Uuid,
    /// Text that is its own canonical form.
    Plain,
    /// Types whose equality is equality of their canonical text.
    Canonical,
}

impl FilterColumn {
    fn from_row(row: &Row) -> Self {
        let byte = |column| row.get::<_, i8>(column).unsigned_abs();
        // Bytes are compared as the hex digits that are sent.
        let bytes = row.get::<_, u32>(5) == Type::BYTEA.oid();
        Self {
            type_oid: if bytes { Type::TEXT.oid() } else { row.get(1) },
            array_oid: if bytes {
                Type::TEXT_ARRAY.oid()
            } else {
                row.get(2)
            },
            shown: row.get::<_, &str>(3).into(),
            domain: row.get(4),
            base_oid: row.get(5),
            is_enum: row.get(6),
            category: byte(7),
            delimiter: byte(8),
            type_schema: row.get::<_, &str>(9).into(),
            collation: row.get::<_, Option<&str>>(10).map(Into::into),
            opaque: row.get(11),
        }
    }

    fn base(&self) -> Option<Type> {
        Type::from_oid(self.base_oid)
    }

    pub(crate) fn is_bool(&self) -> bool {
        self.base() == Some(Type::BOOL)
    }

    pub(crate) fn is_bytea(&self) -> bool {
        self.base() == Some(Type::BYTEA)
    }

    /// Has LIKE: strings of any kind and bytes.
    pub(crate) fn has_like(&self) -> bool {
        self.is_string() || self.is_bytea()
    }

    /// Has regular expressions.
    pub(crate) fn is_string(&self) -> bool {
        self.category == b'S'
    }

    /// Separates elements in an array literal of this type.
    pub(crate) fn delimiter(&self) -> char {
        char::from(self.delimiter)
    }

    pub(crate) fn transport(&self) -> Transport {
        match self.base() {
            Some(Type::JSON | Type::JSONB) => Transport::Json,
            _ if matches!(self.category, b'A' | b'C') => Transport::Populate,
            _ => Transport::Text,
        }
    }

    pub(crate) fn native(&self) -> Option<Native> {
        if self.opaque || self.collation.is_some() {
            return None;
        }
        if self.is_enum {
            return Some(Native::Canonical);
        }
        match self.base()? {
            Type::INT2 => Some(Native::Int(i16::MIN.into(), i16::MAX.into())),
            Type::INT4 => Some(Native::Int(i32::MIN.into(), i32::MAX.into())),
            Type::INT8 => Some(Native::Int(i64::MIN, i64::MAX)),
            Type::BOOL => Some(Native::Bool),
            Type::UUID => Some(Native::Uuid),
            Type::TEXT | Type::VARCHAR => Some(Native::Plain),
            Type::NAME | Type::DATE | Type::TIMESTAMP | Type::TIMESTAMPTZ => {
                Some(Native::Canonical)
            }
            _ => None,
        }
    }
}

impl Columns {
    pub(crate) fn get(&self, name: &str) -> Option<&FilterColumn> {
        self.by_name.get(name)
    }

    async fn load(lane: Lane<'_>, relation: u32) -> Result<Self, tokio_postgres::Error> {
        let rows = lane
            .rows(&statements::catalog::COLUMNS, &[&relation])
            .await?;
        let by_name = rows
            .iter()
            .map(|row| (row.get::<_, &str>(0).into(), FilterColumn::from_row(row)));
        Ok(Self {
            by_name: by_name.collect(),
            row_type: rows.first().map_or(0, |row| row.get(12)),
        })
    }
}

/// Columns by table, for a moment.
#[derive(Debug, Default)]
pub(crate) struct ColumnCache(Mutex<HashMap<u32, Known>>);

#[derive(Debug)]
struct Known {
    columns: Arc<Columns>,
    at: Instant,
    generation: u64,
}

impl ColumnCache {
    pub(crate) async fn get(
        &self,
        lane: Lane<'_>,
        catalog: &Catalog,
        relation: u32,
    ) -> Result<Arc<Columns>, tokio_postgres::Error> {
        let generation = catalog.generation();
        {
            let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = known.get(&relation)
                && known.generation == generation
                && known.at.elapsed() < TRUST
            {
                return Ok(Arc::clone(&known.columns));
            }
        }
        let columns = Arc::new(Columns::load(lane, relation).await?);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= TABLES_MAX {
            known.clear();
        }
        known.insert(
            relation,
            Known {
                columns: Arc::clone(&columns),
                at: Instant::now(),
                generation,
            },
        );
        Ok(columns)
    }
}

#[cfg(test)]
impl FilterColumn {
    /// A column of a built-in type, for tests.
    pub(crate) fn of(base: &Type, category: u8) -> Self {
        Self {
            type_oid: base.oid(),
            array_oid: 0,
            shown: base.name().into(),
            domain: false,
            base_oid: base.oid(),
            is_enum: false,
            category,
            delimiter: b',',
            type_schema: "pg_catalog".into(),
            collation: None,
            opaque: false,
        }
    }
}
