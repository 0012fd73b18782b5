//! Where subscriptions stand, and what feeds them.

use pgrelay_protocol::Position;

use super::{
    ClientKey, Engine, Live, Turn,
    replay::Replays,
    subscription::{Binding, BindingKey, Stage, Start, Subscription, SubscriptionKey},
};
use crate::{arena::Arena, registry::Registry};

impl Engine {
    /// Takes a subscription out of whatever feeds it. It can be placed again where it stood.
    pub(super) fn detach(&mut self, key: SubscriptionKey) {
        let Some(subscription) = self.subscriptions.get(key) else {
            return;
        };
        let settled = self.settled(subscription);
        for binding in self.live_bindings(key) {
            self.unregister(binding);
            if let Some(binding) = self.bindings.get_mut(binding)
                && let (Start::At(start), Some(settled)) = (binding.start, settled)
            {
                binding.start = Start::At(start.max(settled));
            }
        }
        self.drop_held(key);
        if let Some(subscription) = self.subscriptions.get_mut(key) {
            subscription.settled = settled;
            subscription.stage = Stage::Idle;
        }
    }

    pub(super) fn set_stage(&mut self, key: SubscriptionKey, stage: Stage) {
        if let Some(subscription) = self.subscriptions.get_mut(key) {
            subscription.stage = stage;
        }
    }

    /// Takes a subscription out of its replay until its client has taken what waits for it.
    pub(super) fn pause(&mut self, key: SubscriptionKey, settled: Position) {
        self.detach(key);
        let Some(subscription) = self.subscriptions.get_mut(key) else {
            return;
        };
        subscription.stage = Stage::Paused;
        subscription.settled = Some(settled);
        if let Some(client) = self.clients.get_mut(subscription.client) {
            client.paused.push(key);
        }
        for key in self.live_bindings(key) {
            if let Some(binding) = self.bindings.get_mut(key)
                && let Start::At(start) = binding.start
            {
                binding.start = Start::At(start.max(settled));
            }
        }
    }

    /// The outlet of a client is no longer full.
    pub fn drained(&mut self, client: ClientKey, turn: &mut Turn<'_>) {
        let Some(client) = self.clients.get_mut(client) else {
            return;
        };
        for key in std::mem::take(&mut client.paused) {
            if self
                .subscriptions
                .get(key)
                .is_some_and(|subscription| subscription.stage == Stage::Paused)
            {
                self.place(key, turn);
            }
        }
    }

    /// Everything up to here was delivered to the subscription, or is not asked for.
    pub(super) fn settled(&self, subscription: &Subscription) -> Option<Position> {
        if let Some(held) = subscription.held.as_ref().and_then(|held| held.front()) {
            return Some(held.before());
        }
        match subscription.stage {
            Stage::Live => self.live.at,
            // It may have joined a scan that comes from further back.
            Stage::Replaying(scan) => subscription
                .settled
                .max(self.replays.scans.get(scan).map(|scan| scan.at)),
            Stage::Resolving
            | Stage::Idle
            | Stage::Early
            | Stage::Parked
            | Stage::Waiting(_)
            | Stage::Paused => subscription.settled,
        }
    }

    /// Puts a binding into the registry its subscription is fed from.
    pub(super) fn register(&mut self, key: BindingKey) {
        let Some(binding) = self.bindings.get(key) else {
            return;
        };
        if let Some(registry) = registry_of(
            &self.subscriptions,
            &mut self.live,
            &mut self.replays,
            binding,
        ) {
            registry.insert(key.place(), binding.interest());
        }
    }

    /// Takes a binding out of the registry its subscription is fed from.
    pub(super) fn unregister(&mut self, key: BindingKey) {
        let Some(binding) = self.bindings.get(key) else {
            return;
        };
        if let Some(registry) = registry_of(
            &self.subscriptions,
            &mut self.live,
            &mut self.replays,
            binding,
        ) {
            registry.remove(key.place(), binding.interest());
        }
    }
}

fn registry_of<'a>(
    subscriptions: &Arena<Subscription>,
    live: &'a mut Live,
    replays: &'a mut Replays,
    binding: &Binding,
) -> Option<&'a mut Registry> {
    match subscriptions.get(binding.subscription)?.stage {
        Stage::Live => Some(&mut live.registry),
        Stage::Replaying(scan) => replays.scans.get_mut(scan).map(|scan| &mut scan.registry),
        Stage::Resolving
        | Stage::Idle
        | Stage::Early
        | Stage::Parked
        | Stage::Waiting(_)
        | Stage::Paused => None,
    }
}
