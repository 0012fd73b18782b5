//! What can go wrong between pgrelay and PostgreSQL, and what to do about it.
//!
//! Every fallible function of this crate that talks to a database returns [`Error`]. Whether an error
//! passes by itself is decided in [`crate::retry`], never where it occurs.

use std::{error::Error as StdError, fmt, time::Duration};

use tokio_postgres::error::DbError;

/// A failure of the capture side.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection could be made.
    #[error("connect to PostgreSQL")]
    Connect(#[source] tokio_postgres::Error),
    /// The server did not answer while connecting.
    #[error("PostgreSQL did not accept a connection within {0:?}")]
    ConnectTimeout(Duration),
    /// No pooled connection could be had.
    #[error("take a connection from the pool")]
    Pool(#[source] deadpool_postgres::PoolError),
    /// A statement failed.
    #[error("{action}")]
    Query {
        /// Verb and object, as in "read the catalog".
        action: &'static str,
        /// What PostgreSQL or the connection said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A statement did not answer in time: the server or the way to it is frozen.
    #[error("{action}: no answer within {limit:?}")]
    Frozen {
        /// Verb and object.
        action: &'static str,
        /// How long we waited.
        limit: Duration,
    },
    /// The connection ended.
    #[error("the connection to PostgreSQL ended")]
    Closed,
    /// The direct URL leads to a pooler that shares sessions.
    #[error(
        "the direct connection goes through a pooler in transaction mode, where LISTEN and session locks do not \
         work; set PGRELAY_DIRECT_URL to an address of PostgreSQL itself (or of a pooler in session mode)"
    )]
    Pooler,
    /// The server is a standby.
    #[error("the server is a standby; the change log lives on the primary")]
    Standby,
    /// The schema is not there, or is older than this program.
    #[error("schema pgrelay is {found} and needs {needed}; run `pgrelay migrate`")]
    Schema {
        /// What is wrong with it.
        found: String,
        /// What is to be done.
        needed: &'static str,
    },
    /// A migration that was applied differs from the one this program carries.
    #[error(
        "migration {name} was applied with other contents; this program does not match the database"
    )]
    MigrationChanged {
        /// Name of the migration.
        name: String,
    },
    /// A migration could not be applied.
    #[error("apply migration {name}")]
    Migration {
        /// Name of the migration.
        name: &'static str,
        /// What PostgreSQL said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The database holds something this program cannot understand.
    #[error("{0}")]
    Corrupt(String),
    /// A table was named that does not exist or cannot be captured.
    #[error("{0}")]
    Refused(String),
}

/// What sort of failure an [`Error`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// What was asked for makes no sense.
    Input,
    /// PostgreSQL does not allow it.
    Denied,
    /// Something that was named does not exist.
    Missing,
    /// The state of the database stands against it.
    Conflict,
    /// A bound was reached.
    Limit,
    /// PostgreSQL cannot be reached or is not ready.
    Unavailable,
    /// A defect.
    Internal,
}

impl Error {
    /// For `map_err`: names what was being done.
    pub(crate) fn query(action: &'static str) -> impl FnOnce(tokio_postgres::Error) -> Self {
        move |source| Self::Query { action, source }
    }

    /// The error PostgreSQL sent, where one was sent.
    pub(crate) fn postgres(&self) -> Option<&tokio_postgres::Error> {
        match self {
            Self::Connect(source) | Self::Query { source, .. } | Self::Migration { source, .. } => {
                Some(source)
            }
            Self::Pool(deadpool_postgres::PoolError::Backend(source)) => Some(source),
            Self::Pool(_)
            | Self::ConnectTimeout(_)
            | Self::Frozen { .. }
            | Self::Closed
            | Self::Pooler
            | Self::Standby
            | Self::Schema { .. }
            | Self::MigrationChanged { .. }
            | Self::Corrupt(_)
            | Self::Refused(_) => None,
        }
    }

    /// SQLSTATE, where PostgreSQL answered with one.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        self.postgres()
            .and_then(tokio_postgres::Error::code)
            .map(|code| code.code())
    }

    /// What sort of failure this is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::ConnectTimeout(_)
            | Self::Frozen { .. }
            | Self::Closed
            | Self::Standby
            | Self::Pool(_) => Kind::Unavailable,
            Self::Pooler | Self::Schema { .. } | Self::MigrationChanged { .. } => Kind::Conflict,
            Self::Corrupt(_) => Kind::Internal,
            Self::Refused(_) => Kind::Input,
            Self::Connect(_) | Self::Query { .. } | Self::Migration { .. } => self
                .sqlstate()
                .map_or(Kind::Unavailable, |code| match code {
                    "42501" | "28000" | "28P01" => Kind::Denied,
                    "42P01" | "3F000" | "42883" | "42704" | "3D000" => Kind::Missing,
                    _ => match &code[..2] {
                        "08" | "57" | "25" => Kind::Unavailable,
                        "53" | "54" => Kind::Limit,
                        "23" | "40" | "55" | "P0" => Kind::Conflict,
                        "22" => Kind::Input,
                        _ => Kind::Internal,
                    },
                }),
        }
    }

    /// The whole chain of causes in one line, for logs and terminals. Details of PostgreSQL errors,
    /// which may quote rows, are left out.
    #[must_use]
    pub fn report(&self) -> Report<'_> {
        Report(self)
    }
}

/// An error with its causes, printed as `what: why: why`.
#[derive(Debug)]
pub struct Report<'a>(&'a (dyn StdError + 'static));

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut next = Some(self.0);
        let mut separator = "";
        while let Some(error) = next {
            next = error.source();
            if let Some(db) = error.downcast_ref::<DbError>() {
                let (message, code) = (db.message(), db.code().code());
                write!(f, "{separator}{message} (SQLSTATE {code})")?;
                if let Some(hint) = db.hint() {
                    write!(f, "; {hint}")?;
                }
            } else if !wraps_db_error(error) {
                write!(f, "{separator}{error}")?;
            } else {
                continue;
            }
            separator = ": ";
        }
        Ok(())
    }
}

/// Says only that the server sent an error, which comes next.
fn wraps_db_error(error: &(dyn StdError + 'static)) -> bool {
    error
        .downcast_ref::<tokio_postgres::Error>()
        .is_some_and(|error| error.as_db_error().is_some())
}
