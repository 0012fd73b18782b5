//! A raw protocol client: it sends what it is told and reads whatever comes.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::wait::{DEADLINE, within};

/// Which serializer a client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vsn {
    /// 1.0.0: JSON objects.
    V1,
    /// 2.0.0: JSON arrays and binary frames.
    V2,
}

/// A message from the server, whatever its serializer.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Null where the serializer has none.
    pub join_ref: Value,
    /// The request that this answers, or null.
    pub reference: Value,
    /// The full topic.
    pub topic: String,
    /// The event; `broadcast` for a binary frame.
    pub event: String,
    /// The payload; of a binary frame: `{type, event, meta, payload}` with binary content as an array of bytes.
    pub payload: Value,
    /// Whether it came as a binary frame.
    pub binary: bool,
}

/// One WebSocket and the frames that it received and nobody asked for yet.
#[derive(Debug)]
pub struct WsClient {
    vsn: Vsn,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    unclaimed: VecDeque<Frame>,
    references: u64,
}

impl WsClient {
    /// Connects to a relay (or to a proxy before one) with this key.
    pub async fn connect(address: SocketAddr, vsn: Vsn, key: &str) -> Self {
        let version = match vsn {
            Vsn::V1 => "1.0.0",
            Vsn::V2 => "2.0.0",
        };
        let url = format!("ws://{address}/realtime/v1/websocket?apikey={key}&vsn={version}");
        Self::connect_to(&url, vsn).await
    }

    /// Connects to a URL of the test's own making.
    pub async fn connect_to(url: &str, vsn: Vsn) -> Self {
        let (socket, _) = within("the WebSocket to open", connect_async(url))
            .await
            .unwrap_or_else(|error| panic!("{url}: {error}"));
        Self {
            vsn,
            socket,
            unclaimed: VecDeque::new(),
            references: 0,
        }
    }

    /// The status and body of an upgrade that is refused.
    pub async fn refused(url: &str) -> (u16, String) {
        match within("the upgrade to be refused", connect_async(url)).await {
            Err(tungstenite::Error::Http(response)) => {
                let body = response.body().clone().unwrap_or_default();
                let body = String::from_utf8_lossy(&body).into_owned();
                (response.status().as_u16(), body)
            }
            other => panic!("{url} should have been refused: {other:?}"),
        }
    }

    /// Joins a topic with this `config` and returns the response of the reply, which must be ok.
    pub async fn join(&mut self, topic: &str, config: Value) -> Value {
        let reply = self
            .request(topic, "phx_join", json!({"config": config}))
            .await;
        assert_eq!(reply.payload["status"], "ok", "{reply:?}");
        reply.payload["response"].clone()
    }

    /// Joins `topic` with these `postgres_changes` entries and waits until they are live.
    pub async fn join_changes(&mut self, topic: &str, entries: Value) -> Value {
        let response = self.join(topic, json!({"postgres_changes": entries})).await;
        let live = self
            .expect("the subscription to be live", |frame| {
                frame.topic == topic && frame.event == "system"
            })
            .await;
        assert_eq!(live.payload["status"], "ok", "{live:?}");
        response
    }

    /// Sends a message and waits for its reply.
    pub async fn request(&mut self, topic: &str, event: &str, payload: Value) -> Frame {
        let reference = self.push(topic, event, payload).await;
        self.expect(&format!("a reply to {event}"), |frame| {
            frame.event == "phx_reply" && frame.reference == reference.as_str()
        })
        .await
    }

    /// Sends a message; `ref` and `join_ref` are its own number, which is returned.
    pub async fn push(&mut self, topic: &str, event: &str, payload: Value) -> String {
        self.references += 1;
        let reference = self.references.to_string();
        let text = match self.vsn {
            Vsn::V1 => json!({
                "topic": topic, "event": event, "payload": payload,
                "ref": reference, "join_ref": reference,
            }),
            Vsn::V2 => json!([reference, reference, topic, event, payload]),
        };
        self.send(Message::text(text.to_string())).await;
        reference
    }

    /// Sends one WebSocket message as it is.
    pub async fn send(&mut self, message: Message) {
        within("room to send", self.socket.send(message))
            .await
            .unwrap();
    }

    /// Waits until the server has handled everything sent so far.
    pub async fn heartbeat(&mut self) {
        let reply = self.request("phoenix", "heartbeat", json!({})).await;
        assert_eq!(reply.payload["status"], "ok", "{reply:?}");
    }

    /// The first frame, received or still to come, that satisfies `wanted`. The others stay for later.
    pub async fn expect(&mut self, what: &str, wanted: impl Fn(&Frame) -> bool) -> Frame {
        if let Some(index) = self.unclaimed.iter().position(&wanted) {
            return self.unclaimed.remove(index).unwrap();
        }
        let search = async {
            loop {
                let Some(frame) = self.receive().await else {
                    panic!("the socket closed before {what}");
                };
                if wanted(&frame) {
                    return frame;
                }
                self.unclaimed.push_back(frame);
            }
        };
        match timeout(DEADLINE, search).await {
            Ok(frame) => frame,
            Err(_) => panic!("waited in vain for {what}; unclaimed: {:?}", self.unclaimed),
        }
    }

    /// The next change of `topic`: its whole payload.
    pub async fn expect_change(&mut self, topic: &str) -> Value {
        let frame = self
            .expect(&format!("a change on {topic}"), |frame| {
                frame.topic == topic && frame.event == "postgres_changes"
            })
            .await;
        frame.payload
    }

    /// The changes of `topic`, up to and including the first whose payload satisfies `last`.
    pub async fn changes_until(
        &mut self,
        topic: &str,
        last: impl Fn(&Value) -> bool,
    ) -> Vec<Value> {
        let mut changes = Vec::new();
        loop {
            let change = self.expect_change(topic).await;
            let is_last = last(&change);
            changes.push(change);
            if is_last {
                return changes;
            }
        }
    }

    /// The next frame in order of arrival.
    pub async fn next(&mut self) -> Frame {
        match self.unclaimed.pop_front() {
            Some(frame) => frame,
            None => self.expect("any frame", |_| true).await,
        }
    }

    /// Frames that were received and not asked for, in order of arrival.
    pub fn take_unclaimed(&mut self) -> Vec<Frame> {
        self.unclaimed.drain(..).collect()
    }

    /// Waits for the server to close; the code of its close frame, or `None` where the connection just ended.
    pub async fn expect_close(&mut self) -> Option<u16> {
        within("the socket to close", async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Close(frame))) => {
                        return frame.map(|frame| frame.code.into());
                    }
                    Some(Ok(message)) => self.unclaimed.extend(decode(self.vsn, message)),
                    Some(Err(_)) | None => return None,
                }
            }
        })
        .await
    }

    /// Closes politely.
    pub async fn close(mut self) {
        // A server that closed first is no failure.
        drop(within("the socket to close", self.socket.close(None)).await);
    }

    async fn receive(&mut self) -> Option<Frame> {
        loop {
            let message = self.socket.next().await?.ok()?;
            if let Some(frame) = decode(self.vsn, message) {
                return Some(frame);
            }
        }
    }
}

fn decode(vsn: Vsn, message: Message) -> Option<Frame> {
    match message {
        Message::Text(text) => Some(decode_text(vsn, &text)),
        Message::Binary(bytes) => {
            assert_eq!(vsn, Vsn::V2, "a binary frame on a 1.0.0 socket");
            Some(decode_broadcast(&bytes))
        }
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => None,
    }
}

fn decode_text(vsn: Vsn, text: &str) -> Frame {
    let message: Value =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"));
    let [join_ref, reference, topic, event, payload] = match (vsn, &message) {
        (Vsn::V1, Value::Object(fields)) => {
            assert_eq!(fields.len(), 4, "a 1.0.0 frame has four keys: {text}");
            [
                Value::Null,
                message["ref"].clone(),
                message["topic"].clone(),
                message["event"].clone(),
                message["payload"].clone(),
            ]
        }
        (Vsn::V2, Value::Array(fields)) if fields.len() == 5 => fields.clone().try_into().unwrap(),
        _ => panic!("not a {vsn:?} frame: {text}"),
    };
    assert!(payload.is_object(), "a payload must be an object: {text}");
    let word = |value: Value| match value {
        Value::String(word) => word,
        _ => panic!("topic and event must be strings: {text}"),
    };
    Frame {
        join_ref,
        reference,
        topic: word(topic),
        event: word(event),
        payload,
        binary: false,
    }
}

/// Kind 4, the only binary frame a server may send: kind, three lengths, encoding; topic, event, metadata; the rest is content.
fn decode_broadcast(bytes: &Bytes) -> Frame {
    assert_eq!(
        bytes.first(),
        Some(&4),
        "an unknown binary frame: {bytes:?}"
    );
    let mut rest = bytes.slice(5..);
    let mut take = |length: u8| rest.split_to(usize::from(length));
    let [topic, event, meta] = [take(bytes[1]), take(bytes[2]), take(bytes[3])];
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let content = match bytes[4] {
        1 => serde_json::from_slice(&rest).unwrap(),
        _ => json!(rest.to_vec()),
    };
    let mut payload = json!({"type": "broadcast", "event": text(&event), "payload": content});
    if !meta.is_empty() {
        payload["meta"] = serde_json::from_slice(&meta).unwrap();
    }
    Frame {
        join_ref: Value::Null,
        reference: Value::Null,
        topic: text(&topic),
        event: "broadcast".into(),
        payload,
        binary: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_serializers_alike() {
        let v1 = decode_text(
            Vsn::V1,
            r#"{"topic":"realtime:a","event":"system","payload":{},"ref":null}"#,
        );
        let v2 = decode_text(Vsn::V2, r#"[null,null,"realtime:a","system",{}]"#);
        assert_eq!(v1, v2);
    }

    #[test]
    fn reads_a_binary_broadcast() {
        let mut bytes = vec![4, 5, 2, 10, 0];
        bytes.extend_from_slice(b"topice1{\"id\":\"x\"}ABC");
        let frame = decode_broadcast(&bytes.into());
        assert_eq!(frame.topic, "topic");
        assert_eq!(
            frame.payload,
            json!({"type": "broadcast", "event": "e1", "meta": {"id": "x"}, "payload": [65, 66, 67]})
        );
    }
}
