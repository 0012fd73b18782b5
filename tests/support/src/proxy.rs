//! A TCP proxy that really cuts, stalls and half-opens.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::session::Background;

/// Stands between two parties that talk TCP. Dropping it ends every connection.
#[derive(Debug)]
pub struct TcpProxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    _task: Background,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    flow: Flow,
    /// Connections accepted under an earlier number are reset.
    generation: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// Bytes pass both ways.
    Open,
    /// New connections are accepted and reset; live ones have been cut.
    Refused,
    /// Nothing is read in either direction: buffers fill, and neither party is told.
    Stalled,
    /// Bytes are read and thrown away in both directions: a party that waits for an answer hears nothing, ever.
    Swallowed,
}

impl TcpProxy {
    /// A proxy to `upstream`, on a port of its own.
    pub async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, observer) = watch::channel(State {
            flow: Flow::Open,
            generation: 0,
        });
        Self {
            address,
            state,
            _task: Background::start(accept(listener, upstream, observer)),
        }
    }

    /// Where to connect instead.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets bytes pass and connections in. Stalled connections go on where they were.
    pub fn open(&self) {
        self.state.send_modify(|state| state.flow = Flow::Open);
    }

    /// Resets every connection; new ones are welcome.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.generation += 1);
    }

    /// Resets every connection, and new ones as they come, until [`Self::open`].
    pub fn refuse(&self) {
        self.state.send_modify(|state| {
            state.flow = Flow::Refused;
            state.generation += 1;
        });
    }

    /// Stops reading on both sides, until [`Self::open`]: a receiver that does not keep up.
    pub fn stall(&self) {
        self.state.send_modify(|state| state.flow = Flow::Stalled);
    }

    /// Throws everything away and tells nobody: a half-open connection. What passed meanwhile is lost, so [`Self::cut`] before
    /// [`Self::open`].
    pub fn swallow(&self) {
        self.state.send_modify(|state| state.flow = Flow::Swallowed);
    }
}

async fn accept(listener: TcpListener, upstream: SocketAddr, state: watch::Receiver<State>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((near, _)) = listener.accept().await else {
            return;
        };
        while connections.try_join_next().is_some() {}
        let now = *state.borrow();
        let far = match now.flow {
            Flow::Refused => None,
            _ => TcpStream::connect(upstream).await.ok(),
        };
        match far {
            Some(far) => {
                connections.spawn(carry(near, far, now.generation, state.clone()));
            }
            None => reset_when_closed(&near),
        }
    }
}

async fn carry(
    mut near: TcpStream,
    mut far: TcpStream,
    generation: u64,
    state: watch::Receiver<State>,
) {
    for stream in [&near, &far] {
        // Bytes go out as they come, so that a cut falls between two writes. A socket that is gone says so below.
        drop(stream.set_nodelay(true));
    }
    let mut cut = state.clone();
    let (near_in, near_out) = near.split();
    let (far_in, far_out) = far.split();
    let over = tokio::select! {
        _ = cut.wait_for(|state| state.generation != generation) => false,
        ((), ()) = async {
            tokio::join!(
                pump(near_in, far_out, state.clone()),
                pump(far_in, near_out, state.clone()),
            )
        } => true,
    };
    if !over {
        reset_when_closed(&near);
        reset_when_closed(&far);
    }
}

/// One direction, until its source ends or breaks; the end is passed on.
async fn pump(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut state: watch::Receiver<State>) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        if state
            .wait_for(|state| state.flow != Flow::Stalled)
            .await
            .is_err()
        {
            return;
        }
        let length = tokio::select! {
            read = from.read(&mut buffer) => read.unwrap_or(0),
            _ = state.wait_for(|state| state.flow == Flow::Stalled) => continue,
        };
        if length == 0 {
            // A peer that is gone already needs no farewell.
            drop(to.shutdown().await);
            return;
        }
        let swallowed = state.borrow().flow == Flow::Swallowed;
        if !swallowed && to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

fn reset_when_closed(stream: &TcpStream) {
    // With a linger time of zero, closing sends RST. A socket that is gone already needs none.
    drop(socket2::SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::within;

    async fn connected() -> (TcpProxy, TcpStream, TcpStream) {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = TcpProxy::start(upstream.local_addr().unwrap()).await;
        let near = TcpStream::connect(proxy.address()).await.unwrap();
        let (far, _) = within("the proxy to connect", upstream.accept())
            .await
            .unwrap();
        (proxy, near, far)
    }

    async fn passes(from: &mut TcpStream, to: &mut TcpStream, text: &[u8]) {
        from.write_all(text).await.unwrap();
        let mut buffer = vec![0; text.len()];
        within("bytes to pass", to.read_exact(&mut buffer))
            .await
            .unwrap();
        assert_eq!(buffer, text);
    }

    #[tokio::test]
    async fn passes_bytes_both_ways_and_the_end_too() {
        let (_proxy, mut near, mut far) = connected().await;
        passes(&mut near, &mut far, b"ping").await;
        passes(&mut far, &mut near, b"pong").await;
        near.shutdown().await.unwrap();
        let mut rest = Vec::new();
        within("the end to pass", far.read_to_end(&mut rest))
            .await
            .unwrap();
        passes(&mut far, &mut near, b"still open this way").await;
    }

    #[tokio::test]
    async fn cut_resets_both_sides() {
        let (proxy, mut near, mut far) = connected().await;
        proxy.cut();
        for stream in [&mut near, &mut far] {
            let error = within("a reset", stream.read(&mut [0; 1]))
                .await
                .unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
    }

    #[tokio::test]
    async fn refused_connections_come_to_nothing() {
        let (proxy, _near, _far) = connected().await;
        proxy.refuse();
        // The reset may come before connecting is over.
        let late = async {
            let mut late = TcpStream::connect(proxy.address()).await?;
            late.read(&mut [0; 1]).await
        };
        let error = within("a reset", late).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn stalled_bytes_arrive_after_opening() {
        let (proxy, mut near, mut far) = connected().await;
        proxy.stall();
        near.write_all(b"late").await.unwrap();
        assert_nothing(&far).await;
        proxy.open();
        passes(&mut near, &mut far, b"").await;
        let mut buffer = [0; 4];
        within("late bytes", far.read_exact(&mut buffer))
            .await
            .unwrap();
        assert_eq!(&buffer, b"late");
    }

    #[tokio::test]
    async fn swallowed_bytes_never_arrive() {
        let (proxy, mut near, mut far) = connected().await;
        proxy.swallow();
        near.write_all(b"lost").await.unwrap();
        assert_nothing(&far).await;
        proxy.cut();
        assert!(within("a reset", far.read(&mut [0; 1])).await.is_err());
    }

    /// What is not there can only be shown for a while: long enough for a pump that wrongly runs, every time.
    async fn assert_nothing(stream: &TcpStream) {
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        let mut buffer = [0; 1];
        let read = stream.try_read(&mut buffer);
        assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
}
