//! Stand-ins for parts that are being written beside this one.
#![allow(
    missing_docs,
    missing_debug_implementations,
    dead_code,
    clippy::all,
    reason = "removed at the end"
)]

use bytes::Bytes;
use pgrelay_protocol::{BindingSpec, TokenError};
use pgrelay_relay::ports::Claims;
use std::sync::Arc;

pub enum Vsn {
    V1,
    V2,
}
pub struct UnsupportedVsn;
impl Vsn {
    pub fn parse(text: Option<&str>) -> Result<Self, UnsupportedVsn> {
        match text {
            None => Ok(Self::V1),
            Some("1.0.0") => Ok(Self::V1),
            Some("2.0.0") => Ok(Self::V2),
            Some(_) => Err(UnsupportedVsn),
        }
    }
}
#[derive(Debug, PartialEq)]
pub enum Since {
    Now,
    Cursor(Box<str>),
}
pub struct NewSocket {
    pub socket: std::net::TcpStream,
    pub early: Bytes,
    pub vsn: Vsn,
    pub token: Arc<str>,
    pub claims: Arc<Claims>,
}
#[derive(Debug, thiserror::Error)]
#[error("busy")]
pub struct Busy;
#[derive(Clone)]
pub struct Relay;
impl Relay {
    pub fn accept(&self, _: NewSocket) -> Result<(), Busy> {
        Ok(())
    }
    pub async fn subscribe(&self, _: StreamRequest) -> Result<EventStream, SubscribeError> {
        Err(SubscribeError)
    }
    pub fn drain(&self) {}
}
pub struct StreamRequest {
    pub claims: Arc<Claims>,
    pub token: Arc<str>,
    pub specs: Vec<BindingSpec>,
    pub since: Option<Since>,
}
pub type EventStream = futures::stream::BoxStream<'static, StreamEvent>;
#[derive(Debug, thiserror::Error)]
#[error("busy")]
pub struct SubscribeError;
pub enum Kind {
    Change,
    System,
    Checkpoint,
    MustRefetch,
}
pub struct StreamEvent {
    pub cursor: Option<Box<str>>,
    pub kind: Kind,
    pub json: Bytes,
}

pub fn connect_text(error: &TokenError) -> String {
    match error {
        TokenError::Malformed => "The token provided is not a valid JWT".to_owned(),
        TokenError::Expired(_) => "Token has expired".to_owned(),
        TokenError::MissingClaims => "Fields `role` and `exp` are required in JWT".to_owned(),
        TokenError::Signature => "Failed to validate JWT signature".to_owned(),
        TokenError::Signer(Some(kid)) => format!(
            "Failed to generate JWT signer for key ID (kid) {kid:?}, check your JWT secret or JWKS configuration"
        ),
        TokenError::Signer(None) => {
            "Failed to generate JWT signer, check your JWT secret or JWKS configuration".to_owned()
        }
        TokenError::Invalid => "Error connecting to Realtime".to_owned(),
    }
}
