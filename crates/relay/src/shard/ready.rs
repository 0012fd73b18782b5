//! Which sockets have something to do.
//!
//! A task per socket would cost each of them an allocation of its own and every event a trip
//! through the scheduler. Instead all sockets of a shard wake the one future that drives them, and
//! leave their name here.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
};

use futures::task::AtomicWaker;

use crate::engine::ClientKey;

/// The names left since they were last taken.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// Contended only by event streams, which are read on other threads.
    names: Mutex<Vec<ClientKey>>,
    shard: AtomicWaker,
}

impl Ready {
    /// Whom to wake when a name is left.
    pub(super) fn register(&self, shard: &Waker) {
        self.shard.register(shard);
    }

    /// Moves the names into `into`.
    pub(super) fn take(&self, into: &mut Vec<ClientKey>) {
        into.append(&mut self.names.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn leave(&self, name: ClientKey) {
        self.names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(name);
        self.shard.wake();
    }
}

/// Wakes the shard on behalf of one client. A name that was left already is not left again until
/// [`Self::listen`].
#[derive(Debug)]
pub(super) struct Bell {
    ready: Arc<Ready>,
    name: ClientKey,
    rung: AtomicBool,
}

impl Bell {
    pub(super) fn new(ready: &Arc<Ready>, name: ClientKey) -> Arc<Self> {
        Arc::new(Self {
            ready: Arc::clone(ready),
            name,
            rung: AtomicBool::new(false),
        })
    }

    /// From here on ringing leaves the name again.
    pub(super) fn listen(&self) {
        self.rung.store(false, Ordering::Release);
    }

    pub(super) fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.ready.leave(self.name);
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}
