//! `GET /api/openapi.json`.

use axum::{http::StatusCode, response::Response};

use crate::answer::json_response;

/// Kept by hand; tests hold it to the routes and to their answers.
pub(crate) const DOCUMENT: &str = include_str!("../openapi.json");

/// The description of all routes; no token needed.
pub(crate) async fn document() -> Response {
    json_response(StatusCode::OK, DOCUMENT)
}
