//! Broadcasts over HTTP: many in one envelope, or one whose payload is the body.
//!
//! Every status and body is part of the wire: supabase-js sends this way when it has no socket, and
//! takes only 202 for success. Private topics need the right to write, asked for each request.

mod batch;

use std::{fmt, sync::Arc};

use axum::{
    Json,
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use pgrelay_protocol::{Encoding, Topic, client_frame};
use pgrelay_relay::{
    Body, Cast, Relay,
    ports::{Authorizer, ChannelError, Claims, TokenVerifier},
};
use serde_json::json;

use super::{answer::supabase_error, bearer};
use crate::clock::unix_now;
use batch::{Batch, Message};

/// Takes broadcasts.
#[derive(Clone)]
pub struct Speakers {
    /// Tells the channels.
    pub relay: Relay,
    /// Judges the tokens.
    pub tokens: Arc<dyn TokenVerifier>,
    /// Knows who may write to private topics.
    pub authorizer: Arc<dyn Authorizer>,
}

impl fmt::Debug for Speakers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Speakers").finish_non_exhaustive()
    }
}

/// Why nothing is sent.
enum Refused {
    /// A status and a `message`.
    Message(StatusCode, &'static str),
    /// 422, and what is wrong with which field.
    Errors(serde_json::Value),
    /// 400: the body is no JSON, or nested too deeply.
    NotJson,
    /// 415.
    MediaType,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Self::Message(status, message) => {
                (status, Json(json!({ "message": message }))).into_response()
            }
            Self::Errors(errors) => {
                let body = Json(json!({ "errors": errors }));
                (StatusCode::UNPROCESSABLE_ENTITY, body).into_response()
            }
            Self::NotJson => supabase_error(StatusCode::BAD_REQUEST, "the body is not JSON"),
            Self::MediaType => supabase_error(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Unsupported Media Type. Use application/json or application/octet-stream",
            ),
        }
    }
}

const UNAUTHORIZED: Refused = Refused::Message(StatusCode::UNAUTHORIZED, "Unauthorized");
const STOPPING: Refused =
    Refused::Message(StatusCode::SERVICE_UNAVAILABLE, "the relay is going down");

/// `POST /api/broadcast`
pub(super) async fn batch(
    State(speakers): State<Speakers>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let answer = speakers.send_batch(&headers, &body).await;
    speakers.answered(answer)
}

/// `POST /api/broadcast/{topic}/events/{event}`
pub(super) async fn single(
    State(speakers): State<Speakers>,
    Path((topic, event)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let private = form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .any(|(key, value)| key == "private" && value == "true");
    let answer = speakers
        .send_one((&topic, &event, private), &headers, body)
        .await;
    speakers.answered(answer)
}

impl Speakers {
    /// 202 with an empty body, or the refusal; and the rates, where there are limits.
    fn answered(&self, outcome: Result<(), Refused>) -> Response {
        let mut response = match outcome {
            Ok(()) => StatusCode::ACCEPTED.into_response(),
            Err(refused) => refused.into_response(),
        };
        if let Some((rate, limit)) = self.relay.event_rate(unix_now()) {
            let rates = [
                ("x-rate-rolling", rate),
                ("x-rate-limit", limit),
                ("x-rate-limit-remaining", limit.saturating_sub(rate)),
            ];
            response
                .headers_mut()
                .extend(rates.map(|(name, value)| {
                    (HeaderName::from_static(name), HeaderValue::from(value))
                }));
        }
        response
    }

    fn claims(&self, headers: &HeaderMap) -> Result<Arc<Claims>, Refused> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let token = match text(header::AUTHORIZATION.as_str()) {
            Some(authorization) => bearer(authorization),
            None => text("apikey"),
        };
        let token = token.ok_or(UNAUTHORIZED)?;
        self.tokens
            .verify(token, unix_now())
            .map_err(|_refused| UNAUTHORIZED)
    }

    /// Counts `amount` messages as what clients say.
    fn admit(&self, amount: usize) -> Result<(), Refused> {
        let now = unix_now();
        let amount = u32::try_from(amount).unwrap_or(u32::MAX);
        if self.relay.admits_events(now, amount) {
            return Ok(());
        }
        let is_spent = self
            .relay
            .event_rate(now)
            .is_some_and(|(rate, max)| rate >= max);
        let message = if is_spent {
            "You have exceeded your rate limit"
        } else {
            "Too many messages to broadcast, please reduce the batch size"
        };
        Err(Refused::Message(StatusCode::TOO_MANY_REQUESTS, message))
    }

    /// Whether these claims may write to a private topic.
    async fn may_write(&self, topic: &Topic, claims: &Arc<Claims>) -> Result<bool, ChannelError> {
        let asked = self.authorizer.channel(topic.clone(), Arc::clone(claims));
        asked.await.map(|rights| rights.write)
    }

    async fn tell(&self, topic: Topic, private: bool, body: Body) -> Result<(), Refused> {
        let told = self.relay.tell(Cast::new(topic, private, body)).await;
        told.map_err(|_stopped| STOPPING)
    }

    async fn send_batch(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), Refused> {
        let claims = self.claims(headers)?;
        client_frame::check_json(body).map_err(|_malformed| Refused::NotJson)?;
        let messages = Batch::parse(body, self.relay.payload_bytes_max())?;
        self.admit(messages.len())?;
        let (mut private, public): (Vec<Message>, Vec<Message>) =
            messages.into_iter().partition(|message| message.private);
        for message in public {
            self.tell(message.topic, false, message.body).await?;
        }
        // Each topic is asked about once; what may not be written is skipped without a word.
        while let Some(topic) = private.first().map(|message| message.topic.clone()) {
            let of_topic: Vec<Message>;
            (of_topic, private) = private.into_iter().partition(|it| it.topic == topic);
            let may_write = self
                .may_write(&topic, &claims)
                .await
                .unwrap_or_else(|error| {
                    tracing::debug!(
                        error = error.message,
                        "a private broadcast cannot be judged"
                    );
                    false
                });
            for message in of_topic {
                if may_write {
                    self.tell(message.topic, true, message.body).await?;
                }
            }
        }
        Ok(())
    }

    async fn send_one(
        &self,
        (topic, event, private): (&str, &str, bool),
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<(), Refused> {
        let claims = self.claims(headers)?;
        let (encoding, payload) = payload(headers, body)?;
        if payload.len() > self.relay.payload_bytes_max() {
            return Err(Refused::Errors(json!({ "payload": [batch::TOO_LARGE] })));
        }
        let topic = Topic::parse(&format!("realtime:{topic}"))
            .map_err(|_error| Refused::Errors(json!({ "topic": [batch::INVALID] })))?;
        self.admit(1)?;
        if private {
            match self.may_write(&topic, &claims).await {
                Ok(true) => {}
                Ok(false) => return Err(Refused::Message(StatusCode::FORBIDDEN, "Unauthorized")),
                Err(error) => {
                    let message = if error.retryable {
                        "Tenant database unavailable"
                    } else {
                        "RLS policy error"
                    };
                    return Err(Refused::Message(StatusCode::UNPROCESSABLE_ENTITY, message));
                }
            }
        }
        let body = Body::User {
            event: event.into(),
            metadata: None,
            encoding,
            payload,
        };
        self.tell(topic, private, body).await
    }
}

/// What the body is, by its type. A body without a type is not looked at.
fn payload(headers: &HeaderMap, body: Bytes) -> Result<(Encoding, Bytes), Refused> {
    let empty = || (Encoding::Json, Bytes::from_static(b"{}"));
    let Some(media_type) = headers.get(header::CONTENT_TYPE) else {
        return Ok(empty());
    };
    let media_type = media_type.to_str().unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/octet-stream") {
        return Ok((Encoding::Binary, body));
    }
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Refused::MediaType);
    }
    if body.is_empty() {
        return Ok(empty());
    }
    client_frame::check_json(&body).map_err(|_malformed| Refused::NotJson)?;
    Ok((Encoding::Json, body))
}
