//! `GET|POST|DELETE /api/messages`.

use std::hash::{DefaultHasher, Hasher as _};

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use uuid::Uuid;

use crate::{
    Chat,
    answer::{Answer, json_response},
    body::Body,
    booking_ref::BookingRef,
    caller::Caller,
    code::Code,
    error::Failure,
    fields::{QueryFields, wrong},
    message::Draft,
    page::{Window, rows_max},
    refusal::Refusal,
};

/// A page of a conversation, with an entity tag so that polling is cheap.
pub(crate) async fn list(
    State(chat): State<Chat>,
    caller: Caller,
    headers: HeaderMap,
    QueryFields(query): QueryFields,
) -> Result<Response, Failure> {
    let booking = BookingRef::of(&query)?;
    let window = Window::of(&query)?;
    let page = chat
        .store
        .messages(&caller, &booking, window, rows_max(&query)?)
        .await?;
    let tag = entity_tag(&page);
    let is_known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|known| known.to_str().ok())
        .is_some_and(|known| {
            known
                .split(',')
                .any(|known| known.trim().trim_start_matches("W/") == tag)
        });
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        json_response(StatusCode::OK, page)
    };
    if let Ok(tag) = HeaderValue::try_from(tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}

/// Sends a message once.
pub(crate) async fn send(
    State(chat): State<Chat>,
    caller: Caller,
    headers: HeaderMap,
    Body(fields): Body,
) -> Result<Answer, Failure> {
    let draft = Draft::of(&fields, &headers)?;
    let (message, replayed) = chat.store.send(&caller, &draft).await?;
    Ok(Answer::made(format!("{{\"message\":{message}}}"), replayed))
}

/// Leaves a tombstone. The id stands in the query or in the body.
pub(crate) async fn delete(
    State(chat): State<Chat>,
    caller: Caller,
    QueryFields(query): QueryFields,
    Body(fields): Body,
) -> Result<Answer, Failure> {
    let given = match query.text(&["id"])? {
        Some(id) => Some(id),
        None => fields.text(&["id"])?,
    };
    let id = given.ok_or_else(|| wrong("id", "the id of a message"))?;
    // What is no UUID is no message of ours either.
    let id = Uuid::parse_str(id).map_err(|_not_a_uuid| Refusal::new(Code::MessageNotFound))?;
    Ok(Answer::ok(chat.store.delete_message(&caller, id).await?))
}

fn entity_tag(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(text.as_bytes());
    format!("\"{:016x}\"", hasher.finish())
}
