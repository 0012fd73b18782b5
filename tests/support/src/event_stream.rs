//! A Server-Sent Events client.

use bytes::BytesMut;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::http::Request;
use crate::session::Background;
use crate::wait::within;

/// An open stream of events.
#[derive(Debug)]
pub struct EventStream {
    body: Incoming,
    unread: BytesMut,
    _connection: Background,
}

/// One event, as the standard assembles it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamEvent {
    /// The last `id:` line, where there was one.
    pub id: Option<String>,
    /// The `event:` line, where there was one.
    pub event: Option<String>,
    /// The `data:` lines, joined.
    pub data: String,
}

impl EventStream {
    /// Sends a request whose answer must be a stream of events.
    pub async fn open(request: Request) -> Self {
        let (response, connection) = within("the stream to open", request.open()).await.unwrap();
        let kind = &response.headers()["content-type"];
        assert_eq!(response.status(), 200);
        assert!(
            kind.as_bytes().starts_with(b"text/event-stream"),
            "a stream of {kind:?}"
        );
        Self {
            body: response.into_body(),
            unread: BytesMut::new(),
            _connection: connection,
        }
    }

    /// The next event with data; comments are skipped.
    pub async fn next(&mut self) -> StreamEvent {
        let event = within("an event", self.try_next()).await;
        event.unwrap_or_else(|| panic!("the stream ended"))
    }

    /// The next event with data, or `None` when the stream has ended.
    pub async fn try_next(&mut self) -> Option<StreamEvent> {
        loop {
            while let Some(block) = self.take_block() {
                let event = parse(&block);
                if !event.data.is_empty() {
                    return Some(event);
                }
            }
            let frame = self.body.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                self.unread.extend_from_slice(&data);
            }
        }
    }

    /// The next event that satisfies `wanted`; others are dropped.
    pub async fn expect(&mut self, wanted: impl Fn(&StreamEvent) -> bool) -> StreamEvent {
        loop {
            let event = self.next().await;
            if wanted(&event) {
                return event;
            }
        }
    }

    fn take_block(&mut self) -> Option<String> {
        let end = self.unread.windows(2).position(|pair| pair == b"\n\n")?;
        let block = self.unread.split_to(end + 2);
        Some(String::from_utf8(block.to_vec()).unwrap())
    }
}

fn parse(block: &str) -> StreamEvent {
    let mut event = StreamEvent::default();
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => event.id = Some(value.into()),
            "event" => event.event = Some(value.into()),
            "data" if event.data.is_empty() => event.data = value.into(),
            "data" => {
                event.data.push('\n');
                event.data.push_str(value);
            }
            _ => {}
        }
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assembles_an_event_from_its_lines() {
        assert_eq!(
            parse(": hello\nid: c1\nevent: change\ndata: {\"a\":\ndata:1}\n\n"),
            StreamEvent {
                id: Some("c1".into()),
                event: Some("change".into()),
                data: "{\"a\":\n1}".into(),
            }
        );
    }
}
