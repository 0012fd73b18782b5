//! `POST /api/receipts`.

use axum::{extract::State, http::StatusCode};

use crate::{
    Chat, body::Body, booking_ref::BookingRef, caller::Caller, error::Failure, fields::wrong,
};

/// Raises the caller's watermarks; what would lower them changes nothing.
pub(crate) async fn acknowledge(
    State(chat): State<Chat>,
    caller: Caller,
    Body(fields): Body,
) -> Result<StatusCode, Failure> {
    let booking = BookingRef::of(&fields)?;
    let delivered = fields.number("delivered_seq")?;
    let read = fields.number("read_seq")?;
    if delivered.is_none() && read.is_none() {
        return Err(wrong("delivered_seq", "given, or read_seq").into());
    }
    chat.store
        .acknowledge(&caller, &booking, delivered, read)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
