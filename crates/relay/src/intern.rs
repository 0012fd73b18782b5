//! One copy of what many clients have in common: claims, binding specs, column lists.

use std::{borrow::Borrow, fmt, hash::Hash, sync::Arc};

use foldhash::fast::RandomState;
use hashbrown::HashSet;

/// Shares equal values. Those nobody holds any more are dropped when the table has doubled since
/// it was last swept, so the cost per value is constant and nobody has to give anything back.
pub(crate) struct Interner<T: ?Sized> {
    values: HashSet<Arc<T>, RandomState>,
    sweep_at: usize,
}

const SWEEP_AT_LEAST: usize = 64;

impl<T: ?Sized + Eq + Hash> Interner<T> {
    pub(crate) fn new() -> Self {
        Self {
            values: HashSet::default(),
            sweep_at: SWEEP_AT_LEAST,
        }
    }

    /// The shared copy of `value`.
    pub(crate) fn share(&mut self, value: impl Into<Arc<T>> + Borrow<T>) -> Arc<T> {
        if let Some(shared) = self.values.get(value.borrow()) {
            return Arc::clone(shared);
        }
        if self.values.len() >= self.sweep_at {
            self.values.retain(|value| Arc::strong_count(value) > 1);
            self.values.shrink_to_fit();
            self.sweep_at = (2 * self.values.len()).max(SWEEP_AT_LEAST);
        }
        let shared = value.into();
        self.values.insert(Arc::clone(&shared));
        shared
    }
}

impl<T: ?Sized> fmt::Debug for Interner<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Interner({} values)", self.values.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one() {
        let mut interner = Interner::<str>::new();
        let first = interner.share(String::from("a"));
        assert!(Arc::ptr_eq(&first, &interner.share(String::from("a"))));
        assert!(!Arc::ptr_eq(&first, &interner.share(String::from("b"))));
    }

    #[test]
    fn keeps_what_is_held_and_not_much_more() {
        let mut interner = Interner::<str>::new();
        let held = interner.share(String::from("held"));
        for index in 0..10_000 {
            interner.share(index.to_string());
        }
        assert!(interner.values.len() <= 2 * SWEEP_AT_LEAST);
        assert!(Arc::ptr_eq(&held, &interner.share(String::from("held"))));
    }
}
