//! What leaves the engine, and the ways out.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use pgrelay_protocol::FrameKind;

use crate::engine::ClientKey;

/// One thing for one client. Cloning it copies no text.
#[derive(Debug, Clone)]
pub enum Parcel {
    /// A whole WebSocket frame, the same bytes for everybody who gets it.
    Frame(Bytes),
    /// An event of a plain stream.
    Event(StreamEvent),
}

/// An event for clients without channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEvent {
    /// Where to go on after this event.
    pub cursor: Option<Arc<str>>,
    /// What it is.
    pub kind: StreamEventKind,
    /// A JSON object, the same a channel gets as payload.
    pub json: Bytes,
}

/// What a [`StreamEvent`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEventKind {
    /// A row changed.
    Change,
    /// The subscription's state.
    System,
    /// A position only.
    Checkpoint,
    /// Changes may be missing.
    MustRefetch,
}

impl Parcel {
    /// Bytes it keeps waiting.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Frame(frame) => frame.len(),
            Self::Event(event) => {
                event.json.len() + event.cursor.as_ref().map_or(0, |cursor| cursor.len())
            }
        }
    }

    /// An unmasked text frame around the concatenation of `parts`.
    #[must_use]
    pub fn text_frame(parts: &[&[u8]]) -> Self {
        Self::frame(FrameKind::Text, parts)
    }

    /// An unmasked frame around the concatenation of `parts`.
    #[must_use]
    pub fn frame(kind: FrameKind, parts: &[&[u8]]) -> Self {
        const FINAL_TEXT: u8 = 0x81;
        const FINAL_BINARY: u8 = 0x82;
        Self::of(
            match kind {
                FrameKind::Text => FINAL_TEXT,
                FrameKind::Binary => FINAL_BINARY,
            },
            parts,
        )
    }

    /// A ping, which every client answers with the same `payload` of at most 125 bytes.
    pub(crate) fn ping(payload: &[u8]) -> Self {
        const PING: u8 = 0x89;
        Self::of(PING, &[payload])
    }

    fn of(head: u8, parts: &[&[u8]]) -> Self {
        const LENGTH_16: u8 = 126;
        const LENGTH_64: u8 = 127;
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let mut frame = BytesMut::with_capacity(10 + length);
        frame.put_u8(head);
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(length), _) if length < LENGTH_16 => frame.put_u8(length),
            (_, Ok(length)) => {
                frame.put_u8(LENGTH_16);
                frame.put_u16(length);
            }
            _ => {
                frame.put_u8(LENGTH_64);
                frame.put_u64(length as u64);
            }
        }
        parts.iter().for_each(|part| frame.put_slice(part));
        Self::Frame(frame.freeze())
    }
}

/// Why the relay closes a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goodbye {
    /// Nothing was heard for the idle timeout (1000).
    Idle,
    /// The server goes down (1012).
    Restart,
    /// The client broke the WebSocket protocol (1002).
    Protocol,
    /// The client sent more than it may at once (1009).
    Oversize,
    /// The client does not take what it asked for (1013); it may come back and resume.
    Overflow,
    /// More clients join than the operator allows (1001).
    Away,
}

impl Goodbye {
    /// The close code.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Idle => 1000,
            Self::Restart => 1012,
            Self::Protocol => 1002,
            Self::Oversize => 1009,
            Self::Overflow => 1013,
            Self::Away => 1001,
        }
    }
}

/// The ways out to the clients of one engine.
pub trait Outlets {
    /// Whether a change with so many receivers may be queued now. `false` asks the engine to come
    /// again when what waits has been written.
    fn admits(&mut self, receivers: usize) -> bool;

    /// Queues `parcel` for `client`. Never waits; a client that cannot take it is closed.
    fn send(&mut self, client: ClientKey, parcel: &Parcel);

    /// Whether so much waits for `client` that a replay should pause. Whoever says so calls
    /// [`Engine::drained`](crate::engine::Engine::drained) once it is no longer so.
    fn is_full(&mut self, client: ClientKey) -> bool;

    /// Has `client` closed after what waits for it.
    fn close(&mut self, client: ClientKey, goodbye: Goodbye);
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tokio_tungstenite::tungstenite::protocol::frame::FrameSocket;

    use super::*;

    #[test]
    fn frames_of_every_length_are_read_as_they_were_written() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536] {
            let text = vec![b'x'; length];
            let (front, back) = text.split_at(length / 2);
            let Parcel::Frame(frame) = Parcel::text_frame(&[front, back]) else {
                unreachable!()
            };
            let frame = FrameSocket::new(Cursor::new(frame.to_vec()))
                .read(None)
                .unwrap()
                .unwrap();
            assert!(frame.header().is_final && frame.header().mask.is_none());
            assert_eq!(frame.to_text().unwrap().as_bytes(), text);
        }
    }
}
