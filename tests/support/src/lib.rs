//! What a database test stands on: its own database, the real binary, a raw client, a proxy that cuts.
//!
//! Everything here is real (PostgreSQL, the `pgrelay` binary as a child process, TCP); nothing is mocked. Every wait is for a
//! condition and has a deadline. A helper that cannot do its work fails the test that called it, with a sentence that says
//! what to do. Knows the wire only as JSON, so that a mistake in `pgrelay_protocol` cannot hide itself.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "this is test code: it fails the test that uses it"
)]

mod database;
mod database_url;
mod event_stream;
mod fuzz;
mod http;
mod key_pair;
mod postgres_server;
mod process;
mod proxy;
mod publisher;
mod relay;
mod session;
mod supabase;
mod tls;
mod token;
mod wait;
mod ws_client;

pub use database::{Role, TestDatabase};
pub use database_url::DatabaseUrl;
pub use event_stream::{EventStream, StreamEvent};
pub use fuzz::fuzz;
pub use http::{Request, Response};
pub use key_pair::KeyPair;
pub use postgres_server::{PostgresServer, PostgresServerBuilder};
pub use proxy::TcpProxy;
pub use publisher::Publisher;
pub use relay::{Relay, RelayBuilder};
pub use session::Session;
pub use supabase::SupabaseDatabase;
pub use tls::Certificates;
pub use token::{SECRET, token, token_signed_with};
pub use wait::{DEADLINE, wait_for, within};
pub use ws_client::{Frame, Vsn, WsClient};
