//! One JSON Web Token: taken apart, its signature checked, its claims judged.
//!
//! Done here and not by a ready-made validator because clients are told exactly which of these
//! checks failed, in exactly this order.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use pgrelay_protocol::TokenError;
use pgrelay_relay::ports::Claims;
use serde_json::{Map, Value};

use super::{key_set::Signer, token_rules::TokenRules};

/// What the header says about the key.
pub(super) struct Header {
    /// `alg`.
    pub(super) algorithm: Option<String>,
    /// `kid`.
    pub(super) key_id: Option<String>,
}

/// A token whose parts could be read; nothing in it is proven yet.
pub(super) struct Jwt<'a> {
    header: Header,
    claims: Map<String, Value>,
    claims_text: String,
    signed: &'a str,
    signature: &'a str,
}

impl<'a> Jwt<'a> {
    pub(super) fn parse(token: &'a str) -> Result<Self, TokenError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let claims_text = decode(claims)?;
        let claims = object(&claims_text)?;
        let header = object(&decode(header)?)?;
        let text = |key| header.get(key).and_then(Value::as_str).map(str::to_owned);
        let header = Header {
            algorithm: text("alg"),
            key_id: text("kid"),
        };
        Ok(Self {
            header,
            claims,
            claims_text,
            signed,
            signature,
        })
    }

    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    /// Checks the signature, then the claims at Unix time `now`.
    pub(super) fn verify(
        self,
        signer: Signer<'_>,
        rules: &TokenRules,
        now: u64,
    ) -> Result<Claims, TokenError> {
        let message = self.signed.as_bytes();
        match jsonwebtoken::crypto::verify(self.signature, message, signer.key, signer.algorithm) {
            Ok(true) => {}
            Ok(false) => return Err(TokenError::Signature),
            Err(_not_base64) => return Err(TokenError::Malformed),
        }
        let expires_at = self.expiry(rules.leeway(), now)?;
        if self.claims.get("iat").is_some_and(|iat| !iat.is_number()) {
            return Err(TokenError::Invalid);
        }
        let role = match self.claims.get("role") {
            None | Some(Value::Null) => return Err(TokenError::MissingClaims),
            Some(Value::String(role)) => role.as_str().into(),
            Some(_) => return Err(TokenError::Invalid),
        };
        let expires_at = expires_at.ok_or(TokenError::MissingClaims)?;
        if !rules.admit(&self.claims, now) {
            return Err(TokenError::Invalid);
        }
        let subject = self
            .claims
            .get("sub")
            .and_then(Value::as_str)
            .map(Into::into);
        Ok(Claims {
            role,
            subject,
            expires_at: Some(expires_at),
            json: self.claims_text.into(),
        })
    }

    /// `exp` in whole seconds, if it is there, and `leeway` seconds more. It must lie after `now`,
    /// strictly.
    fn expiry(&self, leeway: u64, now: u64) -> Result<Option<u64>, TokenError> {
        let seconds = match self.claims.get("exp") {
            None | Some(Value::Null) => return Ok(None),
            Some(value) => value.as_f64().ok_or(TokenError::Invalid)?.round(),
        };
        // Beyond 2^53 a number of seconds is no date, and not exact either.
        if seconds.abs() > 9_007_199_254_740_992.0 {
            return Err(TokenError::Invalid);
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "checked to be a whole number below 2^53"
        )]
        let seconds = seconds as i64;
        match u64::try_from(seconds).map(|expires_at| expires_at + leeway) {
            Ok(expires_at) if expires_at > now => Ok(Some(expires_at)),
            Ok(expired_at) => Err(TokenError::Expired(now - expired_at)),
            Err(_negative) => Err(TokenError::Expired(
                now.saturating_add(seconds.unsigned_abs()),
            )),
        }
    }
}

fn decode(part: &str) -> Result<String, TokenError> {
    let bytes = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_not_base64| TokenError::Malformed)?;
    String::from_utf8(bytes).map_err(|_not_text| TokenError::Malformed)
}

fn object(text: &str) -> Result<Map<String, Value>, TokenError> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(TokenError::Invalid),
        Err(_not_json) => Err(TokenError::Malformed),
    }
}
