//! Stable words a client may read.

use std::borrow::Cow;

use crate::{inspect::Inspect, join::JoinError, topic::TopicError};

/// Why a binding must fetch its data again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefetchReason {
    /// The cursor is older than what the log keeps.
    Retention,
    /// The cursor belongs to another epoch: the database was restored or lost its tail.
    Epoch,
    /// The cursor was not made by this database.
    Forged,
    /// The table changed under the binding.
    Schema,
    /// Changes may be missing before this point.
    Hole,
    /// Whether the changes may be seen could not be decided in time.
    Authorization,
}

impl RefetchReason {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::Retention,
        Self::Epoch,
        Self::Forged,
        Self::Schema,
        Self::Hole,
        Self::Authorization,
    ];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retention => "retention",
            Self::Epoch => "epoch",
            Self::Forged => "forged",
            Self::Schema => "schema",
            Self::Hole => "hole",
            Self::Authorization => "authorization",
        }
    }
}

/// Why a token was refused. The texts differ by place (connect, join, refresh).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenError {
    /// Not a JWT.
    Malformed,
    /// `exp` has passed, by this many seconds.
    Expired(u64),
    /// `role` or `exp` is missing.
    MissingClaims,
    /// The signature does not verify.
    Signature,
    /// No key for this token; its `kid` where it has one.
    Signer(Option<String>),
    /// Any other defect (a string `exp`, claims that are no object).
    Invalid,
}

const NOT_A_JWT: &str = "The token provided is not a valid JWT";
const MISSING_CLAIMS: &str = "Fields `role` and `exp` are required in JWT";
const BAD_SIGNATURE: &str = "Failed to validate JWT signature";
const UNKNOWN: &str = "Unknown Error on Channel";

impl TokenError {
    /// HTTP status of a refused upgrade.
    #[must_use]
    pub fn connect_status(&self) -> u16 {
        match self {
            Self::Invalid => 500,
            Self::Malformed
            | Self::Expired(_)
            | Self::MissingClaims
            | Self::Signature
            | Self::Signer(_) => 401,
        }
    }

    /// `error` of the body of a refused upgrade.
    #[must_use]
    pub fn connect_text(&self) -> Cow<'static, str> {
        match self {
            Self::Malformed => NOT_A_JWT.into(),
            Self::Expired(_) => "Token has expired".into(),
            Self::MissingClaims => MISSING_CLAIMS.into(),
            Self::Signature => BAD_SIGNATURE.into(),
            Self::Signer(kid) => signer(kid.as_deref()).into(),
            Self::Invalid => "Error connecting to Realtime".into(),
        }
    }

    /// `reason` of a refused join.
    #[must_use]
    pub fn join_text(&self) -> Cow<'static, str> {
        match self {
            Self::Malformed => format!("MalformedJWT: {NOT_A_JWT}").into(),
            Self::Expired(seconds) => format!("InvalidJWTToken: {}", expired(*seconds)).into(),
            Self::MissingClaims => format!("InvalidJWTToken: {MISSING_CLAIMS}").into(),
            Self::Signature => format!("JwtSignatureError: {BAD_SIGNATURE}").into(),
            Self::Signer(kid) => format!("JwtSignerError: {}", signer(kid.as_deref())).into(),
            Self::Invalid => UNKNOWN.into(),
        }
    }

    /// `message` of the `system` error that precedes the close after a refused refresh.
    #[must_use]
    pub fn refresh_text(&self) -> Cow<'static, str> {
        match self {
            Self::Malformed => NOT_A_JWT.into(),
            Self::Expired(seconds) => expired(*seconds).into(),
            Self::MissingClaims => MISSING_CLAIMS.into(),
            Self::Signature => ":signature_error".into(),
            Self::Signer(None) => ":error_generating_signer".into(),
            Self::Signer(kid) => signer(kid.as_deref()).into(),
            Self::Invalid => UNKNOWN.into(),
        }
    }
}

fn expired(seconds: u64) -> String {
    format!("Token has expired {seconds} seconds ago")
}

fn signer(kid: Option<&str>) -> String {
    let mut text = Inspect::after("Failed to generate JWT signer".to_owned());
    if let Some(kid) = kid {
        text.raw(" for key ID (kid) ");
        text.string(kid);
    }
    text.raw(", check your JWT secret or JWKS configuration");
    text.finish()
}

/// Why a join is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinRefusal {
    /// The topic.
    Topic(TopicError),
    /// The payload.
    Payload(JoinError),
    /// The token.
    Token(TokenError),
    /// The server is going down.
    Restarting,
    /// Only private channels are served.
    PrivateOnly,
    /// Too many connected clients.
    TooManyClients,
    /// Too many joins per second.
    TooManyJoins,
    /// Too many channels of this client.
    TooManyChannels,
    /// The database does not answer.
    DatabaseUnavailable,
    /// No right to read a private channel; holds its sub-topic.
    Unauthorized(Box<str>),
    /// Replay on a public channel.
    ReplayOnPublic,
    /// Replay parameters that are none.
    ReplayInvalid,
    /// The replay failed.
    ReplayFailed,
    /// What the authorizer says, as it is.
    Told(Box<str>),
    /// Anything else.
    Unknown,
}

impl JoinRefusal {
    /// The `reason` of the error reply.
    #[must_use]
    pub fn reason(&self) -> Cow<'static, str> {
        match self {
            Self::Topic(error) => error.reason().into(),
            Self::Payload(error) => error.reason().into(),
            Self::Token(error) => error.join_text(),
            Self::Restarting => "RealtimeRestarting: Realtime is restarting, please standby".into(),
            Self::PrivateOnly => "PrivateOnly: This project only allows private channels".into(),
            Self::TooManyClients => "ConnectionRateLimitReached: Too many connected users".into(),
            Self::TooManyJoins => "ClientJoinRateLimitReached: Too many joins per second".into(),
            Self::TooManyChannels => "ChannelRateLimitReached: Too many channels".into(),
            Self::DatabaseUnavailable => {
                "UnableToConnectToProject: Realtime was unable to connect to the project database".into()
            }
            Self::Unauthorized(sub_topic) => {
                format!("Unauthorized: You do not have permissions to read from this Channel topic: {sub_topic}").into()
            }
            Self::ReplayOnPublic => "UnableToReplayMessages: Replay is not allowed for public channels".into(),
            Self::ReplayInvalid => "UnableToReplayMessages: Replay params are not valid".into(),
            Self::ReplayFailed => "UnableToReplayMessages: Realtime was unable to replay messages".into(),
            Self::Told(text) => text.to_string().into(),
            Self::Unknown => UNKNOWN.into(),
        }
    }
}

/// Why a channel is closed, other than over its token: the `message` of the `system` error before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelEnd<'a> {
    /// A refreshed token may read nothing of the channel; holds its sub-topic.
    NoPermission(&'a str),
    /// A refreshed token may read less than the one before; holds the sub-topic.
    LostPermission(&'a str),
    /// What the authorizer says, as it is.
    Told(&'a str),
    /// Too many messages.
    TooManyEvents,
    /// Too many presence messages of everybody.
    TooManyPresenceEvents,
    /// Too many presence messages of this channel.
    TooManyPresenceCalls,
    /// Tracked more than a message may hold.
    TrackTooLarge,
    /// The database was not followed in time.
    NotReady,
}

impl ChannelEnd<'_> {
    /// The text.
    #[must_use]
    pub fn text(self) -> Cow<'static, str> {
        match self {
            Self::NoPermission(sub_topic) => {
                format!("You do not have permissions to read from this Channel topic: {sub_topic}")
                    .into()
            }
            Self::LostPermission(sub_topic) => format!(
                "You no longer have permission to read from this Channel topic: {sub_topic}"
            )
            .into(),
            Self::Told(text) => text.to_owned().into(),
            Self::TooManyEvents => "Too many messages per second".into(),
            Self::TooManyPresenceEvents => "Too many presence messages per second".into(),
            Self::TooManyPresenceCalls => "Client presence rate limit exceeded".into(),
            Self::TrackTooLarge => "Track message size exceeded".into(),
            Self::NotReady => "Replication connection was not established in time".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_errors_are_worded_for_their_place() {
        let check = |error: TokenError, connect: (u16, &str), join: &str, refresh: &str| {
            assert_eq!((error.connect_status(), &*error.connect_text()), connect);
            assert_eq!(error.join_text(), join);
            assert_eq!(error.refresh_text(), refresh);
        };
        check(
            TokenError::Malformed,
            (401, "The token provided is not a valid JWT"),
            "MalformedJWT: The token provided is not a valid JWT",
            "The token provided is not a valid JWT",
        );
        check(
            TokenError::Expired(17),
            (401, "Token has expired"),
            "InvalidJWTToken: Token has expired 17 seconds ago",
            "Token has expired 17 seconds ago",
        );
        check(
            TokenError::MissingClaims,
            (401, "Fields `role` and `exp` are required in JWT"),
            "InvalidJWTToken: Fields `role` and `exp` are required in JWT",
            "Fields `role` and `exp` are required in JWT",
        );
        check(
            TokenError::Signature,
            (401, "Failed to validate JWT signature"),
            "JwtSignatureError: Failed to validate JWT signature",
            ":signature_error",
        );
        let signer = "Failed to generate JWT signer, check your JWT secret or JWKS configuration";
        check(
            TokenError::Signer(None),
            (401, signer),
            &format!("JwtSignerError: {signer}"),
            ":error_generating_signer",
        );
        let signer = "Failed to generate JWT signer for key ID (kid) \"k-1\", check your JWT secret or JWKS configuration";
        check(
            TokenError::Signer(Some("k-1".into())),
            (401, signer),
            &format!("JwtSignerError: {signer}"),
            signer,
        );
        check(
            TokenError::Invalid,
            (500, "Error connecting to Realtime"),
            "Unknown Error on Channel",
            "Unknown Error on Channel",
        );
    }

    #[test]
    fn a_refused_join_says_why() {
        let check = |refusal: JoinRefusal, reason: &str| assert_eq!(refusal.reason(), reason);
        check(JoinRefusal::Topic(TopicError::Unmatched), "unmatched topic");
        check(
            JoinRefusal::Unauthorized("room1".into()),
            "Unauthorized: You do not have permissions to read from this Channel topic: room1",
        );
        check(
            JoinRefusal::ReplayOnPublic,
            "UnableToReplayMessages: Replay is not allowed for public channels",
        );
        check(
            JoinRefusal::ReplayInvalid,
            "UnableToReplayMessages: Replay params are not valid",
        );
        check(
            JoinRefusal::ReplayFailed,
            "UnableToReplayMessages: Realtime was unable to replay messages",
        );
    }
}
