//! Keys that somebody else publishes: a JWK set in a file or behind a URL, read at the start, from
//! time to time, and when a token names a key that is not there.
//!
//! An outage keeps the keys that are known. However many tokens name unknown keys, and whatever the
//! answer is, two reads are at least [`PAUSE_MIN`] apart.

mod fetch;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until, timeout_at};

use super::{KeyRing, key_set::JwksError};
use crate::chain::Chain;

pub(crate) use fetch::{FetchError, Fetcher};

/// Between two reads that unknown keys ask for, unless sets are read more often anyway.
const PAUSE_MIN: Duration = Duration::from_secs(30);
/// Larger sets are refused.
const DOCUMENT_BYTES_MAX: usize = 1 << 20;

/// Where the set is.
#[derive(Debug, Clone)]
pub enum JwksSource {
    /// A file.
    File(PathBuf),
    /// An `https` URL, or an `http` one inside a private network.
    Url(fetch::JwksUrl),
}

impl JwksSource {
    /// Reads the setting.
    ///
    /// # Errors
    /// Says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.contains("://") {
            fetch::JwksUrl::parse(text).map(Self::Url)
        } else {
            Ok(Self::File(text.into()))
        }
    }
}

impl fmt::Display for JwksSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Url(url) => url.fmt(f),
        }
    }
}

/// Why there are no new keys.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// The file cannot be read.
    #[error("read the JWK set")]
    File(#[source] std::io::Error),
    /// The file is too large.
    #[error("the JWK set is larger than {DOCUMENT_BYTES_MAX} bytes")]
    TooLarge,
    /// The URL cannot be fetched.
    #[error("fetch the JWK set")]
    Fetch(#[from] FetchError),
    /// It is no JWK set.
    #[error("understand the JWK set")]
    Document(#[from] JwksError),
}

/// Keeps a [`KeyRing`] up to date.
#[derive(Debug)]
pub struct Jwks {
    source: JwksSource,
    ring: Arc<KeyRing>,
    every: Duration,
    fetcher: Fetcher,
}

impl Jwks {
    /// Reads `source` every `every`, for `ring`.
    #[must_use]
    pub fn new(source: JwksSource, ring: Arc<KeyRing>, every: Duration) -> Self {
        Self {
            source,
            ring,
            every,
            fetcher: Fetcher::new(),
        }
    }

    /// Whether a set that cannot be read may come later: a file is there or it is not.
    #[must_use]
    pub fn may_come_later(&self) -> bool {
        matches!(self.source, JwksSource::Url(_))
    }

    /// Reads the set once; how many keys it has.
    ///
    /// # Errors
    /// When it cannot be read or understood; the keys stay as they were.
    pub async fn refresh(&self) -> Result<usize, RefreshError> {
        let document = match &self.source {
            JwksSource::File(path) => {
                let size = tokio::fs::metadata(path)
                    .await
                    .map_err(RefreshError::File)?;
                if size.len() > DOCUMENT_BYTES_MAX as u64 {
                    return Err(RefreshError::TooLarge);
                }
                let text = tokio::fs::read_to_string(path).await;
                text.map_err(RefreshError::File)?
            }
            JwksSource::Url(url) => self.fetcher.get(url, DOCUMENT_BYTES_MAX).await?,
        };
        let keys = self.ring.current().with_published(&document)?;
        let published = keys.published();
        self.ring.replace(keys);
        Ok(published)
    }

    /// Reads it again and again. Never ends by itself.
    pub async fn run(self) {
        let pause = PAUSE_MIN.min(self.every);
        let mut read_at = Instant::now();
        let mut complained = false;
        loop {
            // A key that is missing brings the next read forward, but not before the pause is over.
            drop(timeout_at(read_at + self.every, self.ring.missed()).await);
            sleep_until(read_at + pause).await;
            read_at = Instant::now();
            match self.refresh().await {
                Ok(published) => {
                    tracing::debug!(published, "read the JWK set");
                    complained = false;
                }
                Err(error) if complained => {
                    tracing::debug!(source = %self.source, error = %Chain(&error), "still no new keys");
                }
                Err(error) => {
                    tracing::warn!(source = %self.source, error = %Chain(&error), "the keys stay as they are");
                    complained = true;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
