//! `POST|DELETE /api/bookings/{id or code}/assignment`.

use axum::{extract::State, http::StatusCode};

use super::{BookingPath, booking_of};
use crate::{Chat, answer::Answer, body::Body, caller::Operator, error::Failure, message::id};

/// Takes a booking over, for oneself or for a colleague.
pub(crate) async fn assign(
    State(chat): State<Chat>,
    Operator(caller): Operator,
    path: BookingPath,
    Body(fields): Body,
) -> Result<Answer, Failure> {
    let booking = booking_of(path)?;
    let operator = id(&fields, "operator_id")?;
    let force = fields.flag("force")?.unwrap_or(false);
    let (assignment, replayed) = chat
        .store
        .assign(&caller, &booking, operator, force)
        .await?;
    Ok(Answer::made(
        format!("{{\"assignment\":{assignment}}}"),
        replayed,
    ))
}

/// Gives a booking back to the team.
pub(crate) async fn unassign(
    State(chat): State<Chat>,
    Operator(caller): Operator,
    path: BookingPath,
) -> Result<StatusCode, Failure> {
    let booking = booking_of(path)?;
    chat.store.unassign(&caller, &booking).await?;
    Ok(StatusCode::NO_CONTENT)
}
