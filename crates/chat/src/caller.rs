//! Who is asking. Checking signatures is the server's business; what a token's claims mean here is ours.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use serde_json::Value;
use uuid::Uuid;

use crate::{Chat, code::Code, error::Failure, refusal::Refusal};

/// What a verified token says.
#[derive(Debug, Clone)]
pub struct Claims {
    /// Claim `role`: the PostgreSQL role.
    pub role: Box<str>,
    /// Claim `sub`.
    pub subject: Option<Box<str>>,
    /// All claims, as JSON object text.
    pub json: Box<str>,
}

/// Turns tokens into claims; must not block.
pub trait TokenVerifier: Send + Sync + 'static {
    /// Checks signature and validity now.
    ///
    /// # Errors
    /// With what the caller may read about it.
    fn verify(&self, token: &str) -> Result<Claims, TokenRefused>;
}

/// A token was refused; the text is shown to its bearer.
#[derive(Debug, Clone)]
pub struct TokenRefused(pub String);

const SERVICE_ROLE: &str = "service_role";
/// What SET ROLE takes as "whoever logged in", which is us.
const NO_ROLE: &str = "none";

/// A user with a token, or the service role. Visitors with an anonymous key have nothing to do here.
#[derive(Debug)]
pub(crate) struct Caller {
    claims: Claims,
    is_operator: bool,
}

impl Caller {
    fn from_claims(claims: Claims) -> Result<Self, Refusal> {
        if &*claims.role == NO_ROLE {
            return Err(Refusal::new(Code::Forbidden));
        }
        let is_service = &*claims.role == SERVICE_ROLE;
        let user = claims.subject.as_deref().map(Uuid::parse_str);
        if !is_service && !matches!(user, Some(Ok(_))) {
            return Err(Refusal::new(Code::AuthRequired));
        }
        let marks: Value = serde_json::from_str(&claims.json).unwrap_or_default();
        let is_operator =
            marks.pointer("/app_metadata/chat_role") == Some(&Value::from("operator"));
        Ok(Self {
            is_operator: is_service || is_operator,
            claims,
        })
    }

    pub(crate) fn claims(&self) -> &Claims {
        &self.claims
    }
}

impl FromRequestParts<Chat> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, chat: &Chat) -> Result<Self, Failure> {
        let token = token(&parts.headers).ok_or_else(|| Refusal::new(Code::AuthRequired))?;
        let claims = chat
            .tokens
            .verify(token)
            .map_err(|TokenRefused(text)| Refusal::say(Code::AuthRequired, text))?;
        Ok(Self::from_claims(claims)?)
    }
}

/// A caller who is an operator. Stands before everything else that a handler takes, so that others learn nothing.
#[derive(Debug)]
pub(crate) struct Operator(pub(crate) Caller);

impl FromRequestParts<Chat> for Operator {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, chat: &Chat) -> Result<Self, Failure> {
        let caller = Caller::from_request_parts(parts, chat).await?;
        if !caller.is_operator {
            return Err(Refusal::new(Code::OperatorOnly).into());
        }
        Ok(Self(caller))
    }
}

/// A bearer token, or else an API key.
fn token(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    bearer
        .or_else(|| headers.get("apikey")?.to_str().ok())
        .filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(role: &str, subject: Option<&str>, json: &str) -> Option<bool> {
        let claims = Claims {
            role: role.into(),
            subject: subject.map(Into::into),
            json: json.into(),
        };
        Caller::from_claims(claims)
            .ok()
            .map(|caller| caller.is_operator)
    }

    #[test]
    fn users_and_the_service_role_are_callers() {
        let user = Some("6f6e1c0e-0f7e-4a3e-9b45-3a4f0c6f7f01");
        let operator = r#"{"app_metadata":{"chat_role":"operator"}}"#;
        assert_eq!(check("authenticated", user, "{}"), Some(false));
        assert_eq!(check("authenticated", user, operator), Some(true));
        assert_eq!(
            check(
                "authenticated",
                user,
                r#"{"user_metadata":{"chat_role":"operator"}}"#
            ),
            Some(false)
        );
        assert_eq!(
            check("authenticated", user, r#"{"app_metadata":"operator"}"#),
            Some(false)
        );
        assert_eq!(check("service_role", None, "{}"), Some(true));
        assert_eq!(check("anon", None, "{}"), None);
        assert_eq!(check("none", user, "{}"), None);
        assert_eq!(check("authenticated", Some("me"), operator), None);
    }

    #[test]
    fn a_bearer_token_comes_before_a_key() {
        let mut headers = HeaderMap::new();
        assert_eq!(token(&headers), None);
        headers.insert("apikey", "key".parse().unwrap());
        assert_eq!(token(&headers), Some("key"));
        headers.insert("authorization", "bearer  a.b.c".parse().unwrap());
        assert_eq!(token(&headers), Some("a.b.c"));
        headers.insert("authorization", "Basic abc".parse().unwrap());
        assert_eq!(token(&headers), Some("key"));
    }
}
