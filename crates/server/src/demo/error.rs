//! Why a demo cannot start.

use std::{io, path::PathBuf};

/// Why a demo cannot start, with what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// A file or program cannot be used.
    #[error("{action}")]
    Io {
        /// Verb and object.
        action: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The folder named by `PGRELAY_PG_BIN` does not do.
    #[error("PGRELAY_PG_BIN cannot be used: {0}")]
    PgBin(String),
    /// Nothing was found; the text says what was passed over and what would help.
    #[error("{0}")]
    NoPostgres(String),
    /// We are root and there is nobody to run PostgreSQL as.
    #[error(
        "PostgreSQL does not run as root, and this machine has neither a user postgres nor a user \
         nobody; run the demo as another user"
    )]
    NoAccount,
    /// There is no place for the state.
    #[error("HOME is not set: name a folder for the demo's database with PGRELAY_DEMO_DIR")]
    NoHome,
    /// The state folder belongs to somebody else.
    #[error("{0} belongs to another user: name another folder with PGRELAY_DEMO_DIR")]
    ForeignState(PathBuf),
    /// PostgreSQL's user cannot get to the state folder.
    #[error(
        "the user {account} cannot enter {barrier}, on the way to {folder}: name another folder \
         with PGRELAY_DEMO_DIR"
    )]
    ClosedState {
        /// The state folder.
        folder: PathBuf,
        /// The folder that is closed.
        barrier: PathBuf,
        /// Who cannot enter.
        account: String,
    },
    /// The state folder would lie among the sources.
    #[error(
        "{folder} is inside the checkout {checkout}: name a folder outside with PGRELAY_DEMO_DIR"
    )]
    BelowCheckout {
        /// The state folder.
        folder: PathBuf,
        /// The checkout.
        checkout: PathBuf,
    },
    /// Another demo uses the folder.
    #[error(
        "another demo is running with {0}: stop it, or name another folder with PGRELAY_DEMO_DIR"
    )]
    Running(PathBuf),
    /// The demo's own database has a schema that this program cannot bring up to date.
    #[error("{0} was made by another version of this program: remove the folder to start afresh")]
    OtherVersion(PathBuf),
    /// The system has no randomness.
    #[error("the system gives no random bytes for a secret")]
    NoRandomness,
    /// A program of PostgreSQL failed; its own words follow.
    #[error("{program} failed ({status}):\n{output}")]
    Program {
        /// Which program.
        program: &'static str,
        /// How it ended.
        status: String,
        /// The end of its output.
        output: String,
    },
    /// The server runs but lets nobody in.
    #[error("PostgreSQL did not accept a connection within {0:?}")]
    NotReady(std::time::Duration),
}

impl DemoError {
    /// For `map_err`: names what was being done.
    pub(super) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }
}
