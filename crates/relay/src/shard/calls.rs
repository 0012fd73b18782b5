//! The engine's questions, under way.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use pgrelay_protocol::{BindingSpec, Topic};

use crate::{
    engine::{Answer, Call},
    ports::Claims,
    relay::Ports,
};

/// Questions about joins asked at the same time. More only queue in front of the database.
const JOINING_MAX: usize = 64;

/// Asks the ports and collects the answers.
pub(super) struct Calls {
    ports: Ports,
    running: FuturesUnordered<BoxFuture<'static, Answer>>,
    joining: usize,
    waiting: VecDeque<Call>,
}

impl Calls {
    pub(super) fn new(ports: Ports) -> Self {
        Self {
            ports,
            running: FuturesUnordered::new(),
            joining: 0,
            waiting: VecDeque::new(),
        }
    }

    pub(super) fn ask(&mut self, call: Call) {
        let is_joining = match call {
            Call::Resolve { .. }
            | Call::Channel { .. }
            | Call::Messages { .. }
            | Call::LoadSession { .. } => true,
            Call::Evaluate { .. }
            | Call::Look { .. }
            | Call::Read { .. }
            | Call::SaveSession { .. }
            | Call::ForgetSession { .. } => false,
        };
        if is_joining && self.joining >= JOINING_MAX {
            self.waiting.push_back(call);
            return;
        }
        self.joining += usize::from(is_joining);
        self.start(call);
    }

    fn start(&mut self, call: Call) {
        let authorizer = &self.ports.authorizer;
        let answer = match call {
            Call::Resolve { spec, claims } => self.resolve(spec, claims),
            Call::Channel { topic, claims } => self.channel(topic, claims),
            Call::Messages {
                client,
                incarnation,
                topic,
                wish,
            } => self
                .ports
                .messages
                .replay(topic, wish.since_ms, wish.limit)
                .map(move |outcome| Answer::Messages {
                    client,
                    incarnation,
                    outcome,
                })
                .boxed(),
            Call::LoadSession { client, session } => self
                .ports
                .sessions
                .load(session)
                .map(move |outcome| Answer::SessionLoaded { client, outcome })
                .boxed(),
            Call::SaveSession { session, place } => {
                return self.ports.sessions.save(session, place);
            }
            Call::ForgetSession { session, topic } => {
                return self.ports.sessions.forget(session, &topic);
            }
            Call::Evaluate {
                key,
                page,
                changes,
                tests,
            } => authorizer
                .evaluate(page, changes, tests)
                .map(move |outcome| Answer::Evaluated { key, outcome })
                .boxed(),
            Call::Look {
                key,
                changes,
                viewers,
            } => authorizer
                .look(changes, viewers)
                .map(move |outcome| Answer::Looked { key, outcome })
                .boxed(),
            Call::Read {
                key,
                after,
                bytes_max,
            } => self
                .ports
                .log
                .read(after, bytes_max)
                .map(move |outcome| Answer::Read { key, outcome })
                .boxed(),
        };
        self.running.push(answer);
    }

    fn resolve(&self, spec: Arc<BindingSpec>, claims: Arc<Claims>) -> BoxFuture<'static, Answer> {
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

    fn channel(&self, topic: Topic, claims: Arc<Claims>) -> BoxFuture<'static, Answer> {
        let outcome = self
            .ports
            .authorizer
            .channel(topic.clone(), Arc::clone(&claims));
        outcome
            .map(move |outcome| Answer::Channel {
                topic,
                claims,
                outcome,
            })
            .boxed()
    }

    /// The next answer, if there is one.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Option<Answer> {
        let Poll::Ready(Some(answer)) = self.running.poll_next_unpin(cx) else {
            return None;
        };
        let was_joining = match answer {
            Answer::Resolved { .. }
            | Answer::Channel { .. }
            | Answer::Messages { .. }
            | Answer::SessionLoaded { .. } => true,
            Answer::Evaluated { .. } | Answer::Looked { .. } | Answer::Read { .. } => false,
        };
        if was_joining {
            self.joining -= 1;
            if let Some(call) = self.waiting.pop_front() {
                self.ask(call);
            }
        }
        Some(answer)
    }
}
