//! Changes that could not be decided, until their subscription is told.

use pgrelay_protocol::{Position, RefetchReason};
use smallvec::SmallVec;

use super::{
    Engine, Turn,
    subscription::{BindingKey, SubscriptionKey},
};

/// Bindings of one subscription whose changes could not be decided, up to a position.
#[derive(Debug)]
pub(super) struct Failures {
    at: Position,
    bindings: SmallVec<[BindingKey; 2]>,
}

impl Failures {
    pub(super) fn new(at: Position) -> Self {
        Self {
            at,
            bindings: SmallVec::new(),
        }
    }

    pub(super) fn add(&mut self, at: Position, bindings: SmallVec<[BindingKey; 2]>) {
        self.at = at;
        for binding in bindings {
            if !self.bindings.contains(&binding) {
                self.bindings.push(binding);
            }
        }
    }
}

impl Engine {
    pub(super) fn tell_failures(
        &mut self,
        key: SubscriptionKey,
        failures: Option<Failures>,
        turn: &mut Turn<'_>,
    ) {
        if let Some(Failures { at, bindings }) = failures {
            self.tell_refetch(key, &bindings, RefetchReason::Authorization, at, turn);
        }
    }
}
