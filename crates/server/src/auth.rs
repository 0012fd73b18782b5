//! Who a token speaks for. Refuses to know what anybody may see: that is the database's decision.
//!
//! [`Verifier`] is called at connect by the upgrade, at join and refresh by the relay, and by the
//! event streams. Nothing is cached: checking an HMAC costs a microsecond, and a cache could outlive
//! an `exp`.

mod api_keys;
mod jwks;
mod jwt;
mod key_ring;
mod key_set;
mod mint;
mod token_rules;

use std::{borrow::Cow, sync::Arc};

use pgrelay_protocol::TokenError;
use pgrelay_relay::ports::{Claims, TokenVerifier};

pub use api_keys::ApiKeys;
pub use jwks::{Jwks, JwksSource, RefreshError};
pub use key_ring::KeyRing;
pub use key_set::KeySet;
pub use mint::{MintError, mint};
pub use token_rules::{Demand, TokenRules};

use jwt::Jwt;

/// Tokens longer than this are not looked at.
const TOKEN_BYTES_MAX: usize = 8_192;

/// Checks JWTs against the configured keys, and opaque keys against the configured list.
#[derive(Debug)]
pub struct Verifier {
    keys: Arc<KeyRing>,
    api_keys: ApiKeys,
    rules: TokenRules,
}

impl Verifier {
    /// Trusts what `keys` verify and what `api_keys` lists.
    pub fn new(keys: KeySet, api_keys: ApiKeys) -> Self {
        let ring = Arc::new(KeyRing::new(keys));
        Self::following(ring, api_keys, TokenRules::default())
    }

    /// Trusts what the keys of the moment verify, where it meets `rules`, and what `api_keys` lists.
    pub fn following(keys: Arc<KeyRing>, api_keys: ApiKeys, rules: TokenRules) -> Self {
        Self {
            keys,
            api_keys,
            rules,
        }
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
        let keys = self.keys.current();
        match keys.select(jwt.header()) {
            Ok(key) => jwt.verify(key, &self.rules, now).map(Arc::new),
            Err(refused) => {
                if matches!(refused, TokenError::Signer(Some(_))) {
                    self.keys.miss();
                }
                Err(refused)
            }
        }
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
