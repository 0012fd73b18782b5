//! Makes tokens, for `pgrelay token`, the demo and `pgrelay tail`.

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Map, Value};

use crate::secret::Secret;

/// A token could not be signed.
#[derive(Debug, thiserror::Error)]
#[error("sign the token")]
pub struct MintError(#[from] jsonwebtoken::errors::Error);

/// Signs `claims` with `secret` as HS256.
///
/// # Errors
/// Only if the claims cannot be written as JSON.
pub fn mint(secret: &Secret, claims: &Map<String, Value>) -> Result<String, MintError> {
    let key = EncodingKey::from_secret(secret.reveal().as_bytes());
    Ok(encode(&Header::default(), claims, &key)?)
}
