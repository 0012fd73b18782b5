//! A client that chooses every field of its messages, in either version.

use pgrelay_test_support::{Frame, Relay, Vsn, WsClient};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

/// A socket and the version it speaks.
pub(crate) struct Speaker {
    pub(crate) client: WsClient,
    pub(crate) vsn: Vsn,
    beats: u64,
}

impl Speaker {
    /// A socket of role `anon`.
    pub(crate) async fn connect(relay: &Relay, vsn: Vsn) -> Self {
        Self::connect_with(relay, vsn, &relay.anon_key()).await
    }

    pub(crate) async fn connect_with(relay: &Relay, vsn: Vsn, key: &str) -> Self {
        let client = WsClient::connect(relay.address(), vsn, key).await;
        Self {
            client,
            vsn,
            beats: 0,
        }
    }

    /// One socket of each version.
    pub(crate) async fn both(relay: &Relay) -> [Self; 2] {
        [
            Self::connect(relay, Vsn::V1).await,
            Self::connect(relay, Vsn::V2).await,
        ]
    }

    /// Sends a message with these references: `(join_ref, ref)`.
    pub(crate) async fn say(
        &mut self,
        (join_ref, reference): (impl Into<Value>, impl Into<Value>),
        topic: &str,
        event: &str,
        payload: Value,
    ) {
        let (join_ref, reference): (Value, Value) = (join_ref.into(), reference.into());
        let message = match self.vsn {
            Vsn::V1 => json!({
                "topic": topic, "event": event, "payload": payload, "ref": reference, "join_ref": join_ref,
            }),
            Vsn::V2 => json!([join_ref, reference, topic, event, payload]),
        };
        self.client.send(Message::text(message.to_string())).await;
    }

    /// The next message must be this one; 1.0.0 has no `join_ref`.
    pub(crate) async fn hears(
        &mut self,
        (join_ref, reference): (impl Into<Value>, impl Into<Value>),
        topic: &str,
        event: &str,
        payload: Value,
    ) {
        let expected = Frame {
            join_ref: match self.vsn {
                Vsn::V1 => Value::Null,
                Vsn::V2 => join_ref.into(),
            },
            reference: reference.into(),
            topic: topic.into(),
            event: event.into(),
            payload,
            binary: false,
        };
        assert_eq!(self.client.next().await, expected, "{:?}", self.vsn);
    }

    /// Joins with `ref` and `join_ref` the same, as clients do; the answer must be ok.
    pub(crate) async fn join(&mut self, reference: &str, topic: &str, payload: Value) {
        self.say((reference, reference), topic, "phx_join", payload)
            .await;
        self.hears((reference, reference), topic, "phx_reply", joined())
            .await;
    }

    /// Joins; the answer must be this refusal.
    pub(crate) async fn refused(&mut self, topic: &str, payload: Value, reason: &str) {
        self.say(("9", "9"), topic, "phx_join", payload).await;
        self.hears(("9", "9"), topic, "phx_reply", error(reason))
            .await;
    }

    /// Everything sent so far has been handled, and nothing was answered.
    pub(crate) async fn hears_nothing(&mut self) {
        self.beats += 1;
        let beat = format!("beat {}", self.beats);
        self.say((Value::Null, &*beat), "phoenix", "heartbeat", json!({}))
            .await;
        self.hears((Value::Null, &*beat), "phoenix", "phx_reply", done())
            .await;
    }
}

/// The payload of an ok reply that says nothing.
pub(crate) fn done() -> Value {
    json!({"status": "ok", "response": {}})
}

/// The payload of the ok reply to a join without entries.
pub(crate) fn joined() -> Value {
    json!({"status": "ok", "response": {"postgres_changes": []}})
}

/// The payload of an error reply.
pub(crate) fn error(reason: &str) -> Value {
    json!({"status": "error", "response": {"reason": reason}})
}

/// The payload of the message before a channel is closed over its token.
pub(crate) fn closing(sub_topic: &str, message: &str) -> Value {
    json!({"channel": sub_topic, "extension": "system", "status": "error", "message": message})
}
