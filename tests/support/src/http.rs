//! Plain HTTP requests, one connection each.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderMap};
use hyper::{Method, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::session::Background;
use crate::wait::within;

/// A request in the making.
#[derive(Debug)]
pub struct Request {
    method: Method,
    uri: Uri,
    headers: Vec<(String, String)>,
    body: Bytes,
}

/// A whole answer.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// The body, decoded from any transfer encoding.
    pub body: Bytes,
}

impl Request {
    /// `GET url`.
    pub fn get(url: &str) -> Self {
        Self::new("GET", url)
    }

    /// `POST url` with a body of this content type.
    pub fn post(url: &str, content_type: &str, body: impl Into<Bytes>) -> Self {
        let mut request = Self::new("POST", url).header("content-type", content_type);
        request.body = body.into();
        request
    }

    /// Any method; `url` names this machine by address.
    pub fn new(method: &str, url: &str) -> Self {
        Self {
            method: method.parse().unwrap(),
            uri: url.parse().unwrap_or_else(|_| panic!("{url:?} is no URL")),
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// Gives it a JSON body.
    #[must_use]
    pub fn json(mut self, body: &serde_json::Value) -> Self {
        self.body = body.to_string().into();
        self.header("content-type", "application/json")
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The whole answer.
    pub async fn send(self) -> Response {
        let what = format!("{} {}", self.method, self.uri);
        within(&what, self.try_send())
            .await
            .unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// The whole answer, or what stood in its way.
    pub async fn try_send(self) -> Result<Response, String> {
        let (head, _connection) = self.open().await?;
        let (parts, body) = head.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?;
        Ok(Response {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: body.to_bytes(),
        })
    }

    /// The answer as it begins; the connection lives as long as the second value.
    pub(crate) async fn open(self) -> Result<(hyper::Response<Incoming>, Background), String> {
        let authority = self.uri.authority().ok_or("a URL without a host")?;
        let address: SocketAddr = authority
            .as_str()
            .parse()
            .map_err(|error| format!("{authority}: {error}"))?;
        let stream = TcpStream::connect(address)
            .await
            .map_err(|error| error.to_string())?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        let connection = Background::start(async move {
            // Whoever waits for the answer hears of a broken connection.
            drop(connection.await);
        });
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = hyper::Request::builder()
            .method(self.method)
            .uri(path)
            .header(HOST, authority.as_str());
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request
            .body(Full::new(self.body))
            .map_err(|error| error.to_string())?;
        let head = sender
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        Ok((head, connection))
    }
}

impl Response {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }
}
