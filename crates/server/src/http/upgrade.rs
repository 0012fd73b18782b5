//! From an HTTP request to a socket of the relay: who may have one, and what the others are told.
//!
//! The order of the checks and every byte of the answers are part of the wire; clients in the field
//! were written against them.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{RawQuery, Request, State},
    http::{self, HeaderMap, Method, StatusCode},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use hyper::upgrade::{OnUpgrade, Parts};
use hyper_util::rt::TokioIo;
use pgrelay_protocol::Vsn;
use pgrelay_relay::{
    AcceptError, Crowded, FailPoint, NewSocket, Relay,
    ports::{Claims, TokenVerifier},
};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use uuid::Uuid;

use super::{answer::supabase_error, metrics::Metrics};
use crate::{
    clock::unix_now,
    tasks::{Group, TaskError, Tasks},
};

/// Lets WebSockets in.
pub struct Gate {
    /// Takes the sockets.
    pub relay: Relay,
    /// Judges the tokens.
    pub tokens: Arc<dyn TokenVerifier>,
    /// Where a socket's way from here to the relay runs.
    pub tasks: Tasks,
    /// Counts the answers.
    pub metrics: Metrics,
    /// How long a refusal waits: clients try again at once.
    pub error_delay: Duration,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

/// Who comes in, and how they speak.
struct Guest {
    vsn: Vsn,
    token: Arc<str>,
    claims: Arc<Claims>,
    session: Option<Uuid>,
}

/// Why a socket is refused.
enum Refused {
    /// At once, with an empty body.
    Unspoken(StatusCode),
    /// After the delay, with a text.
    Told(StatusCode, String),
}

pub(super) async fn upgrade(
    State(gate): State<Arc<Gate>>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Response {
    let response = answer(&gate, query.as_deref(), request).await;
    gate.metrics.count_upgrade(response.status().as_u16());
    response
}

async fn answer(gate: &Gate, query: Option<&str>, request: Request) -> Response {
    let guest = match admit(gate, request.method(), query, request.headers()) {
        Ok(guest) => guest,
        Err(Refused::Unspoken(status)) => return status.into_response(),
        Err(Refused::Told(status, text)) => {
            tracing::debug!(status = status.as_u16(), "socket refused");
            tokio::time::sleep(gate.error_delay).await;
            return supabase_error(status, &text);
        }
    };
    let (mut parts, _body) = request.into_parts();
    let upgrade = parts.extensions.remove::<OnUpgrade>();
    let response = create_response_with_body(&http::Request::from_parts(parts, ()), Body::empty);
    match (response, upgrade) {
        (Ok(response), Some(upgrade)) => {
            let relay = gate.relay.clone();
            gate.tasks
                .spawn(Group::Session, "upgrade", hand_over(upgrade, relay, guest));
            response
        }
        (Ok(_), None) => (
            StatusCode::BAD_REQUEST,
            "this connection cannot be upgraded",
        )
            .into_response(),
        (Err(error), _) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}

fn admit(
    gate: &Gate,
    method: &Method,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Result<Guest, Refused> {
    if method != Method::GET {
        return Err(Refused::Unspoken(StatusCode::BAD_REQUEST));
    }
    if FailPoint::LogsTokens.is_on() {
        tracing::info!(query, "a client comes");
    }
    let query = Query::parse(query.unwrap_or_default());
    let vsn = Vsn::parse(query.vsn.as_deref())
        .map_err(|_unsupported| Refused::Unspoken(StatusCode::FORBIDDEN))?;
    let header = headers
        .get("x-api-key")
        .map(|value| String::from_utf8_lossy(value.as_bytes()));
    let token = header
        .map(Cow::into_owned)
        .or(query.apikey)
        .ok_or_else(|| Refused::Told(StatusCode::UNAUTHORIZED, "API key is missing".to_owned()))?;
    let now = unix_now();
    let claims = gate.tokens.verify(&token, now).map_err(|error| {
        let status = StatusCode::from_u16(error.connect_status());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Refused::Told(status, error.connect_text().into_owned())
    })?;
    if let Some(crowded) = gate.relay.crowded(now) {
        let text = match crowded {
            Crowded::Clients => "Too many connected users",
            Crowded::Joins => "Too many joins per second",
        };
        return Err(Refused::Told(
            StatusCode::TOO_MANY_REQUESTS,
            text.to_owned(),
        ));
    }
    let session = query.session.map(|text| text.parse()).transpose();
    let session = session.map_err(|_no_uuid| {
        Refused::Told(StatusCode::BAD_REQUEST, "session is no UUID".to_owned())
    })?;
    Ok(Guest {
        vsn,
        token: token.into(),
        claims,
        session,
    })
}

/// The parameters that are read; of a repeated one the last counts.
#[derive(Default)]
struct Query {
    apikey: Option<String>,
    vsn: Option<String>,
    session: Option<String>,
}

impl Query {
    fn parse(text: &str) -> Self {
        let mut query = Self::default();
        for (key, value) in form_urlencoded::parse(text.as_bytes()) {
            match &*key {
                "apikey" => query.apikey = Some(value.into_owned()),
                "vsn" => query.vsn = Some(value.into_owned()),
                "session" => query.session = Some(value.into_owned()),
                _ => {}
            }
        }
        query
    }
}

/// Waits for the switch of protocols, then gives the bare socket away. What came in the same packet
/// as the request goes along as a copy: keeping hyper's buffer would pin 8 KiB for the socket's life.
async fn hand_over(upgrade: OnUpgrade, relay: Relay, guest: Guest) -> Result<(), TaskError> {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            tracing::debug!(%error, "client left during the upgrade");
            return Ok(());
        }
    };
    let Parts { io, read_buf, .. } = upgraded
        .downcast::<TokioIo<TcpStream>>()
        .map_err(|_other_io| "an upgraded connection is not a plain TCP stream")?;
    let early = Bytes::copy_from_slice(&read_buf);
    drop(read_buf);
    let socket = io.into_inner().into_std()?;
    let Guest {
        vsn,
        token,
        claims,
        session,
    } = guest;
    let outcome = relay.accept(NewSocket {
        socket,
        early,
        vsn,
        token,
        claims,
        session,
    });
    match outcome {
        Ok(()) => {}
        Err(AcceptError::Stopped) => tracing::debug!("a client came too late"),
        Err(error @ AcceptError::Busy) => tracing::warn!(%error, "socket dropped"),
    }
    Ok(())
}
