//! STEP: numbers what has become visible in the log, in one round trip with the key of the doorbell
//! and the first page of the batch it makes. Nothing it returns is told before STEP has committed.

use std::time::Duration;

use crate::{
    doorbell::Key,
    error::Error,
    ledger::Batch,
    logged::Logged,
    query::{Lane, Query},
    reader,
    session::Session,
    statements,
};

/// What a live session sends all the time.
pub(crate) const LIVE: [&Query; 3] = [
    &statements::ledger::STEP,
    &statements::ledger::TRY_LOCK,
    &statements::ledger::UNLOCK,
];

/// Advisory locks of the schema.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keys {
    doorbell: i64,
    lease: i64,
    nodes: i64,
}

/// What a STEP brought.
#[derive(Debug)]
pub(crate) struct Stepping {
    /// The doorbell's key is ours now, if it was asked for.
    pub(crate) taken: bool,
    pub(crate) outcome: Outcome,
}

/// The log's side of it.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Nothing new.
    Empty,
    /// A batch, and the first rows of the batch that was expected: the same, unless others have
    /// sequenced since.
    Batch(Batch, Vec<Logged>),
    /// Another sequencer was first.
    Collided,
}

impl Keys {
    pub(crate) async fn load(session: &mut Session) -> Result<Self, Error> {
        let row = &session
            .rows("read the lock keys", &statements::ledger::KEYS, &[])
            .await?[0];
        Ok(Self {
            doorbell: row.get(0),
            lease: row.get(1),
            nodes: row.get(2),
        })
    }

    /// Tries to become the one that sequences. Ends with the session.
    pub(crate) async fn take_lease(&self, session: &mut Session) -> Result<bool, Error> {
        ask(
            session,
            "take the lease",
            &statements::ledger::TRY_LOCK,
            self.lease,
        )
        .await
    }

    /// Shows the one that sequences that somebody follows.
    pub(crate) async fn announce(&self, session: &mut Session) -> Result<bool, Error> {
        ask(
            session,
            "announce a node",
            &statements::ledger::TRY_LOCK_SHARED,
            self.nodes,
        )
        .await
    }

    /// Undoes [`Keys::announce`].
    pub(crate) async fn withdraw(&self, session: &mut Session) -> Result<bool, Error> {
        ask(
            session,
            "withdraw a node",
            &statements::ledger::UNLOCK_SHARED,
            self.nodes,
        )
        .await
    }

    /// Whether other relays follow the ledger.
    pub(crate) async fn has_followers(&self, session: &mut Session) -> Result<bool, Error> {
        Ok(!ask(
            session,
            "look for other nodes",
            &statements::ledger::IS_FREE,
            self.nodes,
        )
        .await?)
    }
}

async fn ask(
    session: &mut Session,
    action: &'static str,
    query: &Query,
    key: i64,
) -> Result<bool, Error> {
    Ok(session.rows(action, query, &[&key]).await?[0].get(0))
}

/// One STEP after batch `last`, with what is to be done with the key before it.
pub(crate) async fn step(
    session: &mut Session,
    keys: &Keys,
    key: Key,
    last: i64,
    (tell, patience): (bool, Duration),
) -> Result<Stepping, Error> {
    let lane = Lane::direct(&session.client, &session.prepared);
    let expected = last + 1;
    // Sent in this order, before the first answer is awaited; each is a transaction of its own.
    let work = async {
        let params = reader::read_params(&expected, &0);
        let step_params: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&tell];
        futures::join!(
            turn(lane, key, &keys.doorbell),
            lane.first(&statements::ledger::STEP, &step_params),
            lane.rows(&statements::ledger::READ, &params),
        )
    };
    let (turned, stepped, read) = session
        .wire
        .drive("step through the log", patience, work)
        .await?;
    let failed = |source| Error::query("step through the log")(source);
    let taken = turned.map_err(failed)?;
    let outcome = match stepped {
        Ok(None) => Outcome::Empty,
        Ok(Some(row)) => {
            Outcome::Batch(Batch::from_row(&row), reader::rows(&read.map_err(failed)?))
        }
        Err(error) if error.code().is_some_and(|code| code.code() == "23505") => Outcome::Collided,
        Err(error) => return Err(failed(error)),
    };
    Ok(Stepping { taken, outcome })
}

/// Whether the key is ours afterwards.
async fn turn(lane: Lane<'_>, key: Key, doorbell: &i64) -> Result<bool, tokio_postgres::Error> {
    match key {
        Key::Leave => Ok(false),
        Key::Take => Ok(lane
            .one(&statements::ledger::TRY_LOCK, &[doorbell])
            .await?
            .get(0)),
        Key::Release => lane
            .one(&statements::ledger::UNLOCK, &[doorbell])
            .await
            .map(|_row| false),
    }
}
