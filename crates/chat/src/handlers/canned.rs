//! `GET /api/canned-replies`.

use axum::extract::State;

use crate::{Chat, answer::Answer, caller::Operator, error::Failure, fields::QueryFields};

/// What operators say often, in one locale or in all.
pub(crate) async fn list(
    State(chat): State<Chat>,
    Operator(caller): Operator,
    QueryFields(query): QueryFields,
) -> Result<Answer, Failure> {
    let locale = query.text(&["locale"])?;
    Ok(Answer::ok(
        chat.store.canned_replies(&caller, locale).await?,
    ))
}
