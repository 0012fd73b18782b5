//! What the tasks of one run share. They run on one thread, as one future.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use pgrelay_test_support::{DatabaseUrl, Session};
use tokio::sync::RwLock;
use tokio::time::sleep;
use tokio_postgres::error::SqlState;

use crate::attempt::Attempt;
use crate::history::Batch;
use crate::housekeeper::Upkeep;
use crate::reader::Visits;
use crate::violation::{Kind, Violation};

pub(crate) struct World {
    pub(crate) url: DatabaseUrl,
    pub(crate) attempts: RefCell<Vec<Attempt>>,
    /// What the reader that follows the ledger has delivered.
    pub(crate) delivered: RefCell<Vec<Batch>>,
    /// What was noticed while the run went on.
    pub(crate) noticed: RefCell<Vec<Violation>>,
    pub(crate) visits: Cell<Visits>,
    pub(crate) upkeep: Cell<Upkeep>,
    /// Steps that found the rival's batch in their way.
    pub(crate) collisions: Cell<usize>,
    /// Sequencers share it; who holds it alone has stopped them.
    pub(crate) sequencing: RwLock<()>,
    pub(crate) writers_left: Cell<usize>,
    pub(crate) sequencers_left: Cell<usize>,
    /// Writers and maintenance hold still.
    pub(crate) held: Cell<bool>,
    /// The server is about to crash, or has: whoever loses his connection is done.
    pub(crate) crashing: Cell<bool>,
    /// Distinguishes the transactions of one load from those of the next on the same history.
    pub(crate) part: usize,
    start: i64,
    clock: Cell<u64>,
    /// Connections that are being made.
    connecting: Cell<usize>,
    executioner: Session,
}

/// How a statement failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The connection is gone, and with it the knowledge of what the statement has done.
    Disconnected,
    /// The server refused the statement.
    Refused(SqlState, String),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(refusal) if *refusal.code() != SqlState::ADMIN_SHUTDOWN => {
                Self::Refused(refusal.code().clone(), refusal.to_string())
            }
            _ => Self::Disconnected,
        }
    }
}

impl World {
    /// `start`: the batch after which delivery begins.
    pub(crate) async fn new(url: DatabaseUrl, start: i64) -> Self {
        Self {
            executioner: Session::connect(&url).await,
            url,
            attempts: RefCell::default(),
            delivered: RefCell::default(),
            noticed: RefCell::default(),
            visits: Cell::default(),
            upkeep: Cell::default(),
            collisions: Cell::default(),
            sequencing: RwLock::new(()),
            writers_left: Cell::new(0),
            sequencers_left: Cell::new(0),
            held: Cell::new(false),
            crashing: Cell::new(false),
            part: 0,
            start,
            clock: Cell::new(0),
            connecting: Cell::new(0),
        }
    }

    /// The same history, to be gone on with, perhaps elsewhere.
    pub(crate) async fn continued(&self, url: DatabaseUrl) -> Self {
        Self {
            attempts: self.attempts.clone(),
            delivered: self.delivered.clone(),
            noticed: self.noticed.clone(),
            visits: self.visits.clone(),
            upkeep: self.upkeep.clone(),
            collisions: self.collisions.clone(),
            part: self.part + 1,
            clock: self.clock.clone(),
            ..Self::new(url, self.start).await
        }
    }

    /// The next moment of the run's clock.
    pub(crate) fn tick(&self) -> u64 {
        self.clock.update(|now| now + 1);
        self.clock.get()
    }

    pub(crate) async fn connect(&self) -> Session {
        Session::connect(&self.url).await
    }

    /// A connection and the id of its backend; `None` in a crash.
    pub(crate) async fn connect_mortal(&self) -> Option<(Session, i32)> {
        while !self.crashing.get() {
            self.connecting.update(|connecting| connecting + 1);
            let session = self.connect().await;
            self.connecting.update(|connecting| connecting - 1);
            // It may die of what was meant for the one before, whose process had this id.
            if let Ok(row) = session.query_one("select pg_backend_pid()", &[]).await {
                return Some((session, row.get(0)));
            }
        }
        None
    }

    /// Returns when nobody has to hold still.
    pub(crate) async fn while_held(&self) {
        while self.held.get() && !self.crashing.get() {
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Lets nobody connect any more; returns when nobody is about to.
    pub(crate) async fn close_doors(&self) {
        self.crashing.set(true);
        while self.connecting.get() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }

    pub(crate) async fn terminate(&self, backend: i32) {
        let outcome = self
            .executioner
            .execute("select pg_terminate_backend($1)", &[&backend])
            .await;
        assert!(outcome.is_ok() || self.crashing.get(), "{outcome:?}");
    }

    pub(crate) fn notice(&self, kind: Kind, what: String) {
        self.noticed.borrow_mut().push(Violation { kind, what });
    }

    /// The last batch that was delivered.
    pub(crate) fn position(&self) -> i64 {
        let delivered = self.delivered.borrow();
        delivered.last().map_or(self.start, |batch| batch.id)
    }
}
