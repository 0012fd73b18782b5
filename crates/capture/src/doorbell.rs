//! When to STEP, when to sleep, and who holds the doorbell's lock K: decisions only, no I/O.
//!
//! Writers probe K in shared mode with every captured row and ring (NOTIFY) only where that is
//! refused. So while this side works through the log it holds nothing and writers pay nothing; to
//! sleep it takes K, which succeeds only when no open transaction has found it free, looks into the
//! log once more, and can then be sure that whoever commits later rings. Driven by `source.rs`.

use std::time::Duration;

use tokio::time::Instant;

/// How often to look at the log.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    /// Between two STEPs while there is work.
    pub(crate) busy: Duration,
    /// Between two attempts to take K while a transaction holds it.
    pub(crate) refused_max: Duration,
    /// Between two STEPs that nobody rang for, while armed.
    pub(crate) safety: Duration,
    /// Between two STEPs in quiet times where the doorbell must not be used.
    pub(crate) unarmed: Duration,
    /// Whether K may be taken at all. Not where transactions are prepared: one that rang cannot be.
    pub(crate) arm: bool,
}

/// A row that the safety poll found may still be rung for: its commit was under way.
const RING_GRACE: Duration = Duration::from_millis(50);

/// A look that takes longer than this and finds nothing wades through what an open transaction has
/// logged; it is given twice its own time to get on, up to the safety poll.
const EASY: Duration = Duration::from_millis(5);

/// Commits a second above which the bell would ring more often than we poll.
const BUSY_RATE: f64 = 100.0;
/// How fast the estimate of that rate forgets.
const RATE_MEMORY: Duration = Duration::from_millis(100);

/// What to do with K in the same round trip as a STEP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// Nothing.
    Leave,
    /// Try to take it.
    Take,
    /// Give it back.
    Release,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Look into the log.
    Step(Key),
    /// Nothing before this time, unless the bell rings.
    Sleep(Instant),
}

/// What a STEP that nobody rang for found, once it is known why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Find {
    /// The bell came a moment later.
    BellInTheAir,
    /// Marks of missing changes, which pgrelay itself writes.
    Hole,
    /// A writer did not ring. Must never happen.
    LostWakeUp,
}

/// What a STEP brought.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stepped {
    /// When it was sent.
    pub(crate) started: Instant,
    /// What was done with K.
    pub(crate) key: Key,
    /// [`Key::Take`] succeeded.
    pub(crate) taken: bool,
    /// Rows in the new batch; 0 where there was none.
    pub(crate) rows: u64,
    /// They are all marks of missing changes.
    pub(crate) holes_only: bool,
}

/// The state machine.
#[derive(Debug)]
pub(crate) struct Doorbell {
    pace: Pace,
    state: State,
    rate: Rate,
}

#[derive(Debug)]
enum State {
    /// K is free; the next STEP is due.
    Busy {
        due: Instant,
        key: Key,
        refused: Duration,
    },
    /// K is ours.
    Armed {
        poll_due: Instant,
        rung: bool,
        found: Option<Found>,
    },
}

/// Rows of a safety poll whose bell has not been heard.
#[derive(Debug, Clone, Copy)]
struct Found {
    holes_only: bool,
    until: Instant,
}

impl Doorbell {
    /// A fresh session: K is not ours, and there may be work.
    pub(crate) fn new(pace: Pace, now: Instant) -> Self {
        Self {
            pace,
            state: State::busy(now, Key::Leave),
            rate: Rate::new(now),
        }
    }

    /// Whether writers ring for us.
    pub(crate) fn is_armed(&self) -> bool {
        matches!(self.state, State::Armed { .. })
    }

    /// What to do now.
    pub(crate) fn next(&self, now: Instant) -> Action {
        match &self.state {
            State::Busy { due, key, .. } if *due <= now => Action::Step(*key),
            State::Busy { due, .. } => Action::Sleep(*due),
            State::Armed { rung: true, .. } => Action::Step(Key::Release),
            State::Armed { poll_due, .. } if *poll_due <= now => Action::Step(Key::Leave),
            State::Armed {
                poll_due, found, ..
            } => Action::Sleep(found.map_or(*poll_due, |found| found.until.min(*poll_due))),
        }
    }

    /// The bell rang. While busy that is an echo of something already seen; a bell heard during the
    /// round trip that takes K must therefore be reported after [`Doorbell::stepped`].
    pub(crate) fn rang(&mut self) {
        if let State::Armed { rung, .. } = &mut self.state {
            *rung = true;
        }
    }

    /// Why the last safety poll found something, as soon as that is known.
    pub(crate) fn explain(&mut self, now: Instant) -> Option<Find> {
        let State::Armed { rung, found, .. } = &mut self.state else {
            return None;
        };
        let Found { holes_only, until } = (*found)?;
        let find = match (*rung, holes_only) {
            (true, _) => Find::BellInTheAir,
            (false, true) => Find::Hole,
            (false, false) if until <= now => Find::LostWakeUp,
            (false, false) => return None,
        };
        *found = None;
        Some(find)
    }

    /// A STEP came back.
    pub(crate) fn stepped(&mut self, now: Instant, step: Stepped) {
        if step.rows > 0 {
            self.rate.add(now);
        }
        let quiet = self.rate.per_second(now) < BUSY_RATE;
        match (&mut self.state, step.key) {
            (
                State::Armed {
                    poll_due, found, ..
                },
                Key::Leave | Key::Take,
            ) => {
                *poll_due = now + self.pace.safety;
                if step.rows > 0 {
                    *found = Some(Found {
                        holes_only: step.holes_only,
                        until: now + RING_GRACE,
                    });
                }
            }
            (State::Busy { .. }, Key::Take) if step.taken => {
                self.state = State::Armed {
                    poll_due: now + self.pace.safety,
                    rung: false,
                    found: None,
                };
            }
            (State::Busy { refused, .. }, Key::Take) if quiet => {
                let pause = (*refused * 2).clamp(self.pace.busy, self.pace.refused_max);
                let due = self.due(now, &step, pause);
                self.state = State::Busy {
                    due,
                    key: Key::Take,
                    refused: pause,
                };
            }
            (State::Armed { .. } | State::Busy { .. }, _) => {
                self.state = self.busy(now, &step, quiet);
            }
        }
    }

    fn busy(&self, now: Instant, step: &Stepped, quiet: bool) -> State {
        match (step.rows, quiet, self.pace.arm) {
            // The first look that finds nothing in quiet times: go to sleep.
            (0, true, true) => State::busy(now, Key::Take),
            (0, true, false) => State::busy(self.due(now, step, self.pace.unarmed), Key::Leave),
            _ => State::busy(self.due(now, step, self.pace.busy), Key::Leave),
        }
    }

    /// When to look again: `pause` after the last look began, later if that was hard work for nothing.
    fn due(&self, now: Instant, step: &Stepped, pause: Duration) -> Instant {
        let took = now.saturating_duration_since(step.started);
        let regular = step.started + pause;
        if step.rows > 0 || took <= EASY {
            return regular;
        }
        regular.max(now + (took * 2).min(self.pace.safety))
    }
}

impl State {
    fn busy(due: Instant, key: Key) -> Self {
        Self::Busy {
            due,
            key,
            refused: Duration::ZERO,
        }
    }
}

/// Batches a second, fading: with a poll every 2 ms nearly every commit makes a batch of its own as
/// long as there are few of them, which is when the number matters.
#[derive(Debug)]
struct Rate {
    level: f64,
    at: Instant,
}

impl Rate {
    fn new(now: Instant) -> Self {
        Self {
            level: 0.0,
            at: now,
        }
    }

    fn add(&mut self, now: Instant) {
        self.level = self.faded(now) + 1.0;
        self.at = now;
    }

    fn per_second(&self, now: Instant) -> f64 {
        self.faded(now) / RATE_MEMORY.as_secs_f64()
    }

    fn faded(&self, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.level * (-elapsed / RATE_MEMORY.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests;
