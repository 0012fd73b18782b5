//! `POST /api/messages/system`.

use axum::{extract::State, http::HeaderMap};
use serde_json::Value;

use crate::{
    Chat,
    answer::Answer,
    body::Body,
    booking_ref::BookingRef,
    caller::Operator,
    code::Code,
    error::Failure,
    handlers::status::log_created,
    message::{content, key, metadata},
    refusal::Refusal,
};

/// Writes a system message. One that tells a status is there already: then that one is the answer.
pub(crate) async fn send(
    State(chat): State<Chat>,
    Operator(caller): Operator,
    headers: HeaderMap,
    Body(fields): Body,
) -> Result<Answer, Failure> {
    let booking = BookingRef::of(&fields)?;
    let content = content(&fields)?;
    let metadata = metadata(&fields)?;
    let key = key(&fields, &headers)?;
    if content.is_none() && metadata.get("status").is_none_or(Value::is_null) {
        return Err(Refusal::new(Code::Empty).field("content").into());
    }
    let (message, replayed) = chat
        .store
        .send_system(
            &caller,
            &booking,
            content.as_deref(),
            &metadata,
            key.as_deref(),
        )
        .await?;
    let body = format!("{{\"message\":{message}}}");
    if !replayed {
        log_created(&body);
    }
    Ok(Answer::made(body, replayed))
}
