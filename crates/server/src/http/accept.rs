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
