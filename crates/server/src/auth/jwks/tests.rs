use std::io::Write as _;

use pgrelay_protocol::TokenError;
use pgrelay_relay::ports::TokenVerifier as _;
use serde_json::json;
use tokio::time::advance;

use super::*;
use crate::auth::{ApiKeys, KeySet, TokenRules, Verifier};

const NOW: u64 = 1_800_000_000;

/// A set with one HMAC key of this name, and a token signed with it.
fn published(kid: &str) -> (String, String) {
    let secret = format!("the secret called {kid}");
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&key, jsonwebtoken::Algorithm::HS256);
    let mut jwk = serde_json::to_value(jwk.unwrap()).unwrap();
    jwk["kid"] = kid.into();
    let header = jsonwebtoken::Header {
        kid: Some(kid.to_owned()),
        ..jsonwebtoken::Header::default()
    };
    let claims = json!({"role": "anon", "exp": NOW + 1});
    let token = jsonwebtoken::encode(&header, &claims, &key).unwrap();
    (json!({ "keys": [jwk] }).to_string(), token)
}

struct Stage {
    file: tempfile::NamedTempFile,
    verifier: Verifier,
    jwks: Jwks,
}

fn stage(every: Duration) -> Stage {
    let file = tempfile::NamedTempFile::new().unwrap();
    let ring = Arc::new(KeyRing::new(KeySet::default()));
    let source = JwksSource::parse(file.path().to_str().unwrap()).unwrap();
    let jwks = Jwks::new(source, Arc::clone(&ring), every);
    Stage {
        file,
        verifier: Verifier::following(ring, ApiKeys::default(), TokenRules::default()),
        jwks,
    }
}

impl Stage {
    fn write(&mut self, document: &str) {
        self.file.as_file().set_len(0).unwrap();
        std::fs::write(self.file.path(), document).unwrap();
        self.file.flush().unwrap();
    }
}

#[tokio::test]
async fn keys_come_go_and_outlive_an_outage() {
    let mut stage = stage(Duration::from_secs(300));
    let ((first, old), (second, new)) = (published("first"), published("second"));
    let unknown = |kid: &str| Err(TokenError::Signer(Some(kid.to_owned())));
    let verdict = |stage: &Stage, token: &str| stage.verifier.verify(token, NOW).map(|_| ());

    stage.write(&first);
    assert_eq!(stage.jwks.refresh().await.unwrap(), 1);
    assert_eq!(verdict(&stage, &old), Ok(()));
    assert_eq!(verdict(&stage, &new), unknown("second"));

    for broken in [
        "",
        "nonsense",
        r#"{"keys":[]}"#,
        &" ".repeat(DOCUMENT_BYTES_MAX + 1),
    ] {
        stage.write(broken);
        assert!(stage.jwks.refresh().await.is_err());
        assert_eq!(verdict(&stage, &old), Ok(()));
    }

    stage.write(&second);
    stage.jwks.refresh().await.unwrap();
    assert_eq!(verdict(&stage, &old), unknown("first"));
    assert_eq!(verdict(&stage, &new), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn unknown_keys_bring_the_next_read_forward_and_no_more() {
    let mut stage = stage(Duration::from_secs(300));
    let (document, token) = published("second");
    stage.write(&document);
    let Stage {
        verifier,
        jwks,
        file: _file,
    } = stage;
    let mut running = std::pin::pin!(jwks.run());
    let mut step = async |by: Duration| {
        advance(by).await;
        // The file is read on a thread of its own, so that a turn is not enough.
        for _ in 0..50 {
            tokio::select! {
                biased;
                () = &mut running => {}
                () = tokio::task::yield_now() => {}
            }
            tokio::task::spawn_blocking(|| {}).await.unwrap();
        }
    };
    step(Duration::ZERO).await;
    for _ in 0..10_000 {
        assert!(verifier.verify(&token, NOW).is_err());
    }
    step(PAUSE_MIN - Duration::from_secs(1)).await;
    assert!(verifier.verify(&token, NOW).is_err(), "too early");
    step(Duration::from_secs(2)).await;
    assert!(verifier.verify(&token, NOW).is_ok());
}

#[test]
fn only_urls_that_nobody_can_tamper_with_are_taken() {
    for text in [
        "https://issuer.test/.well-known/jwks.json",
        "https://issuer.test:8443/",
        "http://127.0.0.1:9999/jwks",
        "http://[::1]/jwks",
        "http://10.1.2.3/jwks",
        "http://auth:9999/.well-known/jwks.json",
        "/etc/pgrelay/jwks.json",
    ] {
        assert!(JwksSource::parse(text).is_ok(), "{text}");
    }
    for text in [
        "http://issuer.test/jwks",
        "http://169.254.169.254/latest",
        "http://8.8.8.8/jwks",
        "ftp://issuer.test/jwks",
        "https://user:password@issuer.test/jwks",
        "https://",
        "://",
    ] {
        assert!(JwksSource::parse(text).is_err(), "{text}");
    }
}

#[test]
fn tokens_are_checked_while_keys_are_replaced() {
    let (document, token) = published("first");
    let ring = Arc::new(KeyRing::new(KeySet::default()));
    let first = KeySet::default().with_published(&document).unwrap();
    ring.replace(first.clone());
    let verifier =
        Verifier::following(Arc::clone(&ring), ApiKeys::default(), TokenRules::default());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..5_000 {
                ring.replace(first.clone());
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    assert!(verifier.verify(&token, NOW).is_ok());
                }
            });
        }
    });
}
