//! `PATCH|POST /api/bookings/status`.

use axum::extract::State;
use serde_json::Value;

use crate::{
    Chat,
    answer::Answer,
    body::Body,
    booking_ref::BookingRef,
    caller::Operator,
    error::Failure,
    fields::{Fields, wrong},
    message::{content, invalid},
    refusal::Refusal,
    store::StatusChange,
};

/// Longest status; as in sql/chat/0001_tables.sql.
const STATUS_CHARS_MAX: usize = 64;
/// Longest note in the status history.
const NOTE_CHARS_MAX: usize = 1_000;

/// Changes the status, which tells it in the chat; or closes or reopens the chat; or both.
pub(crate) async fn set(
    State(chat): State<Chat>,
    Operator(caller): Operator,
    Body(fields): Body,
) -> Result<Answer, Failure> {
    let change = change_of(&fields)?;
    if let Some(status) = &change.status {
        tracing::info!(
            booking = change.booking.as_str(),
            status,
            "creating system message for status update"
        );
    }
    let body = chat.store.set_status(&caller, &change).await?;
    log_created(&body);
    Ok(Answer::ok(body))
}

fn change_of(fields: &Fields) -> Result<StatusChange, Refusal> {
    let change = StatusChange {
        booking: BookingRef::of(fields)?,
        status: bounded(fields, "status", STATUS_CHARS_MAX)?,
        expected_version: fields.number("expected_version")?,
        note: bounded(fields, "note", NOTE_CHARS_MAX)?,
        content: content(fields)?,
        force: fields.flag("force")?.unwrap_or(false),
        closed: fields.flag("closed")?,
    };
    if change.status.is_none() && change.closed.is_none() {
        return Err(wrong("status", "the new status"));
    }
    Ok(change)
}

fn bounded(
    fields: &Fields,
    name: &'static str,
    chars_max: usize,
) -> Result<Option<String>, Refusal> {
    let Some(text) = fields.text(&[name])?.map(str::trim) else {
        return Ok(None);
    };
    if text.is_empty() || text.chars().count() > chars_max || text.chars().any(char::is_control) {
        return Err(invalid(
            name,
            format!("{name} must have 1 to {chars_max} printable characters."),
        ));
    }
    Ok(Some(text.into()))
}

/// Names a system message that was made, as `msg_` and the beginning of its id.
pub(super) fn log_created(answer: &str) {
    let answer: Value = serde_json::from_str(answer).unwrap_or_default();
    if answer["changed"] == Value::Bool(false) {
        return;
    }
    if let Some(id) = answer["message"]["id"].as_str() {
        tracing::info!("system message created: msg_{}", id.get(..8).unwrap_or(id));
    }
}
