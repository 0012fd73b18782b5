//! A constant SQL text with the types of its parameters, and the two ways to send it.

use tokio_postgres::{
    Client, Error, Row,
    types::{FromSqlOwned, ToSql, Type},
};

use crate::session::Prepared;

/// Parameters of a query.
pub(crate) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A statement. Its text never varies; what varies is a parameter.
#[derive(Debug)]
pub(crate) struct Query {
    text: &'static str,
    types: &'static [Type],
}

impl Query {
    pub(crate) const fn new(text: &'static str, types: &'static [Type]) -> Self {
        Self { text, types }
    }

    pub(crate) fn text(&self) -> &'static str {
        self.text
    }

    pub(crate) fn types(&self) -> &'static [Type] {
        self.types
    }
}

/// A connection, with the statements prepared on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lane<'a> {
    client: &'a Client,
    prepared: Option<&'a Prepared>,
}

impl<'a> Lane<'a> {
    /// A pooled connection: it may lead through a pooler that does not keep prepared statements, so
    /// everything is sent in one unnamed round trip.
    pub(crate) fn pooled(client: &'a Client) -> Self {
        Self {
            client,
            prepared: None,
        }
    }

    pub(crate) fn direct(client: &'a Client, prepared: &'a Prepared) -> Self {
        Self {
            client,
            prepared: Some(prepared),
        }
    }

    /// All rows.
    pub(crate) async fn rows(self, query: &Query, params: Params<'_>) -> Result<Vec<Row>, Error> {
        match self.prepared.and_then(|prepared| prepared.get(query)) {
            Some(statement) => self.client.query(statement, params).await,
            None => {
                let typed: Vec<_> = params
                    .iter()
                    .copied()
                    .zip(query.types.iter().cloned())
                    .collect();
                self.client.query_typed(query.text, &typed).await
            }
        }
    }

    /// The first row, if any.
    pub(crate) async fn first(
        self,
        query: &Query,
        params: Params<'_>,
    ) -> Result<Option<Row>, Error> {
        Ok(self.rows(query, params).await?.into_iter().next())
    }

    /// The one row of a query that always has one.
    pub(crate) async fn one(self, query: &Query, params: Params<'_>) -> Result<Row, Error> {
        Ok(self
            .rows(query, params)
            .await?
            .into_iter()
            .next()
            .expect("a query without FROM returns a row"))
    }

    /// The one value of a query that always has one.
    pub(crate) async fn scalar<T: FromSqlOwned>(self, query: &Query) -> Result<T, Error> {
        self.one(query, &[]).await?.try_get(0)
    }
}
