//! Opaque keys (`sb_publishable_...`, `sb_secret_...`) and the roles they stand for.

use std::{fmt, sync::Arc};

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};
use pgrelay_relay::ports::Claims;

/// The configured keys. Only their digests are kept, so that neither a memory dump nor the time a
/// comparison takes tells a key.
#[derive(Default, Clone)]
pub struct ApiKeys(Vec<(digest::Digest, Arc<Claims>)>);

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeys({} ***)", self.0.len())
    }
}

impl ApiKeys {
    /// Reads `sb_publishable_x:anon,sb_secret_y:service_role`.
    ///
    /// # Errors
    /// Says what was expected, without repeating a key.
    pub fn parse(text: &str) -> Result<Self, String> {
        let pair = |pair: &str| {
            let (key, role) = pair.trim().split_once(':')?;
            let usable =
                key.len() > 3 && key.starts_with("sb_") && !role.is_empty() && role.len() <= 63;
            usable.then(|| (digest_of(key), Arc::new(claims_of(role))))
        };
        text.split(',')
            .map(pair)
            .collect::<Option<Vec<_>>>()
            .map(Self)
            .ok_or_else(|| "expected sb_<key>:<role> pairs separated by commas".to_owned())
    }

    /// The claims of `key`. Every key is compared, whichever fits.
    pub(super) fn find(&self, key: &str) -> Option<Arc<Claims>> {
        if self.0.is_empty() || !key.starts_with("sb_") {
            return None;
        }
        let given = digest_of(key);
        let mut found = None;
        for (known, claims) in &self.0 {
            if verify_slices_are_equal(known.as_ref(), given.as_ref()).is_ok() {
                found = Some(Arc::clone(claims));
            }
        }
        found
    }
}

fn digest_of(key: &str) -> digest::Digest {
    digest::digest(&digest::SHA256, key.as_bytes())
}

fn claims_of(role: &str) -> Claims {
    Claims {
        role: role.into(),
        subject: None,
        expires_at: None,
        json: serde_json::json!({ "role": role }).to_string().into(),
    }
}
