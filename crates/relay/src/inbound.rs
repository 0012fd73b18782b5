//! From bytes of a socket to WebSocket messages.
//!
//! tungstenite judges every frame, but keeps nothing between frames: a socket that is silent, and
//! that is nearly every socket nearly always, holds no read buffer at all.

use std::io::{self, Cursor, Read, Write};

use tokio_tungstenite::tungstenite::{
    Error, Message,
    protocol::{
        Role, WebSocketConfig, WebSocketContext,
        frame::{FrameHeader, coding::OpCode},
    },
};

use crate::outlet::Goodbye;

/// What one socket has received in part.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    /// A frame that is not complete.
    partial: Vec<u8>,
    /// A message of which some fragments came.
    fragments: Option<Box<WebSocketContext>>,
}

/// Read buffer while fragments are collected; only then more than one frame passes through it.
const FRAGMENT_BUFFER_BYTES: usize = 4_096;

impl Inbound {
    /// Takes bytes as they come and hands out whole messages.
    ///
    /// # Errors
    /// When the client breaks the protocol, or sends more than `bytes_max` in a frame or message.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        bytes_max: usize,
        mut handle: impl FnMut(Message),
    ) -> Result<(), Goodbye> {
        if self.partial.is_empty() {
            let used = self.split(bytes, bytes_max, &mut handle)?;
            self.partial = bytes[used..].to_vec();
        } else {
            self.partial.extend_from_slice(bytes);
            let mut buffer = std::mem::take(&mut self.partial);
            let used = self.split(&buffer, bytes_max, &mut handle)?;
            if used < buffer.len() {
                buffer.drain(..used);
                self.partial = buffer;
            }
        }
        Ok(())
    }

    /// Handles the whole frames at the start of `bytes`; how many bytes those are.
    fn split(
        &mut self,
        bytes: &[u8],
        bytes_max: usize,
        handle: &mut impl FnMut(Message),
    ) -> Result<usize, Goodbye> {
        let mut used = 0;
        loop {
            let mut rest = Cursor::new(&bytes[used..]);
            let Some((header, length)) =
                FrameHeader::parse(&mut rest).map_err(|_invalid| Goodbye::Protocol)?
            else {
                return Ok(used);
            };
            let length = usize::try_from(length)
                .ok()
                .filter(|length| *length <= bytes_max)
                .ok_or(Goodbye::Oversize)?;
            let whole =
                usize::try_from(rest.position()).map_err(|_huge| Goodbye::Protocol)? + length;
            let Some(frame) = bytes[used..].get(..whole) else {
                return Ok(used);
            };
            self.judge(frame, &header, bytes_max, handle)?;
            used += whole;
        }
    }

    /// Lets tungstenite read exactly one frame.
    fn judge(
        &mut self,
        frame: &[u8],
        header: &FrameHeader,
        bytes_max: usize,
        handle: &mut impl FnMut(Message),
    ) -> Result<(), Goodbye> {
        let outcome = if let Some(context) = &mut self.fragments {
            context.read(&mut Feed(frame))
        } else {
            let is_fragment = !header.is_final && matches!(header.opcode, OpCode::Data(_));
            let config = WebSocketConfig::default()
                .read_buffer_size(if is_fragment {
                    FRAGMENT_BUFFER_BYTES
                } else {
                    0
                })
                .max_frame_size(Some(bytes_max))
                .max_message_size(Some(bytes_max));
            let mut context =
                WebSocketContext::from_partially_read(frame.to_vec(), Role::Server, Some(config));
            let outcome = context.read(&mut Feed(&[]));
            if is_fragment {
                self.fragments = Some(Box::new(context));
            }
            outcome
        };
        match outcome {
            Ok(message) => {
                if matches!(message, Message::Text(_) | Message::Binary(_)) {
                    self.fragments = None;
                }
                handle(message);
                Ok(())
            }
            // A fragment that does not end its message.
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            // Text that is not UTF-8 is ignored like text that is not JSON.
            Err(Error::Utf8(_)) => {
                self.fragments = None;
                Ok(())
            }
            Err(Error::Capacity(_)) => Err(Goodbye::Oversize),
            Err(_) => Err(Goodbye::Protocol),
        }
    }
}

/// A stream that holds one frame and swallows the answers tungstenite would give: the outbox has
/// its own.
struct Feed<'a>(&'a [u8]);

impl Read for Feed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            length => Ok(length),
        }
    }
}

impl Write for Feed<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::protocol::frame::{
        Frame,
        coding::{Control, Data},
    };

    use super::*;

    const BYTES_MAX: usize = 100_000;

    fn frame(opcode: OpCode, is_final: bool, payload: &[u8]) -> Vec<u8> {
        let header = FrameHeader {
            is_final,
            opcode,
            mask: Some([1, 2, 3, 4]),
            ..FrameHeader::default()
        };
        let mut bytes = Vec::new();
        Frame::from_payload(header, payload.to_vec().into())
            .format(&mut bytes)
            .unwrap();
        bytes
    }

    fn text(text: &str) -> Vec<u8> {
        frame(OpCode::Data(Data::Text), true, text.as_bytes())
    }

    fn read(bytes: &[u8], pieces: usize) -> (Inbound, Vec<Message>, Result<(), Goodbye>) {
        let (mut inbound, mut messages) = (Inbound::default(), Vec::new());
        for piece in bytes.chunks(pieces) {
            let outcome = inbound.receive(piece, BYTES_MAX, |message| messages.push(message));
            if outcome.is_err() {
                return (inbound, messages, outcome);
            }
        }
        (inbound, messages, Ok(()))
    }

    #[test]
    fn nothing_is_kept_between_frames() {
        let bytes = [
            text("a"),
            frame(OpCode::Control(Control::Ping), true, b"p"),
            text(""),
        ]
        .concat();
        for pieces in [1, 2, 5, 1_000] {
            let (inbound, messages, outcome) = read(&bytes, pieces);
            assert_eq!(outcome, Ok(()));
            assert_eq!(
                messages,
                [
                    Message::text("a"),
                    Message::Ping("p".into()),
                    Message::text("")
                ]
            );
            assert!(
                inbound.partial.capacity() == 0 && inbound.fragments.is_none(),
                "{inbound:?}"
            );
        }
    }

    #[test]
    fn fragments_become_one_message_with_control_frames_between() {
        let bytes = [
            frame(OpCode::Data(Data::Text), false, b"one "),
            frame(OpCode::Control(Control::Ping), true, b""),
            frame(OpCode::Data(Data::Continue), false, &[b'x'; 10_000]),
            frame(OpCode::Data(Data::Continue), true, b" end"),
            text("next"),
        ]
        .concat();
        let whole = format!("one {} end", "x".repeat(10_000));
        for pieces in [1, 7, 100_000] {
            let (inbound, messages, outcome) = read(&bytes, pieces);
            assert_eq!(outcome, Ok(()));
            assert_eq!(
                messages,
                [
                    Message::Ping("".into()),
                    Message::text(whole.clone()),
                    Message::text("next")
                ]
            );
            assert!(inbound.fragments.is_none());
        }
    }

    #[test]
    fn breaches_are_told_apart() {
        let unmasked = vec![0x81, 0x01, b'a'];
        let huge = vec![
            0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4,
        ];
        let fragment = |is_final| frame(OpCode::Data(Data::Continue), is_final, &[b'x'; 60_000]);
        let started = frame(OpCode::Data(Data::Text), false, b"");
        for (bytes, expected) in [
            (unmasked, Goodbye::Protocol),
            (huge, Goodbye::Oversize),
            (
                frame(OpCode::Data(Data::Text), true, &[b'x'; BYTES_MAX + 1]),
                Goodbye::Oversize,
            ),
            (
                [started.clone(), fragment(false), fragment(true)].concat(),
                Goodbye::Oversize,
            ),
            (fragment(true), Goodbye::Protocol),
            ([started, text("a")].concat(), Goodbye::Protocol),
            (
                frame(OpCode::Control(Control::Ping), true, &[0; 126]),
                Goodbye::Protocol,
            ),
            (vec![0xf1, 0x80, 0, 0, 0, 0], Goodbye::Protocol),
        ] {
            assert_eq!(read(&bytes, 1_000).2, Err(expected));
        }
    }

    #[test]
    fn a_frame_at_the_limit_is_read() {
        let (_, messages, outcome) = read(
            &frame(OpCode::Data(Data::Binary), true, &[7; BYTES_MAX]),
            4_096,
        );
        assert_eq!((messages.len(), outcome), (1, Ok(())));
    }

    #[test]
    fn text_that_is_not_utf8_is_ignored() {
        let bytes = [frame(OpCode::Data(Data::Text), true, &[0xff]), text("a")].concat();
        assert_eq!(read(&bytes, 1_000).1, [Message::text("a")]);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), pieces in 1_usize..50) {
            drop(read(&bytes, pieces));
        }
    }
}
