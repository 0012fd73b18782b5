//! `pgrelay token`: a token made from the configured secret.

use serde_json::{Map, Value};

use crate::{
    auth::{MintError, mint},
    cli::TokenFlags,
    secret::Secret,
};

/// The token that `flags` describe, valid from Unix time `now`.
///
/// # Errors
/// If it cannot be signed.
pub(crate) fn make(flags: &TokenFlags, secret: &Secret, now: u64) -> Result<String, MintError> {
    let mut claims: Map<String, Value> = flags.claims.iter().cloned().collect();
    claims.insert("role".to_owned(), flags.role.as_str().into());
    if let Some(sub) = &flags.sub {
        claims.insert("sub".to_owned(), sub.as_str().into());
    }
    claims.insert("iat".to_owned(), now.into());
    claims.insert(
        "exp".to_owned(),
        now.saturating_add(flags.exp.as_secs()).into(),
    );
    mint(secret, &claims)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pgrelay_relay::ports::TokenVerifier as _;

    use super::*;
    use crate::auth::{ApiKeys, KeySet, Verifier};

    #[test]
    fn the_relay_accepts_what_is_made_here() {
        let secret = Secret::new("a secret of more than thirty-two bytes");
        let flags = TokenFlags {
            role: "authenticated".to_owned(),
            sub: Some("7f0c".to_owned()),
            exp: Duration::from_secs(60),
            claims: vec![("level".to_owned(), 3.into())],
        };
        let token = make(&flags, &secret, 1_000).unwrap();
        let verifier = Verifier::new(KeySet::shared_secret(&secret), ApiKeys::default());
        let claims = verifier.verify(&token, 1_059).unwrap();
        assert_eq!(
            (&*claims.role, claims.subject.as_deref()),
            ("authenticated", Some("7f0c"))
        );
        assert_eq!(claims.expires_at, Some(1_060));
        assert!(claims.json.contains(r#""level":3"#));
        assert!(verifier.verify(&token, 1_060).is_err());
    }
}
