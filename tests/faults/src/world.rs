//! What the parts of one run share. They run on one thread, as one future.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pgrelay_test_support::DatabaseUrl;

use crate::book::Book;
use crate::memory::Memory;
use crate::violation::{Kind, Violation};

pub(crate) struct World {
    /// Where writers and fetching clients find the database, whatever becomes of its servers.
    pub(crate) database: DatabaseUrl,
    /// Where clients find the relay.
    pub(crate) front: SocketAddr,
    pub(crate) book: RefCell<Book>,
    /// Of each client.
    pub(crate) memories: Vec<RefCell<Memory>>,
    /// Noticed while the run goes on.
    pub(crate) noticed: RefCell<Vec<Violation>>,
    /// Writers begin nothing new.
    pub(crate) is_written: Cell<bool>,
    /// Clients who are told to read slowly do not read at all.
    pub(crate) is_stalled: Cell<bool>,
    clock: Cell<u64>,
}

impl World {
    pub(crate) fn new(database: DatabaseUrl, front: SocketAddr, memories: Vec<Memory>) -> Self {
        Self {
            database,
            front,
            book: RefCell::default(),
            memories: memories.into_iter().map(RefCell::new).collect(),
            noticed: RefCell::default(),
            is_written: Cell::new(false),
            is_stalled: Cell::new(false),
            clock: Cell::new(0),
        }
    }

    /// The next moment of the run's clock.
    pub(crate) fn tick(&self) -> u64 {
        self.clock.set(self.clock.get() + 1);
        self.clock.get()
    }

    pub(crate) fn notice(&self, kind: Kind, what: impl Into<String>) {
        self.noticed.borrow_mut().push(Violation::new(kind, what));
    }
}

/// Unix time.
pub(crate) fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}
