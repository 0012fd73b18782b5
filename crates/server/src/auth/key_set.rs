//! Which key verifies a token.
//!
//! The algorithm is taken from the header only to choose among the keys that are configured for it:
//! a public key can never be used as an HMAC secret, and `none` chooses nothing. What a header says
//! about where keys are (`jku`, `x5u`, `jwk`) is not read.

use std::{fmt, sync::Arc};

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use pgrelay_protocol::TokenError;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::jwt::Header;
use crate::secret::Secret;

/// Keys of one set; more are refused.
const KEYS_MAX: usize = 1_000;
/// Longer names of keys are none of ours.
const KEY_ID_BYTES_MAX: usize = 512;

/// The keys at one moment.
#[derive(Clone, Default)]
pub struct KeySet {
    shared_secret: Option<DecodingKey>,
    published: Arc<[PublishedKey]>,
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySet({} ***)", self.published.len())
    }
}

/// A key of a JWK set, and what it may be used for.
#[derive(Clone)]
struct PublishedKey {
    id: Box<str>,
    key: DecodingKey,
    algorithms: &'static [Algorithm],
}

/// A key and the one algorithm it is used with for this token.
#[derive(Clone, Copy)]
pub(super) struct Signer<'a> {
    pub(super) key: &'a DecodingKey,
    pub(super) algorithm: Algorithm,
}

/// A document is no JWK set.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// Not of the form `{"keys": [...]}`.
    #[error("expected a JSON object with an array of keys")]
    Malformed(#[source] serde_json::Error),
    /// More keys than anybody needs.
    #[error("a set of {0} keys: at most {KEYS_MAX} are taken")]
    TooMany(usize),
    /// None that could verify a token.
    #[error(
        "no usable key: RSA, EC (P-256, P-384), OKP (Ed25519) and oct keys with a kid are used"
    )]
    Unusable,
}

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

impl KeySet {
    /// Verifies HS256, HS384 and HS512 with `secret`, whatever `kid` a token names.
    pub fn shared_secret(secret: &Secret) -> Self {
        Self {
            shared_secret: Some(DecodingKey::from_secret(secret.reveal().as_bytes())),
            published: Arc::default(),
        }
    }

    /// These keys, and those of the JWK set `document` in place of any other set. Keys of kinds that
    /// are not known, and keys that are not for signatures, are left out.
    ///
    /// # Errors
    /// When the document is no JWK set, or has no key that can be used.
    pub fn with_published(&self, document: &str) -> Result<Self, JwksError> {
        let Document { keys } = serde_json::from_str(document).map_err(JwksError::Malformed)?;
        if keys.len() > KEYS_MAX {
            return Err(JwksError::TooMany(keys.len()));
        }
        let usable: Arc<[PublishedKey]> = keys
            .into_iter()
            .filter_map(|key| PublishedKey::read(serde_json::from_str(key.get()).ok()?))
            .collect();
        if usable.is_empty() {
            return Err(JwksError::Unusable);
        }
        Ok(Self {
            shared_secret: self.shared_secret.clone(),
            published: usable,
        })
    }

    /// How many keys a set had published.
    pub fn published(&self) -> usize {
        self.published.len()
    }

    /// The key for a token with this header: the published one of that name which is for that
    /// algorithm; for an HMAC also the shared secret. Asymmetric algorithms are known by name, so that
    /// their tokens are told that their `kid` is unknown.
    pub(super) fn select(&self, header: &Header) -> Result<Signer<'_>, TokenError> {
        let unknown = || TokenError::Signer(header.key_id.clone());
        let algorithm = match header.algorithm.as_deref() {
            Some("HS256") => Algorithm::HS256,
            Some("HS384") => Algorithm::HS384,
            Some("HS512") => Algorithm::HS512,
            Some("RS256") => Algorithm::RS256,
            Some("RS384") => Algorithm::RS384,
            Some("RS512") => Algorithm::RS512,
            Some("ES256") => Algorithm::ES256,
            Some("ES384") => Algorithm::ES384,
            Some("EdDSA" | "Ed25519") => Algorithm::EdDSA,
            Some("ES512" | "Ed448") => return Err(unknown()),
            Some(_) | None => return Err(TokenError::Signer(None)),
        };
        let is_this = |key: &&PublishedKey| {
            Some(&*key.id) == header.key_id.as_deref() && key.algorithms.contains(&algorithm)
        };
        let published = self.published.iter().find(is_this).map(|known| &known.key);
        let shared = self.shared_secret.as_ref();
        let key = published.or_else(|| shared.filter(|_| HMAC.contains(&algorithm)));
        key.map(|key| Signer { key, algorithm }).ok_or_else(unknown)
    }
}

const HMAC: &[Algorithm] = &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];

impl PublishedKey {
    fn read(jwk: Jwk) -> Option<Self> {
        let use_ = jwk.common.public_key_use.as_ref();
        if use_.is_some_and(|use_| *use_ != PublicKeyUse::Signature) {
            return None;
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        let id = jwk
            .common
            .key_id
            .filter(|id| id.len() <= KEY_ID_BYTES_MAX)?;
        let algorithms = match jwk.common.key_algorithm {
            None => of_kind(&jwk.algorithm)?,
            Some(named) => of_kind(&jwk.algorithm).and_then(|all| one_of(all, named))?,
        };
        Some(Self {
            id: id.into(),
            key,
            algorithms,
        })
    }
}

/// What a key of this kind may verify.
fn of_kind(parameters: &AlgorithmParameters) -> Option<&'static [Algorithm]> {
    match parameters {
        AlgorithmParameters::RSA(_) => {
            Some(&[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512])
        }
        AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
            EllipticCurve::P256 => Some(&[Algorithm::ES256]),
            EllipticCurve::P384 => Some(&[Algorithm::ES384]),
            _ => None,
        },
        AlgorithmParameters::OctetKeyPair(pair) => {
            (pair.curve == EllipticCurve::Ed25519).then_some(&[Algorithm::EdDSA])
        }
        AlgorithmParameters::OctetKey(_) => Some(HMAC),
        _ => None,
    }
}

/// A key that names its algorithm is for that one alone.
fn one_of(all: &'static [Algorithm], named: KeyAlgorithm) -> Option<&'static [Algorithm]> {
    let named = Algorithm::try_from(named).ok()?;
    let place = all.iter().position(|algorithm| *algorithm == named)?;
    Some(&all[place..=place])
}
