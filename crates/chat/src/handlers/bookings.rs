//! `GET /api/bookings` and `GET /api/bookings/{id or code}`.

use axum::extract::State;

use super::{BookingPath, booking_of};
use crate::{
    Chat,
    answer::Answer,
    caller::{Caller, Operator},
    error::Failure,
    fields::{Fields, QueryFields, wrong},
    page::{InboxPlace, rows_max},
    refusal::Refusal,
    store::InboxQuery,
};

/// Longest text to search for.
const SEARCH_CHARS_MAX: usize = 200;

/// The inbox of the operators.
pub(crate) async fn inbox(
    State(chat): State<Chat>,
    Operator(caller): Operator,
    QueryFields(query): QueryFields,
) -> Result<Answer, Failure> {
    let query = inbox_query(&query)?;
    Ok(Answer::ok(chat.store.inbox(&caller, &query).await?))
}

/// One booking with its people, receipts and history.
pub(crate) async fn one(
    State(chat): State<Chat>,
    caller: Caller,
    path: BookingPath,
) -> Result<Answer, Failure> {
    let booking = booking_of(path)?;
    Ok(Answer::ok(chat.store.booking(&caller, &booking).await?))
}

fn inbox_query(query: &Fields) -> Result<InboxQuery, Refusal> {
    let tab = match query.text(&["filter"])? {
        None | Some("all") => "all",
        Some("open") => "open",
        Some("unassigned") => "unassigned",
        Some("mine") => "mine",
        Some("closed") => "closed",
        Some(_) => return Err(wrong("filter", "all, open, unassigned, mine or closed")),
    };
    let by_recent = match query.text(&["sort"])? {
        None | Some("waiting") => false,
        Some("recent") => true,
        Some(_) => return Err(wrong("sort", "waiting or recent")),
    };
    let statuses = query
        .text(&["status"])?
        .map(|list| list.split(',').map(|status| status.trim().to_lowercase()));
    let text = query
        .text(&["q"])?
        .map(str::trim)
        .filter(|text| !text.is_empty());
    if text.is_some_and(|text| text.chars().count() > SEARCH_CHARS_MAX) {
        return Err(wrong("q", "at most 200 characters"));
    }
    Ok(InboxQuery {
        tab,
        statuses: statuses.map(Iterator::collect),
        text: text.map(String::from),
        by_recent,
        after: InboxPlace::of(query)?,
        rows_max: rows_max(query)?,
    })
}
