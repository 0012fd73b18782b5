//! One WebSocket: bytes in, frames out, and how it ends.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use pgrelay_protocol::Vsn;
use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, ReadBuf},
    net::TcpStream,
    time::Instant,
};
use tokio_tungstenite::tungstenite::protocol::{
    CloseFrame,
    frame::{Frame, coding::CloseCode},
};

use super::ready::{Bell, Ready};
use crate::{engine::ClientKey, inbound::Inbound, outbox::Outbox, outlet::Goodbye};

/// A socket and what it has in hand. Silent sockets have no buffers.
pub(super) struct Socket {
    stream: TcpStream,
    pub(super) vsn: Vsn,
    pub(super) inbound: Inbound,
    pub(super) outbox: Outbox,
    bell: Arc<Bell>,
    waker: Waker,
    /// When bytes came last.
    pub(super) heard: Instant,
    /// It is in a queue of sockets to be flushed.
    pub(super) is_dirty: bool,
    /// A replay waits until it has taken what waits for it.
    pub(super) is_full: bool,
    /// Our side of the connection is shut.
    is_shut: bool,
}

impl Socket {
    /// # Errors
    /// When the runtime cannot watch the socket.
    pub(super) fn new(
        stream: std::net::TcpStream,
        vsn: Vsn,
        (ready, name): (&Arc<Ready>, ClientKey),
        now: Instant,
    ) -> io::Result<Self> {
        let bell = Bell::new(ready, name);
        Ok(Self {
            stream: TcpStream::from_std(stream)?,
            vsn,
            inbound: Inbound::default(),
            outbox: Outbox::default(),
            waker: Waker::from(Arc::clone(&bell)),
            bell,
            heard: now,
            is_dirty: false,
            is_full: false,
            is_shut: false,
        })
    }

    /// Has the shard come back to this socket.
    pub(super) fn ring(&self) {
        self.bell.ring();
    }

    /// Reads once, into `buffer`. Pending means that the bell rings when there is more.
    pub(super) fn read<'a>(&mut self, buffer: &'a mut [u8]) -> Poll<io::Result<&'a [u8]>> {
        self.bell.listen();
        let mut filled = ReadBuf::new(buffer);
        let mut cx = Context::from_waker(&self.waker);
        match Pin::new(&mut self.stream).poll_read(&mut cx, &mut filled) {
            Poll::Ready(Ok(())) => {
                let length = filled.filled().len();
                Poll::Ready(Ok(&buffer[..length]))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Writes what waits. Pending means that the bell rings when there is room again.
    pub(super) fn flush(&mut self, scratch: &mut Vec<u8>) -> Poll<io::Result<()>> {
        let (stream, mut cx) = (&mut self.stream, Context::from_waker(&self.waker));
        match self.outbox.write(scratch, |bytes| {
            Pin::new(&mut *stream).poll_write(&mut cx, bytes)
        }) {
            Poll::Ready(Ok(())) if self.outbox.is_closing() && !self.is_shut => {
                self.is_shut = true;
                Pin::new(stream).poll_shutdown(&mut cx)
            }
            outcome => outcome,
        }
    }
}

/// The bytes of a close frame.
pub(super) fn close_frame(goodbye: Goodbye) -> Bytes {
    let reason = match goodbye {
        Goodbye::Overflow => "the client does not keep up",
        Goodbye::Idle
        | Goodbye::Restart
        | Goodbye::Protocol
        | Goodbye::Oversize
        | Goodbye::Away => "",
    };
    control(Frame::close(Some(CloseFrame {
        code: CloseCode::from(goodbye.code()),
        reason: reason.into(),
    })))
}

/// The bytes of the answer to a close frame.
pub(super) fn close_reply(frame: Option<CloseFrame>) -> Bytes {
    let code = frame
        .map(|frame| frame.code)
        .filter(|code| code.is_allowed());
    control(Frame::close(code.map(|code| CloseFrame {
        code,
        reason: "".into(),
    })))
}

/// The bytes of the answer to a ping.
pub(super) fn pong(payload: Bytes) -> Bytes {
    control(Frame::pong(payload))
}

fn control(frame: Frame) -> Bytes {
    let mut bytes = Vec::with_capacity(frame.len());
    frame.format(&mut bytes).expect("a Vec takes every write");
    bytes.into()
}
