//! Which key verifies a token.
//!
//! The algorithm is taken from the header only to choose among the keys that are configured for it:
//! a public key can never be used as an HMAC secret, and `none` chooses nothing.

use std::fmt;

use jsonwebtoken::{Algorithm, DecodingKey};
use pgrelay_protocol::TokenError;

use super::jwt::Header;
use crate::secret::Secret;

/// The configured keys.
#[derive(Clone)]
pub struct KeySet {
    shared_secret: DecodingKey,
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySet(***)")
    }
}

/// A key and the one algorithm it is used with for this token.
#[derive(Clone, Copy)]
pub(super) struct Signer<'a> {
    pub(super) key: &'a DecodingKey,
    pub(super) algorithm: Algorithm,
}

impl KeySet {
    /// Verifies HS256, HS384 and HS512 with `secret`, whatever `kid` a token names.
    pub fn shared_secret(secret: &Secret) -> Self {
        Self {
            shared_secret: DecodingKey::from_secret(secret.reveal().as_bytes()),
        }
    }

    /// The key for a token with this header. Asymmetric algorithms are known by name, so that their
    /// tokens are told that their `kid` is unknown.
    pub(super) fn select(&self, header: &Header) -> Result<Signer<'_>, TokenError> {
        let algorithm = match header.algorithm.as_deref() {
            Some("HS256") => Algorithm::HS256,
            Some("HS384") => Algorithm::HS384,
            Some("HS512") => Algorithm::HS512,
            Some(
                "RS256" | "RS384" | "RS512" | "ES256" | "ES384" | "ES512" | "EdDSA" | "Ed25519"
                | "Ed448",
            ) => return Err(TokenError::Signer(header.key_id.clone())),
            Some(_) | None => return Err(TokenError::Signer(None)),
        };
        Ok(Signer {
            key: &self.shared_secret,
            algorithm,
        })
    }
}
