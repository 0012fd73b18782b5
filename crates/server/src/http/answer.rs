//! Answers that refuse.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

/// A refusal of our own routes: `{"error":{"code","message","retryable"}}`.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Status.
    pub status: StatusCode,
    /// Stable word.
    pub code: &'static str,
    /// What a person may read.
    pub message: String,
}

impl Refusal {
    /// The same request can never succeed.
    pub fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code,
            message: message.into(),
        }
    }

    /// The token is missing or refused.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            code: "unauthorized",
            message: message.into(),
        }
    }

    /// The same request may succeed later.
    pub fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code,
            message: message.into(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let retryable =
            self.status.is_server_error() || self.status == StatusCode::TOO_MANY_REQUESTS;
        let body = json!({
            "error": { "code": self.code, "message": self.message, "retryable": retryable }
        });
        (self.status, Json(body)).into_response()
    }
}

/// A refusal in the form that Supabase's clients know: `{"error":"<text>"}`.
pub(super) fn supabase_error(status: StatusCode, text: &str) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];
    (status, headers, json!({ "error": text }).to_string()).into_response()
}
