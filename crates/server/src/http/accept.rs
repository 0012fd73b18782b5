//! The accept loop: sockets in, requests out.
//!
//! Our own and not a framework's because it sets TCP_NODELAY, limits the time and size of a
//! request's head, survives running out of file descriptors, and stops in order.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;

use crate::tasks::{Group, TaskError, Tasks};

/// Connections that may wait to be accepted: a reconnect storm arrives faster than it is served.
const BACKLOG: i32 = 4_096;
/// Longest time for a request's head, the first and each later one of a connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest head: a token of 8 KiB in the query and the usual headers.
const HEAD_BYTES_MAX: usize = 16_384;
/// Most headers of a request.
const HEADERS_MAX: usize = 64;
/// Pause after the system refused a socket (no file descriptors, no memory).
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// Binds `address`.
///
/// # Errors
/// As the system says, for example because the port is taken.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Serves a router on a listener.
#[derive(Debug)]
pub struct Accept {
    /// Where connections come from.
    pub listener: TcpListener,
    /// What answers them.
    pub router: Router,
    /// Where their tasks run.
    pub tasks: Tasks,
    /// HTTP connections at a time. Further ones wait in the backlog.
    pub connections_max: usize,
}

impl Accept {
    /// Accepts until `stop`.
    ///
    /// # Errors
    /// Never by itself: a system that refuses sockets for a while is waited out.
    pub async fn run(self, stop: CancellationToken) -> Result<(), TaskError> {
        let permits = Arc::new(Semaphore::new(self.connections_max));
        let mut exhausted = false;
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                accepted = accept(&self.listener, &permits) => accepted,
            };
            match accepted {
                Ok((stream, permit)) => {
                    exhausted = false;
                    self.serve(stream, permit);
                }
                Err(error) if is_one_clients(&error) => {
                    tracing::debug!(%error, "client left in the backlog");
                }
                Err(error) => {
                    if !std::mem::replace(&mut exhausted, true) {
                        tracing::error!(%error, "cannot accept connections, trying again");
                    }
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }

    fn serve(&self, stream: TcpStream, permit: OwnedSemaphorePermit) {
        let service = TowerToHyperService::new(self.router.clone());
        let stop = self.tasks.stop_token(Group::Session);
        self.tasks
            .spawn(Group::Session, "http connection", async move {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "client left before its first request");
                    return Ok(());
                }
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIMEOUT)
                    .max_buf_size(HEAD_BYTES_MAX)
                    .max_headers(HEADERS_MAX)
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades();
                let mut connection = std::pin::pin!(connection);
                let served = tokio::select! {
                    biased;
                    served = connection.as_mut() => served,
                    () = stop.cancelled() => {
                        connection.as_mut().graceful_shutdown();
                        connection.await
                    }
                };
                if let Err(error) = served {
                    tracing::debug!(%error, "http connection broke");
                }
                drop(permit);
                Ok(())
            });
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, _peer) = listener.accept().await?;
    Ok((stream, permit))
}

/// The trouble of one connection, not of the listener.
fn is_one_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        time::Instant,
    };

    use super::*;

    /// A server of `router`; where it listens.
    fn start(tasks: &Tasks, router: Router, connections_max: usize) -> SocketAddr {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let accept = Accept {
            listener,
            router,
            tasks: tasks.clone(),
            connections_max,
        };
        tasks.spawn(
            Group::Accept,
            "accept",
            accept.run(tasks.stop_token(Group::Accept)),
        );
        address
    }

    async fn read_all(stream: &mut TcpStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    fn hello() -> Router {
        Router::new().route("/", get(|| async { "hello" }))
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_never_ends_is_cut_off() {
        let tasks = Tasks::new();
        let mut stream = TcpStream::connect(start(&tasks, hello(), 10))
            .await
            .unwrap();
        let begun = Instant::now();
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n")
            .await
            .unwrap();
        read_all(&mut stream).await;
        assert!(
            begun.elapsed() <= HEAD_TIMEOUT + Duration::from_secs(1),
            "{:?}",
            begun.elapsed()
        );
    }

    #[tokio::test]
    async fn a_head_beyond_its_limits_is_refused() {
        let tasks = Tasks::new();
        let address = start(&tasks, hello(), 10);
        let many = "a: b\r\n".repeat(HEADERS_MAX + 1);
        let large = format!("a: {}\r\n", "b".repeat(2 * HEAD_BYTES_MAX));
        for headers in [many, large] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!("GET / HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
            // The server may hang up before it has read everything.
            drop(stream.write_all(request.as_bytes()).await);
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 431");
        }
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_wait_their_turn() {
        let tasks = Tasks::new();
        let address = start(&tasks, hello(), 1);
        let mut first = TcpStream::connect(address).await.unwrap();
        first
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        first.readable().await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        second
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(tasks.running(Group::Session).values().sum::<usize>(), 1);
        drop(first);
        assert!(read_all(&mut second).await.ends_with("hello"));
    }

    #[tokio::test]
    async fn stopping_ends_idle_connections_and_finishes_requests() {
        let tasks = Tasks::new();
        let (begun, answer) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (handler_begun, handler_answer) = (Arc::clone(&begun), Arc::clone(&answer));
        let slow = move || async move {
            handler_begun.add_permits(1);
            handler_answer.acquire().await.unwrap().forget();
            "done"
        };
        let address = start(&tasks, hello().route("/slow", get(slow)), 10);
        let mut idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        let mut busy = TcpStream::connect(address).await.unwrap();
        busy.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        begun.acquire().await.unwrap().forget();

        tasks.stop_token(Group::Accept).cancel();
        tasks.wait(Group::Accept).await;
        tasks.stop_token(Group::Session).cancel();
        assert!(read_all(&mut idle).await.ends_with("hello"));
        answer.add_permits(1);
        assert!(read_all(&mut busy).await.ends_with("done"));
        tasks.wait(Group::Session).await;
        assert!(TcpStream::connect(address).await.is_err());
    }
}
