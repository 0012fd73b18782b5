//! Keys that an issuer of tokens would publish, made and used without the code under test.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// A private key with a name.
#[derive(Debug)]
pub struct KeyPair {
    kid: String,
    secret: Secret,
}

#[derive(Debug)]
enum Secret {
    /// ES256.
    P256(Box<EcdsaKeyPair>),
    /// EdDSA.
    Ed25519(Box<Ed25519KeyPair>),
}

impl KeyPair {
    /// A key for ES256.
    pub fn es256(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self {
            kid: kid.into(),
            secret: Secret::P256(Box::new(pair)),
        }
    }

    /// A key for EdDSA.
    pub fn eddsa(kid: &str) -> Self {
        Self {
            kid: kid.into(),
            secret: Secret::Ed25519(Box::new(Ed25519KeyPair::generate().unwrap())),
        }
    }

    /// The public half.
    pub fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.secret {
            Secret::P256(pair) => {
                // Uncompressed: a 4, then both coordinates.
                let point = pair.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "kid": self.kid, "use": "sig", "alg": "ES256",
                       "x": text(&point[1..33]), "y": text(&point[33..])})
            }
            Secret::Ed25519(pair) => {
                let public = text(pair.public_key().as_ref());
                json!({"kty": "OKP", "crv": "Ed25519", "kid": self.kid, "x": public})
            }
        }
    }

    /// A set of these keys.
    pub fn jwks(pairs: &[&Self]) -> String {
        let keys: Vec<_> = pairs.iter().map(|pair| pair.jwk()).collect();
        json!({ "keys": keys }).to_string()
    }

    /// A token with exactly these claims, signed with this key.
    pub fn token(&self, claims: &Value) -> String {
        let algorithm = match &self.secret {
            Secret::P256(_) => "ES256",
            Secret::Ed25519(_) => "EdDSA",
        };
        let header = json!({"alg": algorithm, "kid": self.kid});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(claims));
        let signature = match &self.secret {
            Secret::P256(pair) => {
                let random = SystemRandom::new();
                let signature = pair.sign(&random, signed.as_bytes()).unwrap();
                URL_SAFE_NO_PAD.encode(signature)
            }
            Secret::Ed25519(pair) => URL_SAFE_NO_PAD.encode(pair.sign(signed.as_bytes())),
        };
        format!("{signed}.{signature}")
    }
}
