//! What only the database can decide about a subscription. Called by the relay's sessions at a join,
//! and for every page that filters of the kind [`Test::Database`] may match.
//!
//! [`Test::Database`]: pgrelay_relay::filter::Test::Database

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use pgrelay_protocol::{BindingSpec, Filter, NamePattern, Refusal, Topic};
use pgrelay_relay::{
    change::Page,
    filter::{FilterTest, ResolvedBinding},
    ports::{Authorizer, BindingError, ChannelError, ChannelRights, Claims, EvaluateError},
    view::{Glance, Rights, Sight, Viewer},
};

use crate::{
    catalog::Catalog,
    columns::{ColumnCache, Columns},
    compile::Compiler,
    error::Error,
    evaluate,
    facts::{FactCache, Facts, Question},
    look,
    metrics::Metrics,
    policies::Policies,
    query::Lane,
};

/// Resolves bindings and evaluates filters over pooled connections.
#[derive(Debug, Clone)]
pub struct Resolver(Arc<Shared>);

/// What all sessions share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) compiler: Compiler,
    policies: Policies,
    catalog: Arc<Catalog>,
    metrics: Arc<Metrics>,
    attach: bool,
    facts: FactCache,
    columns: ColumnCache,
}

/// What clients know as the word for a database that does not answer.
const UNAVAILABLE: &str = "{:error, \"Too many database timeouts\"}";

impl Resolver {
    pub(crate) fn new(
        (compiler, policies): (Compiler, Policies),
        catalog: Arc<Catalog>,
        metrics: Arc<Metrics>,
        attach: bool,
    ) -> Self {
        let (facts, columns) = (FactCache::default(), ColumnCache::default());
        Self(Arc::new(Shared {
            compiler,
            policies,
            catalog,
            metrics,
            attach,
            facts,
            columns,
        }))
    }
}

impl Shared {
    pub(crate) async fn columns(&self, relation: u32) -> Result<Arc<Columns>, Error> {
        let client = self.compiler.pool.get().await?;
        self.columns
            .get(Lane::pooled(&client), &self.catalog, relation)
            .await
            .map_err(Error::query("look up columns"))
    }

    async fn binding(
        &self,
        spec: &BindingSpec,
        claims: &Claims,
    ) -> Result<ResolvedBinding, BindingError> {
        let name = |pattern: &NamePattern| match pattern {
            NamePattern::Any => None,
            NamePattern::Exact(name) => Some(name.clone()),
        };
        let question = Question {
            schema: name(&spec.schema),
            table: name(&spec.table),
            role: claims.role.clone(),
        };
        let facts = self
            .facts
            .get(&question, &self.catalog, &self.compiler.pool, self.attach)
            .await;
        let open = match facts.map_err(|error| unavailable(&error))? {
            Facts::Open(open) => open,
            Facts::NotPublished => return Err(refused(&Refusal::NotEnabled, spec)),
            Facts::NoRole => {
                let message = format!("role \"{}\" does not exist", claims.role);
                return Err(refused(
                    &Refusal::Raised {
                        sqlstate: "42704",
                        message: &message,
                    },
                    spec,
                ));
            }
            Facts::Closed {
                sqlstate,
                reason,
                passes,
            } => {
                let refusal = Refusal::Raised {
                    sqlstate,
                    message: &reason,
                };
                return Err(BindingError {
                    retryable: passes,
                    ..refused(&refusal, spec)
                });
            }
        };
        let tests = match &open {
            Some((relation, rights)) => self.tests(spec, *relation, rights).await?,
            // No table, no columns.
            None => match spec.filters.first() {
                Some(filter) => return Err(refused(&Refusal::FilterColumn(&filter.column), spec)),
                None => Vec::new(),
            },
        };
        let (relation, rights) = open.unzip();
        Ok(ResolvedBinding {
            relation,
            tests: tests.into(),
            rights,
        })
    }

    async fn tests(
        &self,
        spec: &BindingSpec,
        relation: u32,
        rights: &Rights,
    ) -> Result<Vec<FilterTest>, BindingError> {
        if spec.filters.is_empty() && spec.select.is_none() {
            return Ok(Vec::new());
        }
        let columns = self
            .columns(relation)
            .await
            .map_err(|error| unavailable(&error))?;
        let mut tests = Vec::with_capacity(spec.filters.len());
        for filter in &spec.filters {
            if !rights.covers(&filter.column) {
                return Err(refused(&Refusal::FilterColumn(&filter.column), spec));
            }
            tests.push(self.test(spec, filter, &columns).await?);
        }
        for name in spec.select.iter().flatten() {
            if columns.get(name).is_none() || !rights.covers(name) {
                return Err(refused(&Refusal::SelectColumn(name), spec));
            }
        }
        Ok(tests)
    }

    async fn test(
        &self,
        spec: &BindingSpec,
        filter: &Filter,
        columns: &Columns,
    ) -> Result<FilterTest, BindingError> {
        self.compiler
            .compile(filter, columns)
            .await
            .map_err(|unusable| {
                let type_name = columns
                    .get(&filter.column)
                    .map_or("", |column| &column.shown);
                match unusable.refusal(filter, type_name) {
                    Ok(refusal) => refused(&refusal, spec),
                    Err(error) => unavailable(error),
                }
            })
    }
}

fn refused(refusal: &Refusal<'_>, spec: &BindingSpec) -> BindingError {
    BindingError {
        message: refusal.message(spec),
        retryable: false,
    }
}

fn unavailable(error: &Error) -> BindingError {
    tracing::warn!(error = %error.report(), "a subscription cannot be resolved now");
    BindingError {
        message: UNAVAILABLE.to_owned(),
        retryable: true,
    }
}

/// PostgreSQL's message may quote the row.
fn untold(error: &Error) -> EvaluateError {
    let code = error.sqlstate().map(|code| format!("SQLSTATE {code}"));
    EvaluateError(code.unwrap_or_else(|| error.to_string()))
}

impl Authorizer for Resolver {
    fn resolve(
        &self,
        spec: Arc<BindingSpec>,
        claims: Arc<Claims>,
    ) -> BoxFuture<'static, Result<ResolvedBinding, BindingError>> {
        let shared = Arc::clone(&self.0);
        async move { shared.binding(&spec, &claims).await }.boxed()
    }

    fn look(
        &self,
        changes: Arc<[Glance]>,
        viewers: Vec<Viewer>,
    ) -> BoxFuture<'static, Result<Vec<Result<Sight, EvaluateError>>, EvaluateError>> {
        let shared = Arc::clone(&self.0);
        async move {
            shared.metrics.looks.inc();
            let outcome = look::look(&shared, &changes, &viewers).await;
            let failures = outcome.as_ref().map_or(viewers.len(), |sights| {
                sights.iter().filter(|sight| sight.is_err()).count()
            });
            shared.metrics.look_failures.inc_by(failures as u64);
            outcome.map_err(|error| untold(&error))
        }
        .boxed()
    }

    fn evaluate(
        &self,
        page: Arc<Page>,
        changes: Vec<u32>,
        tests: Arc<[FilterTest]>,
    ) -> BoxFuture<'static, Result<Vec<bool>, EvaluateError>> {
        let shared = Arc::clone(&self.0);
        async move {
            shared.metrics.evaluations.inc();
            evaluate::evaluate(&shared, &page, &changes, &tests)
                .await
                .map_err(|error| {
                    shared.metrics.evaluation_failures.inc();
                    untold(&error)
                })
        }
        .boxed()
    }

    fn channel(
        &self,
        topic: Topic,
        claims: Arc<Claims>,
    ) -> BoxFuture<'static, Result<ChannelRights, ChannelError>> {
        let shared = Arc::clone(&self.0);
        async move { shared.policies.rights(&topic, &claims).await }.boxed()
    }
}
