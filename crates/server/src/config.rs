//! Every setting of the process: its key, its default, what it means, and the only code that reads
//! the environment.
//!
//! Values stay text until a command asks for the sections it needs; then all of them are parsed and
//! every mistake is reported, not only the first. `sections` turns the text into what the other
//! crates want.

mod mistake;
mod sections;
mod value;

use std::{collections::BTreeMap, fmt};

pub use mistake::{Mistake, Mistakes};
pub use sections::{Demo, Http, RelayLimits, Serve, Signing, Tail};
pub use value::duration;

use crate::secret::{Secret, mask_url};

/// How a value may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Masking {
    /// As it is.
    Plain,
    /// Never.
    Hidden,
    /// A connection URL: without its password.
    Url,
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Environment key.
    pub key: &'static str,
    /// Text used when nothing is given; `None` where there is no default.
    pub default: Option<&'static str>,
    /// What it means, and the unit where the value does not carry it.
    pub meaning: &'static str,
    /// How it may be shown.
    pub masking: Masking,
}

const fn plain(key: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting {
        key,
        default: Some(default),
        meaning,
        masking: Masking::Plain,
    }
}

const fn unset(key: &'static str, masking: Masking, meaning: &'static str) -> Setting {
    Setting {
        key,
        default: None,
        meaning,
        masking,
    }
}

/// The table of settings. README repeats it; flags override it.
#[rustfmt::skip]
pub const SETTINGS: &[Setting] = &[
    unset("DATABASE_URL", Masking::Url, "PostgreSQL to relay; sslmode, sslrootcert, sslcert and sslkey are understood"),
    unset("PGRELAY_DIRECT_URL", Masking::Url, "the same database without a pooler, for LISTEN and the sequencer; default: DATABASE_URL"),
    plain("PGRELAY_LISTEN", "127.0.0.1:4000", "address and port to serve on"),
    unset("PGRELAY_JWT_SECRET", Masking::Hidden, "secret of HS256, HS384 and HS512 tokens; at least 32 bytes are wise"),
    unset("PGRELAY_JWKS", Masking::Url, "JWK set with the keys of RS256, ES256 and EdDSA tokens: a file, or an https URL"),
    plain("PGRELAY_JWKS_REFRESH", "5m", "how often the JWK set is read again; unknown keys bring it forward, to 30s after the last"),
    plain("PGRELAY_JWT_LEEWAY", "0s", "how long after its exp a token still counts, for clocks that differ"),
    unset("PGRELAY_JWT_CLAIMS", Masking::Plain, "values that claims must have: iss=https://a.example|https://b.example,aud=authenticated"),
    plain("PGRELAY_JWT_NOT_BEFORE", "false", "true: tokens whose nbf or iat lies in the future are refused"),
    unset("PGRELAY_API_KEYS", Masking::Hidden, "opaque keys and their roles: sb_publishable_x:anon,sb_secret_y:service_role"),
    plain("PGRELAY_PUBLICATION", "supabase_realtime", "publication whose tables are relayed"),
    plain("PGRELAY_AUTO_MIGRATE", "false", "true: serve installs or upgrades the schema before it starts"),
    plain("PGRELAY_DDL", "true", "false: never attach triggers, only report what is missing"),
    plain("PGRELAY_LOG", "info", "log filter: a level, or target=level pairs separated by commas"),
    unset("PGRELAY_SHARDS", Masking::Plain, "threads that own sockets; default: one per processor"),
    plain("PGRELAY_POOL_SIZE", "8", "database connections for replay and subscriptions, beside the two of the sequencer"),
    plain("PGRELAY_CHAT_POOL_SIZE", "8", "database connections for requests to the booking chat"),
    plain("PGRELAY_CHAT_SCHEMA", "public", "schema that migrate --chat puts the booking chat's tables in"),
    plain("PGRELAY_LOG_RETENTION", "24h", "how long changes can be resumed"),
    plain("PGRELAY_LOG_BYTES_MAX", "1GiB", "disk the change log may take before old changes go early"),
    plain("PGRELAY_SESSION_RETENTION", "10m", "how long a socket that named a session may be away and go on"),
    plain("PGRELAY_SAFETY_POLL", "250ms", "how often an idle relay looks without being woken"),
    plain("PGRELAY_BUSY_POLL", "2ms", "how often a busy relay looks"),
    plain("PGRELAY_ARM", "auto", "auto or never: whether writers wake an idle relay by NOTIFY"),
    plain("PGRELAY_EVALUATE_TIMEOUT", "1s", "longest time PostgreSQL may take to judge filters"),
    plain("PGRELAY_QUEUE_BYTES_MAX", "1MiB", "unsent bytes of one client; above, it is closed"),
    plain("PGRELAY_RING_BYTES_MAX", "64MiB", "memory for recent changes that clients resume from"),
    plain("PGRELAY_FRAME_BYTES_MAX", "5000000", "largest message a client may send"),
    plain("PGRELAY_CHANNELS_MAX", "100", "channels of one client"),
    plain("PGRELAY_BINDINGS_MAX", "100", "postgres_changes entries of one channel"),
    plain("PGRELAY_PAYLOAD_BYTES_MAX", "3000000", "payload of one broadcast, and what one channel may track"),
    plain("PGRELAY_BROADCAST_BYTES_MAX", "8000000", "largest HTTP body of a broadcast"),
    unset("PGRELAY_CLIENTS_MAX", Masking::Plain, "clients that have joined a channel, at a time; default: no limit"),
    unset("PGRELAY_JOINS_PER_SECOND_MAX", Masking::Plain, "joins a second, of all clients; default: no limit"),
    unset("PGRELAY_EVENTS_PER_SECOND_MAX", Masking::Plain, "broadcasts a second, of all clients, by socket and by HTTP; default: no limit"),
    unset("PGRELAY_PRESENCE_EVENTS_PER_SECOND_MAX", Masking::Plain, "presence messages a second, of all clients; default: no limit"),
    unset("PGRELAY_PRESENCE_CALLS_MAX", Masking::Plain, "presence messages of one channel in one window; default: no limit"),
    plain("PGRELAY_PRESENCE_WINDOW", "30s", "how long that window is"),
    plain("PGRELAY_PRESENCE_ENABLED", "false", "true: channels that do not ask for it see who is present, too"),
    plain("PGRELAY_PRIVATE_ONLY", "false", "true: public channels are refused"),
    plain("PGRELAY_IDLE_TIMEOUT", "60s", "silence after which a client is closed"),
    plain("PGRELAY_CHECKPOINT_INTERVAL", "10s", "longest time between two positions told to a resuming client"),
    plain("PGRELAY_CONNECT_ERROR_DELAY", "2s", "delay of a refused connection's answer"),
    plain("PGRELAY_JOIN_ERROR_DELAY", "5s", "delay of a refused join's answer"),
    plain("PGRELAY_HTTP_CONNECTIONS_MAX", "8192", "HTTP connections at a time, event streams included, WebSockets not"),
    plain("PGRELAY_EVENT_STREAMS_MAX", "1000", "Server-Sent Events streams at a time"),
    plain("PGRELAY_START_TIMEOUT", "10s", "how long a start waits for PostgreSQL to answer"),
    plain("PGRELAY_SHUTDOWN_TIMEOUT", "20s", "longest time a stop may take"),
    unset("PGRELAY_PG_BIN", Masking::Plain, "demo: folder with the programs postgres and initdb"),
    unset("PGRELAY_DEMO_DIR", Masking::Plain, "demo: folder for its database and secret; default: the user's state folder"),
    plain("PGRELAY_URL", "http://127.0.0.1:4000", "tail: the relay to connect to"),
    unset("PGRELAY_KEY", Masking::Hidden, "tail: token or key; default: one made from PGRELAY_JWT_SECRET"),
];

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The table.
    Default,
    /// The environment.
    Environment,
    /// This flag.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::Environment => "environment",
            Self::Flag(flag) => flag,
        })
    }
}

/// The process environment as a map. The one place that reads it.
///
/// Values that are not UTF-8 are left out: no setting can hold one.
pub fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Settings as text: defaults under the environment under the flags.
#[derive(Clone)]
pub struct Values {
    environment: BTreeMap<String, String>,
    flags: BTreeMap<&'static str, (&'static str, String)>,
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Values").finish_non_exhaustive()
    }
}

impl Values {
    /// Takes the environment. An empty value counts as not given, as compose files write it.
    pub fn new(environment: BTreeMap<String, String>) -> Self {
        Self {
            environment,
            flags: BTreeMap::new(),
        }
    }

    /// Overrides the setting `key` with `value` from `flag`; `None` leaves it alone.
    #[must_use]
    pub fn with_flag(
        mut self,
        key: &'static str,
        flag: &'static str,
        value: Option<String>,
    ) -> Self {
        if let Some(value) = value {
            self.flags.insert(key, (flag, value));
        }
        self
    }

    /// Sets `key` to a value that the process made for itself, as if the environment had it.
    #[must_use]
    pub fn with_made(mut self, key: &'static str, value: &Secret) -> Self {
        self.environment
            .insert(key.to_owned(), value.reveal().to_owned());
        self
    }

    /// The effective text of `key` and where it came from. `key` may also be one that the table does
    /// not have, such as `HOME`.
    pub fn get(&self, key: &str) -> Option<(&str, Origin)> {
        if let Some((flag, value)) = self.flags.get(key) {
            return Some((value, Origin::Flag(flag)));
        }
        if let Some(value) = self.environment.get(key).filter(|value| !value.is_empty()) {
            return Some((value, Origin::Environment));
        }
        let default = setting(key).and_then(|setting| setting.default)?;
        Some((default, Origin::Default))
    }

    /// The value of the setting `key` as it may be shown.
    pub fn shown(&self, key: &str) -> Option<String> {
        let (text, _) = self.get(key)?;
        Some(masked(setting(key)?.masking, text))
    }

    /// Every setting that has a value, as it may be shown.
    pub fn effective(&self) -> impl Iterator<Item = (&'static str, String, Origin)> + '_ {
        SETTINGS.iter().filter_map(|setting| {
            let (text, origin) = self.get(setting.key)?;
            Some((setting.key, masked(setting.masking, text), origin))
        })
    }

    /// Keys that look like ours and are none: probably spelling mistakes.
    pub fn unknown(&self) -> impl Iterator<Item = &str> {
        self.environment
            .keys()
            .map(String::as_str)
            .filter(|key| key.starts_with("PGRELAY_") && setting(key).is_none())
    }
}

fn setting(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

fn masked(masking: Masking, text: &str) -> String {
    match masking {
        Masking::Plain => text.to_owned(),
        Masking::Hidden => "***".to_owned(),
        Masking::Url => mask_url(text),
    }
}

/// The table as help text.
pub fn help() -> String {
    let mut text = String::from("Environment (flags override it):\n");
    for setting in SETTINGS {
        let default = setting
            .default
            .map(|value| format!(" [{value}]"))
            .unwrap_or_default();
        text.push_str(&format!(
            "  {:<29} {}{default}\n",
            setting.key, setting.meaning
        ));
    }
    text
}

#[cfg(test)]
mod tests;
