use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::*;
use crate::secret::Secret;

const SECRET: &str = "a secret of more than thirty-two bytes";
const NOW: u64 = 1_800_000_000;

fn verifier() -> Verifier {
    let api_keys = ApiKeys::parse("sb_publishable_x:anon, sb_secret_y:service_role").unwrap();
    Verifier::new(KeySet::shared_secret(&Secret::new(SECRET)), api_keys)
}

fn sign(header: &Header, claims: &Value, secret: &str) -> String {
    encode(header, claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

fn hs256(claims: &Value) -> String {
    sign(&Header::default(), claims, SECRET)
}

/// A token whose header and claims are these texts, with a signature of `SECRET`.
fn forged(header: &str, claims: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
    let signed = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{signed}.{signature}")
}

fn check(what: &str, token: &str, expected: impl Into<Result<Option<u64>, TokenError>>) {
    let verdict = verifier()
        .verify(token, NOW)
        .map(|claims| claims.expires_at);
    assert_eq!(verdict, expected.into(), "{what}");
}

#[test]
fn claims_are_judged_in_order() {
    let table = [
        (json!({"role": "anon", "exp": NOW + 1}), Ok(Some(NOW + 1))),
        (
            json!({"role": "anon", "exp": 1_800_000_000.6}),
            Ok(Some(NOW + 1)),
        ),
        (
            json!({"role": "anon", "exp": 1_800_000_000.4}),
            Err(TokenError::Expired(0)),
        ),
        (
            json!({"role": "anon", "exp": NOW}),
            Err(TokenError::Expired(0)),
        ),
        (
            json!({"role": "anon", "exp": NOW - 60}),
            Err(TokenError::Expired(60)),
        ),
        (
            json!({"role": "anon", "exp": -1}),
            Err(TokenError::Expired(NOW + 1)),
        ),
        (
            json!({"role": "anon", "exp": 1e300}),
            Err(TokenError::Invalid),
        ),
        (
            json!({"role": "anon", "exp": "2000000000"}),
            Err(TokenError::Invalid),
        ),
        (
            json!({"role": "anon", "exp": NOW + 1, "iat": "1"}),
            Err(TokenError::Invalid),
        ),
        (
            json!({"role": "anon", "exp": NOW + 1, "iat": 1.5}),
            Ok(Some(NOW + 1)),
        ),
        (
            json!({"role": "anon", "exp": NOW + 1, "aud": "authenticated"}),
            Ok(Some(NOW + 1)),
        ),
        (json!({"role": 7, "exp": NOW + 1}), Err(TokenError::Invalid)),
        (json!({"role": "anon"}), Err(TokenError::MissingClaims)),
        (
            json!({"role": "anon", "exp": null}),
            Err(TokenError::MissingClaims),
        ),
        (json!({"exp": NOW + 1}), Err(TokenError::MissingClaims)),
        (json!({"exp": NOW - 1}), Err(TokenError::Expired(1))),
    ];
    for (claims, expected) in table {
        check(&claims.to_string(), &hs256(&claims), expected);
    }
}

#[test]
fn every_hmac_algorithm_is_accepted_with_any_kid() {
    let claims = json!({"role": "anon", "exp": NOW + 1});
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let header = Header {
            kid: Some("unknown".to_owned()),
            ..Header::new(algorithm)
        };
        check(
            &format!("{algorithm:?}"),
            &sign(&header, &claims, SECRET),
            Ok(Some(NOW + 1)),
        );
    }
}

#[test]
fn signers_that_are_not_configured_are_named() {
    let claims = r#"{"role":"anon","exp":2000000000}"#;
    let table = [
        (
            r#"{"alg":"RS256","kid":"19de8c2c"}"#,
            Some("19de8c2c".to_owned()),
        ),
        (r#"{"alg":"ES256"}"#, None),
        (r#"{"alg":"PS256","kid":"19de8c2c"}"#, None),
        (r#"{"alg":"none"}"#, None),
        (r#"{"alg":"None"}"#, None),
        (r#"{"alg":""}"#, None),
        (r#"{"alg":"hs256"}"#, None),
        (r#"{"alg":256}"#, None),
        ("{}", None),
    ];
    for (header, key_id) in table {
        check(
            header,
            &forged(header, claims),
            Err(TokenError::Signer(key_id)),
        );
    }
}

#[test]
fn a_wrong_signature_is_refused_before_the_claims_are_judged() {
    let expired = json!({"role": "anon", "exp": 1});
    check(
        "other secret",
        &sign(&Header::default(), &expired, "another"),
        Err(TokenError::Signature),
    );
    let good = hs256(&json!({"role": "anon", "exp": NOW + 1}));
    let (signed, _) = good.rsplit_once('.').unwrap();
    check(
        "no signature",
        &format!("{signed}."),
        Err(TokenError::Signature),
    );
    check(
        "signature is not base64",
        &format!("{signed}.!"),
        Err(TokenError::Malformed),
    );
}

#[test]
fn what_is_no_token_is_called_malformed() {
    let good = hs256(&json!({"role": "anon", "exp": NOW + 1}));
    for token in [
        "",
        "potato",
        "a.b",
        "a.b.c",
        "..",
        "sb_unknown",
        &"x".repeat(9_000),
        &format!("{good}.x"),
    ] {
        check(token, token, Err(TokenError::Malformed));
    }
    for (header, claims) in [("{}", "[]"), ("[]", "{}"), ("7", "{}")] {
        check(claims, &forged(header, claims), Err(TokenError::Invalid));
    }
    check("not JSON", &forged("{}", "{"), Err(TokenError::Malformed));
}

#[test]
fn tokens_are_cleaned_first() {
    let good = hs256(&json!({"role": "anon", "exp": NOW + 1}));
    let (head, tail) = good.split_at(10);
    check("spaces", &format!(" {head}\n\t{tail} "), Ok(Some(NOW + 1)));
    check(
        "percent",
        &format!("{head}%20%0A{}", tail.replace('.', "%2E")),
        Ok(Some(NOW + 1)),
    );
}

#[test]
fn claims_reach_the_database_as_they_were_signed() {
    let text = r#"{"role":"authenticated", "sub":"7f0c", "exp":2000000000.0}"#;
    let claims = verifier()
        .verify(&forged(r#"{"alg":"HS256"}"#, text), NOW)
        .unwrap();
    assert_eq!(&*claims.json, text);
    assert_eq!(claims.subject.as_deref(), Some("7f0c"));
    assert_eq!(&*claims.role, "authenticated");
}

#[test]
fn api_keys_stand_for_their_roles() {
    for (key, role) in [
        ("sb_publishable_x", "anon"),
        ("sb_secret_y", "service_role"),
    ] {
        let claims = verifier().verify(key, NOW).unwrap();
        assert_eq!((&*claims.role, claims.expires_at), (role, None));
    }
    for text in ["", "sb_x", "sb_x:", "key:anon", "sb_:anon", "sb_x:anon,,"] {
        assert!(ApiKeys::parse(text).is_err(), "{text}");
    }
    assert!(!format!("{:?}", verifier()).contains("publishable"));
}

#[test]
fn a_minted_token_is_accepted() {
    let Value::Object(claims) = json!({"role": "anon", "exp": NOW + 1}) else {
        unreachable!()
    };
    let token = mint(&Secret::new(SECRET), &claims).unwrap();
    check("minted", &token, Ok(Some(NOW + 1)));
}
