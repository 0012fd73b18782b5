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

    #[expect(clippy::too_many_lines, reason = "one arm for each question")]
    fn start(&mut self, call: Call) {
        let authorizer = &self.ports.authorizer;
        let answer = match call {
            Call::Resolve { spec, claims } => {
                let outcome = authorizer.resolve(Arc::clone(&spec), Arc::clone(&claims));
                outcome
                    .map(move |outcome| Answer::Resolved {
                        spec,
                        claims,
                        outcome,
                    })
                    .boxed()
            }
            Call::Channel { topic, claims } => {
                let outcome = authorizer.channel(topic.clone(), Arc::clone(&claims));
                outcome
                    .map(move |outcome| Answer::Channel {
                        topic,
                        claims,
                        outcome,
                    })
                    .boxed()
            }
            Call::Messages {
                client,
                incarnation,
                topic,
                wish,
            } => {
                let outcome = self.ports.messages.replay(topic, wish.since_ms, wish.limit);
                outcome
                    .map(move |outcome| Answer::Messages {
                        client,
                        incarnation,
                        outcome,
                    })
                    .boxed()
            }
            Call::LoadSession { client, session } => {
                let outcome = self.ports.sessions.load(session);
                outcome
                    .map(move |outcome| Answer::SessionLoaded { client, outcome })
                    .boxed()
            }
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
            } => {
                let outcome = authorizer.evaluate(page, changes, tests);
                outcome
                    .map(move |outcome| Answer::Evaluated { key, outcome })
                    .boxed()
            }
            Call::Look {
                key,
                changes,
                viewers,
            } => {
                let outcome = authorizer.look(changes, viewers);
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
