//! Tokens, minted without the code under test.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// The secret of every relay that [`crate::Relay`] starts.
pub const SECRET: &str = "a secret for tests, long enough for HS256";

/// 2100-01-01.
const FAR_FUTURE: u64 = 4_102_444_800;

/// An HS256 token with these claims, signed with [`SECRET`]; `exp` is far away unless it is among them.
pub fn token(claims: &Value) -> String {
    let mut claims = claims.clone();
    if claims.get("exp").is_none() {
        claims["exp"] = json!(FAR_FUTURE);
    }
    token_signed_with(SECRET, &claims)
}

/// An HS256 token with exactly these claims.
pub fn token_signed_with(secret: &str, claims: &Value) -> String {
    let header = json!({"alg": "HS256", "typ": "JWT"});
    let signed = format!("{}.{}", part(&header), part(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_as_other_implementations_do() {
        // Made with Node's crypto: createHmac("sha256", "s").update(header.payload).digest("base64url").
        assert_eq!(
            token_signed_with("s", &json!({"role": "anon"})),
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJyb2xlIjoiYW5vbiJ9.MLy4OEqLi-Ium1uLT7hrWCBysJW70V5aC5j_HwYsnuQ"
        );
    }
}
