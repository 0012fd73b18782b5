//! Server-Sent Events: the stream for curl, and for networks that block WebSockets.
//!
//! `GET /events?table=public.messages&filter=...&event=INSERT`, the key as `apikey` in the query or
//! in a header. Changes come as unnamed events, so that `EventSource.onmessage` sees just them;
//! everything else is named `system`, `checkpoint` or `must_refetch`. The id of an event is its
//! cursor, so a browser that reconnects goes on where it was.

mod query;

use std::{
    fmt,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use axum::{
    body::Body,
    extract::{RawQuery, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::{Stream, StreamExt as _, stream};
use pgrelay_relay::{Relay, StreamEvent, StreamEventKind, StreamRequest, ports::TokenVerifier};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Interval, MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use super::answer::Refusal;
use crate::{
    clock::unix_now,
    tasks::{Group, Tasks},
};
pub(crate) use query::bearer;

use query::EventQuery;

/// Time between two signs of life on a silent stream; proxies cut at 30 s or later.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Longest single wait for an expiry; the timer does not reach arbitrarily far.
const EXPIRY_WAIT_MAX: Duration = Duration::from_secs(86_400);

/// Serves event streams.
pub struct Streams {
    relay: Relay,
    tokens: Arc<dyn TokenVerifier>,
    stop: CancellationToken,
    permits: Arc<Semaphore>,
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").finish_non_exhaustive()
    }
}

impl Streams {
    /// Serves at most `streams_max` streams of `relay` to clients whose token `tokens` accepts.
    pub fn new(
        relay: Relay,
        tokens: Arc<dyn TokenVerifier>,
        tasks: &Tasks,
        streams_max: usize,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(streams_max));
        Self {
            relay,
            tokens,
            stop: tasks.stop_token(Group::Session),
            permits,
        }
    }
}

pub(super) async fn events(
    State(streams): State<Arc<Streams>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let query = EventQuery::parse(query.as_deref().unwrap_or_default(), &headers)?;
    let claims = streams
        .tokens
        .verify(&query.token, unix_now())
        .map_err(|error| Refusal::unauthorized(error.connect_text()))?;
    let permit = Arc::clone(&streams.permits)
        .try_acquire_owned()
        .map_err(|_all_taken| Refusal::unavailable("too_many_streams", "too many event streams"))?;
    let expires_at = claims.expires_at;
    let request = StreamRequest {
        claims,
        token: query.token,
        specs: vec![query.spec],
        since: query.since,
    };
    let events = streams
        .relay
        .subscribe(request)
        .await
        .map_err(|error| Refusal::unavailable("unavailable", error.to_string()))?;
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let feed = Feed::new(events, streams.stop.clone(), expires_at, permit);
    Ok((headers, Body::from_stream(feed.into_stream())).into_response())
}

/// One running stream.
struct Feed<S> {
    events: S,
    stop: CancellationToken,
    expires_at: Option<u64>,
    keep_alive: Interval,
    greeted: bool,
    _permit: OwnedSemaphorePermit,
}

/// The last bytes of a stream, or not the last.
enum Step {
    More(Bytes),
    Last(Bytes),
}

impl<S: Stream<Item = StreamEvent> + Unpin + Send> Feed<S> {
    fn new(
        events: S,
        stop: CancellationToken,
        expires_at: Option<u64>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let mut keep_alive = interval(KEEP_ALIVE_INTERVAL);
        keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        keep_alive.reset();
        Self {
            events,
            stop,
            expires_at,
            keep_alive,
            greeted: false,
            _permit: permit,
        }
    }

    fn into_stream(self) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> + Send {
        stream::unfold(Some(self), |feed| async move {
            let mut feed = feed?;
            match feed.step().await {
                Step::More(bytes) => Some((Ok(bytes), Some(feed))),
                Step::Last(bytes) => Some((Ok(bytes), None)),
            }
        })
    }

    async fn step(&mut self) -> Step {
        if !std::mem::replace(&mut self.greeted, true) {
            return Step::More(Bytes::from_static(b"retry: 1000\n\n"));
        }
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Step::Last(goodbye()),
            () = expired(self.expires_at) => Step::Last(Bytes::from_static(
                b"event: system\ndata: {\"status\":\"error\",\"message\":\"Token has expired\"}\n\n",
            )),
            event = self.events.next() => match event {
                Some(event) => {
                    self.keep_alive.reset();
                    Step::More(encode(&event))
                }
                // It did not keep up, or the relay goes down.
                None => Step::Last(goodbye()),
            },
            _ = self.keep_alive.tick() => Step::More(Bytes::from_static(b": keep-alive\n\n")),
        }
    }
}

/// Waits until the clock says that `expires_at` has come.
async fn expired(expires_at: Option<u64>) {
    let Some(expires_at) = expires_at else {
        return std::future::pending().await;
    };
    loop {
        let left = Duration::from_secs(expires_at.saturating_sub(unix_now()));
        if left.is_zero() {
            return;
        }
        sleep(left.min(EXPIRY_WAIT_MAX)).await;
    }
}

/// Asks the client to come back after one to five seconds, not all clients at once.
fn goodbye() -> Bytes {
    let spread = RandomState::new().build_hasher().finish() % 4_000;
    Bytes::from(format!("retry: {}\n\n", 1_000 + spread))
}

/// One event in the text format. JSON holds line breaks only between its tokens, where a space
/// means the same.
fn encode(event: &StreamEvent) -> Bytes {
    let mut text = BytesMut::with_capacity(event.json.len() + 160);
    if let Some(cursor) = &event.cursor {
        text.put_slice(b"id: ");
        text.put_slice(cursor.as_bytes());
        text.put_u8(b'\n');
    }
    let name = match event.kind {
        StreamEventKind::Change => None,
        StreamEventKind::System => Some("system"),
        StreamEventKind::Checkpoint => Some("checkpoint"),
        StreamEventKind::MustRefetch => Some("must_refetch"),
    };
    if let Some(name) = name {
        text.put_slice(b"event: ");
        text.put_slice(name.as_bytes());
        text.put_u8(b'\n');
    }
    text.put_slice(b"data: ");
    text.extend(event.json.iter().map(|&byte| {
        if matches!(byte, b'\n' | b'\r') {
            b' '
        } else {
            byte
        }
    }));
    text.put_slice(b"\n\n");
    text.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(kind: StreamEventKind, cursor: Option<&str>, json: &'static str) -> String {
        let event = StreamEvent {
            cursor: cursor.map(Into::into),
            kind,
            json: Bytes::from_static(json.as_bytes()),
        };
        String::from_utf8(encode(&event).to_vec()).unwrap()
    }

    #[test]
    fn changes_are_unnamed_and_all_else_has_a_name() {
        assert_eq!(
            text(StreamEventKind::Change, Some("c1"), "{}"),
            "id: c1\ndata: {}\n\n"
        );
        assert_eq!(
            text(StreamEventKind::Checkpoint, Some("c2"), "{}"),
            "id: c2\nevent: checkpoint\ndata: {}\n\n"
        );
        assert_eq!(
            text(StreamEventKind::System, None, "{}"),
            "event: system\ndata: {}\n\n"
        );
    }

    #[test]
    fn an_event_is_one_line_whatever_its_json_looks_like() {
        assert_eq!(
            text(StreamEventKind::Change, None, "{\"a\":\r\n1}"),
            "data: {\"a\":  1}\n\n"
        );
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_token_and_with_the_process() {
        for (expires_at, stopped, last) in [
            (Some(1), false, "Token has expired"),
            (None, true, "retry: "),
        ] {
            let stop = CancellationToken::new();
            if stopped {
                stop.cancel();
            }
            let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
            let feed = Feed::new(stream::pending(), stop, expires_at, permit);
            let chunks: Vec<_> = feed.into_stream().collect().await;
            assert_eq!(chunks.len(), 2);
            let text = String::from_utf8_lossy(chunks[1].as_ref().unwrap()).into_owned();
            assert!(text.contains(last), "{text}");
        }
    }
}
