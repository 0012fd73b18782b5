//! What policies on the table of messages allow a role with some claims on a private topic.
//!
//! Called by the relay at a join, at a refresh and by the HTTP side. The question is asked in one
//! transaction that is always rolled back, for one role and one set of claims; its role and settings
//! end with it, so that no connection is handed on with somebody's role. A policy that raises an
//! error denies.

use std::time::Duration;

use pgrelay_protocol::{RightsFailure, Topic};
use pgrelay_relay::ports::{ChannelError, ChannelRights, Claims};
use tokio::{sync::Semaphore, time::timeout};
use tokio_postgres::Row;

use crate::{error::Error, pool::Pool, statements};

/// How long a question waits for its turn.
const TURN_MAX: Duration = Duration::from_secs(5);

/// Asks about policies.
#[derive(Debug)]
pub(crate) struct Policies {
    pool: Pool,
    /// Fewer than there are connections, so that a crowd of joins leaves some to others.
    turns: Semaphore,
    limit: Duration,
}

impl Policies {
    /// Over `pool`, which has `pool_size` connections; a question may take `limit`.
    pub(crate) fn new(pool: Pool, pool_size: usize, limit: Duration) -> Self {
        Self {
            pool,
            turns: Semaphore::new(pool_size.div_ceil(2)),
            limit,
        }
    }

    /// What is allowed.
    pub(crate) async fn rights(
        &self,
        topic: &Topic,
        claims: &Claims,
    ) -> Result<ChannelRights, ChannelError> {
        let Ok(Ok(_turn)) = timeout(TURN_MAX, self.turns.acquire()).await else {
            return Err(told(&RightsFailure::Crowded));
        };
        let subject = claims.subject.as_deref().unwrap_or_default();
        let rows = self
            .pool
            .ask_alone(
                "evaluate the policies of messages",
                self.limit,
                &statements::messages::RIGHTS,
                &[&&*claims.role, &&*claims.json, &subject, &topic.sub_topic()],
            )
            .await;
        match rows {
            Ok(rows) => Ok(rows.first().map(rights).unwrap_or_default()),
            Err(error) => judge(&error),
        }
    }
}

fn rights(row: &Row) -> ChannelRights {
    if let Some(problem) = row.get::<_, Option<&str>>(4) {
        tracing::info!(problem, "a policy of messages cannot be evaluated: denied");
    }
    ChannelRights {
        read: row.get(0),
        presence_read: row.get(1),
        write: row.get(2),
        presence_write: row.get(3),
    }
}

/// What an error says about the rights: nothing, or that there are none.
fn judge(error: &Error) -> Result<ChannelRights, ChannelError> {
    let failure = match (error.sqlstate(), error) {
        (Some("57014"), _) => {
            let details = error.postgres().and_then(|error| error.as_db_error());
            RightsFailure::Canceled(details.map_or("", |told| told.message()).into())
        }
        (Some("23514"), _) => RightsFailure::MissingPartition,
        (Some("3F000" | "42P01" | "42703" | "42883"), _) => RightsFailure::Broken,
        (Some(code), _) if !matches!(&code[..2], "08" | "53" | "57" | "58" | "XX") => {
            tracing::info!(error = %error.report(), "a policy of messages cannot be evaluated: denied");
            return Ok(ChannelRights::default());
        }
        (_, Error::Pool(_)) => RightsFailure::Unreachable,
        _ => RightsFailure::Broken,
    };
    tracing::warn!(error = %error.report(), "the rights on a private channel are not known now");
    Err(told(&failure))
}

fn told(failure: &RightsFailure) -> ChannelError {
    ChannelError {
        message: failure.join_text().into_owned(),
        retryable: true,
    }
}
