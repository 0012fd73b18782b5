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

/// A key pair of one kind, its algorithm, and its public half as a JWK called `kid`.
struct Pair {
    kid: &'static str,
    algorithm: Algorithm,
    key: EncodingKey,
}

impl Pair {
    fn rsa(kid: &'static str) -> Self {
        use aws_lc_rs::{encoding::AsDer, rsa};
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
        let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            STANDARD.encode(der.as_ref())
        );
        Self {
            kid,
            algorithm: Algorithm::RS256,
            key: EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap(),
        }
    }

    fn ec(kid: &'static str) -> Self {
        use aws_lc_rs::{rand::SystemRandom, signature::*};
        let signing = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let der = EcdsaKeyPair::generate_pkcs8(signing, &SystemRandom::new()).unwrap();
        Self {
            kid,
            algorithm: Algorithm::ES256,
            key: EncodingKey::from_ec_der(der.as_ref()),
        }
    }

    fn ed(kid: &'static str) -> Self {
        use aws_lc_rs::{rand::SystemRandom, signature::Ed25519KeyPair};
        let der = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).unwrap();
        Self {
            kid,
            algorithm: Algorithm::EdDSA,
            key: EncodingKey::from_ed_der(der.as_ref()),
        }
    }

    fn secret(kid: &'static str) -> Self {
        Self {
            kid,
            algorithm: Algorithm::HS256,
            key: EncodingKey::from_secret(b"a published secret, of all things"),
        }
    }

    fn jwk(&self) -> Value {
        let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        jwk["kid"] = self.kid.into();
        jwk
    }

    fn token(&self, claims: &Value) -> String {
        let header = Header {
            kid: Some(self.kid.to_owned()),
            ..Header::new(self.algorithm)
        };
        encode(&header, claims, &self.key).unwrap()
    }
}

fn document(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

fn trusting(document: &str) -> Verifier {
    let keys = KeySet::shared_secret(&Secret::new(SECRET)).with_published(document);
    Verifier::new(keys.unwrap(), ApiKeys::default())
}

fn live() -> Value {
    json!({"role": "anon", "exp": NOW + 1})
}

#[test]
fn published_keys_of_every_kind_verify_their_own_tokens() {
    let pairs = [
        Pair::rsa("r"),
        Pair::ec("e"),
        Pair::ed("d"),
        Pair::secret("s"),
    ];
    let verifier = trusting(&document(&pairs.each_ref().map(Pair::jwk)));
    for pair in &pairs {
        assert!(
            verifier.verify(&pair.token(&live()), NOW).is_ok(),
            "{}",
            pair.kid
        );
        let mut other = [
            Pair::rsa("r"),
            Pair::ec("e"),
            Pair::ed("d"),
            Pair::secret("s"),
        ]
        .into_iter()
        .find(|other| other.kid == pair.kid)
        .unwrap();
        if pair.kid == "s" {
            other.key = EncodingKey::from_secret(b"another");
        }
        let refused = verifier.verify(&other.token(&live()), NOW);
        assert_eq!(refused.unwrap_err(), TokenError::Signature, "{}", pair.kid);
    }
    // The shared secret stays, and an HMAC whose kid names nothing falls back to it.
    assert!(verifier.verify(&hs256(&live()), NOW).is_ok());
}

#[test]
fn a_token_needs_a_published_key_of_its_name_and_kind() {
    let (rsa, ec) = (Pair::rsa("r"), Pair::ec("e"));
    let verifier = trusting(&document(&[rsa.jwk(), ec.jwk()]));
    let renamed = |pair: &Pair, kid: Option<&str>| {
        let header = Header {
            kid: kid.map(str::to_owned),
            ..Header::new(pair.algorithm)
        };
        encode(&header, &live(), &pair.key).unwrap()
    };
    for (token, kid) in [
        (renamed(&rsa, None), None),
        (renamed(&rsa, Some("e")), Some("e")),
        (renamed(&ec, Some("r")), Some("r")),
        (renamed(&rsa, Some("../r")), Some("../r")),
        (
            renamed(&rsa, Some("https://evil.test/r")),
            Some("https://evil.test/r"),
        ),
    ] {
        let refused = verifier.verify(&token, NOW).unwrap_err();
        assert_eq!(refused, TokenError::Signer(kid.map(str::to_owned)));
    }
}

#[test]
fn a_public_key_is_no_secret() {
    let rsa = Pair::rsa("r");
    let jwk = rsa.jwk();
    let verifier = trusting(&document(std::slice::from_ref(&jwk)));
    // What an attacker knows of the key, as the secret of an HMAC that names it.
    let modulus = jwk["n"].as_str().unwrap();
    for known in [modulus.to_owned(), jwk.to_string()] {
        let header = Header {
            kid: Some("r".to_owned()),
            ..Header::new(Algorithm::HS256)
        };
        let forged = sign(&header, &live(), &known);
        let refused = verifier.verify(&forged, NOW).unwrap_err();
        assert_eq!(refused, TokenError::Signature);
    }
    // Without a shared secret there is nothing an HMAC could be checked with.
    let keys = KeySet::default().with_published(&document(&[jwk])).unwrap();
    let verifier = Verifier::new(keys, ApiKeys::default());
    let refused = verifier.verify(&hs256(&live()), NOW).unwrap_err();
    assert_eq!(refused, TokenError::Signer(None));
}

#[test]
fn keys_that_are_not_for_signatures_of_their_kind_are_left_out() {
    let with = |pair: &Pair, name: &str, value: &str| {
        let mut jwk = pair.jwk();
        jwk[name] = value.into();
        jwk
    };
    let rsa = Pair::rsa("r");
    let mut nameless = rsa.jwk();
    nameless.as_object_mut().unwrap().remove("kid");
    let x25519 = json!({"kty": "OKP", "crv": "X25519", "kid": "x", "x": "AAAA"});
    let unusable = [
        with(&rsa, "use", "enc"),
        with(&rsa, "alg", "PS256"),
        with(&rsa, "alg", "ES256"),
        nameless,
        x25519,
        json!({"kty": "unheard of", "kid": "u"}),
        json!(7),
    ];
    for key in &unusable {
        let empty = KeySet::default().with_published(&document(std::slice::from_ref(key)));
        assert!(matches!(empty, Err(key_set::JwksError::Unusable)), "{key}");
    }
    // They do no harm to their neighbours, and a key that names its algorithm is for that alone.
    let mut keys = unusable.to_vec();
    keys.push(with(&rsa, "alg", "RS512"));
    let verifier = trusting(&document(&keys));
    let refused = verifier.verify(&rsa.token(&live()), NOW).unwrap_err();
    assert_eq!(refused, TokenError::Signer(Some("r".to_owned())));
}

#[test]
fn what_is_no_set_changes_nothing() {
    let many = vec![json!({}); 1_001];
    for text in [
        "",
        "[]",
        "{}",
        r#"{"keys":{}}"#,
        r#"{"keys":[]}"#,
        &document(&many),
    ] {
        assert!(
            KeySet::default().with_published(text).is_err(),
            "{text:.40}"
        );
    }
}

#[test]
fn a_leeway_counts_for_the_end_of_a_token() {
    let rules = TokenRules::new(std::time::Duration::from_secs(30), false, Vec::new());
    let ring = KeyRing::new(KeySet::shared_secret(&Secret::new(SECRET)));
    let verifier = Verifier::following(Arc::new(ring), ApiKeys::default(), rules);
    let until = |exp: u64| {
        let token = hs256(&json!({"role": "anon", "exp": exp}));
        verifier.verify(&token, NOW).map(|claims| claims.expires_at)
    };
    assert_eq!(until(NOW - 29), Ok(Some(NOW + 1)));
    assert_eq!(until(NOW - 30), Err(TokenError::Expired(0)));
}

#[test]
fn demands_on_claims_are_met_by_the_right_value_alone() {
    let demand = |claim: &str, values: &[&str]| Demand {
        claim: claim.into(),
        values: values.iter().map(|value| (*value).into()).collect(),
    };
    let demands = vec![
        demand("iss", &["https://a.test", "https://b.test"]),
        demand("aud", &["authenticated"]),
    ];
    let rules = TokenRules::new(std::time::Duration::ZERO, true, demands);
    let ring = KeyRing::new(KeySet::shared_secret(&Secret::new(SECRET)));
    let verifier = Verifier::following(Arc::new(ring), ApiKeys::default(), rules);
    let right = json!({"role": "anon", "exp": NOW + 9, "iss": "https://b.test", "aud": ["x", "authenticated"]});
    assert!(verifier.verify(&hs256(&right), NOW).is_ok());
    for (claim, value) in [
        ("iss", json!("https://evil.test")),
        ("iss", json!("https://a.test.evil.test")),
        ("iss", json!(null)),
        ("aud", json!([])),
        ("aud", json!("anon")),
        ("nbf", json!(NOW + 1)),
        ("iat", json!(NOW + 1)),
        ("nbf", json!("soon")),
    ] {
        let mut wrong = right.clone();
        wrong[claim] = value;
        let refused = verifier.verify(&hs256(&wrong), NOW).unwrap_err();
        assert_eq!(refused, TokenError::Invalid, "{wrong}");
    }
}
