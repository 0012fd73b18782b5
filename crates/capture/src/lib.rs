//! PostgreSQL to ordered, durable batches of changes.

mod connect;
mod doorbell;
mod error;
mod retry;
mod tls;
mod url;

pub use connect::Endpoint;
pub use error::{Error, Kind, Report};
pub use retry::Retry;
pub use tls::{SslMode, Tls, TlsError};
pub use url::{UrlError, parse_url};
