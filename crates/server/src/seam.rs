//! Stand-ins for parts that are being written beside this one.
#![allow(
    missing_docs,
    missing_debug_implementations,
    dead_code,
    clippy::all,
    reason = "removed at the end"
)]

use bytes::Bytes;
use pgrelay_protocol::{BindingSpec, Since, Vsn};
use pgrelay_relay::ports::Claims;
use std::sync::Arc;

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
    #[allow(clippy::unused_async)]
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
