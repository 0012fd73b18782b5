//! The booking chat over HTTP: who may say what to whom, and what a status change tells.
//!
//! The database keeps every promise (`sql/chat`, described in `docs/chat.md`); this crate turns
//! requests into calls of its functions, each in one transaction under the caller's role and claims,
//! and refusals into words for people. It knows PostgreSQL and does not know that a relay exists.
//! `server` mounts [`router`], checks tokens for it, and runs [`schema::migrate`] and
//! [`doctor::examine`].

mod answer;
mod body;
mod booking_ref;
mod caller;
mod code;
mod config;
pub mod demo;
pub mod doctor;
mod error;
mod fields;
mod handlers;
mod message;
mod page;
mod refusal;
mod route;
pub mod schema;
mod store;

use std::sync::Arc;

use deadpool_postgres::Pool;

pub use caller::{Claims, TokenRefused, TokenVerifier};
pub use config::{Config, SendRate};
pub use error::{Error, Kind};
pub use route::router;

/// What every route needs.
#[derive(Clone)]
pub struct Chat {
    store: store::Store,
    tokens: Arc<dyn TokenVerifier>,
    config: Arc<Config>,
}

impl Chat {
    /// `pool` connects as a role that may become each role that tokens name.
    pub fn new(pool: Pool, tokens: Arc<dyn TokenVerifier>, config: Config) -> Self {
        let config = Arc::new(config);
        Self {
            store: store::Store::new(pool, Arc::clone(&config)),
            tokens,
            config,
        }
    }
}

impl std::fmt::Debug for Chat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chat").finish_non_exhaustive()
    }
}
