//! Why nobody can say now what a private channel allows. A refusal by policy is none of these.

use std::borrow::Cow;

/// Asking again may help with every one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RightsFailure {
    /// Too many ask at the same time.
    Crowded,
    /// The policies took too long; holds PostgreSQL's words.
    Canceled(Box<str>),
    /// The table of messages has no partition for today.
    MissingPartition,
    /// The database does not answer.
    Unreachable,
    /// The connection broke, or the table of messages is not as it should be.
    Broken,
}

const UNREACHABLE: &str = "Realtime was unable to connect to the project database";

impl RightsFailure {
    /// `reason` of a refused join.
    #[must_use]
    pub fn join_text(&self) -> Cow<'static, str> {
        match self {
            Self::Crowded => {
                "IncreaseConnectionPool: Please increase your connection pool size".into()
            }
            Self::Canceled(details) => format!("QueryCanceled: {details}").into(),
            Self::MissingPartition => {
                "MissingPartition: Realtime was unable to find the expected messages partition"
                    .into()
            }
            Self::Unreachable => format!("UnableToConnectToProject: {UNREACHABLE}").into(),
            Self::Broken => UNREACHABLE.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_worded_as_clients_know_them() {
        for (failure, text) in [
            (
                RightsFailure::Crowded,
                "IncreaseConnectionPool: Please increase your connection pool size",
            ),
            (
                RightsFailure::Canceled("canceling statement due to statement timeout".into()),
                "QueryCanceled: canceling statement due to statement timeout",
            ),
            (
                RightsFailure::MissingPartition,
                "MissingPartition: Realtime was unable to find the expected messages partition",
            ),
            (
                RightsFailure::Unreachable,
                "UnableToConnectToProject: Realtime was unable to connect to the project database",
            ),
            (
                RightsFailure::Broken,
                "Realtime was unable to connect to the project database",
            ),
        ] {
            assert_eq!(failure.join_text(), text);
        }
    }
}
