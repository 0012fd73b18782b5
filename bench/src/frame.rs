//! As much of the WebSocket protocol as a client needs that only counts: the heads of frames.

use std::ops::Range;

/// Kinds of frames.
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;

/// One frame at the start of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: u8,
    /// Where its payload is; it ends where the frame ends.
    pub(crate) payload: Range<usize>,
}

/// The first frame of what a server sent; `None` while it is not there whole.
pub(crate) fn first(bytes: &[u8]) -> Option<Head> {
    let [kind, length, ..] = *bytes else {
        return None;
    };
    let (start, length) = match length & !MASKED {
        126 => (
            4,
            usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
        ),
        127 => {
            let length = u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?);
            (10, usize::try_from(length).ok()?)
        }
        length => (2, usize::from(length)),
    };
    let payload = start..start + length;
    (bytes.len() >= payload.end).then_some(Head {
        kind: kind & 0x0f,
        payload,
    })
}

/// A frame as a client sends it. Its mask is zero, so that masking costs the generator nothing.
pub(crate) fn masked(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = head(kind, payload.len(), MASKED);
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// A frame as a server sends it.
pub(crate) fn unmasked(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = head(kind, payload.len(), 0);
    frame.extend_from_slice(payload);
    frame
}

fn head(kind: u8, length: usize, mask: u8) -> Vec<u8> {
    let mut head = vec![FINAL | kind];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 => head.push(mask | short),
        (_, Ok(medium)) => {
            head.push(mask | 126);
            head.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            head.push(mask | 127);
            head.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_length_are_read_as_they_were_written() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; length];
            let frame = unmasked(TEXT, &payload);
            let head = first(&frame).unwrap();
            assert_eq!((head.kind, head.payload.len()), (TEXT, length));
            assert_eq!(head.payload.end, frame.len());
            assert_eq!(first(&frame[..frame.len() - 1]), None);
            assert_eq!(masked(TEXT, &payload).len(), frame.len() + 4);
        }
    }
}
