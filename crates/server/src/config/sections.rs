//! Settings grouped as the commands need them, parsed together so that all mistakes are told.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use super::{Masking, Mistake, Mistakes, Origin, Values, masked, setting, value};
use pgrelay_capture::{self as capture, Arm, Endpoint, UrlError};
use pgrelay_chat::schema::SchemaName;

use crate::{
    auth::{ApiKeys, Jwks, JwksSource, KeyRing, KeySet, TokenRules, Verifier},
    chain::Chain,
    secret::Secret,
};

/// HS256 is as strong as its secret, up to this length.
const SECRET_BYTES_MIN: usize = 32;

/// Everything `serve` needs.
#[derive(Debug)]
pub struct Serve {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The database and how it is read.
    pub database: capture::Config,
    /// Install or upgrade the schema first.
    pub auto_migrate: bool,
    /// Database connections for requests to the booking chat.
    pub chat_pool_size: usize,
    /// Whose tokens are trusted.
    pub signing: Signing,
    /// What the relay allows its clients.
    pub relay: RelayLimits,
    /// What the HTTP side allows its clients.
    pub http: Http,
    /// How long a start waits for PostgreSQL.
    pub start_timeout: Duration,
    /// Longest time a stop may take.
    pub shutdown_timeout: Duration,
}

/// What the relay allows its clients.
#[derive(Debug, Clone)]
pub struct RelayLimits {
    /// Threads that own sockets.
    pub shards: usize,
    /// Unsent bytes of one client.
    pub queue_bytes_max: usize,
    /// Memory for recent changes.
    pub ring_bytes_max: usize,
    /// Largest message a client may send.
    pub frame_bytes_max: usize,
    /// Channels of one client.
    pub channels_per_client_max: usize,
    /// Entries of one channel.
    pub bindings_per_channel_max: usize,
    /// Payload of one broadcast.
    pub payload_bytes_max: usize,
    /// Clients that have joined a channel.
    pub clients_max: Option<usize>,
    /// Joins a second.
    pub joins_per_second_max: Option<u32>,
    /// Broadcasts a second.
    pub events_per_second_max: Option<u32>,
    /// Presence messages a second.
    pub presence_events_per_second_max: Option<u32>,
    /// Presence messages of one channel in one window.
    pub presence_calls_max: Option<u32>,
    /// How long that window is.
    pub presence_window: Duration,
    /// Every channel sees who is present.
    pub presence_enabled: bool,
    /// Public channels are refused.
    pub private_only: bool,
    /// Silence after which a client is closed.
    pub idle_timeout: Duration,
    /// Longest time between two checkpoints.
    pub checkpoint_interval: Duration,
    /// Delay of a refused join's answer.
    pub join_error_delay: Duration,
}

/// The keys that tokens are checked with and made with. There is a secret, or a JWK set, or both.
#[derive(Debug, Clone)]
pub struct Signing {
    /// Secret of HMAC tokens.
    pub secret: Option<Secret>,
    /// The keys that count now, shared by all verifiers.
    pub keys: Arc<KeyRing>,
    /// Where other keys are published, and how often they are read.
    pub jwks: Option<(JwksSource, Duration)>,
    /// Opaque keys.
    pub api_keys: ApiKeys,
    /// What tokens must be besides.
    pub rules: TokenRules,
}

impl Signing {
    /// Whether the secret has fewer bits than the signatures made with it.
    pub fn is_weak(&self) -> bool {
        let secret = self.secret.as_ref();
        secret.is_some_and(|secret| secret.reveal().len() < SECRET_BYTES_MIN)
    }

    /// A verifier that trusts these keys.
    pub fn verifier(&self) -> Verifier {
        let keys = Arc::clone(&self.keys);
        Verifier::following(keys, self.api_keys.clone(), self.rules.clone())
    }

    /// What keeps the published keys up to date, where there are some.
    pub fn published(&self) -> Option<Jwks> {
        let (source, every) = self.jwks.clone()?;
        Some(Jwks::new(source, Arc::clone(&self.keys), every))
    }
}

/// Limits and delays of the HTTP side.
#[derive(Debug, Clone)]
pub struct Http {
    /// Delay of a refused upgrade's answer.
    pub connect_error_delay: Duration,
    /// HTTP connections at a time; more wait in the listen backlog.
    pub connections_max: usize,
    /// Event streams at a time; more are answered 503.
    pub event_streams_max: usize,
    /// Largest body of a broadcast.
    pub broadcast_bytes_max: usize,
}

/// Settings of the demo.
#[derive(Debug, Clone)]
pub struct Demo {
    /// Folder with PostgreSQL's programs, where the user named one.
    pub pg_bin: Option<PathBuf>,
    /// State folder, where the user named one.
    pub dir: Option<PathBuf>,
    /// `PATH`, to look for PostgreSQL.
    pub path: String,
    /// `XDG_STATE_HOME` or `$HOME/.local/state`, if there is one.
    pub state_home: Option<PathBuf>,
    /// `XDG_CACHE_HOME` or `$HOME/.cache`, if there is one.
    pub cache_home: Option<PathBuf>,
}

/// Settings of `pgrelay tail`.
#[derive(Debug, Clone)]
pub struct Tail {
    /// The relay, `http` or `ws` scheme.
    pub url: String,
    /// Token or key, where one was given.
    pub key: Option<Secret>,
    /// Secret to make a token from, where none was given.
    pub secret: Option<Secret>,
}

impl Values {
    /// What `serve` needs.
    ///
    /// # Errors
    /// Every setting that cannot be used.
    pub fn serve(&self) -> Result<Serve, Mistakes> {
        let mut reader = Reader::new(self);
        let listen = reader.need("PGRELAY_LISTEN", value::address);
        let database = database(&mut reader);
        let auto_migrate = reader.need("PGRELAY_AUTO_MIGRATE", value::boolean);
        let chat_pool_size = reader.need("PGRELAY_CHAT_POOL_SIZE", value::count);
        let signing = signing(&mut reader);
        let payload_bytes_max = database.as_ref().map(|it| it.message_bytes_max);
        let relay = relay(&mut reader, payload_bytes_max);
        let http = http(&mut reader);
        let start_timeout = reader.need("PGRELAY_START_TIMEOUT", value::duration);
        let shutdown_timeout = reader.need("PGRELAY_SHUTDOWN_TIMEOUT", value::duration);
        let serve = || {
            Some(Serve {
                listen: listen?,
                database: database?,
                auto_migrate: auto_migrate?,
                chat_pool_size: chat_pool_size?,
                signing: signing?,
                relay: relay?,
                http: http?,
                start_timeout: start_timeout?,
                shutdown_timeout: shutdown_timeout?,
            })
        };
        let serve = serve();
        reader.finish(serve)
    }

    /// What a command needs that only talks to the database.
    ///
    /// # Errors
    /// Every setting that cannot be used.
    pub fn database(&self) -> Result<capture::Config, Mistakes> {
        let mut reader = Reader::new(self);
        let database = database(&mut reader);
        reader.finish(database)
    }

    /// Where `migrate --chat` puts the booking chat's tables.
    ///
    /// # Errors
    /// If it cannot be used.
    pub fn chat_schema(&self) -> Result<SchemaName, Mistakes> {
        let mut reader = Reader::new(self);
        let schema = reader.need("PGRELAY_CHAT_SCHEMA", |text| {
            SchemaName::parse(text).map_err(|error| error.to_string())
        });
        reader.finish(schema)
    }

    /// How long a start waits for PostgreSQL.
    ///
    /// # Errors
    /// If it cannot be used.
    pub fn start_timeout(&self) -> Result<Duration, Mistakes> {
        let mut reader = Reader::new(self);
        let timeout = reader.need("PGRELAY_START_TIMEOUT", value::duration);
        reader.finish(timeout)
    }

    /// The secret that tokens are made with.
    ///
    /// # Errors
    /// If there is none.
    pub fn secret(&self) -> Result<Secret, Mistakes> {
        let mut reader = Reader::new(self);
        let secret = reader.need("PGRELAY_JWT_SECRET", secret);
        reader.finish(secret)
    }

    /// What `tail` needs.
    ///
    /// # Errors
    /// Every setting that cannot be used.
    pub fn tail(&self) -> Result<Tail, Mistakes> {
        let mut reader = Reader::new(self);
        let url = reader.need("PGRELAY_URL", |text| Ok(text.to_owned()));
        let key = reader.want("PGRELAY_KEY", secret);
        let secret = reader.want("PGRELAY_JWT_SECRET", secret);
        let tail = || {
            Some(Tail {
                url: url?,
                key: key?,
                secret: secret?,
            })
        };
        let tail = tail();
        reader.finish(tail)
    }

    /// What the demo needs beside the settings of `serve`.
    pub fn demo(&self) -> Demo {
        let text = |key| self.get(key).map(|(text, _)| text);
        let home = |key, below: &str| {
            text(key)
                .map(PathBuf::from)
                .or_else(|| text("HOME").map(|home| PathBuf::from(home).join(below)))
        };
        Demo {
            pg_bin: text("PGRELAY_PG_BIN").map(PathBuf::from),
            dir: text("PGRELAY_DEMO_DIR").map(PathBuf::from),
            path: text("PATH").unwrap_or_default().to_owned(),
            state_home: home("XDG_STATE_HOME", ".local/state"),
            cache_home: home("XDG_CACHE_HOME", ".cache"),
        }
    }

    /// The log filter, unparsed: a mistake in it must not keep a start from being logged.
    pub fn log_filter(&self) -> &str {
        self.get("PGRELAY_LOG").map_or("info", |(text, _)| text)
    }
}

fn database(reader: &mut Reader<'_>) -> Option<capture::Config> {
    let database = reader.need("DATABASE_URL", endpoint);
    let direct = reader.want("PGRELAY_DIRECT_URL", self::endpoint);
    let publication = reader.need("PGRELAY_PUBLICATION", value::name);
    let ddl = reader.need("PGRELAY_DDL", value::boolean);
    let message_bytes_max = reader.need("PGRELAY_PAYLOAD_BYTES_MAX", value::memory);
    let pool_size = reader.need("PGRELAY_POOL_SIZE", value::count);
    let log_retention = reader.need("PGRELAY_LOG_RETENTION", value::duration);
    let log_bytes_max = reader.need("PGRELAY_LOG_BYTES_MAX", value::bytes);
    let session_retention = reader.need("PGRELAY_SESSION_RETENTION", value::duration);
    let safety_poll = reader.need("PGRELAY_SAFETY_POLL", value::duration);
    let poll_busy = reader.need("PGRELAY_BUSY_POLL", value::duration);
    let arm = reader.need("PGRELAY_ARM", |text| match text {
        "auto" => Ok(Arm::Auto),
        "never" => Ok(Arm::Never),
        _ => Err("expected auto or never".to_owned()),
    });
    let evaluate_timeout = reader.need("PGRELAY_EVALUATE_TIMEOUT", value::duration);
    let database = database?;
    Some(capture::Config {
        direct: direct?.unwrap_or_else(|| database.clone()),
        database,
        publication: publication?,
        ddl: ddl?,
        pool_size: pool_size?,
        message_bytes_max: message_bytes_max?,
        log_retention: log_retention?,
        log_bytes_max: log_bytes_max?,
        session_retention: session_retention?,
        safety_poll: safety_poll?,
        poll_busy: poll_busy?,
        arm: arm?,
        evaluate_timeout: evaluate_timeout?,
    })
}

fn signing(reader: &mut Reader<'_>) -> Option<Signing> {
    let jwks = reader.want("PGRELAY_JWKS", JwksSource::parse);
    let secret = match jwks {
        // Only where there is nothing else is one needed.
        Some(None) => reader.need("PGRELAY_JWT_SECRET", secret).map(Some),
        Some(Some(_)) | None => reader.want("PGRELAY_JWT_SECRET", secret),
    };
    let refresh = reader.need("PGRELAY_JWKS_REFRESH", value::pause);
    let api_keys = reader.want("PGRELAY_API_KEYS", ApiKeys::parse);
    let leeway = reader.need("PGRELAY_JWT_LEEWAY", value::duration);
    let started = reader.need("PGRELAY_JWT_NOT_BEFORE", value::boolean);
    let demands = reader.want("PGRELAY_JWT_CLAIMS", value::demands);
    let (leeway, started, refresh, secret) = (leeway?, started?, refresh?, secret?);
    let keys = secret.as_ref().map(KeySet::shared_secret);
    Some(Signing {
        keys: Arc::new(KeyRing::new(keys.unwrap_or_default())),
        secret,
        jwks: jwks?.map(|source| (source, refresh)),
        api_keys: api_keys?.unwrap_or_default(),
        rules: TokenRules::new(leeway, started, demands?.unwrap_or_default()),
    })
}

/// A payload may be as large as a stored message that is told.
fn relay(reader: &mut Reader<'_>, payload_bytes_max: Option<usize>) -> Option<RelayLimits> {
    let shards = reader.want("PGRELAY_SHARDS", value::count);
    let queue_bytes_max = reader.need("PGRELAY_QUEUE_BYTES_MAX", value::memory);
    let ring_bytes_max = reader.need("PGRELAY_RING_BYTES_MAX", value::memory);
    let frame_bytes_max = reader.need("PGRELAY_FRAME_BYTES_MAX", value::memory);
    let channels_per_client_max = reader.need("PGRELAY_CHANNELS_MAX", value::count);
    let bindings_per_channel_max = reader.need("PGRELAY_BINDINGS_MAX", value::count);
    let clients_max = reader.want("PGRELAY_CLIENTS_MAX", value::count);
    let joins_per_second_max = reader.want("PGRELAY_JOINS_PER_SECOND_MAX", value::rate);
    let events_per_second_max = reader.want("PGRELAY_EVENTS_PER_SECOND_MAX", value::rate);
    let presence_events_per_second_max =
        reader.want("PGRELAY_PRESENCE_EVENTS_PER_SECOND_MAX", value::rate);
    let presence_calls_max = reader.want("PGRELAY_PRESENCE_CALLS_MAX", value::rate);
    let presence_window = reader.need("PGRELAY_PRESENCE_WINDOW", value::duration);
    let presence_enabled = reader.need("PGRELAY_PRESENCE_ENABLED", value::boolean);
    let private_only = reader.need("PGRELAY_PRIVATE_ONLY", value::boolean);
    let idle_timeout = reader.need("PGRELAY_IDLE_TIMEOUT", value::duration);
    let checkpoint_interval = reader.need("PGRELAY_CHECKPOINT_INTERVAL", value::duration);
    let join_error_delay = reader.need("PGRELAY_JOIN_ERROR_DELAY", value::duration);
    Some(RelayLimits {
        shards: shards?.unwrap_or_else(processors),
        queue_bytes_max: queue_bytes_max?,
        ring_bytes_max: ring_bytes_max?,
        frame_bytes_max: frame_bytes_max?,
        channels_per_client_max: channels_per_client_max?,
        bindings_per_channel_max: bindings_per_channel_max?,
        payload_bytes_max: payload_bytes_max?,
        clients_max: clients_max?,
        joins_per_second_max: joins_per_second_max?,
        events_per_second_max: events_per_second_max?,
        presence_events_per_second_max: presence_events_per_second_max?,
        presence_calls_max: presence_calls_max?,
        presence_window: presence_window?,
        presence_enabled: presence_enabled?,
        private_only: private_only?,
        idle_timeout: idle_timeout?,
        checkpoint_interval: checkpoint_interval?,
        join_error_delay: join_error_delay?,
    })
}

fn http(reader: &mut Reader<'_>) -> Option<Http> {
    let connect_error_delay = reader.need("PGRELAY_CONNECT_ERROR_DELAY", value::duration);
    let connections_max = reader.need("PGRELAY_HTTP_CONNECTIONS_MAX", value::count);
    let event_streams_max = reader.need("PGRELAY_EVENT_STREAMS_MAX", value::count);
    let broadcast_bytes_max = reader.need("PGRELAY_BROADCAST_BYTES_MAX", value::memory);
    Some(Http {
        connect_error_delay: connect_error_delay?,
        connections_max: connections_max?,
        event_streams_max: event_streams_max?,
        broadcast_bytes_max: broadcast_bytes_max?,
    })
}

fn secret(text: &str) -> Result<Secret, String> {
    Ok(Secret::new(text))
}

fn endpoint(text: &str) -> Result<Endpoint, String> {
    pgrelay_capture::parse_url(text).map_err(|error| match error {
        UrlError::Malformed(_) => {
            "expected postgres://user:password@host:5432/database, special characters percent-encoded"
                .to_owned()
        }
        other => Chain(&other).to_string(),
    })
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// What to do about a setting that is needed and missing.
fn cure(key: &str) -> String {
    match key {
        "DATABASE_URL" => {
            "name the database to relay, such as postgres://user:password@host:5432/database"
        }
        "PGRELAY_JWT_SECRET" => {
            "set the secret that tokens are signed with (`openssl rand -hex 32` makes a new one), or PGRELAY_JWKS"
        }
        _ => "a value is needed",
    }
    .to_owned()
}

struct Reader<'a> {
    values: &'a Values,
    mistakes: Vec<Mistake>,
}

impl<'a> Reader<'a> {
    fn new(values: &'a Values) -> Self {
        Self {
            values,
            mistakes: Vec::new(),
        }
    }

    /// The value of `key`. `None`, with a mistake noted, where it is missing or does not parse.
    fn need<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.want(key, parse)?;
        if value.is_none() {
            self.mistakes.push(Mistake {
                key: key.to_owned(),
                given: None,
                cure: cure(key),
            });
        }
        value
    }

    /// Like [`Self::need`], but `Some(None)` where nothing was given.
    fn want<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Option<T>> {
        let Some((text, origin)) = self.values.get(key) else {
            return Some(None);
        };
        match parse(text) {
            Ok(value) => Some(Some(value)),
            Err(cure) => {
                let masking = setting(key).map_or(Masking::Plain, |setting| setting.masking);
                let key = if let Origin::Flag(flag) = origin {
                    flag
                } else {
                    key
                };
                let given = Some(masked(masking, text));
                self.mistakes.push(Mistake {
                    key: key.to_owned(),
                    given,
                    cure,
                });
                None
            }
        }
    }

    fn finish<T>(self, value: Option<T>) -> Result<T, Mistakes> {
        match value {
            Some(value) if self.mistakes.is_empty() => Ok(value),
            _ => Err(Mistakes(self.mistakes)),
        }
    }
}
