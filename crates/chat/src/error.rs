//! What can go wrong, and what of it the caller may read.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use deadpool_postgres::PoolError;
use tokio_postgres::error::{DbError, SqlState};

use crate::{code::Code, refusal::Refusal};

/// A request, a migration or an examination failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection could be had.
    #[error("take a connection")]
    Pool(#[source] PoolError),
    /// The database refused or failed.
    #[error("{action}")]
    Database {
        /// What was being done: verb and object.
        action: &'static str,
        /// What the database said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The database took too long for a whole request.
    #[error("no answer within {0:?}")]
    Frozen(Duration),
    /// A transaction was not the caller's; nothing was done in it.
    #[error("a request did not run as its caller")]
    NotTheCaller,
    /// A file of the schema was applied that differs from the one in this program.
    #[error(
        "chat migration {0} was applied with other contents; this program does not match the database"
    )]
    MigrationChanged(&'static str),
    /// The chat is installed in another schema than the one asked for.
    #[error("the chat is installed in schema {0}; it cannot be moved")]
    OtherSchema(String),
}

/// What an [`Error`] means for whoever has to act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request is wrong.
    Input,
    /// The caller may not.
    Denied,
    /// It does not exist.
    Missing,
    /// It has changed in the meantime.
    Conflict,
    /// Too much, too large, too fast.
    Limit,
    /// May succeed later.
    Unavailable,
    /// Somebody must look.
    Internal,
}

impl Error {
    pub(crate) fn database(action: &'static str) -> impl FnOnce(tokio_postgres::Error) -> Self {
        move |source| Self::Database { action, source }
    }

    /// What it means.
    pub fn kind(&self) -> Kind {
        match self.code() {
            Code::InvalidBookingRef | Code::InvalidRequest | Code::MethodNotAllowed => Kind::Input,
            Code::Empty | Code::InvalidValue | Code::IllegalTransition => Kind::Input,
            Code::AuthRequired | Code::NotAParticipant | Code::OperatorOnly => Kind::Denied,
            Code::NotAuthor | Code::Forbidden => Kind::Denied,
            Code::BookingNotFound | Code::MessageNotFound | Code::NotInstalled => Kind::Missing,
            Code::IdempotencyConflict | Code::StatusConflict => Kind::Conflict,
            Code::AlreadyAssigned | Code::BookingClosed => Kind::Conflict,
            Code::TooLong | Code::RateLimited => Kind::Limit,
            Code::Unavailable => Kind::Unavailable,
            Code::Internal => Kind::Internal,
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::Pool(_) | Self::Frozen(_) | Self::NotTheCaller => Code::Unavailable,
            Self::OtherSchema(_) | Self::MigrationChanged(_) => Code::InvalidValue,
            // Without an answer of the server, the connection is gone.
            Self::Database { source, .. } => {
                source.as_db_error().map_or(Code::Unavailable, code_of)
            }
        }
    }

    fn refusal(&self) -> Refusal {
        let detail = match self {
            Self::Database { source, .. } => source
                .as_db_error()
                .filter(|error| error.code().code().starts_with("PC"))
                .and_then(DbError::detail),
            Self::Pool(_)
            | Self::Frozen(_)
            | Self::NotTheCaller
            | Self::OtherSchema(_)
            | Self::MigrationChanged(_) => None,
        };
        Refusal::from_database(self.code(), detail)
    }
}

fn code_of(error: &DbError) -> Code {
    let state = error.code();
    if let Some(code) = Code::from_sqlstate(state.code()) {
        return code;
    }
    // A role that does not exist, or that we may not become, comes with the token.
    if *state == SqlState::INSUFFICIENT_PRIVILEGE || *state == SqlState::INVALID_PARAMETER_VALUE {
        return Code::Forbidden;
    }
    // Schema pgrelay_chat is not there; once it is, the next request finds it.
    if *state == SqlState::INVALID_SCHEMA_NAME {
        return Code::NotInstalled;
    }
    match state.code().get(..2) {
        Some("22") => Code::InvalidRequest,
        Some("23") => Code::InvalidValue,
        // Gone, refused, read-only, conflict, out of resources, stopped, timed out; or an older schema.
        Some("08" | "25" | "28" | "40" | "53" | "55" | "57") => Code::Unavailable,
        _ if *state == SqlState::UNDEFINED_FUNCTION => Code::Unavailable,
        _ => Code::Internal,
    }
}

/// A failure of a route: of the request, or of ours.
#[derive(Debug)]
pub(crate) enum Failure {
    Refused(Refusal),
    Failed(Error),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::Refused(refusal) => refusal.into_response(),
            Self::Failed(error) => {
                let refusal = error.refusal();
                let report = Report(&error);
                match error.kind() {
                    Kind::Internal => tracing::error!(error = %report, "a request failed"),
                    Kind::Unavailable => {
                        tracing::warn!(error = %report, "a request could not be served");
                    }
                    Kind::Input | Kind::Denied | Kind::Missing | Kind::Conflict | Kind::Limit => {
                        tracing::debug!(code = refusal.code().as_str(), "a request was refused");
                    }
                }
                refusal.into_response()
            }
        }
    }
}

/// An error with its sources, in one line.
struct Report<'a>(&'a Error);

impl std::fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = std::error::Error::source(self.0);
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
