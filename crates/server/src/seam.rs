//! Stand-ins for parts that are being written beside this one.
#![allow(
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    dead_code,
    clippy::all,
    clippy::unused_async,
    clippy::needless_pass_by_value,
    reason = "removed at the end"
)]

pub mod relay {
    use bytes::Bytes;
    use pgrelay_protocol::{BindingSpec, CursorKey, Since, Vsn};
    use pgrelay_relay::ports::*;
    use std::{sync::Arc, time::Duration};
    use tokio_util::sync::CancellationToken;

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
    impl Feed for Relay {
        fn publish(&self, _: FeedEvent) -> futures::future::BoxFuture<'_, Result<(), Stopped>> {
            Box::pin(async { Ok(()) })
        }
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
    pub struct Config {
        pub shards: usize,
        pub queue_bytes_max: usize,
        pub idle_timeout: Duration,
        pub join_error_delay: Duration,
        pub checkpoint_interval: Duration,
        pub frame_bytes_max: usize,
        pub channels_per_client_max: usize,
        pub bindings_per_channel_max: usize,
        pub ring_bytes_max: usize,
        pub evaluate_deadline: Duration,
        pub cursor_key: CursorKey,
    }
    pub struct Ports {
        pub log: Arc<dyn ChangeLog>,
        pub authorizer: Arc<dyn Authorizer>,
        pub tokens: Arc<dyn TokenVerifier>,
    }
    #[derive(Default)]
    pub struct Metrics;
    impl Metrics {
        pub fn register(&self, _: &mut prometheus_client::registry::Registry) {}
    }
    pub struct Shard;
    impl Shard {
        pub async fn run(self, stop: CancellationToken) {
            stop.cancelled().await
        }
    }
    pub fn build(config: Config, _: Ports, _: Arc<Metrics>) -> (Relay, Vec<Shard>) {
        (Relay, (0..config.shards).map(|_| Shard).collect())
    }
}

pub mod capture {
    use futures::future::BoxFuture;
    use pgrelay_capture::{Endpoint, Error};
    use pgrelay_relay::ports::*;
    use std::{sync::Arc, time::Duration};
    use tokio_util::sync::CancellationToken;
    #[derive(Debug, Clone)]
    pub struct Config {
        pub database: Endpoint,
        pub direct: Endpoint,
        pub publication: String,
        pub ddl: bool,
        pub log_retention: Duration,
        pub log_bytes_max: u64,
        pub pool_size: usize,
        pub safety_poll: Duration,
        pub poll_busy: Duration,
        pub arm: Arm,
        pub evaluate_timeout: Duration,
    }
    #[derive(Debug, Clone, Copy)]
    pub enum Arm {
        Auto,
        Never,
    }
    pub struct Health;
    impl Health {
        pub fn is_live(&self) -> bool {
            true
        }
    }
    pub struct Source;
    pub struct Parts {
        pub source: Source,
        pub log: Arc<dyn ChangeLog>,
        pub resolver: Arc<dyn Authorizer>,
        pub health: Health,
    }
    impl ChangeSource for Source {
        fn run(
            self: Box<Self>,
            _: Arc<dyn Feed>,
            stop: CancellationToken,
        ) -> BoxFuture<'static, Result<(), Box<dyn std::error::Error + Send + Sync>>> {
            Box::pin(async move {
                stop.cancelled().await;
                Ok(())
            })
        }
    }
    #[derive(Default)]
    pub struct Metrics;
    impl Metrics {
        pub fn register(&self, _: &mut prometheus_client::registry::Registry) {}
    }
    pub async fn open(_: Config, _: Arc<Metrics>) -> Result<Parts, Error> {
        Ok(Parts {
            source: Source,
            log: Arc::new(Source),
            resolver: Arc::new(Source),
            health: Health,
        })
    }
    impl ChangeLog for Source {
        fn read(
            &self,
            _: pgrelay_protocol::Position,
            _: usize,
        ) -> BoxFuture<'static, Result<Replay, ReplayError>> {
            todo!()
        }
    }
    impl Authorizer for Source {
        fn resolve(
            &self,
            _: Arc<pgrelay_protocol::BindingSpec>,
            _: Arc<Claims>,
        ) -> BoxFuture<'static, Result<pgrelay_relay::filter::ResolvedBinding, BindingError>>
        {
            todo!()
        }
        fn evaluate(
            &self,
            _: Arc<pgrelay_relay::change::Page>,
            _: Vec<u32>,
            _: Arc<[pgrelay_relay::filter::FilterTest]>,
        ) -> BoxFuture<'static, Result<Vec<bool>, EvaluateError>> {
            todo!()
        }
    }
    pub async fn cursor_key(_: &Config) -> Result<[u8; 32], Error> {
        Ok([0; 32])
    }
    pub async fn migrate(_: &Config) -> Result<Vec<String>, Error> {
        Ok(vec![])
    }
    pub async fn check_schema(_: &Config) -> Result<(), Error> {
        Ok(())
    }
    pub fn migrations() -> String {
        String::new()
    }
    pub mod admin {
        use super::*;
        pub async fn enable(_: &Config, _: &str) -> Result<Vec<String>, Error> {
            Ok(vec![])
        }
        pub async fn disable(_: &Config, _: &str) -> Result<Vec<String>, Error> {
            Ok(vec![])
        }
        pub async fn uninstall(_: &Config) -> Result<Vec<String>, Error> {
            Ok(vec![])
        }
    }
}
