//! A conversation as both sides live it: sockets and requests to the real binary.
#![allow(clippy::unwrap_used, reason = "it fails the test")]

use std::time::Duration;

use futures::future::join_all;
use pgrelay_chat::doctor::Check;
use pgrelay_e2e::chat::{LiveChat, Person, open_booking, request};
use pgrelay_test_support::{
    Relay, RelayBuilder, Request, TcpProxy, TestDatabase, Vsn, WsClient, wait_for,
};
use serde_json::{Value, json};
use tokio::time::Instant;

/// What both seeds call instantly.
const INSTANTLY: Duration = Duration::from_secs(1);

fn field(messages: &[Value], name: &str) -> Vec<Value> {
    messages
        .iter()
        .map(|message| message[name].clone())
        .collect()
}

#[tokio::test]
async fn each_side_sees_instantly_what_the_other_sends() {
    let chat = LiveChat::start().await;
    let mut sockets = (
        chat.listen(&chat.client).await,
        chat.listen(&chat.operator).await,
    );
    let mut took = Vec::new();
    for turn in 0..20 {
        let (who, role, socket) = if turn % 2 == 0 {
            (&chat.client, "client", &mut sockets.1)
        } else {
            (&chat.operator, "operator", &mut sockets.0)
        };
        let text = format!("Hello from {role} {turn}");
        let sent = chat.say(who, &text).await;
        let answered = Instant::now();
        let heard = loop {
            // One hears oneself as well.
            let heard = chat.hear(socket, "messages").await;
            if heard["id"] == sent["id"] {
                break heard;
            }
        };
        took.push(answered.elapsed());
        assert_eq!(
            (
                &heard["content"],
                &heard["sender_role"],
                &heard["seq"],
                &heard["client_id"]
            ),
            (&json!(text), &json!(role), &sent["seq"], &sent["client_id"])
        );
    }
    took.sort();
    println!(
        "from answer to arrival: median {:?}, worst {:?}",
        took[10], took[19]
    );
    assert!(took[10] < INSTANTLY, "{took:?}");
}

#[tokio::test]
async fn a_status_change_is_two_events_and_the_client_sees_both() {
    let chat = LiveChat::start().await;
    let mut client = chat.listen(&chat.client).await;
    for (status, text) in [
        (
            "accepted",
            "✅ Your booking has been accepted by our team...",
        ),
        (
            "deployed",
            "🚀 Our team has been deployed and is on the way.",
        ),
    ] {
        let answer = chat.set_status(status).await;
        let badge = client.expect_change(&chat.status_topic()).await;
        assert_eq!(badge["data"]["type"], "UPDATE");
        assert_eq!(badge["data"]["record"]["status"], status);
        assert_eq!(
            badge["data"]["record"]["status_version"],
            answer["booking"]["status_version"]
        );
        let told = chat.hear(&mut client, "messages").await;
        assert_eq!(told["id"], answer["message"]["id"]);
        assert_eq!(
            (&told["message_type"], &told["content"]),
            (&json!("system"), &json!(text))
        );
        assert_eq!(told["metadata"]["status"], status);
    }
    // The same for whoever writes by hand, and nothing but these two events.
    chat.sql
        .run("update public.bookings set status = 'completed'")
        .await;
    chat.say(&chat.client, "Thank you!").await;
    let last = chat.hear_messages(&mut client, 2).await;
    assert_eq!(field(&last, "message_type"), ["system", "text"]);
    let badge = client.expect_change(&chat.status_topic()).await;
    assert_eq!(badge["data"]["record"]["status"], "completed");
    let rest = client.take_unclaimed();
    assert!(
        rest.iter().all(|frame| frame.event != "postgres_changes"),
        "{rest:?}"
    );
}

#[tokio::test]
async fn a_booking_opens_on_the_desk_and_the_answer_arrives() {
    let chat = LiveChat::start().await;
    let mut desk = chat.connect(&chat.operator).await;
    let entries = json!([
        {"event": "INSERT", "schema": "public", "table": "bookings"},
        {"event": "INSERT", "schema": "public", "table": "messages"},
    ]);
    desk.join_changes("realtime:desk", entries).await;
    let client = Person::client();
    chat.sql
        .run(&format!(
            "insert into public.bookings (code, client_id) values ('REQ2', '{}')",
            client.id()
        ))
        .await;
    let opened = desk.expect_change("realtime:desk").await;
    assert_eq!(opened["data"]["record"]["code"], "REQ2");
    let received = desk.expect_change("realtime:desk").await;
    assert_eq!(
        received["data"]["record"]["content"],
        "⏳ Your booking request has been received..."
    );
    let inbox = chat
        .ask(&chat.operator, "GET", "/api/bookings?q=req2", None, &[200])
        .await;
    assert_eq!(inbox["bookings"][0]["id"], opened["data"]["record"]["id"]);
}

/// Sends over a network that may be away, until there is an answer.
async fn send_at_last(url: &str, who: &Person, body: &Value) -> Value {
    wait_for("an answer", async || {
        let answer = request(url, who, "POST", Some(body.clone()))
            .try_send()
            .await
            .ok()?;
        assert!([200, 201].contains(&answer.status), "{}", answer.text());
        Some(answer.json()["message"].clone())
    })
    .await
}

#[tokio::test]
async fn what_was_sent_while_the_network_was_away_arrives_once() {
    let chat = LiveChat::start().await;
    let mut operator = chat.listen(&chat.operator).await;
    let network = TcpProxy::start(chat.relay.address()).await;
    let url = format!("http://{}/api/messages", network.address());
    let body = json!({"bookingId": LiveChat::CODE, "content": "Are you there?", "client_id": "c1"});
    let send = || request(&url, &chat.client, "POST", Some(body.clone()));
    network.refuse();
    assert!(send().try_send().await.is_err());
    // The request arrives, its answer does not.
    network.open();
    chat.sql
        .run("begin; select from pgrelay_chat.inbox for update")
        .await;
    let waits = wait_for("the request to wait for the lock", async || {
        let waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        (chat.sql.value(waiting).await != "0").then_some(())
    });
    let (lost, ()) = futures::join!(send().try_send(), async {
        waits.await;
        network.refuse();
        chat.sql.run("commit").await;
    });
    assert!(lost.is_err());
    network.open();
    let sent = send_at_last(&url, &chat.client, &body).await;
    chat.say(&chat.client, "Hello?").await;
    let heard = chat.hear_messages(&mut operator, 2).await;
    assert_eq!(field(&heard, "content"), ["Are you there?", "Hello?"]);
    assert_eq!(heard[0]["id"], sent["id"]);
}

#[tokio::test]
async fn the_sender_sees_sent_then_delivered_then_read() {
    let chat = LiveChat::start().await;
    let mut operator = chat.listen(&chat.operator).await;
    let mut client = chat.listen(&chat.client).await;
    let sent = chat.say(&chat.operator, "Your team is on its way").await;
    let seq = chat.hear(&mut client, "messages").await["seq"].clone();
    assert_eq!(seq, sent["seq"]);
    for (marks, delivered, read) in [
        (json!({"delivered_seq": seq}), &seq, &json!(0)),
        (json!({"read_seq": seq}), &seq, &seq),
    ] {
        let mut body = marks;
        body["bookingId"] = json!(LiveChat::CODE);
        chat.ask(&chat.client, "POST", "/api/receipts", Some(body), &[204])
            .await;
        let receipt = chat.hear(&mut operator, "receipts").await;
        assert_eq!(
            (&receipt["delivered_seq"], &receipt["read_seq"]),
            (delivered, read)
        );
        assert_eq!(receipt["participant_id"], json!(chat.client.id()));
    }
}

#[tokio::test]
async fn who_was_away_gets_what_was_said_meanwhile_once() {
    let chat = LiveChat::start().await;
    let network = TcpProxy::start(chat.relay.address()).await;
    let topic = chat.messages_topic();
    let join = async |since: &Value| -> (WsClient, Value) {
        let mut socket = chat.connect_through(network.address(), &chat.client).await;
        let mut entry = chat.messages_entry();
        entry["since"] = since.clone();
        socket
            .join(&topic, json!({"postgres_changes": [entry]}))
            .await;
        let live = socket
            .expect("to be live", |frame| frame.event == "system")
            .await;
        assert_eq!(live.payload["status"], "ok", "{live:?}");
        (socket, live.payload)
    };
    let (mut socket, _) = join(&json!("now")).await;
    chat.say(&chat.operator, "one").await;
    let heard = socket.expect_change(&topic).await;
    assert_eq!(heard["data"]["record"]["content"], "one");
    network.refuse();
    socket.expect_close().await;
    for text in ["two", "three"] {
        chat.say(&chat.operator, text).await;
    }
    network.open();
    let (mut socket, live) = join(&heard["cursor"]).await;
    assert_eq!(live["recovered"], true);
    chat.say(&chat.operator, "four").await;
    let heard = chat.hear_messages(&mut socket, 3).await;
    assert_eq!(field(&heard, "content"), ["two", "three", "four"]);
    // A reload says the same.
    let page = chat
        .ask(
            &chat.client,
            "GET",
            &format!("/api/messages?bookingId={}&after=2", chat.booking),
            None,
            &[200],
        )
        .await;
    assert_eq!(
        field(page["messages"].as_array().unwrap(), "content"),
        ["two", "three", "four"]
    );
}

#[tokio::test]
async fn what_both_say_at_once_has_one_order_for_both() {
    const EACH: usize = 25;
    let chat = LiveChat::start().await;
    let mut sockets = [
        chat.listen(&chat.client).await,
        chat.listen(&chat.operator).await,
    ];
    let sends = (0..2 * EACH).map(async |index| {
        let who = if index % 2 == 0 {
            &chat.client
        } else {
            &chat.operator
        };
        chat.say(who, &format!("text {index}")).await
    });
    let mut sent = join_all(sends).await;
    sent.sort_by_key(|message| message["seq"].as_u64());
    for socket in &mut sockets {
        let heard = chat.hear_messages(socket, sent.len()).await;
        assert_eq!(field(&heard, "id"), field(&sent, "id"));
    }
}

#[tokio::test]
async fn a_chat_that_is_installed_later_is_found() {
    let database = TestDatabase::create().await;
    let builder = Relay::builder(database.url());
    let relay = builder.clone().start().await;
    let url = relay.url("/api/bookings");
    let operator = Person::operator("Dana");
    let refused = request(&url, &operator, "GET", None).send().await;
    assert_eq!(refused.status, 404);
    assert_eq!(refused.json()["error"]["code"], "not_installed");
    let (status, printed) = builder.run(&["migrate", "--chat"]).await;
    assert!(status.success(), "{printed}");
    let inbox = request(&url, &operator, "GET", None).send().await;
    assert_eq!((inbox.status, &inbox.json()["bookings"]), (200, &json!([])));
}

#[tokio::test]
async fn the_binary_keeps_the_chats_limits_and_counts_its_requests() {
    let chat = LiveChat::start().await;
    let document = Request::get(&chat.relay.url("/api/openapi.json"))
        .send()
        .await;
    assert!(document.json()["paths"]["/api/messages"].is_object());
    for size in [70_000, 2_000_000] {
        let body = json!({"bookingId": LiveChat::CODE, "content": "x".repeat(size)});
        let refused = chat
            .ask(&chat.client, "POST", "/api/messages", Some(body), &[413])
            .await;
        assert_eq!(refused["error"]["code"], "too_long");
    }
    let expired = Person::with_claims(
        chat.client.id(),
        json!({"role": "authenticated", "sub": chat.client.id(), "exp": 1}),
    );
    let refused = chat
        .ask(&expired, "GET", "/api/bookings", None, &[401])
        .await;
    assert_eq!(
        refused["error"]["message"],
        "Your session has expired. Sign in again."
    );
    let forged =
        Request::get(&chat.relay.url("/api/bookings")).header("authorization", "Bearer a.b.c");
    assert_eq!(forged.send().await.json()["error"]["code"], "auth_required");
    let counted = chat
        .relay
        .metric(
            "pgrelay_chat_requests_total",
            "method=\"POST\",route=\"/api/messages\",status=\"413\"",
        )
        .await;
    assert!((counted - 2.0).abs() < 0.1, "{counted}");
}

#[tokio::test]
async fn typing_and_presence_are_among_the_bookings_people() {
    let chat = LiveChat::start().await;
    let topic = format!("realtime:booking:{}", chat.booking);
    let config =
        json!({"private": true, "broadcast": {"self": false}, "presence": {"enabled": true}});
    let key = |who: &Person| who.signed_token();
    let connect =
        async |who: &Person| WsClient::connect(chat.relay.address(), Vsn::V2, &key(who)).await;
    let mut operator = connect(&chat.operator).await;
    operator.join(&topic, config.clone()).await;
    let mut client = connect(&chat.client).await;
    client.join(&topic, config.clone()).await;
    let typing = json!({"type": "broadcast", "event": "typing", "payload": {"by": "client"}});
    client.push(&topic, "broadcast", typing.clone()).await;
    let heard = operator
        .expect("that the client is typing", |frame| {
            frame.event == "broadcast"
        })
        .await;
    assert_eq!(heard.payload["event"], "typing");
    assert_eq!(heard.payload["payload"], typing["payload"]);
    let track = json!({"type": "presence", "event": "track", "payload": {"role": "client"}});
    client.push(&topic, "presence", track).await;
    operator
        .expect("that the client is there", |frame| {
            frame.event == "presence_diff" && frame.payload["joins"].to_string().contains("client")
        })
        .await;
    let mut stranger = connect(&Person::client()).await;
    let refused = stranger
        .request(&topic, "phx_join", json!({"config": config}))
        .await;
    assert_eq!(refused.payload["status"], "error", "{refused:?}");
}

#[tokio::test]
async fn the_commands_install_examine_upgrade_and_spare_the_chat() {
    let database = TestDatabase::create().await;
    let builder = Relay::builder(database.url());
    let red = builder.run(&["doctor", "--chat"]).await;
    assert_eq!(red.0.code(), Some(69));
    assert!(
        red.1
            .contains("RED   chat: the chat schema is missing or older than this program"),
        "{}",
        red.1
    );
    let run = async |builder: &RelayBuilder, arguments: &[&str]| {
        let (status, printed) = builder.run(arguments).await;
        assert!(status.success(), "{arguments:?}: {printed}");
        printed
    };
    let printed = run(&builder, &["migrate", "--chat"]).await;
    assert!(printed.contains("applied chat/0001_tables"), "{printed}");
    let elsewhere = builder.clone().set("PGRELAY_CHAT_SCHEMA", "desk");
    let (status, printed) = elsewhere.run(&["migrate", "--chat"]).await;
    assert_eq!(status.code(), Some(64));
    assert!(
        printed.contains("the chat is installed in schema public; it cannot be moved"),
        "{printed}"
    );
    let printed = run(&builder, &["doctor", "--chat"]).await;
    assert_eq!(
        printed.matches("\nok    chat: ").count(),
        Check::ALL.len(),
        "{printed}"
    );

    // Who upgrades the relay upgrades the chat.
    let sql = database.connect().await;
    let lost = "drop function pgrelay_chat.rehearse; delete from pgrelay_chat.migrations where name = 'chat/0007_doctor';
                drop function pgrelay_chat.examine";
    for upgraded in [false, true] {
        sql.run(lost).await;
        if upgraded {
            builder.clone().start().await;
        } else {
            let printed = run(&builder, &["migrate"]).await;
            assert!(printed.contains("applied chat/0007_doctor"), "{printed}");
        }
        run(&builder, &["doctor", "--chat"]).await;
    }

    sql.run("insert into public.bookings (code, client_id) values ('REQ1', gen_random_uuid())")
        .await;
    let printed = run(&builder, &["uninstall", "--yes"]).await;
    assert!(
        printed.contains(
            "-- the booking chat stays: its tables in schema public, and schema pgrelay_chat"
        ),
        "{printed}"
    );
    sql.run("update public.bookings set status = 'accepted'")
        .await;
    assert_eq!(sql.value("select count(*) from public.messages").await, "2");
}

#[tokio::test]
async fn notes_and_other_bookings_are_not_told_to_a_client() {
    let chat = LiveChat::start().await;
    let everything = json!([
        {"event": "*", "schema": "public", "table": "messages"},
        {"event": "*", "schema": "public", "table": "assignments"},
    ]);
    let mut sockets = Vec::new();
    for who in [&chat.client, &chat.operator] {
        let mut socket = chat.connect(who).await;
        socket
            .join_changes("realtime:all", everything.clone())
            .await;
        sockets.push(socket);
    }
    let other = Person::client();
    open_booking(&chat.sql, "REQ2", &other).await;
    let note = json!({"bookingId": LiveChat::CODE, "content": "pays late", "message_type": "note"});
    chat.ask(&chat.operator, "POST", "/api/messages", Some(note), &[201])
        .await;
    chat.ask(
        &chat.operator,
        "POST",
        "/api/bookings/REQ1759286674249/assignment",
        None,
        &[201],
    )
    .await;
    chat.say(&chat.operator, "Hello").await;
    let mut heard = Vec::new();
    for socket in &mut sockets {
        let changes = socket
            .changes_until("realtime:all", |change| {
                change["data"]["record"]["content"] == "Hello"
            })
            .await;
        heard.push(changes.len());
    }
    // The other booking's first message, the note, the assignment, the answer.
    assert_eq!(heard, [1, 4]);
}
