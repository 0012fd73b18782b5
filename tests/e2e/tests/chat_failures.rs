//! Every refusal that the document promises: its status, its whole body, and that nothing was written.

use pgrelay_e2e::chat::{Answer, BODY_BYTES_MAX, ChatServer, Person};
use pgrelay_test_support::{TestDatabase, wait_for};
use serde_json::{Value, json};
use uuid::Uuid;

/// A booking, its people, and somebody whom it does not concern.
struct Case {
    server: ChatServer,
    client: Person,
    other: Person,
    operator: Person,
    booking: String,
}

impl Case {
    async fn open() -> Self {
        Self::with_rate(10_000).await
    }

    async fn with_rate(messages_max: u16) -> Self {
        let server = ChatServer::start_on(TestDatabase::create().await, messages_max).await;
        let client = Person::client();
        let booking = server.open_booking("REQ1", &client).await;
        Self {
            server,
            client,
            other: Person::client(),
            operator: Person::operator("Dana"),
            booking,
        }
    }

    async fn post(&self, who: &Person, path: &str, mut body: Value) -> Answer {
        body["bookingId"] = json!(self.booking);
        self.server.post(who, path, body).await
    }

    async fn say(&self, who: &Person, content: &str) -> Value {
        self.post(who, "/api/messages", json!({"content": content}))
            .await
            .expect(201)
    }

    /// All rows that requests write, so that a refused one can be seen to have written none.
    async fn written(&self) -> String {
        let session = self.server.database().connect().await;
        session
            .value(
                "select md5(string_agg(t, '' order by t)) from (
                   select b::text from bookings b union all select m::text from messages m
                   union all select r::text from receipts r union all select a::text from assignments a
                   union all select h::text from booking_status_history h union all select i::text from pgrelay_chat.inbox i) x (t)",
            )
            .await
    }
}

fn body(code: &str, message: &str, retryable: bool, extra: Value) -> Value {
    let mut error = extra;
    error["code"] = json!(code);
    error["message"] = json!(message);
    error["retryable"] = json!(retryable);
    json!({ "error": error })
}

fn plain(code: &str, message: &str) -> Value {
    body(code, message, false, json!({}))
}

fn field(code: &str, message: &str, name: &str) -> Value {
    body(code, message, false, json!({ "field": name }))
}

const NOT_FOUND: &str = "We can't find this booking. Check the code or open it from your e-mail.";
const NOT_A_BOOKING: &str =
    "This does not look like a booking. Check the code or open it from your e-mail.";
const NOT_YOURS: &str = "This booking belongs to somebody else.";

/// Requests that `who` may not make: all have this answer, and write nothing.
async fn all_refused(
    case: &Case,
    who: &Person,
    requests: &[(&str, &str, Value)],
    status: u16,
    expected: &Value,
) {
    let before = case.written().await;
    for (method, path, request) in requests {
        let path = path.replace("ID", &case.booking);
        let request = request.to_string().replace("ID", &case.booking);
        let request = if request == "null" {
            String::new()
        } else {
            request
        };
        let answer = case.server.ask_with(who, method, &path, &[], request).await;
        assert_eq!(
            (answer.status, &answer.json),
            (status, expected),
            "{method} {path}"
        );
    }
    assert_eq!(case.written().await, before);
}

#[tokio::test]
async fn who_is_not_signed_in_is_asked_to() {
    let case = Case::open().await;
    let requests = [
        ("GET", "/api/messages?bookingId=ID", Value::Null),
        (
            "POST",
            "/api/messages",
            json!({"bookingId": "ID", "content": "x"}),
        ),
        (
            "PATCH",
            "/api/bookings/status",
            json!({"bookingId": "ID", "status": "accepted"}),
        ),
        ("GET", "/api/bookings", Value::Null),
    ];
    let no_uuid = Person::with_claims(Uuid::nil(), json!({"role": "authenticated", "sub": "me"}));
    for who in [Person::stranger(), Person::visitor(), no_uuid] {
        all_refused(
            &case,
            &who,
            &requests,
            401,
            &plain("auth_required", "Sign in to continue."),
        )
        .await;
    }
    let role_of_nobody = json!({"role": "no_such_role", "sub": Uuid::new_v4(), "app_metadata": {"chat_role": "operator"}});
    let who = Person::with_claims(Uuid::nil(), role_of_nobody);
    all_refused(
        &case,
        &who,
        &requests,
        403,
        &plain("forbidden", "Your account may not do this."),
    )
    .await;
}

#[tokio::test]
async fn who_has_no_part_in_a_booking_is_told_so() {
    let case = Case::open().await;
    let receipt = (
        "POST",
        "/api/receipts",
        json!({"bookingId": "ID", "read_seq": 1}),
    );
    let requests = [
        ("GET", "/api/messages?bookingId=ID", Value::Null),
        ("GET", "/api/bookings/req1", Value::Null),
        (
            "POST",
            "/api/messages",
            json!({"bookingId": "ID", "content": "x"}),
        ),
        receipt.clone(),
    ];
    let expected = plain("not_a_participant", NOT_YOURS);
    all_refused(&case, &case.other, &requests, 403, &expected).await;
    // A service is nobody who reads.
    all_refused(&case, &Person::service(), &[receipt], 403, &expected).await;
}

#[tokio::test]
async fn clients_are_told_before_anything_else_what_is_for_operators() {
    let case = Case::open().await;
    let requests = [
        ("PATCH", "/api/bookings/status", Value::Null),
        ("POST", "/api/bookings/status", json!([])),
        (
            "POST",
            "/api/bookings/status",
            json!({"bookingId": "no such booking"}),
        ),
        ("POST", "/api/messages/system", Value::Null),
        ("GET", "/api/bookings?limit=x", Value::Null),
        ("POST", "/api/bookings/%20/assignment", Value::Null),
        ("DELETE", "/api/bookings/REQ1/assignment", Value::Null),
        ("GET", "/api/canned-replies", Value::Null),
        (
            "POST",
            "/api/messages",
            json!({"bookingId": "ID", "content": "x", "message_type": "note"}),
        ),
        (
            "POST",
            "/api/messages",
            json!({"bookingId": "ID", "content": "x", "message_type": "system"}),
        ),
    ];
    all_refused(
        &case,
        &case.client,
        &requests,
        403,
        &plain("operator_only", "Only the team can do this."),
    )
    .await;
}

#[tokio::test]
async fn what_is_not_there_is_not_found_and_never_an_invalid_uuid() {
    let case = Case::open().await;
    let missing = plain("booking_not_found", NOT_FOUND);
    let unreadable = field("invalid_booking_ref", NOT_A_BOOKING, "bookingId");
    let long = "x".repeat(65);
    for (reference, status, expected) in [
        ("REQ2", 404, &missing),
        ("not-a-uuid", 404, &missing),
        ("0b5f2f5e-7d0c-4f0e-9c55-0a1d5a4d1c01", 404, &missing),
        ("", 400, &unreadable),
        ("%20", 400, &unreadable),
        ("a%20b", 400, &unreadable),
        ("%3F%3F", 400, &unreadable),
        ("a%00b", 400, &unreadable),
        (&long, 400, &unreadable),
    ] {
        let answer = case
            .server
            .get(
                &case.client,
                &format!("/api/messages?bookingId={reference}"),
            )
            .await;
        assert_eq!(
            (answer.status, &answer.json),
            (status, expected),
            "{reference:?}"
        );
        if !reference.is_empty() {
            let answer = case
                .server
                .get(&case.client, &format!("/api/bookings/{reference}"))
                .await;
            assert_eq!(
                (answer.status, &answer.json),
                (status, expected),
                "{reference:?}"
            );
        }
    }
    assert_eq!(
        case.server
            .get(&case.client, "/api/messages")
            .await
            .expect(400),
        unreadable
    );
    assert_eq!(
        case.server
            .get(&case.client, "/api/bookings/%FF")
            .await
            .expect(400)["error"]["code"],
        "invalid_booking_ref"
    );
    for id in ["msg_1", "0b5f2f5e-7d0c-4f0e-9c55-0a1d5a4d1c01"] {
        let answer = case
            .server
            .ask(
                &case.client,
                "DELETE",
                &format!("/api/messages?id={id}"),
                None,
            )
            .await;
        assert_eq!(
            answer.expect(404),
            plain("message_not_found", "This message does not exist.")
        );
    }
}

/// Messages that cannot be sent: each has its answer, and writes nothing.
async fn each_refused(requests: Vec<(Value, u16, Value)>) {
    let case = Case::open().await;
    let before = case.written().await;
    for (request, status, expected) in requests {
        let text = request.to_string();
        let answer = case.post(&case.client, "/api/messages", request).await;
        assert_eq!(
            (answer.status, answer.json),
            (status, expected),
            "{text:.80}"
        );
    }
    assert_eq!(case.written().await, before);
}

#[tokio::test]
async fn nothing_and_too_much_cannot_be_sent() {
    let empty = field("empty", "Write something first.", "content");
    let too_long = |message: &str, extra: Value| body("too_long", message, false, extra);
    each_refused(vec![
        (json!({}), 422, empty.clone()),
        (json!({"content": " \n "}), 422, empty.clone()),
        (json!({"message": ""}), 422, empty),
        (
            json!({"content": "x".repeat(4_012)}),
            413,
            too_long(
                "Too long (4012 of 4000 characters).",
                json!({"field": "content", "limit": 4_000}),
            ),
        ),
        (
            json!({"content": "x", "metadata": {"x": "y".repeat(9_000)}}),
            413,
            too_long(
                "The metadata is too long.",
                json!({"field": "metadata", "limit_bytes": 8_192}),
            ),
        ),
        (
            json!({"content": "x".repeat(BODY_BYTES_MAX)}),
            413,
            too_long("This is too long.", json!({"limit_bytes": BODY_BYTES_MAX})),
        ),
    ])
    .await;
}

#[tokio::test]
async fn what_is_wrong_with_a_field_is_said() {
    let unreadable = |message: &str, name: &str| field("invalid_request", message, name);
    let invalid = |message: &str, name: &str| field("invalid_value", message, name);
    each_refused(vec![
        (
            json!({"content": "a", "message": "b"}),
            400,
            unreadable("content and message say different things.", "message"),
        ),
        (
            json!({"content": 7}),
            400,
            unreadable("content must be text.", "content"),
        ),
        (
            json!({"content": "a\u{0}"}),
            400,
            unreadable("content must be text.", "content"),
        ),
        (
            json!({"content": "x", "metadata": 7}),
            400,
            unreadable("metadata must be an object.", "metadata"),
        ),
        (
            json!({"content": "x", "message_type": "file"}),
            422,
            invalid("message_type must be text, note or system.", "message_type"),
        ),
        (
            json!({"content": "x", "reply_to": "y"}),
            422,
            invalid("reply_to must be a UUID.", "reply_to"),
        ),
        (
            json!({"content": "x", "reply_to": Uuid::new_v4()}),
            422,
            invalid("A value is not accepted.", "reply_to"),
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_body_is_an_object() {
    let case = Case::open().await;
    let expected = plain("invalid_request", "The body must be a JSON object.");
    for raw in ["[]", "{", "7", "{\"a\":1e999}", "\u{ff}"] {
        let answer = case
            .server
            .ask_with(&case.client, "POST", "/api/receipts", &[], raw)
            .await;
        assert_eq!((answer.status, &answer.json), (400, &expected), "{raw}");
    }
}

#[tokio::test]
async fn a_name_is_given_to_one_message_only() {
    let case = Case::open().await;
    case.post(
        &case.client,
        "/api/messages",
        json!({"content": "a", "client_id": "k"}),
    )
    .await
    .expect(201);
    let note = json!({"content": "internal", "client_id": "n", "message_type": "note"});
    case.post(&case.operator, "/api/messages", note)
        .await
        .expect(201);
    let before = case.written().await;
    let conflict = plain(
        "idempotency_conflict",
        "Another message was already sent under this client_id.",
    );
    for (who, request) in [
        (&case.client, json!({"content": "b", "client_id": "k"})),
        (
            &case.client,
            json!({"content": "a", "client_id": "k", "metadata": {"x": 1}}),
        ),
        (&case.operator, json!({"content": "a", "client_id": "k"})),
        // Although the client cannot see the note.
        (
            &case.client,
            json!({"content": "internal", "client_id": "n"}),
        ),
    ] {
        assert_eq!(
            case.post(who, "/api/messages", request).await.expect(409),
            conflict
        );
    }
    let system = json!({"content": "a", "client_id": "k"});
    assert_eq!(
        case.post(&case.operator, "/api/messages/system", system)
            .await
            .expect(409),
        conflict
    );
    assert_eq!(case.written().await, before);
}

#[tokio::test]
async fn a_closed_chat_takes_no_text() {
    let case = Case::open().await;
    case.post(
        &case.operator,
        "/api/bookings/status",
        json!({"closed": true}),
    )
    .await
    .expect(200);
    let before = case.written().await;
    for who in [&case.client, &case.operator] {
        let answer = case
            .post(who, "/api/messages", json!({"content": "Hello?"}))
            .await;
        assert_eq!(
            answer.expect(423),
            plain("booking_closed", "This chat is closed.")
        );
    }
    assert_eq!(case.written().await, before);
}

#[tokio::test]
async fn a_status_alone_closes_no_chat() {
    let case = Case::open().await;
    for status in ["declined", "archived"] {
        case.post(
            &case.operator,
            "/api/bookings/status",
            json!({ "status": status }),
        )
        .await
        .expect(200);
        case.say(&case.client, "But why?").await;
    }
}

#[tokio::test]
async fn a_flood_is_slowed_down() {
    let case = Case::with_rate(3).await;
    for n in 0..3 {
        case.post(
            &case.client,
            "/api/messages",
            json!({"content": "flood", "client_id": n.to_string()}),
        )
        .await
        .expect(201);
    }
    let before = case.written().await;
    let answer = case
        .post(&case.client, "/api/messages", json!({"content": "flood"}))
        .await;
    let seconds = answer.json["error"]["retry_after"].as_u64().unwrap();
    assert!((1..=10).contains(&seconds), "{seconds}");
    assert_eq!(answer.headers["retry-after"], seconds.to_string());
    let message = format!("You're sending too fast, wait {seconds} s.");
    assert_eq!(
        answer.expect(429),
        body(
            "rate_limited",
            &message,
            true,
            json!({"retry_after": seconds})
        )
    );
    assert_eq!(case.written().await, before);
    // What was sent is known all the same, and the team may answer.
    case.post(
        &case.client,
        "/api/messages",
        json!({"content": "flood", "client_id": "2"}),
    )
    .await
    .expect(200);
    case.say(&case.operator, "Slowly!").await;
}

#[tokio::test]
async fn only_its_author_or_the_team_deletes_a_message() {
    let case = Case::open().await;
    let said = case.say(&case.operator, "Hello").await["message"]["id"].clone();
    let page = case
        .server
        .get(
            &case.client,
            &format!("/api/messages?bookingId={}", case.booking),
        )
        .await
        .expect(200);
    let told = page["messages"][0]["id"].clone();
    let refused = plain(
        "not_author",
        "Only its author or the team can delete a message.",
    );
    for (who, id) in [
        (&case.client, &said),
        (&case.client, &told),
        (&case.operator, &told),
        (&Person::service(), &told),
    ] {
        let answer = case
            .server
            .ask(who, "DELETE", "/api/messages", Some(json!({ "id": id })))
            .await;
        assert_eq!(answer.expect(403), refused);
    }
    let answer = case
        .server
        .ask(&case.client, "DELETE", "/api/messages", None)
        .await;
    assert_eq!(
        answer.expect(400),
        field("invalid_request", "id must be the id of a message.", "id")
    );
}

#[tokio::test]
async fn a_status_that_cannot_be_says_what_can() {
    let case = Case::open().await;
    let before = case.written().await;
    let set = async |request: Value| {
        case.post(&case.operator, "/api/bookings/status", request)
            .await
    };
    let expected = body(
        "illegal_transition",
        "A booking that is pending cannot become deployed.",
        false,
        json!({"from": "pending", "to": "deployed", "allowed": ["accepted", "cancelled", "declined"]}),
    );
    assert_eq!(
        set(json!({"status": "deployed"})).await.expect(422),
        expected
    );
    assert_eq!(
        set(json!({})).await.expect(400),
        field(
            "invalid_request",
            "status must be the new status.",
            "status"
        )
    );
    assert_eq!(
        set(json!({"status": "  "})).await.expect(422),
        field(
            "invalid_value",
            "status must have 1 to 64 printable characters.",
            "status"
        )
    );
    assert_eq!(
        set(json!({"status": "accepted", "expected_version": "one"}))
            .await
            .expect(400),
        field(
            "invalid_request",
            "expected_version must be a whole number from 0.",
            "expected_version"
        )
    );
    assert_eq!(case.written().await, before);
}

#[tokio::test]
async fn the_slower_operator_hears_who_was_faster() {
    let case = Case::open().await;
    let accept = json!({"bookingId": case.booking, "status": "accepted", "expected_version": 1});
    let luis = Person::operator("Luis");
    let first = case
        .server
        .ask(
            &case.operator,
            "PATCH",
            "/api/bookings/status",
            Some(accept.clone()),
        )
        .await
        .expect(200);
    let before = case.written().await;
    let second = case
        .server
        .ask(&luis, "PATCH", "/api/bookings/status", Some(accept))
        .await;
    let expected = body(
        "status_conflict",
        "Already accepted by Dana.",
        false,
        json!({"booking": first["booking"], "changed_by": "Dana"}),
    );
    assert_eq!(second.expect(409), expected);
    let path = "/api/bookings/REQ1/assignment";
    let taken = case
        .server
        .post(&case.operator, path, json!({}))
        .await
        .expect(201);
    let expected = body(
        "already_assigned",
        "Dana takes care of this booking.",
        false,
        json!({"assignment": taken["assignment"]}),
    );
    assert_eq!(
        case.server.post(&luis, path, json!({})).await.expect(409),
        expected
    );
    let answer = case
        .server
        .post(
            &Person::service(),
            "/api/bookings/REQ1/assignment",
            json!({}),
        )
        .await;
    assert_eq!(
        answer.expect(422),
        field("invalid_value", "A value is not accepted.", "operator_id")
    );
    assert_ne!(case.written().await, before);
}

#[tokio::test]
async fn of_two_simultaneous_operators_one_is_faster() {
    let case = Case::open().await;
    let (dana, luis) = (&case.operator, Person::operator("Luis"));
    let set = |who, status| {
        let request = json!({"bookingId": case.booking, "status": status, "expected_version": 1});
        case.server
            .ask(who, "PATCH", "/api/bookings/status", Some(request))
    };
    let (accepted, declined) = futures::join!(set(dana, "accepted"), set(&luis, "declined"));
    let mut outcomes = [accepted.status, declined.status];
    outcomes.sort_unstable();
    assert_eq!(outcomes, [200, 409]);
    let session = case.server.database().connect().await;
    assert_eq!(session.value("select count(*) from messages").await, "2");
}

#[tokio::test]
async fn no_answer_carries_sql_when_the_database_fails() {
    let case = Case::open().await;
    let session = case.server.database().connect_superuser().await;
    // Somebody has broken a function of ours.
    session
        .run("create or replace function pgrelay_chat.message_json(m public.messages) returns json language plpgsql as
              $$ begin raise exception 'secret detail' using detail = 'select password from users'; end $$")
        .await;
    let answer = case
        .post(&case.client, "/api/messages", json!({"content": "Hello"}))
        .await;
    let expected = body(
        "internal",
        "Something went wrong on our side. Please try again.",
        true,
        json!({}),
    );
    assert_eq!(answer.expect(500), expected);
    // The chat's schema is gone.
    session
        .run("alter schema pgrelay_chat rename to lost")
        .await;
    let missing = plain(
        "not_installed",
        "There is no booking chat here. `pgrelay migrate --chat` installs it.",
    );
    let answer = case
        .post(&case.client, "/api/messages", json!({"content": "Hello"}))
        .await;
    assert_eq!(answer.expect(404), missing);
    session
        .run("alter schema lost rename to pgrelay_chat")
        .await;
    // The connections are cut; a new one is made for the next request.
    session
        .run("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()")
        .await;
    wait_for("a request that is served again", async || {
        let answer = case.server.get(&case.client, "/api/bookings/REQ1").await;
        (answer.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_request_whose_caller_hangs_up_is_made_once_or_not_at_all() {
    let case = Case::open().await;
    let session = case.server.database().connect().await;
    session
        .run("begin; select from pgrelay_chat.inbox for update")
        .await;
    let (client, server) = (&case.client, &case.server);
    let request = json!({"bookingId": case.booking, "content": "Hello", "client_id": "k"});
    // Not in that transaction, which would see the same activity for ever.
    let watcher = server.database().connect().await;
    let waits = wait_for("the request to wait for the lock", async || {
        let waiting = watcher
            .value("select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'")
            .await;
        (waiting != "0").then_some(())
    });
    tokio::select! {
        answer = server.post(client, "/api/messages", request.clone()) => panic!("{}", answer.json),
        () = waits => {}
    }
    session.run("commit").await;
    let again = server.post(client, "/api/messages", request).await;
    assert!([200, 201].contains(&again.status), "{}", again.json);
    assert_eq!(
        session
            .value("select count(*) from messages where message_type = 'text'")
            .await,
        "1"
    );
    wait_for("no transaction to be left open", async || {
        let leftovers = "select count(*) from pg_stat_activity
                          where datname = current_database() and pid <> pg_backend_pid() and state <> 'idle'";
        (session.value(leftovers).await == "0").then_some(())
    })
    .await;
}
