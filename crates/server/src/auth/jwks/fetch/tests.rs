use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;

const BYTES_MAX: usize = 1_000;

/// Answers every request with `answer`, for as long as `work` takes.
async fn with_server<T>(
    answer: &str,
    tls: Option<TlsAcceptor>,
    work: impl AsyncFnOnce(u16) -> T,
) -> (T, usize) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests = AtomicUsize::new(0);
    let serve = async {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            match &tls {
                None => speak(tcp, answer, &requests).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(tcp).await {
                        speak(stream, answer, &requests).await;
                    }
                }
            }
        }
    };
    let outcome = tokio::select! {
        outcome = work(port) => outcome,
        () = serve => unreachable!(),
    };
    (outcome, requests.into_inner())
}

async fn speak<S>(mut stream: S, answer: &str, requests: &AtomicUsize)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = vec![0; 4_096];
    let read = stream.read(&mut request).await.unwrap();
    assert!(request[..read].starts_with(b"GET /keys?a=b HTTP/1.1\r\n"));
    requests.fetch_add(1, Ordering::Relaxed);
    // A reader that has seen enough hangs up.
    drop(stream.write_all(answer.as_bytes()).await);
    drop(stream.shutdown().await);
}

fn url(scheme: &str, host: &str, port: u16) -> JwksUrl {
    JwksUrl::parse(&format!("{scheme}://{host}:{port}/keys?a=b")).unwrap()
}

async fn fetch(answer: &str) -> (Result<String, FetchError>, usize) {
    let fetcher = Fetcher::new();
    with_server(answer, None, async |port| {
        fetcher
            .get(&url("http", "127.0.0.1", port), BYTES_MAX)
            .await
    })
    .await
}

#[tokio::test]
async fn a_document_is_fetched_whichever_way_it_is_framed() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello",
    ] {
        assert_eq!(fetch(answer).await.0.unwrap(), "hello", "{answer}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed_and_large_answers_not_read() {
    let elsewhere =
        "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n";
    let (refused, requests) = fetch(elsewhere).await;
    assert!(matches!(
        refused,
        Err(FetchError::Status(StatusCode::FOUND))
    ));
    assert_eq!(requests, 1);
    let large = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n{}",
        "x".repeat(100_000)
    );
    assert!(matches!(
        fetch(&large).await.0,
        Err(FetchError::TooLarge(_))
    ));
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello";
    assert!(matches!(
        fetch(cut).await.0,
        Err(FetchError::Body(_) | FetchError::Http(_))
    ));
    let garbage = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n\u{fffd}";
    assert!(fetch(garbage).await.0.is_err());
}

#[tokio::test]
async fn only_a_certificate_that_is_trusted_is_believed() {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let trusting = Fetcher::trusting(roots);
    let (fetched, _) = with_server(answer, Some(acceptor.clone()), async |port| {
        trusting
            .get(&url("https", "localhost", port), BYTES_MAX)
            .await
    })
    .await;
    assert_eq!(fetched.unwrap(), "hello");

    let (refused, requests) = with_server(answer, Some(acceptor), async |port| {
        Fetcher::new()
            .get(&url("https", "localhost", port), BYTES_MAX)
            .await
    })
    .await;
    assert!(
        matches!(refused, Err(FetchError::Connect(..))),
        "{refused:?}"
    );
    assert_eq!(requests, 0);
}
