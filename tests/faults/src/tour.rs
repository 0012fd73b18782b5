//! Many runs, several at a time, each with servers of its own.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use pgrelay_test_support::PostgresServer;
use tokio::runtime;

use crate::run::run;
use crate::schedule::{Class, Schedule};
use crate::summary::Summary;

/// Which runs, and how.
#[derive(Debug, Clone)]
pub struct Tour {
    /// In this order.
    pub schedules: Vec<Schedule>,
    /// At a time.
    pub jobs: usize,
}

/// Makes them; `tell` hears about each, and about what went wrong.
///
/// # Panics
/// When a thread cannot be started.
pub fn tour(tour: &Tour, tell: impl Fn(&str) + Sync) -> Summary {
    let next = AtomicUsize::new(0);
    let summary = Mutex::new(Summary::default());
    std::thread::scope(|scope| {
        for _ in 0..tour.jobs.clamp(1, 64) {
            scope.spawn(|| {
                let runtime = runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(work(tour, &next, &summary, &tell));
            });
        }
    });
    summary.into_inner().unwrap()
}

/// One thread's share.
async fn work(
    tour: &Tour,
    next: &AtomicUsize,
    summary: &Mutex<Summary>,
    tell: &(impl Fn(&str) + Sync),
) {
    // Ordinary ones, and such that prepare transactions.
    let mut servers: [Option<PostgresServer>; 2] = [None, None];
    while let Some(schedule) = tour.schedules.get(next.fetch_add(1, Ordering::Relaxed)) {
        let class = schedule.class();
        let place = usize::from(class == Class::TransactionsPrepared);
        let server = match servers[place].take() {
            Some(server) if !class.spends_servers() => server,
            other => {
                servers[place] = other;
                new_server(place == 1).await
            }
        };
        let (report, server) = run(schedule, server, None).await;
        if server.is_some() {
            servers[place] = server;
        }
        let seed = schedule.seed();
        tell(&format!(
            "seed {seed} {class:?}: {} changes, {} heard, {} reconnects, {} refetches, recovered in {:.1} s, {} violations",
            report.changes,
            report.heard,
            report.reconnects,
            report.refetches,
            report.recovery.as_secs_f64(),
            report.violations.len()
        ));
        if !report.violations.is_empty() {
            tell(&format!("{schedule}"));
            for violation in report.violations.iter().take(20) {
                tell(&format!("  {violation}"));
            }
        }
        summary.lock().unwrap().add(class, &report);
    }
}

/// A server of which little is asked but that it can be ended.
pub(crate) async fn new_server(prepares: bool) -> PostgresServer {
    PostgresServer::builder()
        .set(
            "max_prepared_transactions",
            if prepares { "40" } else { "0" },
        )
        .set("max_connections", "60")
        .set("shared_buffers", "32MB")
        .set("fsync", "off")
        // What nobody waits for stays in memory, for a crash to take.
        .set("wal_writer_delay", "10s")
        .set("wal_writer_flush_after", "1GB")
        .set("deadlock_timeout", "200ms")
        .start()
        .await
}
