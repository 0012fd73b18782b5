//! Private channels: what policies on the table of messages mean for those who join.

use pgrelay_e2e::Stage;
use pgrelay_test_support::{RelayBuilder, Request, Vsn, WsClient, token};
use serde_json::{Value, json};

use crate::delivery::{READERS, heard};

const ROOM: &str = "realtime:room";
const UNAUTHORIZED: &str =
    "Unauthorized: You do not have permissions to read from this Channel topic: room";

fn hasty(relay: RelayBuilder) -> RelayBuilder {
    relay.set("PGRELAY_JOIN_ERROR_DELAY", "0ms")
}

/// The reason a private join is refused with; `ok` where it is not.
async fn outcome(stage: &Stage, claims: &Value) -> String {
    let key = token(claims);
    let mut client = WsClient::connect(stage.relay.address(), Vsn::V2, &key).await;
    let config = json!({"config": {"private": true}});
    let reply = client.request(ROOM, "phx_join", config).await;
    let reason = reply.payload["response"]["reason"].as_str();
    client.heartbeat().await;
    assert_eq!(client.take_unclaimed(), [], "one reply");
    reason.unwrap_or("ok").to_owned()
}

#[tokio::test]
async fn policies_decide_who_joins() {
    let stage = Stage::open_with(hasty).await;
    let user = |n: u8| json!({"role": "authenticated", "sub": format!("7f0c0000-0000-4000-8000-00000000000{n}")});
    let anon = json!({"role": "anon"});
    assert_eq!(outcome(&stage, &user(1)).await, UNAUTHORIZED);
    assert_eq!(
        outcome(&stage, &json!({"role": "service_role"})).await,
        "ok"
    );
    stage
        .sql
        .run(
            "create policy members on realtime.messages for select to authenticated
               using (realtime.topic() = 'room' and auth.uid()::text like '%1')",
        )
        .await;
    assert_eq!(outcome(&stage, &user(1)).await, "ok");
    assert_eq!(outcome(&stage, &user(2)).await, UNAUTHORIZED);
    assert_eq!(outcome(&stage, &anon).await, UNAUTHORIZED);
    assert_eq!(
        outcome(&stage, &json!({"role": "potato"})).await,
        UNAUTHORIZED
    );
    // Claims that policies choke on are theirs alone.
    assert_eq!(
        outcome(&stage, &json!({"role": "authenticated", "sub": "no uuid"})).await,
        UNAUTHORIZED
    );
    assert_eq!(outcome(&stage, &user(1)).await, "ok");
}

#[tokio::test]
async fn a_policy_that_raises_or_sleeps_lets_nobody_in_and_holds_nobody_up() {
    let stage = Stage::open_with(|relay| {
        hasty(relay)
            .set("PGRELAY_EVALUATE_TIMEOUT", "2s")
            .allow("the rights on a private channel are not known now")
    })
    .await;
    stage
        .sql
        .run(
            "create function fail() returns boolean language plpgsql as $$ begin raise 'a secret'; end $$;
             create policy f on realtime.messages for select to anon using (fail());
             create policy s on realtime.messages for select to authenticated using (pg_sleep(60) is null)",
        )
        .await;
    assert_eq!(
        outcome(&stage, &json!({"role": "anon"})).await,
        UNAUTHORIZED
    );
    let slow = (0..6).map(|n| json!({"role": "authenticated", "sub": n.to_string()}));
    let slow: Vec<Value> = slow.collect();
    let slow = futures::future::join_all(slow.iter().map(|claims| outcome(&stage, claims)));
    let (slow, service) = futures::join!(slow, async {
        outcome(&stage, &json!({"role": "service_role"})).await
    });
    assert_eq!(service, "ok");
    for reason in slow {
        assert_eq!(
            reason,
            "QueryCanceled: canceling statement due to statement timeout"
        );
    }
    let left = stage
        .sql
        .value("select count(*) from realtime.messages")
        .await;
    assert_eq!(left, "0", "what was tried is undone");
    let log = stage.relay.log().join("\n");
    assert!(
        !log.contains("insert into") && !log.contains("request.jwt"),
        "{log}"
    );
}

#[tokio::test]
async fn whoever_may_not_write_is_heard_by_nobody() {
    let stage = Stage::open().await;
    stage
        .sql
        .run(&format!(
            "{READERS};
             create policy writers on realtime.messages for insert to authenticated
               with check (realtime.topic() = 'room' and extension = 'broadcast')"
        ))
        .await;
    let mut reader = stage.connect(Vsn::V2).await;
    reader.join(ROOM, json!({"private": true})).await;
    let writer = token(&json!({"role": "authenticated"}));
    let mut writer = WsClient::connect(stage.relay.address(), Vsn::V2, &writer).await;
    writer.join(ROOM, json!({"private": true})).await;
    let say = |n: u8| json!({"type": "broadcast", "event": "e", "payload": {"n": n}});
    reader.push(ROOM, "broadcast", say(1)).await;
    reader.heartbeat().await;
    writer.push(ROOM, "broadcast", say(2)).await;
    assert_eq!(heard(&mut reader).await.0["payload"]["n"], 2);
    // The same over HTTP.
    let url = stage.relay.url("/realtime/v1/api/broadcast");
    let body = |n: u8| {
        json!({"messages": [{"topic": "room", "event": "e", "payload": {"n": n}, "private": true}]})
            .to_string()
    };
    for (role, n) in [("anon", 3), ("authenticated", 4)] {
        let key = token(&json!({"role": role}));
        let request = Request::post(&url, "application/json", body(n));
        let answer = request
            .header("authorization", &format!("Bearer {key}"))
            .send()
            .await;
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
    assert_eq!(heard(&mut reader).await.0["payload"]["n"], 4);
    assert_eq!(heard(&mut writer).await.0["payload"]["n"], 4, "not its own");
}

#[tokio::test]
async fn a_new_token_is_asked_about_again() {
    let stage = Stage::open().await;
    stage
        .sql
        .run(
            "create policy level on realtime.messages for select to authenticated
               using ((auth.jwt() ->> 'level')::int > case extension when 'broadcast' then 1 else 0 end)",
        )
        .await;
    let key = |level: u8| token(&json!({"role": "authenticated", "level": level}));
    let mut client = WsClient::connect(stage.relay.address(), Vsn::V2, &key(1)).await;
    let config = json!({"private": true, "presence": {"enabled": true}});
    client.join(ROOM, config).await;
    client
        .expect("who is there", |frame| frame.event == "presence_state")
        .await;
    // Somebody else hears it, so it was on its way before the refresh.
    let service = stage.relay.service_key();
    let mut other = WsClient::connect(stage.relay.address(), Vsn::V2, &service).await;
    other.join(ROOM, json!({"private": true})).await;
    stage
        .sql
        .run("select realtime.send('{}', 'unheard', 'room')")
        .await;
    assert_eq!(heard(&mut other).await.0["event"], "unheard");
    client.heartbeat().await;
    let refresh = |level: u8| json!({"access_token": key(level)});
    client.push(ROOM, "access_token", refresh(2)).await;
    // Nothing is answered; once it counts, messages arrive.
    let first = pgrelay_test_support::wait_for("a message", async || {
        stage
            .sql
            .run("select realtime.send('{}', 'heard', 'room')")
            .await;
        client.heartbeat().await;
        client
            .take_unclaimed()
            .into_iter()
            .find(|frame| frame.event == "broadcast")
    })
    .await;
    assert_eq!(first.payload["event"], "heard");
    client.push(ROOM, "access_token", refresh(0)).await;
    let told = client.expect("why", |frame| frame.event == "system").await;
    assert_eq!(
        told.payload,
        json!({"channel": "room", "extension": "system", "status": "error",
               "message": "You do not have permissions to read from this Channel topic: room"})
    );
    client
        .expect("the end", |frame| frame.event == "phx_close")
        .await;
}
