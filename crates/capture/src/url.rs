//! A connection URL (or `key=value` string) taken apart: what tokio-postgres parses is left to it,
//! what it does not know of TLS is parsed here.
//!
//! Nothing in this file puts a value of the text into an error: it may hold a password.

use std::time::Duration;

use thiserror::Error;
use tokio_postgres::config::Host;

use crate::{
    connect::Endpoint,
    tls::{Identity, Roots, SslMode, Tls, TlsError},
};

/// A connection URL cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Not a URL of PostgreSQL and not a `key=value` string.
    #[error("the connection URL is malformed")]
    Malformed(#[source] tokio_postgres::Error),
    /// Quotes or percent signs do not match up.
    #[error("the connection URL has a malformed parameter list")]
    Parameters,
    /// `sslmode` is not one of the six.
    #[error("sslmode must be disable, allow, prefer, require, verify-ca or verify-full")]
    SslMode,
    /// One of `sslcert` and `sslkey` is missing.
    #[error("sslcert and sslkey must be given together")]
    HalfIdentity,
    /// A parameter of libpq that would be ignored silently.
    #[error("the parameter {0} is not supported")]
    Unsupported(&'static str),
    /// No host was named.
    #[error("the connection URL names no host")]
    NoHost,
    /// A certificate or key cannot be used.
    #[error("the TLS parameters of the connection URL cannot be used")]
    Tls(#[from] TlsError),
}

/// Parameters of libpq about TLS, and those that concern neither of us.
const OURS: &[&str] = &["sslmode", "sslrootcert", "sslcert", "sslkey", "gssencmode"];
/// Refused, because leaving them out would weaken what was asked for.
const REFUSED: &[&str] = &[
    "sslcrl",
    "sslcrldir",
    "sslpassword",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "requirepeer",
];

/// A server that does not answer is given up after this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection whose other end has vanished is noticed within 4 + 2 * 2 seconds.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(4);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_RETRIES: u32 = 2;
/// The same for data that was sent and never acknowledged.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(8);

/// Parses a connection URL or `key=value` string, reads the certificate files it names, and fills in
/// timeouts and keep-alives that it does not set.
pub fn parse_url(url: &str) -> Result<Endpoint, UrlError> {
    let Split { rest, ours, keys } = split(url.trim())?;
    let mut config: tokio_postgres::Config = rest.parse().map_err(UrlError::Malformed)?;
    let given = |key: &str| keys.iter().any(|k| k == key);
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(UrlError::NoHost);
    }
    if config.get_application_name().is_none() {
        config.application_name("pgrelay");
    }
    if !given("connect_timeout") {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if !given("keepalives_idle") {
        config.keepalives_idle(KEEPALIVE_IDLE);
    }
    if !given("keepalives_interval") {
        config.keepalives_interval(KEEPALIVE_INTERVAL);
    }
    if !given("keepalives_retries") {
        config.keepalives_retries(KEEPALIVE_RETRIES);
    }
    if !given("tcp_user_timeout") {
        config.tcp_user_timeout(TCP_USER_TIMEOUT);
    }
    let local_only = config
        .get_hosts()
        .iter()
        .all(|host| matches!(host, Host::Unix(_)));
    let tls = if local_only {
        Tls::disabled()
    } else {
        tls(&ours)?
    };
    Ok(Endpoint::new(config, tls))
}

fn tls(ours: &[(String, String)]) -> Result<Tls, UrlError> {
    let value = |key: &str| {
        ours.iter()
            .rev()
            .find(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
            .filter(|v| !v.is_empty())
    };
    let roots = match value("sslrootcert") {
        None => Roots::Unset,
        Some("system") => Roots::System,
        Some(path) => Roots::File(path.into()),
    };
    let mode = match value("sslmode") {
        Some(text) => SslMode::parse(text).ok_or(UrlError::SslMode)?,
        None if roots == Roots::System => SslMode::VerifyFull,
        None => SslMode::Prefer,
    };
    let identity = match (value("sslcert"), value("sslkey")) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some(Identity {
            certificate: certificate.into(),
            key: key.into(),
        }),
        _ => return Err(UrlError::HalfIdentity),
    };
    Ok(Tls::new(mode, &roots, identity.as_ref())?)
}

/// A connection string without the parameters that are ours.
#[derive(Debug)]
struct Split {
    rest: String,
    ours: Vec<(String, String)>,
    /// Every parameter that was given, by name.
    keys: Vec<String>,
}

fn split(text: &str) -> Result<Split, UrlError> {
    let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
    let mut out = Split {
        rest: String::new(),
        ours: Vec::new(),
        keys: Vec::new(),
    };
    if is_url {
        let (head, query) = text.split_once('?').unwrap_or((text, ""));
        out.rest.push_str(head);
        let mut separator = '?';
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (raw_key, raw_value) = pair.split_once('=').ok_or(UrlError::Parameters)?;
            let key = percent_decode(raw_key)?;
            if !out.take(key, || percent_decode(raw_value))? {
                out.rest.push(separator);
                out.rest.push_str(pair);
                separator = '&';
            }
        }
    } else {
        let mut text = text;
        while !text.is_empty() {
            let (pair, key, value, tail) = keyword(text)?;
            if !out.take(key, || Ok(value))? {
                out.rest.push_str(pair);
                out.rest.push(' ');
            }
            text = tail.trim_start();
        }
    }
    Ok(out)
}

impl Split {
    /// Notes the key; keeps the pair where it is ours, and says so.
    fn take(
        &mut self,
        key: String,
        value: impl FnOnce() -> Result<String, UrlError>,
    ) -> Result<bool, UrlError> {
        if let Some(refused) = REFUSED.iter().find(|name| **name == key) {
            return Err(UrlError::Unsupported(refused));
        }
        let ours = OURS.contains(&key.as_str());
        if ours {
            self.ours.push((key, value()?));
        } else {
            self.keys.push(key);
        }
        Ok(ours)
    }
}

/// The first `key = value` of libpq's grammar: its text, key, value, and what follows.
fn keyword(text: &str) -> Result<(&str, String, String, &str), UrlError> {
    let (key, after) = text.split_once('=').ok_or(UrlError::Parameters)?;
    let value_at = text.len() - after.trim_start().len();
    let mut value = String::new();
    let mut chars = text[value_at..].char_indices();
    let mut quoted = false;
    let end = loop {
        match chars.next() {
            None if quoted => return Err(UrlError::Parameters),
            None => break text.len(),
            Some((at, '\'')) if !quoted && at == 0 => quoted = true,
            Some((at, '\'')) if quoted => break value_at + at + 1,
            Some((_, '\\')) => value.push(chars.next().ok_or(UrlError::Parameters)?.1),
            Some((at, c)) if !quoted && c.is_whitespace() => break value_at + at,
            Some((_, c)) => value.push(c),
        }
    };
    Ok((&text[..end], key.trim().to_owned(), value, &text[end..]))
}

fn percent_decode(text: &str) -> Result<String, UrlError> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || {
            bytes
                .next()
                .and_then(|b| char::from(b).to_digit(16))
                .and_then(|d| u8::try_from(d).ok())
        };
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(UrlError::Parameters);
        };
        out.push(high << 4 | low);
    }
    String::from_utf8(out).map_err(|error| {
        tracing::debug!(
            valid_up_to = error.utf8_error().valid_up_to(),
            "connection parameter is not UTF-8"
        );
        UrlError::Parameters
    })
}

#[cfg(test)]
mod tests;
