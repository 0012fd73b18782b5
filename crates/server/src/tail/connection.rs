//! A WebSocket to a relay, with or without TLS.

use std::{sync::Arc, time::Duration};

use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        self,
        client::IntoClientRequest as _,
        http::{HeaderValue, Uri},
        protocol::WebSocketConfig,
    },
};

use crate::secret::Secret;

/// Longest time until a connection stands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Largest message that is read: above what the relay sends for any row.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Plain or encrypted bytes.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// An open WebSocket.
pub(super) type Connection = WebSocketStream<Box<dyn Stream>>;

/// A relay cannot be reached, or lets nobody in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL is none.
    #[error("{0} is no URL of a relay: expected something like http://127.0.0.1:4000")]
    Url(String),
    /// The relay answered and refused.
    #[error("the relay answered {status}: {text}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// What the body said.
        text: String,
    },
    /// Nobody answers there.
    #[error("connect to {0}")]
    Network(String, #[source] std::io::Error),
    /// The answer is not a WebSocket's.
    #[error("open the WebSocket")]
    Handshake(#[source] tungstenite::Error),
    /// Nothing happened for too long.
    #[error("no connection within {0:?}")]
    Timeout(Duration),
}

impl ConnectError {
    /// Whether trying again is of no use.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Url(_) => true,
            Self::Refused { status, .. } => (400..500).contains(status) && *status != 429,
            Self::Network(..) | Self::Handshake(_) | Self::Timeout(_) => false,
        }
    }
}

/// Where to connect.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    host: String,
    port: u16,
    tls: bool,
    url: String,
}

impl Target {
    fn parse(base: &str) -> Result<Self, ConnectError> {
        let wrong = || ConnectError::Url(base.to_owned());
        let uri: Uri = base.parse().map_err(|_not_a_uri| wrong())?;
        let tls = match uri.scheme_str() {
            Some("http" | "ws") => false,
            Some("https" | "wss") => true,
            _ => return Err(wrong()),
        };
        let host = uri.host().ok_or_else(wrong)?.to_owned();
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let scheme = if tls { "wss" } else { "ws" };
        let path = uri.path().trim_end_matches('/');
        let url = format!("{scheme}://{host}:{port}{path}/realtime/v1/websocket?vsn=2.0.0");
        Ok(Self {
            host,
            port,
            tls,
            url,
        })
    }
}

/// Opens a WebSocket to the relay at `base`. The key goes in a header, because query strings end up
/// in the logs of proxies.
pub(super) async fn open(base: &str, key: &Secret) -> Result<Connection, ConnectError> {
    let target = Target::parse(base)?;
    timeout(CONNECT_TIMEOUT, connect(&target, key))
        .await
        .map_err(|_elapsed| ConnectError::Timeout(CONNECT_TIMEOUT))?
}

async fn connect(target: &Target, key: &Secret) -> Result<Connection, ConnectError> {
    let mut request = target
        .url
        .as_str()
        .into_client_request()
        .map_err(ConnectError::Handshake)?;
    let key = HeaderValue::from_str(key.reveal())
        .map_err(|error| ConnectError::Handshake(tungstenite::Error::HttpFormat(error.into())))?;
    request.headers_mut().insert("x-api-key", key);
    let network = |error| ConnectError::Network(format!("{}:{}", target.host, target.port), error);
    let address = (target.host.trim_matches(['[', ']']), target.port);
    let tcp = TcpStream::connect(address).await.map_err(network)?;
    tcp.set_nodelay(true).map_err(network)?;
    let stream: Box<dyn Stream> = if target.tls {
        Box::new(encrypt(&target.host, tcp).await.map_err(network)?)
    } else {
        Box::new(tcp)
    };
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    match client_async_with_config(request, stream, Some(config)).await {
        Ok((connection, _response)) => Ok(connection),
        Err(tungstenite::Error::Http(response)) => Err(ConnectError::Refused {
            status: response.status().as_u16(),
            text: refusal(response.body().as_deref().unwrap_or_default()),
        }),
        Err(error) => Err(ConnectError::Handshake(error)),
    }
}

async fn encrypt(
    host: &str,
    tcp: TcpStream,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
    TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
}

/// The text of a refusal: `error` of a JSON body, else the beginning of the body.
fn refusal(body: &[u8]) -> String {
    let text = serde_json::from_slice::<serde_json::Value>(body).ok();
    let text = text.as_ref().and_then(|body| body.get("error")?.as_str());
    text.map_or_else(
        || String::from_utf8_lossy(body).chars().take(200).collect(),
        str::to_owned,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_websocket_is_found_below_any_base() {
        for (base, url) in [
            (
                "http://127.0.0.1:4000",
                "ws://127.0.0.1:4000/realtime/v1/websocket?vsn=2.0.0",
            ),
            (
                "https://db.test/",
                "wss://db.test:443/realtime/v1/websocket?vsn=2.0.0",
            ),
            (
                "wss://db.test:8443/base/",
                "wss://db.test:8443/base/realtime/v1/websocket?vsn=2.0.0",
            ),
            (
                "ws://[::1]:4000",
                "ws://[::1]:4000/realtime/v1/websocket?vsn=2.0.0",
            ),
        ] {
            assert_eq!(Target::parse(base).unwrap().url, url);
        }
        for base in ["", "127.0.0.1:4000", "ftp://db.test", "/path"] {
            assert!(Target::parse(base).is_err(), "{base}");
        }
    }

    #[test]
    fn a_refused_key_is_final_and_a_missing_relay_is_not() {
        let refused = |status| ConnectError::Refused {
            status,
            text: String::new(),
        };
        assert!(refused(401).is_final() && refused(403).is_final());
        assert!(!refused(429).is_final() && !refused(503).is_final());
        assert_eq!(
            refusal(br#"{"error":"Token has expired"}"#),
            "Token has expired"
        );
    }
}
