//! Who a token speaks for. Refuses to know what anybody may see: that is the database's decision.
//!
//! [`Verifier`] is called at connect by the upgrade, at join and refresh by the relay, and by the
//! event streams. Nothing is cached: checking an HMAC costs a microsecond, and a cache could outlive
//! an `exp`.

mod api_keys;
mod jwt;
mod key_set;
mod mint;

use std::{borrow::Cow, sync::Arc};

use pgrelay_protocol::TokenError;
use pgrelay_relay::ports::{Claims, TokenVerifier};

pub use api_keys::ApiKeys;
pub use key_set::KeySet;
pub use mint::{MintError, mint};

use jwt::Jwt;

/// Tokens longer than this are not looked at.
const TOKEN_BYTES_MAX: usize = 8_192;

/// Checks JWTs against the configured keys, and opaque keys against the configured list.
#[derive(Debug)]
pub struct Verifier {
    keys: KeySet,
    api_keys: ApiKeys,
}

impl Verifier {
    /// Trusts what `keys` verify and what `api_keys` lists.
    pub fn new(keys: KeySet, api_keys: ApiKeys) -> Self {
        Self { keys, api_keys }
    }
}

impl TokenVerifier for Verifier {
    fn verify(&self, token: &str, now: u64) -> Result<Arc<Claims>, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed);
        }
        let token = clean(token);
        if let Some(claims) = self.api_keys.find(&token) {
            return Ok(claims);
        }
        let jwt = Jwt::parse(&token)?;
        let key = self.keys.select(jwt.header())?;
        jwt.verify(key, now).map(Arc::new)
    }
}

/// Undoes percent-encoding and removes whitespace, as clients and copied keys need it.
fn clean(token: &str) -> Cow<'_, str> {
    if !token.contains(|c: char| c == '%' || c.is_whitespace()) {
        return Cow::Borrowed(token);
    }
    let decoded = percent_encoding::percent_decode_str(token).decode_utf8_lossy();
    Cow::Owned(decoded.chars().filter(|c| !c.is_whitespace()).collect())
}

#[cfg(test)]
mod tests;
