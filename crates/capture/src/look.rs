//! What viewers may see of changes: one statement for all of them, put together here.
//!
//! Decides nothing itself. PostgreSQL is asked as the viewers' roles with the viewers' claims
//! (`sql/pgrelay/0006_look.sql`); what comes back is put in its place. Called by the resolver.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use pgrelay_relay::{
    change::{Change, Operation, Row as Image},
    ports::EvaluateError,
    view::{Glance, Rights, Sight, Viewer},
};
use serde::Serialize;
use tokio::time::{Instant, timeout};
use tokio_postgres::{Row, types::ToSql};

use crate::{
    error::Error,
    pool,
    query::Lane,
    resolver::Shared,
    statements,
    typed::{GRACE, array_literal},
};

/// What a statement may carry, in bytes; more makes several.
const ITEMS_BYTES_MAX: usize = 16 << 20;
/// Viewers are asked one by one after they failed together, for so many time limits at most.
const LIMITS_ALONE: u32 = 3;

/// Rows of one table, and who looks at them.
#[derive(Debug, Serialize)]
struct Item<'a> {
    relation: u32,
    keys: Vec<String>,
    /// `None` for a row that was too large to be logged.
    logged: Vec<Option<&'a str>>,
    viewers: Vec<Looker<'a>>,
    /// Where the rows are in the list of changes.
    #[serde(skip)]
    places: Vec<u32>,
}

#[derive(Debug, Serialize)]
struct Looker<'a> {
    viewer: usize,
    role: &'a str,
    claims: &'a str,
    sub: Option<&'a str>,
}

/// One result for each viewer.
type Sights = Vec<Result<Sight, EvaluateError>>;

pub(crate) async fn look(
    shared: &Shared,
    changes: &[Glance],
    viewers: &[Viewer],
) -> Result<Sights, Error> {
    match together(shared, changes, viewers).await {
        Err(error) if is_timeout(&error) => alone(shared, changes, viewers).await,
        outcome => outcome,
    }
}

/// Everybody, each in its own time: so that one slow policy is not everybody's.
async fn alone(shared: &Shared, changes: &[Glance], viewers: &[Viewer]) -> Result<Sights, Error> {
    let give_up = Instant::now() + shared.compiler.limit * LIMITS_ALONE;
    let mut sights = Sights::with_capacity(viewers.len());
    for viewer in viewers {
        if viewers.len() == 1 || Instant::now() > give_up {
            sights.push(Err(EvaluateError("policies take too long".to_owned())));
            continue;
        }
        match together(shared, changes, std::slice::from_ref(viewer)).await {
            Ok(one) => sights.extend(one),
            Err(error) if is_timeout(&error) => {
                sights.push(Err(EvaluateError("policies take too long".to_owned())));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(sights)
}

fn is_timeout(error: &Error) -> bool {
    matches!(error, Error::Frozen { .. }) || error.sqlstate() == Some("57014")
}

async fn together(
    shared: &Shared,
    changes: &[Glance],
    viewers: &[Viewer],
) -> Result<Sights, Error> {
    let mut sights: Sights = viewers.iter().map(|_| Ok(Sight::default())).collect();
    let newest = changes.iter().map(|(page, _)| page.batch).max();
    let newest = i64::try_from(newest.unwrap_or(0)).unwrap_or(i64::MAX);
    let mut rows = Rows::default();
    let items = items(changes, viewers);
    for items in statements_of(&items) {
        let text = serde_json::to_string(items).unwrap_or_default();
        for row in run(shared, &text, newest).await? {
            let viewer = usize::try_from(row.get::<_, i32>(0)).unwrap_or(usize::MAX);
            let item = usize::try_from(row.get::<_, i32>(1))
                .ok()
                .and_then(|item| items.get(item));
            if let (Some(Ok(sight)), Some(item)) = (sights.get_mut(viewer), item)
                && let Err(failure) = rows.read(&row, item, changes, sight)
            {
                tracing::debug!(%failure, table = item.relation, "policies cannot be evaluated");
                sights[viewer] = Err(failure);
            }
        }
    }
    for sight in sights.iter_mut().flatten() {
        sight.rows.sort_unstable_by_key(|(place, _)| *place);
    }
    Ok(sights)
}

/// Groups of items, each small enough for a statement.
fn statements_of<'i, 'a>(items: &'i [Item<'a>]) -> Vec<&'i [Item<'a>]> {
    let mut groups = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, item) in items.iter().enumerate() {
        let logged = item.logged.iter().flatten().map(|text| text.len());
        let claims = item.viewers.iter().map(|looker| looker.claims.len());
        bytes += logged.chain(claims).sum::<usize>();
        if bytes > ITEMS_BYTES_MAX {
            groups.push(&items[start..=index]);
            (start, bytes) = (index + 1, 0);
        }
    }
    groups.push(&items[start..]);
    groups.retain(|group| !group.is_empty());
    groups
}

/// Rows that the same viewers look at, by table.
fn items<'a>(changes: &'a [Glance], viewers: &'a [Viewer]) -> Vec<Item<'a>> {
    let change = |place: u32| -> Option<&'a Change> {
        let (page, index) = changes.get(usize::try_from(place).ok()?)?;
        page.changes.get(usize::try_from(*index).ok()?)
    };
    let mut by_rows: HashMap<(u32, Vec<u32>), usize> = HashMap::new();
    let mut items: Vec<Item<'a>> = Vec::new();
    for (number, viewer) in viewers.iter().enumerate() {
        let mut tables: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for place in &viewer.places {
            let Some(change) = change(*place) else {
                continue;
            };
            let rows = tables.entry(change.relation.oid).or_default();
            if matches!(change.operation, Operation::Insert | Operation::Update) {
                rows.push(*place);
            }
        }
        for (relation, places) in tables {
            let item =
                *by_rows
                    .entry((relation, places))
                    .or_insert_with_key(|(relation, places)| {
                        let known = places.iter().filter_map(|place| {
                            let change = change(*place)?;
                            Some((*place, key_of(change)?, logged(change)))
                        });
                        let mut item = Item {
                            relation: *relation,
                            keys: Vec::new(),
                            logged: Vec::new(),
                            viewers: Vec::new(),
                            places: Vec::new(),
                        };
                        for (place, key, logged) in known {
                            item.places.push(place);
                            item.keys.push(key);
                            item.logged.push(logged);
                        }
                        items.push(item);
                        items.len() - 1
                    });
            items[item].viewers.push(Looker {
                viewer: number,
                role: &viewer.claims.role,
                claims: &viewer.claims.json,
                sub: viewer.claims.subject.as_deref(),
            });
        }
    }
    // What is found out about a table is found out once.
    items.sort_by_key(|item| item.relation);
    items
}

fn logged(change: &Change) -> Option<&str> {
    change
        .new
        .as_ref()
        .filter(|_| !change.too_large)
        .map(Image::text)
}

/// The primary key as text: an array literal where it has several columns. `None` where the image
/// does not have it.
fn key_of(change: &Change) -> Option<String> {
    let new = change.new.as_ref()?;
    let columns = change.relation.columns.iter().enumerate();
    let values = columns
        .filter(|(_, column)| column.primary_key)
        .map(|(place, _)| value_of(new.value(place)?));
    let mut values: Vec<String> = values.collect::<Option<_>>()?;
    match values.len() {
        0 => None,
        1 => values.pop(),
        _ => {
            let values: Vec<_> = values.into_iter().map(Some).collect();
            Some(array_literal(&values, ','))
        }
    }
}

/// A JSON value as PostgreSQL reads it: what a string says, and the text of anything else.
fn value_of(json: &str) -> Option<String> {
    match json.as_bytes().first()? {
        b'n' => None,
        b'"' => serde_json::from_str(json).ok(),
        _ => Some(json.to_owned()),
    }
}

/// Puts answers in their places. Equal rows are one allocation, so that they are encoded once.
#[derive(Debug, Default)]
struct Rows {
    images: HashMap<(u32, Box<str>), Arc<Image>>,
}

impl Rows {
    /// An answer about one viewer and one item.
    fn read(
        &mut self,
        row: &Row,
        item: &Item<'_>,
        changes: &[Glance],
        sight: &mut Sight,
    ) -> Result<(), EvaluateError> {
        if let Some(sqlstate) = row.get::<_, Option<&str>>(7) {
            return Err(EvaluateError(format!("SQLSTATE {sqlstate}")));
        }
        let Some(rights) = rights(row, 2) else {
            return Ok(());
        };
        if !sight.rights.iter().any(|(oid, _)| *oid == item.relation) {
            sight.rights.push((item.relation, Arc::new(rights)));
        }
        let visible: Vec<i32> = row.get::<_, Option<_>>(5).unwrap_or_default();
        let images: Vec<Option<&str>> = row.get::<_, Option<_>>(6).unwrap_or_default();
        for (ordinal, image) in visible.into_iter().zip(images) {
            let place = usize::try_from(ordinal)
                .ok()
                .and_then(|ordinal| item.places.get(ordinal.checked_sub(1)?));
            let Some(place) = place.copied() else {
                continue;
            };
            let current = match image {
                None => None,
                Some(text) => Some(self.image(place, text, changes)?),
            };
            sight.rows.push((place, current));
        }
        Ok(())
    }

    fn image(
        &mut self,
        place: u32,
        text: &str,
        changes: &[Glance],
    ) -> Result<Arc<Image>, EvaluateError> {
        let unreadable = || EvaluateError("a row cannot be read".to_owned());
        let name = (place, text.into());
        if let Some(image) = self.images.get(&name) {
            return Ok(Arc::clone(image));
        }
        let change = usize::try_from(place)
            .ok()
            .and_then(|place| changes.get(place))
            .and_then(|(page, index)| page.changes.get(usize::try_from(*index).ok()?))
            .ok_or_else(unreadable)?;
        let image = Image::parse(text, &change.relation).map_err(|_not_an_object| unreadable())?;
        let image = Arc::new(image);
        self.images.insert(name, Arc::clone(&image));
        Ok(image)
    }
}

/// Rights from three columns of an answer; `None` where there is no such table or role.
pub(crate) fn rights(row: &Row, first: usize) -> Option<Rights> {
    let columns: Option<Vec<&str>> = row.get(first);
    Some(Rights {
        columns: columns.map(|names| names.into_iter().map(Into::into).collect()),
        row_security: row.get::<_, Option<bool>>(first + 1)?,
        policies: row.get::<_, Option<bool>>(first + 2)?,
    })
}

/// One round trip. All of it is sent before the first answer is awaited, so that whoever stops waiting
/// leaves no transaction behind, and no role.
async fn run(shared: &Shared, items: &str, newest: i64) -> Result<Vec<Row>, Error> {
    const ACTION: &str = "evaluate policies";
    let limit = shared.compiler.limit;
    let client = shared.compiler.pool.get().await?;
    let milliseconds = limit.as_millis().to_string();
    let settings: [&(dyn ToSql + Sync); 1] = [&milliseconds];
    let question: [&(dyn ToSql + Sync); 2] = [&items, &newest];
    let asked = async {
        let lane = Lane::pooled(&client);
        let (begun, set, answer, ended) = futures::join!(
            client.batch_execute(statements::session::BEGIN_LOOK),
            lane.rows(&statements::session::LOOK_SETTINGS, &settings),
            lane.rows(&statements::catalog::LOOK, &question),
            client.batch_execute("rollback"),
        );
        begun?;
        set?;
        let rows = answer?;
        ended?;
        Ok(rows)
    };
    let answer: Result<Result<Vec<Row>, tokio_postgres::Error>, _> =
        timeout(limit + GRACE, asked).await;
    match answer {
        Ok(answer) => answer.map_err(Error::query(ACTION)),
        Err(_elapsed) => {
            pool::discard(client);
            Err(Error::Frozen {
                action: ACTION,
                limit,
            })
        }
    }
}
