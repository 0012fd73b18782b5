//! The payload of `phx_join`: read permissively.
//!
//! What is missing or mistyped keeps its default and never fails the join, as clients rely on;
//! only a payload whose very shape is wrong does ([`JoinError`]).

use serde_json::value::RawValue;

use crate::{
    join_binding::JoinBinding,
    json::{self, Object},
    limits::{BINDINGS_PER_JOIN_MAX, OBJECT_KEYS_MAX, PRESENCE_KEY_BYTES_MAX, REPLAY_MESSAGES_MAX},
    token::TokenField,
};

/// What a client asks of the channel it joins.
#[derive(Debug, Default)]
pub struct JoinConfig {
    /// `config.broadcast`
    pub broadcast: BroadcastConfig,
    /// `config.presence`
    pub presence: PresenceConfig,
    /// `config.private`: policies decide who may read and write.
    pub private: bool,
    /// `config.postgres_changes`, in order, `null` entries dropped.
    pub postgres_changes: Vec<JoinBinding>,
    /// `access_token`
    pub access_token: TokenField,
    /// `user_token`, the older name; wins where both are strings.
    pub user_token: TokenField,
}

/// Options of broadcasts.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct BroadcastConfig {
    /// Answer each broadcast of this client.
    pub ack: bool,
    /// Deliver the client's broadcasts to itself too.
    pub self_: bool,
    /// Replay stored broadcasts; `Some` whenever the key is there.
    pub replay: Option<RawReplay>,
    /// Tell when broadcasts from the database will be delivered.
    pub replication_ready: bool,
}

/// `config.broadcast.replay`. Its mere presence fails the join of a public channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RawReplay {
    /// No object: ignored on a private channel.
    Ignored,
    /// An object that does not say since when, or not in integers: fails the join.
    Invalid,
    /// The newest `limit` messages since then.
    Since {
        /// Unix time, milliseconds.
        since_ms: i64,
        /// Messages, 1 to [`REPLAY_MESSAGES_MAX`].
        limit: i64,
    },
}

/// Options of presence.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PresenceConfig {
    /// Send the presence state after the join.
    pub enabled: bool,
    /// Key to track under; `None` asks for a generated one.
    pub key: Option<Box<str>>,
}

/// Why a join payload cannot be read at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// This part must be an object of at most [`OBJECT_KEYS_MAX`] keys.
    #[error("{0} must be an object of at most {OBJECT_KEYS_MAX} keys")]
    NotAnObject(&'static str),
    /// Too many entries.
    #[error("config.postgres_changes must not have more than {BINDINGS_PER_JOIN_MAX} entries")]
    TooManyBindings,
    /// Too long a key.
    #[error("config.presence.key must not be longer than {PRESENCE_KEY_BYTES_MAX} bytes")]
    PresenceKeyTooLong,
}

impl JoinError {
    /// The `reason` a client reads.
    #[must_use]
    pub fn reason(self) -> String {
        format!("UnknownErrorOnChannel: {self}")
    }
}

impl JoinConfig {
    /// Reads a join payload.
    pub fn parse(payload: &RawValue) -> Result<Self, JoinError> {
        let payload = Object::parse(payload).ok_or(JoinError::NotAnObject("the payload"))?;
        let mut join = Self {
            access_token: TokenField::read(payload.get("access_token")),
            user_token: TokenField::read(payload.get("user_token")),
            ..Self::default()
        };
        let Some(config) = member(&payload, "config", "config")? else {
            return Ok(join);
        };
        if let Some(broadcast) = member(&config, "broadcast", "config.broadcast")? {
            join.broadcast = BroadcastConfig::read(&broadcast);
        }
        if let Some(presence) = config.get("presence").and_then(Object::parse) {
            join.presence = PresenceConfig::read(&presence)?;
        }
        join.private = flag(&config, "private");
        if let Some(entries) = config.get("postgres_changes") {
            join.postgres_changes = bindings(entries)?;
        }
        Ok(join)
    }

    /// The token this join is to be judged by; `None` means the one the connection came with.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        let named = match &self.access_token {
            TokenField::Absent | TokenField::Null => &self.user_token,
            named @ (TokenField::Text(_) | TokenField::Other) => named,
        };
        if named.is_api_key() {
            return None;
        }
        self.user_token.as_str().or(self.access_token.as_str())
    }
}

/// The object under `key`; missing and `null` are none, anything else fails the join.
fn member<'a>(
    object: &Object<'a>,
    key: &str,
    path: &'static str,
) -> Result<Option<Object<'a>>, JoinError> {
    match object.get(key).filter(|value| !json::is_null(value)) {
        None => Ok(None),
        Some(value) => Object::parse(value)
            .map(Some)
            .ok_or(JoinError::NotAnObject(path)),
    }
}

/// `true`, or the word in any letter case; everything else is `false`.
fn flag(object: &Object<'_>, key: &str) -> bool {
    object.get(key).is_some_and(|value| {
        value.get() == "true"
            || json::text(value).is_some_and(|text| text.eq_ignore_ascii_case("true"))
    })
}

impl BroadcastConfig {
    fn read(object: &Object<'_>) -> Self {
        Self {
            ack: flag(object, "ack"),
            self_: flag(object, "self"),
            replay: object.get("replay").map(RawReplay::read),
            replication_ready: flag(object, "replication_ready"),
        }
    }
}

impl RawReplay {
    /// Messages replayed where the client names no limit.
    const LIMIT: i64 = REPLAY_MESSAGES_MAX;

    fn read(replay: &RawValue) -> Self {
        let Some(object) = Object::parse(replay) else {
            return Self::Ignored;
        };
        let integer = |value: &RawValue| serde_json::from_str::<i64>(value.get()).ok();
        let limit = object.get("limit").filter(|limit| !json::is_null(limit));
        match (
            object.get("since").and_then(integer),
            limit.map_or(Some(Self::LIMIT), integer),
        ) {
            (Some(since_ms), Some(limit)) => Self::Since {
                since_ms,
                limit: limit.clamp(1, REPLAY_MESSAGES_MAX),
            },
            (None, _) | (_, None) => Self::Invalid,
        }
    }
}

impl PresenceConfig {
    fn read(object: &Object<'_>) -> Result<Self, JoinError> {
        let key = object
            .get("key")
            .and_then(|key| match key.get().as_bytes().first() {
                Some(b'"') => json::text(key),
                // Numbers and booleans name themselves.
                Some(b'[' | b'{' | b'n') | None => None,
                Some(_) => Some(key.get().into()),
            });
        let key: Option<Box<str>> = key.filter(|key| !key.is_empty()).map(Into::into);
        if key
            .as_ref()
            .is_some_and(|key| key.len() > PRESENCE_KEY_BYTES_MAX)
        {
            return Err(JoinError::PresenceKeyTooLong);
        }
        Ok(Self {
            enabled: flag(object, "enabled"),
            key,
        })
    }
}

/// The entries of a list, `null` dropped; what is no list has none.
fn bindings(list: &RawValue) -> Result<Vec<JoinBinding>, JoinError> {
    let entries = json::list(list, BINDINGS_PER_JOIN_MAX).unwrap_or_default();
    if entries.len() > BINDINGS_PER_JOIN_MAX {
        return Err(JoinError::TooManyBindings);
    }
    let entry = JoinError::NotAnObject("an entry of config.postgres_changes");
    entries
        .into_iter()
        .map(|item| JoinBinding::parse(item).ok_or(entry))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(payload: &str) -> Result<JoinConfig, JoinError> {
        JoinConfig::parse(serde_json::from_str(payload).unwrap())
    }

    #[test]
    fn what_a_join_may_hold_is_bounded() {
        let entries = |count: usize| {
            format!(
                "{{\"config\":{{\"postgres_changes\":[{}]}}}}",
                vec!["null,{}"; count].join(",")
            )
        };
        assert_eq!(
            parse(&entries(BINDINGS_PER_JOIN_MAX))
                .unwrap()
                .postgres_changes
                .len(),
            BINDINGS_PER_JOIN_MAX
        );
        assert_eq!(
            parse(&entries(BINDINGS_PER_JOIN_MAX + 1)).err(),
            Some(JoinError::TooManyBindings)
        );

        let key = |length: usize| {
            format!(
                "{{\"config\":{{\"presence\":{{\"key\":\"{}\"}}}}}}",
                "k".repeat(length)
            )
        };
        assert!(parse(&key(PRESENCE_KEY_BYTES_MAX)).is_ok());
        assert_eq!(
            parse(&key(PRESENCE_KEY_BYTES_MAX + 1)).err(),
            Some(JoinError::PresenceKeyTooLong)
        );

        let members = |count: usize| format!("{{{}}}", vec!["\"a\":1"; count].join(","));
        assert!(parse(&members(OBJECT_KEYS_MAX)).is_ok());
        assert_eq!(
            parse(&members(OBJECT_KEYS_MAX + 1)).err(),
            Some(JoinError::NotAnObject("the payload"))
        );
    }

    #[test]
    fn one_bad_entry_does_not_stop_the_others() {
        let join = parse(
            r#"{"config":{"postgres_changes":[{"event":"*"},{"schema":"public"},{"table":7}]}}"#,
        )
        .unwrap();
        let live: Vec<bool> = join
            .postgres_changes
            .iter()
            .map(|binding| binding.spec.is_ok())
            .collect();
        assert_eq!(live, [false, true, false]);
    }
}
