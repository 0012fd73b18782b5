//! Answers as the routes give them: JSON that the database has made, passed on as it is.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

/// A successful answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// A JSON document.
    pub(crate) body: String,
    /// The request was made before; this is what became of it then.
    pub(crate) replayed: bool,
}

impl Answer {
    pub(crate) fn ok(body: String) -> Self {
        Self {
            status: StatusCode::OK,
            body,
            replayed: false,
        }
    }

    /// 201, or 200 when the request had been made before.
    pub(crate) fn made(body: String, replayed: bool) -> Self {
        Self {
            status: if replayed {
                StatusCode::OK
            } else {
                StatusCode::CREATED
            },
            body,
            replayed,
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = json_response(self.status, self.body);
        if self.replayed {
            let name = "idempotent-replayed";
            response
                .headers_mut()
                .insert(name, HeaderValue::from_static("true"));
        }
        response
    }
}

/// Never for a shared cache: the same address has another answer for another caller.
pub(crate) fn json_response(status: StatusCode, body: impl Into<Body>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "private, no-cache"),
        (header::VARY, "authorization, apikey"),
    ];
    (status, headers, body.into()).into_response()
}
