//! The keys that count now. A set that was fetched anew takes the place of the old one between two
//! tokens: a token is checked against one set or the other, never against none.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use tokio::sync::Notify;

use super::KeySet;

/// Shared by everybody who checks tokens and by the one who fetches keys.
#[derive(Default)]
pub struct KeyRing {
    keys: RwLock<Arc<KeySet>>,
    missed: Notify,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.current().fmt(f)
    }
}

impl KeyRing {
    /// Starts with `keys`.
    #[must_use]
    pub fn new(keys: KeySet) -> Self {
        Self {
            keys: RwLock::new(Arc::new(keys)),
            missed: Notify::new(),
        }
    }

    /// The keys of this moment.
    pub(super) fn current(&self) -> Arc<KeySet> {
        // Held for the clone of a pointer; nothing panics meanwhile.
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on these count. Who was let in by the old ones stays in.
    pub(super) fn replace(&self, keys: KeySet) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    /// A token named a key that is not here. Never waits.
    pub(super) fn miss(&self) {
        self.missed.notify_one();
    }

    /// Waits until a key was missed; at once, where that was since the last call.
    pub(super) async fn missed(&self) {
        self.missed.notified().await;
    }
}
