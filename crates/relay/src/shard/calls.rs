//! The engine's questions, under way.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};

use crate::{
    engine::{Answer, Call},
    relay::Ports,
};

/// Bindings resolved at the same time. More only queue in front of the database.
const RESOLVING_MAX: usize = 64;

/// Asks the ports and collects the answers.
pub(super) struct Calls {
    ports: Ports,
    running: FuturesUnordered<BoxFuture<'static, Answer>>,
    resolving: usize,
    waiting: VecDeque<Call>,
}

impl Calls {
    pub(super) fn new(ports: Ports) -> Self {
        Self {
            ports,
            running: FuturesUnordered::new(),
            resolving: 0,
            waiting: VecDeque::new(),
        }
    }

    pub(super) fn ask(&mut self, call: Call) {
        if matches!(call, Call::Resolve { .. }) && self.resolving >= RESOLVING_MAX {
            self.waiting.push_back(call);
        } else {
            self.start(call);
        }
    }

    fn start(&mut self, call: Call) {
        let answer = match call {
            Call::Resolve { spec, claims } => {
                self.resolving += 1;
                let outcome = self
                    .ports
                    .authorizer
                    .resolve(Arc::clone(&spec), Arc::clone(&claims));
                outcome
                    .map(move |outcome| Answer::Resolved {
                        spec,
                        claims,
                        outcome,
                    })
                    .boxed()
            }
            Call::Evaluate {
                key,
                page,
                changes,
                tests,
            } => {
                let outcome = self.ports.authorizer.evaluate(page, changes, tests);
                outcome
                    .map(move |outcome| Answer::Evaluated { key, outcome })
                    .boxed()
            }
            Call::Look {
                key,
                changes,
                viewers,
            } => {
                let outcome = self.ports.authorizer.look(changes, viewers);
                outcome
                    .map(move |outcome| Answer::Looked { key, outcome })
                    .boxed()
            }
            Call::Read {
                key,
                after,
                bytes_max,
            } => {
                let outcome = self.ports.log.read(after, bytes_max);
                outcome
                    .map(move |outcome| Answer::Read { key, outcome })
                    .boxed()
            }
        };
        self.running.push(answer);
    }

    /// The next answer, if there is one.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Option<Answer> {
        let Poll::Ready(Some(answer)) = self.running.poll_next_unpin(cx) else {
            return None;
        };
        if matches!(answer, Answer::Resolved { .. }) {
            self.resolving -= 1;
            if let Some(call) = self.waiting.pop_front() {
                self.start(call);
            }
        }
        Some(answer)
    }
}
