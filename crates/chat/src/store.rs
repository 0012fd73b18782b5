//! The calls of the database: each request is one call, in one transaction, as its caller.

use std::sync::Arc;

use deadpool_postgres::{Object, Pool};
use futures::future::join4;
use serde_json::Value;
use tokio::time::timeout;
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};
use uuid::Uuid;

use crate::{
    booking_ref::BookingRef,
    caller::Caller,
    config::Config,
    error::Error,
    message::Draft,
    page::{InboxPlace, Window},
};

const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY";
const BEGIN_WRITE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
const COMMIT: &str = "COMMIT";

/// Makes the rest of a transaction the caller's: role, claims as PostgREST sets them, and bounds. Values
/// are parameters throughout. A role that may not be taken fails the transaction.
const BECOME_CALLER: &str = "select set_config('request.jwt.claims', $1, true), \
     set_config('request.jwt.claim.sub', $2, true), set_config('request.jwt.claim.role', $3, true), \
     set_config('request.headers', '{}', true), set_config('realtime.topic', '', true), \
     set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO, MDY', true), \
     set_config('statement_timeout', $4, true), set_config('lock_timeout', $5, true), set_config('role', $3, true)";

// Each call is made only while its last parameter is the role: should the transaction not have begun,
// nothing happens, and nothing happens as ourselves.
const MESSAGES: &str =
    "select pgrelay_chat.messages($1, $2, $3, $4)::text where current_setting('role') = $5";
const SEND: &str = "select message::text, replayed from pgrelay_chat.send($1, $2, $3, $4, $5, $6, $7, \
     $8 * interval '1 millisecond') where current_setting('role') = $9";
const SEND_SYSTEM: &str = "select message::text, replayed from pgrelay_chat.send_system($1, $2, $3, $4) \
     where current_setting('role') = $5";
const DELETE_MESSAGE: &str =
    "select pgrelay_chat.delete_message($1)::text where current_setting('role') = $2";
const SET_STATUS: &str = "select pgrelay_chat.set_status($1, $2, $3, $4, $5, $6, $7)::text \
     where current_setting('role') = $8";
const ACKNOWLEDGE: &str =
    "select pgrelay_chat.acknowledge($1, $2, $3)::text where current_setting('role') = $4";
const INBOX: &str = "select pgrelay_chat.inbox($1, $2, $3, $4, $5, $6, $7)::text where current_setting('role') = $8";
const BOOKING: &str = "select pgrelay_chat.booking($1)::text where current_setting('role') = $2";
const ASSIGN: &str = "select assignment::text, replayed from pgrelay_chat.assign($1, $2, $3) \
     where current_setting('role') = $4";
const UNASSIGN: &str = "select pgrelay_chat.unassign($1)::text where current_setting('role') = $2";
const CANNED_REPLIES: &str =
    "select pgrelay_chat.canned_replies($1)::text where current_setting('role') = $2";

type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// A wish for another status.
#[derive(Debug)]
pub(crate) struct StatusChange {
    pub(crate) booking: BookingRef,
    pub(crate) status: Option<String>,
    pub(crate) expected_version: Option<i64>,
    pub(crate) note: Option<String>,
    pub(crate) content: Option<String>,
    pub(crate) force: bool,
    pub(crate) closed: Option<bool>,
}

/// Which bookings of the inbox.
#[derive(Debug)]
pub(crate) struct InboxQuery {
    pub(crate) tab: &'static str,
    pub(crate) statuses: Option<Vec<String>>,
    pub(crate) text: Option<String>,
    pub(crate) by_recent: bool,
    pub(crate) after: Option<InboxPlace>,
    pub(crate) rows_max: i32,
}

/// Whether a call may write.
#[derive(Debug, Clone, Copy)]
enum Access {
    Read,
    Write,
}

/// The database as the routes see it.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    pool: Pool,
    config: Arc<Config>,
}

impl Store {
    pub(crate) fn new(pool: Pool, config: Arc<Config>) -> Self {
        Self { pool, config }
    }

    pub(crate) async fn messages(
        &self,
        caller: &Caller,
        booking: &BookingRef,
        window: Window,
        rows_max: i32,
    ) -> Result<String, Error> {
        let parameters: [Parameter<'_>; 4] = [
            (&booking.as_str(), Type::TEXT),
            (&window.before, Type::INT8),
            (&window.after, Type::INT8),
            (&rows_max, Type::INT4),
        ];
        text(
            &self
                .call(caller, Access::Read, MESSAGES, &parameters)
                .await?,
        )
    }

    /// The message, and whether it had been sent before.
    pub(crate) async fn send(
        &self,
        caller: &Caller,
        draft: &Draft,
    ) -> Result<(String, bool), Error> {
        let rate = self.config.send_rate;
        let messages_max = i32::from(rate.messages_max);
        let period = milliseconds(rate.period);
        let parameters: [Parameter<'_>; 8] = [
            (&draft.booking.as_str(), Type::TEXT),
            (&draft.content, Type::TEXT),
            (&draft.message_type.as_str(), Type::TEXT),
            (&draft.key, Type::TEXT),
            (&draft.metadata, Type::JSONB),
            (&draft.reply_to, Type::UUID),
            (&messages_max, Type::INT4),
            (&period, Type::FLOAT8),
        ];
        text_and_replayed(&self.call(caller, Access::Write, SEND, &parameters).await?)
    }

    /// The message, and whether it was there before.
    pub(crate) async fn send_system(
        &self,
        caller: &Caller,
        booking: &BookingRef,
        content: Option<&str>,
        metadata: &Value,
        key: Option<&str>,
    ) -> Result<(String, bool), Error> {
        let parameters: [Parameter<'_>; 4] = [
            (&booking.as_str(), Type::TEXT),
            (&content, Type::TEXT),
            (metadata, Type::JSONB),
            (&key, Type::TEXT),
        ];
        text_and_replayed(
            &self
                .call(caller, Access::Write, SEND_SYSTEM, &parameters)
                .await?,
        )
    }

    pub(crate) async fn delete_message(&self, caller: &Caller, id: Uuid) -> Result<String, Error> {
        text(
            &self
                .call(caller, Access::Write, DELETE_MESSAGE, &[(&id, Type::UUID)])
                .await?,
        )
    }

    pub(crate) async fn set_status(
        &self,
        caller: &Caller,
        change: &StatusChange,
    ) -> Result<String, Error> {
        let parameters: [Parameter<'_>; 7] = [
            (&change.booking.as_str(), Type::TEXT),
            (&change.status, Type::TEXT),
            (&change.expected_version, Type::INT8),
            (&change.note, Type::TEXT),
            (&change.content, Type::TEXT),
            (&change.force, Type::BOOL),
            (&change.closed, Type::BOOL),
        ];
        text(
            &self
                .call(caller, Access::Write, SET_STATUS, &parameters)
                .await?,
        )
    }

    pub(crate) async fn acknowledge(
        &self,
        caller: &Caller,
        booking: &BookingRef,
        delivered_seq: Option<i64>,
        read_seq: Option<i64>,
    ) -> Result<(), Error> {
        let parameters: [Parameter<'_>; 3] = [
            (&booking.as_str(), Type::TEXT),
            (&delivered_seq, Type::INT8),
            (&read_seq, Type::INT8),
        ];
        self.call(caller, Access::Write, ACKNOWLEDGE, &parameters)
            .await
            .map(drop)
    }

    pub(crate) async fn inbox(&self, caller: &Caller, query: &InboxQuery) -> Result<String, Error> {
        let rank = query.after.map(|place| place.rank);
        let id = query.after.map(|place| place.booking);
        let parameters: [Parameter<'_>; 7] = [
            (&query.tab, Type::TEXT),
            (&query.statuses, Type::TEXT_ARRAY),
            (&query.text, Type::TEXT),
            (&query.by_recent, Type::BOOL),
            (&rank, Type::INT8),
            (&id, Type::UUID),
            (&query.rows_max, Type::INT4),
        ];
        text(&self.call(caller, Access::Read, INBOX, &parameters).await?)
    }

    pub(crate) async fn booking(
        &self,
        caller: &Caller,
        booking: &BookingRef,
    ) -> Result<String, Error> {
        let parameters: [Parameter<'_>; 1] = [(&booking.as_str(), Type::TEXT)];
        text(
            &self
                .call(caller, Access::Read, BOOKING, &parameters)
                .await?,
        )
    }

    /// The assignment, and whether it was so before.
    pub(crate) async fn assign(
        &self,
        caller: &Caller,
        booking: &BookingRef,
        operator: Option<Uuid>,
        force: bool,
    ) -> Result<(String, bool), Error> {
        let parameters: [Parameter<'_>; 3] = [
            (&booking.as_str(), Type::TEXT),
            (&operator, Type::UUID),
            (&force, Type::BOOL),
        ];
        text_and_replayed(
            &self
                .call(caller, Access::Write, ASSIGN, &parameters)
                .await?,
        )
    }

    pub(crate) async fn unassign(
        &self,
        caller: &Caller,
        booking: &BookingRef,
    ) -> Result<(), Error> {
        let parameters: [Parameter<'_>; 1] = [(&booking.as_str(), Type::TEXT)];
        self.call(caller, Access::Write, UNASSIGN, &parameters)
            .await
            .map(drop)
    }

    pub(crate) async fn canned_replies(
        &self,
        caller: &Caller,
        locale: Option<&str>,
    ) -> Result<String, Error> {
        text(
            &self
                .call(
                    caller,
                    Access::Read,
                    CANNED_REPLIES,
                    &[(&locale, Type::TEXT)],
                )
                .await?,
        )
    }

    /// One transaction, sent as a whole before anything is awaited: it ends whatever becomes of the
    /// caller, and holds its locks for no longer than the server needs.
    async fn call(
        &self,
        caller: &Caller,
        access: Access,
        statement: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Row, Error> {
        let client = self.pool.get().await.map_err(Error::Pool)?;
        let begin = match access {
            Access::Read => BEGIN_READ,
            Access::Write => BEGIN_WRITE,
        };
        let claims = caller.claims();
        let subject = claims.subject.as_deref().unwrap_or_default();
        let role = &*claims.role;
        let statement_timeout = self.config.statement_timeout.as_millis().to_string();
        let lock_timeout = self.config.lock_timeout.as_millis().to_string();
        let identity: [Parameter<'_>; 5] = [
            (&&*claims.json, Type::TEXT),
            (&subject, Type::TEXT),
            (&role, Type::TEXT),
            (&statement_timeout, Type::TEXT),
            (&lock_timeout, Type::TEXT),
        ];
        let mut parameters = parameters.to_vec();
        parameters.push((&role, Type::TEXT));
        // Polled in this order, each sends its message at once.
        let transaction = join4(
            client.batch_execute(begin),
            client.query_typed(BECOME_CALLER, &identity),
            client.query_typed(statement, &parameters),
            client.batch_execute(COMMIT),
        );
        let limit = self.config.answer_timeout;
        let Ok((begun, became, called, committed)) = timeout(limit, transaction).await else {
            // Whoever came next would wait for the same server, or behind it.
            drop(Object::take(client));
            return Err(Error::Frozen(limit));
        };
        begun.map_err(Error::database("begin a transaction"))?;
        became.map_err(Error::database("become the caller"))?;
        let row = called.map_err(Error::database("run a request"))?.pop();
        committed.map_err(Error::database("commit a request"))?;
        row.ok_or(Error::NotTheCaller)
    }
}

fn text(row: &Row) -> Result<String, Error> {
    row.try_get(0).map_err(Error::database("read an answer"))
}

fn text_and_replayed(row: &Row) -> Result<(String, bool), Error> {
    let replayed = row.try_get(1).map_err(Error::database("read an answer"))?;
    Ok((text(row)?, replayed))
}

fn milliseconds(duration: std::time::Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
