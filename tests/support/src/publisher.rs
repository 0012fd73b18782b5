//! An HTTP server that publishes one document, which a test may change or withhold.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::session::Background;

/// Serves the same document at every path, until it is dropped.
#[derive(Debug)]
pub struct Publisher {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    _server: Background,
}

#[derive(Debug)]
struct State {
    /// Nothing: requests are answered 503.
    document: Option<String>,
    requests: usize,
}

impl Publisher {
    /// Publishes `document`.
    pub async fn start(document: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            document: Some(document.into()),
            requests: 0,
        }));
        let shared = Arc::clone(&state);
        let server = Background::start(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4_096];
                if stream.read(&mut request).await.is_err() {
                    continue;
                }
                let answer = {
                    let mut state = shared.lock().unwrap();
                    state.requests += 1;
                    let (status, body) = match &state.document {
                        Some(document) => ("200 OK", document.as_str()),
                        None => ("503 Service Unavailable", ""),
                    };
                    let length = body.len();
                    format!(
                        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                    )
                };
                drop(stream.write_all(answer.as_bytes()).await);
            }
        });
        Self {
            address,
            state,
            _server: server,
        }
    }

    /// Where the document is.
    pub fn url(&self) -> String {
        format!("http://{}/.well-known/jwks.json", self.address)
    }

    /// Publishes another document; `None` for an outage.
    pub fn publish(&self, document: Option<&str>) {
        self.state.lock().unwrap().document = document.map(Into::into);
    }

    /// How often it was asked for.
    pub fn requests(&self) -> usize {
        self.state.lock().unwrap().requests
    }
}
