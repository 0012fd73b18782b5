//! The body of a request: a JSON object of bounded size, or nothing.

use axum::{
    body::to_bytes,
    extract::{FromRequest, Request},
};
use serde_json::Value;
use tokio::time::timeout;

use crate::{Chat, code::Code, error::Failure, fields::Fields, refusal::Refusal};

/// The object in the body; empty where there is no body. The content type does not matter.
#[derive(Debug)]
pub(crate) struct Body(pub(crate) Fields);

impl FromRequest<Chat> for Body {
    type Rejection = Failure;

    async fn from_request(request: Request, chat: &Chat) -> Result<Self, Failure> {
        let bytes_max = chat.config.body_bytes_max;
        let body = timeout(
            chat.config.body_timeout,
            to_bytes(request.into_body(), bytes_max),
        );
        // Also what breaks off on the way is answered so; nobody is there to read it.
        let bytes = body
            .await
            .map_err(|_elapsed| {
                Refusal::say(Code::Unavailable, "The request did not arrive in time.")
            })?
            .map_err(|_too_large_or_gone| {
                Refusal::new(Code::TooLong).with("limit_bytes", bytes_max)
            })?;
        if bytes.is_empty() {
            return Ok(Self(Fields::default()));
        }
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(values)) => Ok(Self(Fields::new(values))),
            Ok(_) | Err(_) => {
                Err(Refusal::say(Code::InvalidRequest, "The body must be a JSON object.").into())
            }
        }
    }
}
