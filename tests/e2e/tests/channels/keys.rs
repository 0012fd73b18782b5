//! Keys that an issuer of tokens publishes, and their rotation.

use pgrelay_e2e::Stage;
use pgrelay_test_support::{
    KeyPair, Publisher, Relay, RelayBuilder, TestDatabase, Vsn, WsClient, token, wait_for,
};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite;

const TOPIC: &str = "realtime:room";
const FAR: u64 = 4_000_000_000;

fn hasty(relay: RelayBuilder) -> RelayBuilder {
    relay
        .set("PGRELAY_CONNECT_ERROR_DELAY", "0ms")
        .set("PGRELAY_JOIN_ERROR_DELAY", "0ms")
        .set("PGRELAY_JWKS_REFRESH", "1s")
}

fn user(pair: &KeyPair) -> String {
    pair.token(&json!({"role": "authenticated", "exp": FAR}))
}

/// What a connection with this key is answered; 101 where it is let in.
async fn answer(relay: &Relay, key: &str) -> (u16, String) {
    let url = format!(
        "ws://{}/realtime/v1/websocket?vsn=2.0.0&apikey={key}",
        relay.address()
    );
    match tokio_tungstenite::connect_async(&url).await {
        Ok(_) => (101, String::new()),
        Err(tungstenite::Error::Http(response)) => {
            let body = response.body().clone().unwrap_or_default();
            (response.status().as_u16(), String::from_utf8(body).unwrap())
        }
        Err(error) => panic!("{url}: {error}"),
    }
}

/// Waits until a key is let in, or is not.
async fn wait_answer(relay: &Relay, key: &str, status: u16) {
    wait_for(&format!("an answer of {status}"), async || {
        (answer(relay, key).await.0 == status).then_some(())
    })
    .await;
}

#[tokio::test]
async fn keys_are_rotated_without_closing_anybody() {
    let (first, second) = (KeyPair::es256("first"), KeyPair::eddsa("second"));
    let publisher = Publisher::start(&KeyPair::jwks(&[&first])).await;
    let url = publisher.url();
    let stage = Stage::open_with(|relay| {
        hasty(relay)
            .set("PGRELAY_JWKS", &url)
            .allow("the keys stay as they are")
    })
    .await;
    let mut client = WsClient::connect(stage.relay.address(), Vsn::V2, &user(&first)).await;
    client.join(TOPIC, json!({})).await;
    let unknown = "Failed to generate JWT signer for key ID (kid) \"second\", check your JWT secret or JWKS configuration";
    let body = json!({ "error": unknown }).to_string();
    assert_eq!(answer(&stage.relay, &user(&second)).await, (401, body));

    publisher.publish(Some(&KeyPair::jwks(&[&second])));
    wait_answer(&stage.relay, &user(&second), 101).await;
    wait_answer(&stage.relay, &user(&first), 401).await;
    // Who is in stays in, keeps its channel and may take a new token.
    client.heartbeat().await;
    let refresh = json!({"access_token": user(&second)});
    client.push(TOPIC, "access_token", refresh).await;
    client.heartbeat().await;
    assert_eq!(client.take_unclaimed(), []);
    // The shared secret is trusted beside them.
    assert_eq!(answer(&stage.relay, &stage.relay.anon_key()).await.0, 101);

    // An outage keeps the keys that are known, garbage as well.
    for document in [None, Some("garbage"), Some("{\"keys\":[]}")] {
        publisher.publish(document);
        let seen = publisher.requests();
        wait_for("the set to be asked for again", async || {
            (publisher.requests() > seen + 1).then_some(())
        })
        .await;
        assert_eq!(answer(&stage.relay, &user(&second)).await.0, 101);
    }
}

#[tokio::test]
async fn published_keys_may_be_all_there_is() {
    let database = TestDatabase::create().await;
    let pair = KeyPair::es256("only");
    let folder = std::env::temp_dir().join(format!("pgrelay-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("jwks.json");
    std::fs::write(&file, KeyPair::jwks(&[&pair])).unwrap();
    let relay = hasty(Relay::builder(database.url()))
        .unset("PGRELAY_JWT_SECRET")
        .set("PGRELAY_JWKS", file.to_str().unwrap());
    let running = relay.clone().start().await;
    assert_eq!(answer(&running, &user(&pair)).await.0, 101);
    let hmac = token(&json!({"role": "service_role"}));
    let (status, body) = answer(&running, &hmac).await;
    assert_eq!(status, 401);
    assert!(body.contains("Failed to generate JWT signer"), "{body}");
    drop(running);
    // A file that is not there, or says nothing, is a mistake that is told at once.
    std::fs::write(&file, "{}").unwrap();
    let (status, printed) = relay.run(&["serve"]).await;
    assert_eq!(status.code(), Some(64), "{printed}");
    assert!(printed.contains("PGRELAY_JWKS cannot be used"), "{printed}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn an_issuer_may_start_after_the_relay() {
    let database = TestDatabase::create().await;
    let pair = KeyPair::es256("late");
    let publisher = Publisher::start("").await;
    publisher.publish(None);
    let relay = hasty(Relay::builder(database.url()))
        .set("PGRELAY_JWKS", &publisher.url())
        .allow("no published keys yet")
        .allow("the keys stay as they are")
        .start()
        .await;
    assert_eq!(answer(&relay, &user(&pair)).await.0, 401);
    publisher.publish(Some(&KeyPair::jwks(&[&pair])));
    wait_answer(&relay, &user(&pair), 101).await;
}

#[tokio::test]
async fn tokens_that_name_unknown_keys_do_not_make_requests() {
    let pair = KeyPair::es256("known");
    let publisher = Publisher::start(&KeyPair::jwks(&[&pair])).await;
    let url = publisher.url();
    let stage = Stage::open_with(|relay| {
        hasty(relay)
            .set("PGRELAY_JWKS", &url)
            .set("PGRELAY_JWKS_REFRESH", "1h")
    })
    .await;
    assert_eq!(publisher.requests(), 1);
    for n in 0..200 {
        let stranger = KeyPair::eddsa(&format!("../{n}"));
        assert_eq!(answer(&stage.relay, &user(&stranger)).await.0, 401);
    }
    // One that came too early to be read within the pause, at most.
    assert!(publisher.requests() <= 2, "{}", publisher.requests());
}

#[tokio::test]
async fn forgeries_are_refused_wherever_tokens_are_read() {
    let pair = KeyPair::es256("known");
    let publisher = Publisher::start(&KeyPair::jwks(&[&pair])).await;
    let url = publisher.url();
    let stage = Stage::open_with(|relay| hasty(relay).set("PGRELAY_JWKS", &url)).await;
    let part = |value: &Value| {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string())
    };
    let claims = json!({"role": "service_role", "exp": FAR});
    let forged = |header: Value| {
        let signature = user(&pair);
        let signature = signature.rsplit('.').next().unwrap();
        format!("{}.{}.{signature}", part(&header), part(&claims))
    };
    let mut client = stage.connect(Vsn::V2).await;
    for header in [
        json!({"alg": "none"}),
        json!({"alg": "None", "kid": "known"}),
        json!({"alg": "NONE", "kid": "known"}),
        json!({"alg": "", "kid": "known"}),
        json!({"alg": "ES256", "kid": "known"}),
        json!({"alg": "HS256", "kid": "known"}),
        json!({"alg": "RS256", "kid": "known"}),
        json!({"alg": "ES256", "kid": "https://evil.test/jwks.json"}),
        json!({"alg": "ES256", "kid": "known", "jku": "http://127.0.0.1:1/", "x5u": "http://127.0.0.1:1/"}),
        json!({"alg": "ES256", "kid": "k".repeat(4_000)}),
    ] {
        let token = forged(header.clone());
        assert_eq!(answer(&stage.relay, &token).await.0, 401, "{header}");
        let payload = json!({"config": {}, "access_token": token});
        let reply = client.request(TOPIC, "phx_join", payload).await;
        assert_eq!(reply.payload["status"], "error", "{header}");
    }
    let http = pgrelay_test_support::Request::get(&stage.relay.url("/events?table=public.t"));
    let answer = http
        .header(
            "authorization",
            &format!("Bearer {}", forged(json!({"alg": "none"}))),
        )
        .send()
        .await;
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn a_header_may_carry_the_key_and_wins_over_the_query() {
    let stage = Stage::open_with(|relay| {
        hasty(relay).set(
            "PGRELAY_API_KEYS",
            "sb_publishable_x:anon,sb_secret_y:service_role",
        )
    })
    .await;
    let connect = async |key: &str, query: &str| {
        use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
        let url = format!(
            "ws://{}/realtime/v1/websocket?vsn=2.0.0{query}",
            stage.relay.address()
        );
        let mut request = url.into_client_request().unwrap();
        request
            .headers_mut()
            .insert("x-api-key", key.parse().unwrap());
        tokio_tungstenite::connect_async(request).await.is_ok()
    };
    let anon = stage.relay.anon_key();
    assert!(connect(&anon, "").await);
    assert!(connect("sb_secret_y", "&apikey=potato").await);
    assert!(!connect("potato", &format!("&apikey={anon}")).await);
    assert!(!connect("sb_secret_z", "").await);
}

#[tokio::test]
async fn demands_on_claims_hold_for_every_token() {
    let stage = Stage::open_with(|relay| {
        hasty(relay)
            .set(
                "PGRELAY_JWT_CLAIMS",
                "role=anon|authenticated,iss=https://issuer.test",
            )
            .set("PGRELAY_JWT_NOT_BEFORE", "true")
    })
    .await;
    for (claims, status) in [
        (json!({"role": "anon", "iss": "https://issuer.test"}), 101),
        (
            json!({"role": "anon", "iss": "https://issuer.test.evil"}),
            500,
        ),
        (json!({"role": "anon"}), 500),
        (
            json!({"role": "postgres", "iss": "https://issuer.test"}),
            500,
        ),
        (
            json!({"role": "anon", "iss": "https://issuer.test", "nbf": FAR}),
            500,
        ),
        (
            json!({"role": "anon", "iss": "https://issuer.test", "iat": FAR}),
            500,
        ),
        (
            json!({"role": "anon", "iss": "https://issuer.test", "nbf": 1, "iat": 1}),
            101,
        ),
    ] {
        assert_eq!(
            answer(&stage.relay, &token(&claims)).await.0,
            status,
            "{claims}"
        );
    }
}
