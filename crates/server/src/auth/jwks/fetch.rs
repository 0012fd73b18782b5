//! One document over HTTP: bounded in time and size, no redirects followed, no credentials sent.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::{
    Request, StatusCode, Uri,
    client::conn::http1,
    header::{ACCEPT, HOST, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// From the look-up of the name to the last byte.
const FETCH_MAX: Duration = Duration::from_secs(10);

/// A URL that keys may come from.
#[derive(Debug, Clone)]
pub struct JwksUrl {
    uri: Uri,
    host: Box<str>,
    port: u16,
    secure: bool,
}

impl JwksUrl {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let uri: Uri = text
            .parse()
            .map_err(|_malformed| "expected a file or a URL".to_owned())?;
        let authority = uri.authority().ok_or("expected a URL with a host")?;
        if authority.as_str().contains('@') {
            return Err("expected a URL without a password: keys are public".to_owned());
        }
        let host = authority.host().trim_matches(['[', ']']);
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if is_private(host) => false,
            _ => {
                return Err(
                    "expected https: whoever can change the keys can make tokens. http is for \
                     hosts of a private network: loopback, private addresses, names without a dot"
                        .to_owned(),
                );
            }
        };
        let (host, port) = (host.into(), authority.port_u16());
        Ok(Self {
            port: port.unwrap_or(if secure { 443 } else { 80 }),
            host,
            uri,
            secure,
        })
    }
}

impl fmt::Display for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

/// Whether what is sent to `host` stays with us.
fn is_private(host: &str) -> bool {
    match host.parse() {
        Ok(std::net::IpAddr::V4(address)) => address.is_loopback() || address.is_private(),
        Ok(std::net::IpAddr::V6(address)) => address.is_loopback() || address.is_unique_local(),
        Err(_name) => !host.is_empty() && !host.contains('.'),
    }
}

/// Why a document could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No connection.
    #[error("connect to {0}")]
    Connect(Box<str>, #[source] std::io::Error),
    /// The host's name cannot be in a certificate.
    #[error("{0} is no name for a certificate")]
    Name(Box<str>),
    /// HTTP failed on the way.
    #[error("speak HTTP")]
    Http(#[from] hyper::Error),
    /// Another answer than the document; redirects are not followed.
    #[error("the answer is {0}")]
    Status(StatusCode),
    /// The document is too large.
    #[error("the answer is longer than {0} bytes")]
    TooLarge(usize),
    /// The body broke off.
    #[error("read the answer")]
    Body(#[source] Box<dyn StdError + Send + Sync>),
    /// The document is no text.
    #[error("the answer is no UTF-8 text")]
    NotText,
    /// It took too long.
    #[error("no answer within {FETCH_MAX:?}")]
    Timeout,
}

/// Fetches documents.
pub(crate) struct Fetcher {
    tls: TlsConnector,
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fetcher")
    }
}

impl Fetcher {
    /// Trusts what browsers trust.
    pub(crate) fn new() -> Self {
        Self::trusting(RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        })
    }

    pub(super) fn trusting(roots: RootCertStore) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has the cipher suites of its own protocol versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            tls: TlsConnector::from(Arc::new(config)),
        }
    }

    /// The text of the document at `url`, of at most `bytes_max` bytes.
    pub(super) async fn get(&self, url: &JwksUrl, bytes_max: usize) -> Result<String, FetchError> {
        timeout(FETCH_MAX, self.get_in_any_time(url, bytes_max))
            .await
            .map_err(|_elapsed| FetchError::Timeout)?
    }

    async fn get_in_any_time(&self, url: &JwksUrl, bytes_max: usize) -> Result<String, FetchError> {
        let unreachable = |error| FetchError::Connect(url.host.clone(), error);
        let tcp = TcpStream::connect((&*url.host, url.port))
            .await
            .map_err(unreachable)?;
        if !url.secure {
            return request(tcp, url, bytes_max).await;
        }
        let name = ServerName::try_from(url.host.to_string())
            .map_err(|_invalid| FetchError::Name(url.host.clone()))?;
        let tls = self.tls.connect(name, tcp).await.map_err(unreachable)?;
        request(tls, url, bytes_max).await
    }
}

async fn request<S>(stream: S, url: &JwksUrl, bytes_max: usize) -> Result<String, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let path = url.uri.path_and_query().map_or("/", |path| path.as_str());
    let host = url
        .uri
        .authority()
        .map_or("", |authority| authority.as_str());
    let request = Request::get(path)
        .header(HOST, host)
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("pgrelay/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .expect("a path of a URL and constant headers make a request");
    // The connection is driven here and ends with the sender.
    let answer = async move {
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), bytes_max)
            .collect()
            .await;
        let body = body.map_err(|error| match error.downcast::<LengthLimitError>() {
            Ok(_too_long) => FetchError::TooLarge(bytes_max),
            Err(error) => FetchError::Body(error),
        })?;
        String::from_utf8(body.to_bytes().into()).map_err(|_not_text| FetchError::NotText)
    };
    tokio::select! {
        biased;
        answer = answer => answer,
        Err(error) = connection => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
