//! What the HTTP API does for those who may. Every answer is also held against the served document.
#![allow(clippy::unwrap_used, reason = "it fails the test")]

use pgrelay_e2e::chat::{Answer, ChatServer, Document, Person};
use serde_json::{Value, json};

/// A booking, its client and an operator.
struct Desk {
    server: ChatServer,
    document: Document,
    client: Person,
    operator: Person,
    booking: String,
}

impl Desk {
    async fn open() -> Self {
        let server = ChatServer::start().await;
        let client = Person::client();
        let booking = server.open_booking("REQ1759286674249", &client).await;
        Self {
            document: Document::load(&server).await,
            operator: Person::operator("Dana"),
            server,
            client,
            booking,
        }
    }

    /// Asks, and holds the answer against the document.
    async fn ask(&self, who: &Person, method: &str, path: &str, body: Option<Value>) -> Answer {
        let answer = self.server.ask(who, method, path, body).await;
        let path = path.split('?').next().unwrap();
        let fits = |pattern: &str| {
            let (path, pattern) = (path.split('/'), pattern.split('/'));
            path.clone().count() == pattern.clone().count()
                && path
                    .zip(pattern)
                    .all(|(part, wanted)| part == wanted || wanted.starts_with('{'))
        };
        // A fixed path comes before one with a parameter.
        let mut operations = self.document.operations();
        operations.sort_by_key(|(_, path, _)| path.contains('{'));
        let (.., operation) = operations
            .iter()
            .find(|(m, p, _)| m == method && fits(p))
            .expect("a described path");
        assert_eq!(
            self.document.judge(operation, &answer),
            None,
            "{method} {path}: {}",
            answer.json
        );
        answer
    }

    async fn get(&self, who: &Person, path: &str) -> Value {
        self.ask(who, "GET", path, None).await.expect(200)
    }

    async fn post(&self, who: &Person, path: &str, body: Value) -> Answer {
        self.ask(who, "POST", path, Some(body)).await
    }

    /// Sends a text; its message.
    async fn say(&self, who: &Person, content: &str) -> Value {
        let body = json!({"bookingId": self.booking, "content": content});
        self.post(who, "/api/messages", body).await.expect(201)["message"].clone()
    }

    async fn contents(&self, who: &Person) -> Vec<String> {
        let page = self
            .get(who, &format!("/api/messages?bookingId={}", self.booking))
            .await;
        texts(&page)
    }
}

fn texts(page: &Value) -> Vec<String> {
    let messages = page["messages"].as_array().unwrap();
    messages
        .iter()
        .map(|message| {
            message["content"]
                .as_str()
                .unwrap_or("(deleted)")
                .to_owned()
        })
        .collect()
}

#[tokio::test]
async fn a_conversation_is_the_same_for_both_sides() {
    let desk = Desk::open().await;
    let sent = desk.say(&desk.client, "Hello from client").await;
    assert_eq!(sent["sender_role"], "client");
    assert_eq!(sent["sender_type"], "client");
    assert_eq!(sent["message"], "Hello from client");
    assert_eq!(sent["seq"], 2);
    desk.say(&desk.operator, "Hello from operator").await;
    let both = [
        "⏳ Your booking request has been received...",
        "Hello from client",
        "Hello from operator",
    ];
    assert_eq!(desk.contents(&desk.client).await, both);
    assert_eq!(desk.contents(&desk.operator).await, both);
}

#[tokio::test]
async fn both_seeds_names_work() {
    let desk = Desk::open().await;
    let body = json!({"booking_id": desk.booking, "message": "one", "sender_type": "operator", "clientId": "a"});
    let message = desk
        .post(&desk.client, "/api/messages", body)
        .await
        .expect(201)["message"]
        .clone();
    assert_eq!(
        (&message["content"], &message["client_id"]),
        (&json!("one"), &json!("a"))
    );
    // Who sends is in the token.
    assert_eq!(message["sender_role"], "client");
    let page = desk
        .get(
            &desk.client,
            &format!("/api/messages?booking_id={}", desk.booking),
        )
        .await;
    assert_eq!(page["booking"]["database_id"], page["booking"]["id"]);
}

#[tokio::test]
async fn a_code_is_as_good_as_an_id() {
    let desk = Desk::open().await;
    let code = "req1759286674249";
    for body in [
        json!({"bookingId": code, "content": "by code"}),
        json!({"bookingId": desk.booking, "content": "by id"}),
    ] {
        let message = desk
            .post(&desk.client, "/api/messages", body)
            .await
            .expect(201)["message"]
            .clone();
        assert_eq!(message["booking_id"], desk.booking.as_str());
    }
    for path in [
        "/api/messages?bookingId=REQ1759286674249",
        "/api/bookings/REQ1759286674249",
    ] {
        assert_eq!(
            desk.get(&desk.client, path).await["booking"]["id"],
            desk.booking.as_str()
        );
    }
    let body = json!({"bookingId": code, "read_seq": 2});
    desk.post(&desk.client, "/api/receipts", body)
        .await
        .expect(204);
    let body = json!({"bookingId": code, "status": "accepted"});
    desk.ask(&desk.operator, "PATCH", "/api/bookings/status", Some(body))
        .await
        .expect(200);
    desk.post(
        &desk.operator,
        "/api/bookings/REQ1759286674249/assignment",
        json!({}),
    )
    .await
    .expect(201);
}

#[tokio::test]
async fn sending_again_is_harmless() {
    let desk = Desk::open().await;
    let body = json!({"bookingId": desk.booking, "content": "once", "client_id": "c-1", "metadata": {"a": 1}});
    let first = desk.post(&desk.client, "/api/messages", body.clone()).await;
    assert!(first.headers.get("idempotent-replayed").is_none());
    let first = first.expect(201);
    let again = desk.post(&desk.client, "/api/messages", body).await;
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!(again.expect(200), first);
    let by_header = desk
        .server
        .ask_with(
            &desk.client,
            "POST",
            "/api/messages",
            &[("idempotency-key", "c-1")],
            json!({"bookingId": desk.booking, "content": "once", "metadata": {"a": 1}}).to_string(),
        )
        .await;
    assert_eq!(by_header.expect(200), first);
    assert_eq!(desk.contents(&desk.client).await.len(), 2);
}

#[tokio::test]
async fn a_repetition_is_answered_even_when_the_chat_has_closed() {
    let desk = Desk::open().await;
    let body = json!({"bookingId": desk.booking, "content": "just in time", "client_id": "c-1"});
    desk.post(&desk.client, "/api/messages", body.clone())
        .await
        .expect(201);
    let close = json!({"bookingId": desk.booking, "closed": true});
    let closed = desk
        .post(&desk.operator, "/api/bookings/status", close)
        .await
        .expect(200);
    assert!(closed["booking"]["closed_at"].is_string());
    assert_eq!(closed["changed"], false);
    desk.post(&desk.client, "/api/messages", body.clone())
        .await
        .expect(200);
    let reopen = json!({"bookingId": desk.booking, "closed": false});
    desk.post(&desk.operator, "/api/bookings/status", reopen)
        .await
        .expect(200);
    desk.say(&desk.client, "Hello again").await;
}

#[tokio::test]
async fn pages_lead_on_in_both_directions() {
    let desk = Desk::open().await;
    for n in 2..=10 {
        desk.say(&desk.client, &format!("m{n}")).await;
    }
    let page = async |query: &str| {
        let page = desk
            .get(
                &desk.client,
                &format!("/api/messages?bookingId={}&{query}", desk.booking),
            )
            .await;
        let numbers: Vec<_> = page["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m["seq"].as_i64().unwrap())
            .collect();
        let cursor = page["cursor"].as_str().unwrap().to_owned();
        (numbers, cursor, page["has_more"].as_bool().unwrap())
    };
    let (newest, cursor, more) = page("limit=4").await;
    assert_eq!((newest, more), (vec![7, 8, 9, 10], true));
    let (older, older_cursor, more) = page(&format!("limit=4&before={cursor}")).await;
    assert_eq!((older, more), (vec![3, 4, 5, 6], true));
    let (oldest, _, more) = page(&format!("limit=4&before={older_cursor}")).await;
    assert_eq!((oldest, more), (vec![1, 2], false));
    let (newer, _, more) = page(&format!("limit=3&after={older_cursor}")).await;
    assert_eq!((newer, more), (vec![7, 8, 9], true));
    let (nothing, at_end, more) = page(&format!("after={cursor}")).await;
    assert_eq!((nothing, more), (vec![], false));
    desk.say(&desk.client, "m11").await;
    assert_eq!(page(&format!("after={at_end}")).await.0, [11]);
    assert_eq!(page(&format!("limit=2&before={at_end}")).await.0, [9, 10]);
    assert_eq!(page("after=3&before=6").await.0, [4, 5]);
}

#[tokio::test]
async fn an_unchanged_page_is_not_sent_again() {
    let desk = Desk::open().await;
    let path = format!("/api/messages?bookingId={}", desk.booking);
    let ask = async |known: &str| {
        desk.server
            .ask_with(&desk.client, "GET", &path, &[("if-none-match", known)], "")
            .await
    };
    let first = ask("\"unknown\"").await;
    let tag = first.headers["etag"].to_str().unwrap().to_owned();
    first.expect(200);
    assert_eq!(ask(&tag).await.status, 304);
    assert_eq!(ask(&format!("\"x\", W/{tag}")).await.status, 304);
    let read = json!({"bookingId": desk.booking, "read_seq": 1});
    desk.post(&desk.operator, "/api/receipts", read)
        .await
        .expect(204);
    assert_eq!(ask(&tag).await.status, 200);
}

#[tokio::test]
async fn a_status_change_answers_with_both_rows() {
    let desk = Desk::open().await;
    let body = json!({"bookingId": desk.booking, "status": "Accepted", "expected_version": 1, "note": "by phone"});
    let answer = desk
        .ask(
            &desk.operator,
            "PATCH",
            "/api/bookings/status",
            Some(body.clone()),
        )
        .await
        .expect(200);
    assert_eq!(answer["booking"]["status"], "accepted");
    assert_eq!(answer["booking"]["status_version"], 2);
    assert_eq!(answer["message"]["message_type"], "system");
    assert_eq!(
        answer["message"]["content"],
        "✅ Your booking has been accepted by our team..."
    );
    assert_eq!(answer["changed"], true);
    // The answer may get lost on the way.
    let again = desk
        .ask(&desk.operator, "PATCH", "/api/bookings/status", Some(body))
        .await
        .expect(200);
    assert_eq!(
        (&again["message"], &again["changed"]),
        (&answer["message"], &json!(false))
    );
    let words = json!({"bookingId": desk.booking, "status": "deployed", "content": "Two vans are on the way."});
    let answer = desk
        .post(&desk.operator, "/api/bookings/status", words)
        .await
        .expect(200);
    assert_eq!(answer["message"]["content"], "Two vans are on the way.");
    let history = desk
        .get(&desk.client, &format!("/api/bookings/{}", desk.booking))
        .await["history"]
        .clone();
    let steps: Vec<_> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|step| {
            json!([
                step["from"],
                step["to"],
                step["actor_role"],
                step["actor_name"],
                step["note"]
            ])
        })
        .collect();
    assert_eq!(
        steps,
        [
            json!([null, "pending", "system", null, null]),
            json!(["pending", "accepted", "operator", "Dana", "by phone"]),
            json!(["accepted", "deployed", "operator", "Dana", null]),
        ]
    );
}

#[tokio::test]
async fn the_same_status_is_told_again_only_by_force() {
    let desk = Desk::open().await;
    let set = async |force: bool| {
        let body = json!({"bookingId": desk.booking, "status": "pending", "force": force});
        desk.post(&desk.operator, "/api/bookings/status", body)
            .await
            .expect(200)
    };
    let unchanged = set(false).await;
    assert_eq!(
        (&unchanged["changed"], &unchanged["message"]["seq"]),
        (&json!(false), &json!(1))
    );
    let told = set(true).await;
    assert_eq!(
        (&told["changed"], &told["message"]["seq"]),
        (&json!(true), &json!(2))
    );
    assert_eq!(told["booking"]["status_version"], 2);
}

#[tokio::test]
async fn a_system_message_about_a_status_has_no_twin() {
    let desk = Desk::open().await;
    let change = json!({"bookingId": desk.booking, "status": "accepted"});
    let told = desk
        .ask(
            &desk.operator,
            "PATCH",
            "/api/bookings/status",
            Some(change),
        )
        .await
        .expect(200);
    let second = json!({
        "bookingId": desk.booking, "content": "🔄 Status updated to: accepted",
        "metadata": {"status": "accepted", "timestamp": "2026-01-31T12:00:00.000Z"},
    });
    let answer = desk
        .post(&desk.operator, "/api/messages/system", second)
        .await;
    assert_eq!(answer.headers["idempotent-replayed"], "true");
    assert_eq!(answer.expect(200)["message"], told["message"]);
    let other = json!({"bookingId": desk.booking, "metadata": {"status": "on_the_road"}});
    let made = desk
        .post(&desk.operator, "/api/messages/system", other.clone())
        .await
        .expect(201);
    assert_eq!(
        made["message"]["content"],
        "🔄 Status updated to: on_the_road"
    );
    assert_eq!(
        desk.post(&desk.operator, "/api/messages/system", other)
            .await
            .expect(200),
        made
    );
    let free = json!({"bookingId": desk.booking, "content": "The office is closed tomorrow."});
    desk.post(&Person::service(), "/api/messages/system", free)
        .await
        .expect(201);
    assert_eq!(desk.contents(&desk.client).await.len(), 4);
}

#[tokio::test]
async fn a_tombstone_stays_where_the_message_was() {
    let desk = Desk::open().await;
    let message = desk.say(&desk.client, "oops").await;
    desk.say(&desk.operator, "what?").await;
    let path = format!("/api/messages?id={}", message["id"].as_str().unwrap());
    let tombstone = desk
        .ask(&desk.client, "DELETE", &path, None)
        .await
        .expect(200);
    assert_eq!(tombstone["message"]["content"], Value::Null);
    assert!(tombstone["message"]["deleted_at"].is_string());
    assert_eq!(
        desk.ask(&desk.client, "DELETE", &path, None)
            .await
            .expect(200),
        tombstone
    );
    assert_eq!(
        desk.contents(&desk.operator).await[1..],
        ["(deleted)", "what?"]
    );
    // An operator may delete what a client wrote; the id may stand in the body.
    let message = desk.say(&desk.client, "rude").await;
    let body = json!({"id": message["id"]});
    desk.ask(&desk.operator, "DELETE", "/api/messages", Some(body))
        .await
        .expect(200);
}

#[tokio::test]
async fn receipts_rise_and_both_sides_see_them() {
    let desk = Desk::open().await;
    desk.say(&desk.client, "Hello").await;
    for (who, seqs) in [
        (&desk.operator, json!({"delivered_seq": 2})),
        (&desk.operator, json!({"delivered_seq": 1, "read_seq": 1})),
        (&desk.client, json!({"read_seq": 99})),
    ] {
        let mut body = seqs;
        body["bookingId"] = json!(desk.booking);
        assert_eq!(
            desk.post(who, "/api/receipts", body).await.expect(204),
            Value::Null
        );
    }
    let page = desk
        .get(
            &desk.client,
            &format!("/api/messages?bookingId={}", desk.booking),
        )
        .await;
    let seen: Vec<_> = page["receipts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| {
            json!([
                r["role"],
                r["participant_id"],
                r["delivered_seq"],
                r["read_seq"]
            ])
        })
        .collect();
    assert_eq!(
        seen,
        [
            json!(["client", desk.client.id(), 2, 2]),
            json!(["operator", desk.operator.id(), 2, 1])
        ]
    );
}

#[tokio::test]
async fn notes_are_for_operators() {
    let desk = Desk::open().await;
    let note = json!({"bookingId": desk.booking, "content": "VIP", "message_type": "note"});
    let note = desk
        .post(&desk.operator, "/api/messages", note)
        .await
        .expect(201);
    assert_eq!(desk.contents(&desk.client).await.len(), 1);
    assert_eq!(desk.contents(&desk.operator).await.len(), 2);
    // Not even by its id.
    let path = format!(
        "/api/messages?id={}",
        note["message"]["id"].as_str().unwrap()
    );
    desk.ask(&desk.client, "DELETE", &path, None)
        .await
        .expect(404);
}

fn codes(page: &Value) -> Vec<&str> {
    let bookings = page["bookings"].as_array().unwrap();
    bookings
        .iter()
        .map(|booking| booking["code"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn the_inbox_shows_who_waits() {
    let desk = Desk::open().await;
    let (other, third) = (Person::client(), Person::client());
    let second = desk.server.open_booking("VAN-2", &other).await;
    desk.server.open_booking("VAN-3", &third).await;
    let inbox = async |query: &str| {
        desk.get(&desk.operator, &format!("/api/bookings?{query}"))
            .await
    };
    let body = json!({"bookingId": second, "content": "Is anybody there? I need two guards"});
    desk.post(&other, "/api/messages", body).await.expect(201);
    desk.say(&desk.client, "Hello").await;
    desk.say(&desk.client, "Hello?").await;
    let page = inbox("").await;
    assert_eq!(codes(&page), ["VAN-2", "REQ1759286674249", "VAN-3"]);
    assert_eq!(page["bookings"][1]["unread"], 2);
    assert_eq!(page["bookings"][1]["last_message"]["content"], "Hello?");
    assert!(page["bookings"][1]["waiting_since"].is_string());
    assert_eq!(page["bookings"][2]["waiting_since"], Value::Null);
    assert_eq!(
        codes(&inbox("sort=recent").await),
        ["REQ1759286674249", "VAN-2", "VAN-3"]
    );
    assert_eq!(codes(&inbox("q=van-").await), ["VAN-2", "VAN-3"]);
    assert_eq!(codes(&inbox("q=guards%20need").await), ["VAN-2"]);
    // An answer ends the wait.
    desk.say(&desk.operator, "Hello!").await;
    let page = inbox("").await;
    assert_eq!(page["bookings"][0]["code"], "VAN-2");
    assert_eq!(page["bookings"][1]["waiting_since"], Value::Null);
    // Reading does not, but nothing is unread then.
    let read = json!({"bookingId": second, "read_seq": 2});
    desk.post(&desk.operator, "/api/receipts", read)
        .await
        .expect(204);
    let page = inbox("").await;
    assert_eq!(page["bookings"][0]["unread"], 0);
    assert!(page["bookings"][0]["waiting_since"].is_string());
}

#[tokio::test]
async fn the_inbox_has_tabs() {
    let desk = Desk::open().await;
    let person = Person::client();
    let second = desk.server.open_booking("VAN-2", &person).await;
    let third = desk.server.open_booking("VAN-3", &person).await;
    let inbox = async |query: &str| {
        desk.get(&desk.operator, &format!("/api/bookings?{query}"))
            .await
    };
    desk.post(
        &desk.operator,
        &format!("/api/bookings/{second}/assignment"),
        json!({}),
    )
    .await
    .expect(201);
    let close = json!({"bookingId": third, "closed": true});
    desk.post(&desk.operator, "/api/bookings/status", close)
        .await
        .expect(200);
    assert_eq!(
        codes(&inbox("").await),
        ["REQ1759286674249", "VAN-2", "VAN-3"]
    );
    assert_eq!(
        codes(&inbox("filter=open").await),
        ["REQ1759286674249", "VAN-2"]
    );
    assert_eq!(
        codes(&inbox("filter=unassigned").await),
        ["REQ1759286674249"]
    );
    assert_eq!(codes(&inbox("filter=closed").await), ["VAN-3"]);
    let mine = inbox("filter=mine&status=pending,accepted").await;
    assert_eq!(codes(&mine), ["VAN-2"]);
    assert_eq!(
        mine["bookings"][0]["assigned_to"],
        json!(desk.operator.id())
    );
    assert_eq!(
        mine["counts"],
        json!({"open": 2, "unassigned": 1, "mine": 1})
    );
    assert_eq!(codes(&inbox("status=accepted").await), Vec::<&str>::new());
}

#[tokio::test]
async fn the_inbox_comes_in_pages() {
    let desk = Desk::open().await;
    for n in 0..7 {
        let client = Person::client();
        let booking = desk.server.open_booking(&format!("B{n}"), &client).await;
        if n % 2 == 0 {
            let body = json!({"bookingId": booking, "content": "waiting"});
            desk.post(&client, "/api/messages", body).await.expect(201);
        }
    }
    for sort in ["waiting", "recent"] {
        let all = desk
            .get(&desk.operator, &format!("/api/bookings?sort={sort}"))
            .await["bookings"]
            .clone();
        let mut collected = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = desk
                .get(
                    &desk.operator,
                    &format!("/api/bookings?sort={sort}&limit=3{cursor}"),
                )
                .await;
            collected.extend(page["bookings"].as_array().unwrap().clone());
            let Some(next) = page["cursor"].as_str() else {
                assert_eq!(page["has_more"], false);
                break;
            };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(Value::Array(collected), all, "{sort}");
        assert_eq!(all.as_array().unwrap().len(), 8);
    }
}

#[tokio::test]
async fn one_operator_takes_a_booking_over() {
    let desk = Desk::open().await;
    let colleague = Person::operator("Luis");
    let path = format!("/api/bookings/{}/assignment", desk.booking);
    let taken = desk
        .post(&desk.operator, &path, json!({}))
        .await
        .expect(201);
    assert_eq!(taken["assignment"]["operator_name"], "Dana");
    assert_eq!(
        desk.post(&desk.operator, &path, json!({}))
            .await
            .expect(200),
        taken
    );
    let refused = desk.post(&colleague, &path, json!({})).await.expect(409);
    assert_eq!(
        refused["error"]["message"],
        "Dana takes care of this booking."
    );
    desk.post(&colleague, &path, json!({"force": true}))
        .await
        .expect(201);
    desk.ask(&desk.operator, "DELETE", &path, None)
        .await
        .expect(204);
    desk.ask(&desk.operator, "DELETE", &path, None)
        .await
        .expect(204);
    let given = json!({"operator_id": desk.operator.id()});
    desk.post(&colleague, &path, given).await.expect(201);
    let booking = desk
        .get(&desk.operator, &format!("/api/bookings/{}", desk.booking))
        .await;
    assert_eq!(
        booking["assignment"]["operator_id"],
        json!(desk.operator.id())
    );
    assert_eq!(booking["participants"].as_array().unwrap().len(), 3);
    assert_eq!(
        booking["transitions"],
        json!(["accepted", "cancelled", "declined"])
    );
}

#[tokio::test]
async fn operators_have_canned_replies() {
    let desk = Desk::open().await;
    let session = desk.server.database().connect().await;
    session
        .run("insert into canned_replies values ('hi', 'en', 'Hello {{client_name}}'), ('hi', 'de', 'Hallo')")
        .await;
    let german = json!({"canned_replies": [{"shortcut": "hi", "locale": "de", "body": "Hallo"}]});
    assert_eq!(
        desk.get(&desk.operator, "/api/canned-replies?locale=de")
            .await,
        german
    );
    let all = desk.get(&desk.operator, "/api/canned-replies").await;
    assert_eq!(all["canned_replies"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_reply_names_a_message_of_the_same_booking() {
    let desk = Desk::open().await;
    let message = desk.say(&desk.client, "Hello").await;
    let body = json!({"bookingId": desk.booking, "content": "Hi", "reply_to": message["id"]});
    let reply = desk
        .post(&desk.operator, "/api/messages", body)
        .await
        .expect(201);
    assert_eq!(reply["message"]["reply_to"], message["id"]);
    let other = Person::client();
    let elsewhere = desk.server.open_booking("REQ2", &other).await;
    let body = json!({"bookingId": elsewhere, "content": "Hi", "reply_to": message["id"]});
    let refused = desk.post(&other, "/api/messages", body).await.expect(422);
    assert_eq!(refused["error"]["field"], "reply_to");
}
