//! A token is accepted only if every byte that was signed is as it was signed.

use pgrelay_relay::ports::TokenVerifier as _;
use pgrelay_server::auth::{ApiKeys, KeySet, Verifier};
use pgrelay_server::secret::Secret;
use pgrelay_test_support::{SECRET, fuzz, token, token_signed_with};
use serde_json::json;

#[test]
fn tokens_are_ours_or_refused() {
    let good = [
        token(&json!({"role": "anon"})),
        token(
            &json!({"role": "authenticated", "sub": "5f0c7a52-6d3e-4b7e-9a34-2f6a3c1d0001", "aud": ["a"]}),
        ),
        "sb_publishable_x".to_owned(),
    ];
    let odd = [
        token(&json!({"role": "anon", "exp": 1})),
        token(&json!({"role": "anon", "exp": "soon"})),
        token(&json!({"exp": 9e99})),
        token_signed_with(SECRET, &json!([])),
        "eyJhbGciOiJub25lIn0.eyJyb2xlIjoiYW5vbiJ9.".to_owned(),
        "eyJhbGciOiJSUzI1NiIsImtpZCI6Ii4uLyJ9.e30.AA".to_owned(),
        "..".to_owned(),
        "%".to_owned(),
    ];
    let keys = KeySet::shared_secret(&Secret::new(SECRET));
    let api_keys = ApiKeys::parse("sb_publishable_x:anon").unwrap_or_default();
    let verifier = Verifier::new(keys, api_keys);
    let signed = |token: &str| token.rsplit_once('.').map(|(signed, _)| signed.to_owned());
    let known: Vec<_> = good.iter().map(|token| signed(token)).collect();
    let corpus = good.iter().chain(&odd).cloned().collect::<Vec<_>>();
    fuzz(&corpus.join("\n"), |input| {
        let text = String::from_utf8_lossy(input);
        if verifier.verify(&text, 1_700_000_000).is_ok() {
            // Clients paste tokens with blanks and percent signs in them.
            let clean: String = text.chars().filter(|c| !c.is_whitespace()).collect();
            assert!(
                known.contains(&signed(&clean)) || clean.contains('%'),
                "{text:?} was accepted"
            );
        }
    });
}
