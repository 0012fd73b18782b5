//! Whether a table's changes can go to a role at all: published, captured, selectable, with policies
//! that can be asked about. Remembered for a moment, so that a crowd that joins at once asks once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use pgrelay_relay::view::Rights;
use tokio::{sync::OnceCell, time::Instant};

use crate::{catalog::Catalog, error::Error, look, pool::Pool, statements};

/// How long an answer is trusted; the catalog's own news come sooner.
const TRUST: Duration = Duration::from_secs(1);
/// Answers remembered before the cache starts over.
const ANSWERS_MAX: usize = 10_000;
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Who asks for what.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    /// `None`: every schema.
    pub(crate) schema: Option<Box<str>>,
    /// `None`: every table.
    pub(crate) table: Option<Box<str>>,
    pub(crate) role: Box<str>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Facts {
    /// No such role.
    NoRole,
    /// No published table.
    NotPublished,
    /// Changes may go to this role.
    Open(Option<(u32, Arc<Rights>)>),
    /// There is a table, and a reason against it.
    Closed {
        sqlstate: &'static str,
        reason: String,
        /// The reason may pass by itself.
        passes: bool,
    },
}

#[derive(Debug)]
struct Answer {
    at: Instant,
    generation: u64,
    facts: OnceCell<Facts>,
}

/// Recent answers.
#[derive(Debug, Default)]
pub(crate) struct FactCache(Mutex<HashMap<Question, Arc<Answer>>>);

impl FactCache {
    pub(crate) async fn get(
        &self,
        question: &Question,
        catalog: &Catalog,
        pool: &Pool,
        attach: bool,
    ) -> Result<Facts, Error> {
        let answer = self.answer(question, catalog.generation());
        let facts = answer
            .facts
            .get_or_try_init(async || {
                let facts = ask(question, pool, attach).await?;
                catalog.look_again();
                Ok::<_, Error>(facts)
            })
            .await?;
        Ok(facts.clone())
    }

    /// The place for the answer: one that is fresh, or a new one.
    fn answer(&self, question: &Question, generation: u64) -> Arc<Answer> {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = answers.get(question)
            && known.generation == generation
            && known.at.elapsed() < TRUST
        {
            return Arc::clone(known);
        }
        if answers.len() >= ANSWERS_MAX {
            answers.clear();
        }
        let fresh = Arc::new(Answer {
            at: Instant::now(),
            generation,
            facts: OnceCell::new(),
        });
        answers.insert(question.clone(), Arc::clone(&fresh));
        fresh
    }
}

async fn ask(question: &Question, pool: &Pool, attach: bool) -> Result<Facts, Error> {
    match (&question.schema, &question.table) {
        (Some(schema), Some(table)) => one_table(schema, table, &question.role, pool, attach).await,
        _ => matching(question, pool).await,
    }
}

async fn one_table(
    schema: &str,
    table: &str,
    role: &str,
    pool: &Pool,
    attach: bool,
) -> Result<Facts, Error> {
    let rows = pool
        .ask(
            "look up a table",
            ANSWER_MAX,
            &statements::catalog::TABLE,
            &[&schema, &table, &role],
        )
        .await?;
    let row = &rows[0];
    let (role_exists, published): (bool, bool) = (row.get(0), row.get(3));
    let relation = row.get::<_, Option<u32>>(1).filter(|_| published);
    let Some(relation) = relation else {
        return Ok(Facts::NotPublished);
    };
    if !role_exists {
        return Ok(Facts::NoRole);
    }
    let rights = look::rights(row, 7).unwrap_or(Rights {
        columns: Some(Arc::new([])),
        ..Rights::all()
    });
    let (name, may_use): (&str, bool) = (row.get(2), row.get(4));
    let (privilege, object) = if may_use {
        ("select", name.to_owned())
    } else {
        ("usage", format!("schema {schema}"))
    };
    if rights.columns.as_deref().is_some_and(<[_]>::is_empty) {
        return Ok(denied(format!(
            "permission denied for table {name}; run: grant {privilege} on {object} to {role}"
        )));
    }
    if rights.policies && !row.get::<_, Option<bool>>(5).unwrap_or(false) {
        return Ok(denied(cannot_look(name, role, row.get(6))));
    }
    match missing_triggers(relation, pool, attach).await? {
        Some((reason, passes)) => Ok(Facts::Closed {
            sqlstate: "P0001",
            reason,
            passes,
        }),
        None => Ok(Facts::Open(Some((relation, Arc::new(rights))))),
    }
}

fn denied(reason: String) -> Facts {
    Facts::Closed {
        sqlstate: "42501",
        reason,
        passes: false,
    }
}

fn cannot_look(table: &str, role: &str, relay: &str) -> String {
    format!(
        "policies of {table} decide what role {role} sees, and the relay's role {relay} cannot ask them as {role}; run: grant {role} to {relay}"
    )
}

/// Attaches what is missing where that is allowed. What remains, and whether it passes by itself.
async fn missing_triggers(
    relation: u32,
    pool: &Pool,
    attach: bool,
) -> Result<Option<(String, bool)>, Error> {
    let rows = pool
        .ask(
            "attach triggers",
            ANSWER_MAX,
            &statements::catalog::SYNC,
            &[&Some(relation), &attach],
        )
        .await?;
    Ok(rows.iter().find(|row| row.get::<_, &str>(2) != "attached").map(|row| {
        let (table, action): (&str, &str) = (row.get(1), row.get(2));
        let (statement, error): (&str, &str) = (row.get(3), row.get(4));
        let why = if error.is_empty() { String::new() } else { format!(" ({error})") };
        (format!("changes of {table} are not captured, its triggers are missing{why}; run: {statement}"), action == "locked")
    }))
}

async fn matching(question: &Question, pool: &Pool) -> Result<Facts, Error> {
    let Question {
        schema,
        table,
        role,
    } = question;
    let rows = pool
        .ask(
            "look up tables",
            ANSWER_MAX,
            &statements::catalog::MATCHING,
            &[&schema.as_deref(), &table.as_deref(), &&**role],
        )
        .await?;
    let row = &rows[0];
    if row.get::<_, i64>(1) == 0 {
        return Ok(Facts::NotPublished);
    }
    if !row.get::<_, bool>(0) {
        return Ok(Facts::NoRole);
    }
    if let Some(table) = row.get::<_, Option<&str>>(2) {
        return Ok(denied(format!(
            "permission denied for table {table}, which matches; run: grant select on {table} to {role}"
        )));
    }
    Ok(match row.get::<_, Option<&str>>(3) {
        Some(table) => denied(cannot_look(table, role, row.get(4))),
        None => Facts::Open(None),
    })
}
