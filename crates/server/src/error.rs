//! Why a command failed, and the code the process ends with.

use std::io;

use pgrelay_capture::Kind;
use pgrelay_chat::Kind as ChatKind;

use crate::{
    auth::{MintError, RefreshError},
    chain::Chain,
    config::Mistakes,
    demo::DemoError,
    shutdown::Leftovers,
    tail::TailError,
    tasks::Failure,
};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Settings cannot be used.
    #[error(transparent)]
    Config(#[from] Mistakes),
    /// The command line asks for something that cannot be done.
    #[error("{0}")]
    Usage(String),
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] pgrelay_capture::Error),
    /// The booking chat's schema cannot be used.
    #[error(transparent)]
    Chat(#[from] pgrelay_chat::Error),
    /// The system refused something.
    #[error("{action}")]
    Io {
        /// Verb and object.
        action: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The demo cannot start.
    #[error(transparent)]
    Demo(#[from] DemoError),
    /// The keys of tokens cannot be read.
    #[error("PGRELAY_JWKS cannot be used")]
    Jwks(#[from] RefreshError),
    /// A token could not be made.
    #[error(transparent)]
    Mint(#[from] MintError),
    /// The event stream cannot be followed.
    #[error(transparent)]
    Tail(#[from] TailError),
    /// A part of the process failed that it cannot go on without.
    #[error(transparent)]
    Task(#[from] Failure),
    /// The stop was not complete.
    #[error(transparent)]
    Stop(#[from] Leftovers),
    /// `doctor` found something.
    #[error("{0} of the preconditions are not met")]
    Red(usize),
}

/// What sort of failure an [`Error`] is, as far as the exit code tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// Bad usage or configuration.
    Usage = 64,
    /// Something outside is not there: the database, a port, a server.
    Unavailable = 69,
    /// A part of the process failed.
    Internal = 70,
}

impl Error {
    /// For `map_err`: names what was being done.
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }

    /// The whole chain of causes, for a person. Details of PostgreSQL errors, which may quote rows,
    /// are left out.
    pub fn report(&self) -> String {
        Chain(self).to_string()
    }

    /// The code the process ends with: 64, 69 or 70, as sysexits.h has them.
    pub fn exit_code(&self) -> u8 {
        let exit = match self {
            Self::Config(_) | Self::Usage(_) | Self::Jwks(_) => Exit::Usage,
            Self::Database(error) => match error.kind() {
                Kind::Input | Kind::Missing => Exit::Usage,
                Kind::Denied | Kind::Conflict | Kind::Limit | Kind::Unavailable => {
                    Exit::Unavailable
                }
                Kind::Internal => Exit::Internal,
            },
            Self::Chat(error) => match error.kind() {
                ChatKind::Input | ChatKind::Missing => Exit::Usage,
                ChatKind::Denied | ChatKind::Conflict | ChatKind::Limit | ChatKind::Unavailable => {
                    Exit::Unavailable
                }
                ChatKind::Internal => Exit::Internal,
            },
            Self::Io { .. } | Self::Demo(_) | Self::Tail(_) | Self::Red(_) => Exit::Unavailable,
            Self::Mint(_) | Self::Task(_) | Self::Stop(_) => Exit::Internal,
        };
        exit as u8
    }
}
