//! What to do after an error: the one table from SQLSTATE classes to [`Retry`].

use std::time::Duration;

use crate::error::Error;

/// Answer to an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Another was first or a lock was lost: at once.
    Now,
    /// The server is away, starting, full or a standby: after a growing pause.
    Backoff,
    /// Nobody but an operator can cure it; with the sentence that says how.
    Stop(&'static str),
}

impl Retry {
    /// What to do after `error`.
    #[must_use]
    pub fn after(error: &Error) -> Self {
        match error {
            Error::Pooler => {
                Self::Stop("set PGRELAY_DIRECT_URL to an address of PostgreSQL itself")
            }
            Error::Schema { .. } => Self::Stop("run `pgrelay migrate`"),
            Error::MigrationChanged { .. } => {
                Self::Stop("run the release of pgrelay that installed this schema, or a later one")
            }
            Error::Corrupt(_) => Self::Stop("run `pgrelay doctor`"),
            Error::Refused(_) => Self::Stop("name a table that exists"),
            Error::Connect(_)
            | Error::ConnectTimeout(_)
            | Error::Pool(_)
            | Error::Query { .. }
            | Error::Migration { .. }
            | Error::Frozen { .. }
            | Error::Closed
            | Error::Standby => error.sqlstate().map_or(Self::Backoff, Self::after_sqlstate),
        }
    }

    fn after_sqlstate(code: &str) -> Self {
        match code {
            "28P01" => Self::Stop("correct the password in DATABASE_URL"),
            "28000" => {
                Self::Stop("let the role connect: pg_hba.conf, LOGIN, or sslmode in DATABASE_URL")
            }
            "3D000" => {
                Self::Stop("correct the database name in DATABASE_URL, or create the database")
            }
            "42501" => {
                Self::Stop("run `pgrelay doctor`: the role of DATABASE_URL lacks a privilege")
            }
            "3F000" | "42P01" | "42883" | "42703" => Self::Stop("run `pgrelay migrate`"),
            // Serialization failure, deadlock, another sequencer's row.
            "40001" | "40P01" | "23505" => Self::Now,
            _ => Self::Backoff,
        }
    }
}

/// Pauses between attempts: doubling, bounded, and spread so that many relays do not come back at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: PAUSE_MIN }
    }

    pub(crate) fn reset(&mut self) {
        self.next = PAUSE_MIN;
    }

    /// The next pause: between half and all of the current step. `spread` is any random byte.
    pub(crate) fn pause(&mut self, spread: u8) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(PAUSE_MAX);
        step / 2 + step / 2 * u32::from(spread) / 255
    }
}

/// A random byte for [`Backoff::pause`].
pub(crate) fn spread() -> u8 {
    uuid::Uuid::new_v4().as_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlstates_lead_to_their_retry() {
        let check = |code: &str, want: fn(Retry) -> bool| {
            assert!(want(Retry::after_sqlstate(code)), "{code}");
        };
        for now in ["40001", "40P01", "23505"] {
            check(now, |r| r == Retry::Now);
        }
        for later in [
            "57P01", "57P02", "57P03", "57P05", "08006", "08003", "53300", "53200", "25006",
            "55P03", "XX000", "58030",
        ] {
            check(later, |r| r == Retry::Backoff);
        }
        for stop in [
            "28P01", "28000", "3D000", "42501", "3F000", "42P01", "42883", "42703",
        ] {
            check(stop, |r| matches!(r, Retry::Stop(_)));
        }
    }

    #[test]
    fn a_server_that_is_away_is_asked_again() {
        assert_eq!(Retry::after(&Error::Closed), Retry::Backoff);
        assert_eq!(
            Retry::after(&Error::ConnectTimeout(Duration::from_secs(1))),
            Retry::Backoff
        );
        assert_eq!(Retry::after(&Error::Standby), Retry::Backoff);
        assert!(matches!(Retry::after(&Error::Pooler), Retry::Stop(_)));
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_are_spread() {
        let mut backoff = Backoff::new();
        assert_eq!(backoff.pause(255), Duration::from_millis(50));
        assert_eq!(backoff.pause(0), Duration::from_millis(50));
        for _ in 0..10 {
            assert!(backoff.pause(128) <= PAUSE_MAX);
        }
        assert_eq!(backoff.pause(255), PAUSE_MAX);
        backoff.reset();
        assert_eq!(backoff.pause(0), Duration::from_millis(25));
    }
}
