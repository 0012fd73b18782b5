//! Puts the parts of the capture side together. Called by the server's composition root.

use std::sync::Arc;

use crate::{
    catalog::Catalog, compile::Compiler, config::Config, health::Health, log::Log,
    metrics::Metrics, policies::Policies, pool::Pool, resolver::Resolver, sessions::Sessions,
    source::Source,
};

/// The parts, sharing one pool and one view of the catalog.
#[derive(Debug)]
pub struct Parts {
    /// Live changes.
    pub source: Source,
    /// Past changes.
    pub log: Log,
    /// What only the database can decide about subscriptions.
    pub resolver: Resolver,
    /// Where clients stood that named a session.
    pub sessions: Sessions,
    /// Whether the source follows the log.
    pub health: Health,
}

/// Makes the parts. Nothing connects before it is used; whoever uses it, the runtime that this is called in
/// drives the connections.
///
/// # Panics
/// Outside a runtime.
#[must_use]
pub fn open(config: Config, metrics: Arc<Metrics>) -> Parts {
    let pool = Pool::new(&config.database, config.pool_size);
    let catalog = Arc::new(Catalog::default());
    let health = Health::default();
    let log = Log::new(
        pool.clone(),
        Arc::clone(&catalog),
        Arc::clone(&metrics),
        config.message_bytes_max,
    );
    let policies = Policies::new(pool.clone(), config.pool_size, config.evaluate_timeout);
    let compiler = Compiler {
        pool: pool.clone(),
        limit: config.evaluate_timeout,
    };
    let resolver = Resolver::new(
        (compiler, policies),
        Arc::clone(&catalog),
        Arc::clone(&metrics),
        config.ddl,
    );
    let sessions = Sessions::new(pool.clone(), config.session_retention);
    let config = Arc::new(config);
    let source = Source {
        config,
        pool,
        catalog,
        metrics,
        health: health.clone(),
    };
    Parts {
        source,
        log,
        resolver,
        sessions,
        health,
    }
}
