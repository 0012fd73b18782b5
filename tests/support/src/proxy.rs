//! A TCP proxy that really cuts, stalls, half-opens and slows down.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

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
    /// Where new connections lead.
    upstream: SocketAddr,
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
    /// Every byte is written by itself.
    Trickling,
    /// A piece of a few kilobytes passes in this time.
    Slow(Duration),
    /// In each direction of each connection so many bytes pass; then the connection is reset, wherever in a message that is.
    CutAfter(usize),
}

/// How much passes at once while [`Flow::Slow`].
const PIECE: usize = 4 * 1024;

impl TcpProxy {
    /// A proxy to `upstream`, on a port of its own.
    pub async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, observer) = watch::channel(State {
            flow: Flow::Open,
            generation: 0,
            upstream,
        });
        Self {
            address,
            state,
            _task: Background::start(accept(listener, observer)),
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

    /// Writes every byte by itself, until [`Self::open`].
    pub fn trickle(&self) {
        self.state.send_modify(|state| state.flow = Flow::Trickling);
    }

    /// Lets a few kilobytes pass in this time, until [`Self::open`].
    pub fn slow(&self, pause: Duration) {
        self.state
            .send_modify(|state| state.flow = Flow::Slow(pause));
    }

    /// Resets each connection when so many more bytes have passed in one direction, until [`Self::open`].
    pub fn cut_after(&self, bytes: usize) {
        self.state
            .send_modify(|state| state.flow = Flow::CutAfter(bytes));
    }

    /// Leads new connections elsewhere. Live ones stay where they are until [`Self::cut`].
    pub fn redirect(&self, upstream: SocketAddr) {
        self.state.send_modify(|state| state.upstream = upstream);
    }

    /// Throws everything away and tells nobody: a half-open connection. What passed meanwhile is lost, so [`Self::cut`] before
    /// [`Self::open`].
    pub fn swallow(&self) {
        self.state.send_modify(|state| state.flow = Flow::Swallowed);
    }
}

async fn accept(listener: TcpListener, state: watch::Receiver<State>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((near, _)) = listener.accept().await else {
            return;
        };
        while connections.try_join_next().is_some() {}
        let now = *state.borrow();
        let far = match now.flow {
            Flow::Refused => None,
            _ => TcpStream::connect(now.upstream).await.ok(),
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
        ended = async {
            tokio::try_join!(
                pump(near_in, far_out, state.clone()),
                pump(far_in, near_out, state.clone()),
            )
        } => ended.is_ok(),
    };
    if !over {
        reset_when_closed(&near);
        reset_when_closed(&far);
    }
}

/// The connection has had its share of bytes.
struct Cut;

/// One direction, until its source ends or breaks; the end is passed on.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut state: watch::Receiver<State>,
) -> Result<(), Cut> {
    let mut buffer = vec![0; 16 * 1024];
    // Of a flow that ends in a cut.
    let mut passed = 0;
    loop {
        if state
            .wait_for(|state| state.flow != Flow::Stalled)
            .await
            .is_err()
        {
            return Ok(());
        }
        let room = match state.borrow().flow {
            Flow::Slow(_) => PIECE,
            _ => buffer.len(),
        };
        let length = tokio::select! {
            read = from.read(&mut buffer[..room]) => read.unwrap_or(0),
            _ = state.wait_for(|state| state.flow == Flow::Stalled) => continue,
        };
        if length == 0 {
            // A peer that is gone already needs no farewell.
            drop(to.shutdown().await);
            return Ok(());
        }
        let bytes = &buffer[..length];
        let flow = state.borrow().flow;
        let written = match flow {
            Flow::Swallowed => Ok(()),
            Flow::Trickling => trickle(&mut to, bytes).await,
            Flow::Slow(pause) => {
                sleep(pause).await;
                to.write_all(bytes).await
            }
            Flow::CutAfter(most) if passed + length > most => {
                // The rest of the share, so that the other side is left with half a message.
                drop(to.write_all(&bytes[..most.saturating_sub(passed)]).await);
                return Err(Cut);
            }
            Flow::Open | Flow::Refused | Flow::Stalled | Flow::CutAfter(_) => {
                to.write_all(bytes).await
            }
        };
        passed = match flow {
            Flow::CutAfter(_) => passed + length,
            _ => 0,
        };
        if written.is_err() {
            return Ok(());
        }
    }
}

async fn trickle(to: &mut WriteHalf<'_>, bytes: &[u8]) -> std::io::Result<()> {
    for byte in bytes.chunks(1) {
        to.write_all(byte).await?;
    }
    Ok(())
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
    async fn a_cut_may_fall_into_the_middle_of_what_was_sent() {
        let (proxy, mut near, mut far) = connected().await;
        proxy.cut_after(3);
        near.write_all(b"half a message").await.unwrap();
        let mut half = [0; 3];
        within("the first half", far.read_exact(&mut half))
            .await
            .unwrap();
        assert_eq!(&half, b"hal");
        assert!(within("a reset", far.read(&mut [0; 1])).await.is_err());
    }

    #[tokio::test]
    async fn slowed_and_trickled_bytes_arrive_as_they_were() {
        let (proxy, mut near, mut far) = connected().await;
        proxy.trickle();
        passes(&mut near, &mut far, b"byte by byte").await;
        proxy.slow(Duration::from_millis(1));
        passes(&mut far, &mut near, &vec![7; 3 * PIECE]).await;
    }

    #[tokio::test]
    async fn redirected_connections_lead_elsewhere() {
        let (proxy, mut near, mut far) = connected().await;
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
        proxy.redirect(other.local_addr().unwrap());
        passes(&mut near, &mut far, b"where it was").await;
        let mut late = TcpStream::connect(proxy.address()).await.unwrap();
        let (mut there, _) = within("the proxy to connect", other.accept())
            .await
            .unwrap();
        passes(&mut late, &mut there, b"elsewhere").await;
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
