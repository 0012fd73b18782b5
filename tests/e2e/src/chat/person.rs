//! People with tokens. Without the binary their tokens are not signed: checking signatures is not what those tests are about.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pgrelay_chat::{Claims, TokenRefused, TokenVerifier};
use pgrelay_test_support::token;
use serde_json::{Value, json};
use uuid::Uuid;

/// Somebody who asks.
#[derive(Debug, Clone)]
pub struct Person {
    id: Uuid,
    claims: Option<Value>,
}

impl Person {
    /// Somebody who books.
    pub fn client() -> Self {
        let id = Uuid::new_v4();
        Self::with_claims(id, json!({"role": "authenticated", "sub": id}))
    }

    /// Somebody of the team.
    pub fn operator(name: &str) -> Self {
        let id = Uuid::new_v4();
        let claims = json!({
            "role": "authenticated", "sub": id,
            "app_metadata": {"chat_role": "operator"}, "user_metadata": {"name": name},
        });
        Self::with_claims(id, claims)
    }

    /// A trusted service.
    pub fn service() -> Self {
        Self::with_claims(Uuid::nil(), json!({"role": "service_role"}))
    }

    /// Whoever has the key of a public page.
    pub fn visitor() -> Self {
        Self::with_claims(Uuid::nil(), json!({"role": "anon"}))
    }

    /// Somebody without any token.
    pub fn stranger() -> Self {
        Self {
            id: Uuid::nil(),
            claims: None,
        }
    }

    /// Somebody whose token says just this.
    pub fn with_claims(id: Uuid, claims: Value) -> Self {
        Self {
            id,
            claims: Some(claims),
        }
    }

    /// Claim `sub`.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The statements that make a session's transaction this person's, as PostgREST would.
    ///
    /// # Panics
    /// When they have no token.
    pub fn become_sql(&self) -> String {
        let claims = self.claims.as_ref().expect("somebody with a token");
        let role = claims["role"].as_str().unwrap();
        format!("set local role {role}; set local request.jwt.claims = '{claims}';")
    }

    /// The same claims, signed as the binary wants it.
    ///
    /// # Panics
    /// When they have no token.
    pub fn signed_token(&self) -> String {
        token(self.claims.as_ref().expect("somebody with a token"))
    }

    pub(super) fn token(&self) -> Option<String> {
        let claims = self.claims.as_ref()?;
        Some(URL_SAFE_NO_PAD.encode(claims.to_string()))
    }
}

/// Believes every token.
#[derive(Debug)]
pub(super) struct Tokens;

impl TokenVerifier for Tokens {
    fn verify(&self, token: &str) -> Result<Claims, TokenRefused> {
        let refused = || TokenRefused("The token cannot be read.".into());
        let json = URL_SAFE_NO_PAD
            .decode(token)
            .map_err(|_not_base64| refused())?;
        let claims: Value = serde_json::from_slice(&json).map_err(|_not_json| refused())?;
        Ok(Claims {
            role: claims["role"].as_str().unwrap_or_default().into(),
            subject: claims["sub"].as_str().map(Into::into),
            json: claims.to_string().into(),
        })
    }
}
