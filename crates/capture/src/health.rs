//! Whether changes are being followed, for `/readyz` and `pgrelay status`.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use pgrelay_protocol::Position;

/// A shared view of the source's state.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    live: AtomicBool,
    leader: AtomicBool,
    head: Mutex<Option<Position>>,
}

impl Health {
    /// The log is being followed now.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.0.live.load(Ordering::Acquire)
    }

    /// This relay holds the sequencer's lease.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.0.leader.load(Ordering::Acquire)
    }

    /// Everything up to here was handed to the relay.
    #[must_use]
    pub fn head(&self) -> Option<Position> {
        *self.0.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_live(&self, live: bool) {
        self.0.live.store(live, Ordering::Release);
    }

    pub(crate) fn set_leader(&self, leader: bool) {
        self.0.leader.store(leader, Ordering::Release);
    }

    pub(crate) fn set_head(&self, head: Position) {
        *self.0.head.lock().unwrap_or_else(PoisonError::into_inner) = Some(head);
    }
}
