//! The booking chat as people have it: the real binary, its HTTP API, and a socket for each of them.

use std::net::SocketAddr;

use pgrelay_test_support::{Relay, Request, Session, TestDatabase, Vsn, WsClient};
use serde_json::{Value, json};

use super::{Person, open_booking};

/// A running chat with one booking, its client and an operator.
#[derive(Debug)]
pub struct LiveChat {
    /// A plain SQL client.
    pub sql: Session,
    /// The binary.
    pub relay: Relay,
    /// Who booked.
    pub client: Person,
    /// Who answers.
    pub operator: Person,
    /// The booking's id.
    pub booking: String,
    /// Ends last.
    pub database: TestDatabase,
}

impl LiveChat {
    /// The code of the booking.
    pub const CODE: &str = "REQ1759286674249";

    /// Installed by the command that installs it.
    pub async fn start() -> Self {
        let database = TestDatabase::create().await;
        let builder = Relay::builder(database.url());
        let (status, printed) = builder.run(&["migrate", "--chat"]).await;
        assert!(status.success(), "{printed}");
        let relay = builder.start().await;
        let sql = database.connect().await;
        let client = Person::client();
        Self {
            booking: open_booking(&sql, Self::CODE, &client).await,
            operator: Person::operator("Dana"),
            client,
            relay,
            sql,
            database,
        }
    }

    /// A request over HTTP; the answer must have one of these statuses.
    pub async fn ask(
        &self,
        who: &Person,
        method: &str,
        path: &str,
        body: Option<Value>,
        expected: &[u16],
    ) -> Value {
        let answer = request(&self.relay.url(path), who, method, body).send();
        let answer = answer.await;
        assert!(
            expected.contains(&answer.status),
            "{method} {path}: {} {}",
            answer.status,
            answer.text()
        );
        if answer.body.is_empty() {
            Value::Null
        } else {
            answer.json()
        }
    }

    /// Sends a text; its message.
    pub async fn say(&self, who: &Person, content: &str) -> Value {
        let body = json!({"bookingId": Self::CODE, "content": content});
        self.ask(who, "POST", "/api/messages", Some(body), &[201])
            .await["message"]
            .clone()
    }

    /// Changes the status.
    pub async fn set_status(&self, status: &str) -> Value {
        let body = json!({"bookingId": Self::CODE, "status": status});
        self.ask(
            &self.operator,
            "PATCH",
            "/api/bookings/status",
            Some(body),
            &[200],
        )
        .await
    }

    /// A socket of `who`.
    pub async fn connect(&self, who: &Person) -> WsClient {
        self.connect_through(self.relay.address(), who).await
    }

    /// A socket of `who` that goes through `address`.
    pub async fn connect_through(&self, address: SocketAddr, who: &Person) -> WsClient {
        WsClient::connect(address, Vsn::V2, &who.signed_token()).await
    }

    /// A socket of `who` on both channels of the booking, live.
    pub async fn listen(&self, who: &Person) -> WsClient {
        let mut socket = self.connect(who).await;
        let messages = json!([self.messages_entry(), self.receipts_entry()]);
        socket.join_changes(&self.messages_topic(), messages).await;
        let entry = json!([{
            "event": "UPDATE", "schema": "public", "table": "bookings", "filter": format!("id=eq.{}", self.booking),
        }]);
        socket.join_changes(&self.status_topic(), entry).await;
        socket
    }

    /// New messages of the booking.
    pub fn messages_entry(&self) -> Value {
        self.entry("INSERT", "messages")
    }

    fn receipts_entry(&self) -> Value {
        self.entry("*", "receipts")
    }

    fn entry(&self, event: &str, table: &str) -> Value {
        let filter = format!("booking_id=eq.{}", self.booking);
        json!({"event": event, "schema": "public", "table": table, "filter": filter})
    }

    /// The channel of messages and receipts.
    pub fn messages_topic(&self) -> String {
        format!("realtime:messages:{}", self.booking)
    }

    /// The channel of the status.
    pub fn status_topic(&self) -> String {
        format!("realtime:booking-status:{}", self.booking)
    }

    /// The next row of this table on the channel of messages.
    pub async fn hear(&self, socket: &mut WsClient, table: &str) -> Value {
        let topic = self.messages_topic();
        let what = format!("a row of {table}");
        let heard = socket.expect(&what, |frame| {
            frame.topic == topic
                && frame.event == "postgres_changes"
                && frame.payload["data"]["table"] == table
        });
        heard.await.payload["data"]["record"].clone()
    }

    /// The next `count` messages.
    pub async fn hear_messages(&self, socket: &mut WsClient, count: usize) -> Vec<Value> {
        let mut messages = Vec::new();
        while messages.len() < count {
            messages.push(self.hear(socket, "messages").await);
        }
        messages
    }
}

/// A request with a JSON body, or without one.
pub fn request(url: &str, who: &Person, method: &str, body: Option<Value>) -> Request {
    let request = Request::new(method, url)
        .header("authorization", &format!("Bearer {}", who.signed_token()));
    match body {
        Some(body) => request.json(&body),
        None => request,
    }
}
