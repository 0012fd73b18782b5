//! `POST /demo/messages`: the line to paste for those without `psql`. A plain INSERT; that the relay
//! sees it at all is the work of the table's trigger.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{State, rejection::JsonRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use pgrelay_relay::ports::TokenVerifier;
use serde::Deserialize;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::store::{InsertError, Store};
use crate::{
    chain::Chain,
    clock::unix_now,
    http::{Refusal, bearer},
};

/// The role whose key may write here.
const WRITER_ROLE: &str = "service_role";

#[derive(Clone)]
struct Messages {
    store: Store,
    tokens: Arc<dyn TokenVerifier>,
}

/// The demo's own routes.
pub(super) fn router(store: Store, tokens: Arc<dyn TokenVerifier>) -> Router {
    Router::new()
        .route("/demo/messages", post(insert))
        .with_state(Messages { store, tokens })
}

#[derive(Debug, Deserialize)]
struct NewMessage {
    booking_id: Uuid,
    content: String,
    #[serde(default = "client")]
    sender_role: String,
}

fn client() -> String {
    "client".to_owned()
}

async fn insert(
    State(messages): State<Messages>,
    headers: HeaderMap,
    message: Result<Json<NewMessage>, JsonRejection>,
) -> Result<Response, Refusal> {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| bearer(value.to_str().ok()?))
        .ok_or_else(|| Refusal::unauthorized("send the service key as a bearer token"))?;
    let claims = messages
        .tokens
        .verify(token, unix_now())
        .map_err(|error| Refusal::unauthorized(error.connect_text()))?;
    if &*claims.role != WRITER_ROLE {
        let message = "only the service key may write here".to_owned();
        return Err(Refusal {
            status: StatusCode::FORBIDDEN,
            code: "forbidden",
            message,
        });
    }
    let Json(message) =
        message.map_err(|error| Refusal::bad_request("body_invalid", error.body_text()))?;
    let inserted = messages
        .store
        .insert_message(message.booking_id, &message.sender_role, &message.content)
        .await;
    match inserted {
        Ok(row) => {
            let kind = [(header::CONTENT_TYPE, "application/json")];
            Ok((StatusCode::CREATED, kind, row).into_response())
        }
        Err(InsertError::Insert(error))
            if error.code() == Some(&SqlState::FOREIGN_KEY_VIOLATION) =>
        {
            Err(Refusal::bad_request(
                "booking_missing",
                "there is no such booking",
            ))
        }
        Err(error) => {
            tracing::error!(error = %Chain(&error), "insert a demo message");
            Err(Refusal::unavailable(
                "unavailable",
                "the message could not be written; try again",
            ))
        }
    }
}
