//! What waits to be written to one socket: whole frames, bounded in bytes.
//!
//! Pure: the write itself is the caller's. A frame that was begun is always finished; control
//! frames go in behind it, never inside; after the close frame nothing more is taken.

use std::{collections::VecDeque, io, task::Poll};

use bytes::{Buf as _, Bytes};

/// What is put together for one write. The kernel takes many small frames sooner from one piece of
/// memory than from as many pieces.
const WRITE_BYTES: usize = 64 * 1024;

/// A queue without frames, kept for the next socket that needs one.
pub(crate) type Spare = VecDeque<Bytes>;

/// The queue of one socket.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// The first frame was written in part.
    begun: bool,
    closing: bool,
}

impl Outbox {
    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether a close frame was queued.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing
    }

    /// Appends a frame.
    pub(crate) fn push(&mut self, frame: Bytes) {
        if !self.closing {
            self.bytes += frame.len();
            self.frames.push_back(frame);
        }
    }

    /// Puts a control frame at the next frame border.
    pub(crate) fn push_control(&mut self, frame: Bytes) {
        if !self.closing {
            self.bytes += frame.len();
            self.frames.insert(usize::from(self.begun), frame);
        }
    }

    /// Queues the last frame. What waits is still written first, or dropped where `drop_queue`.
    pub(crate) fn close(&mut self, frame: Bytes, drop_queue: bool) {
        if self.closing {
            return;
        }
        if drop_queue {
            self.frames.truncate(usize::from(self.begun));
            self.bytes = self.frames.iter().map(Bytes::len).sum();
        }
        self.push(frame);
        self.closing = true;
    }

    /// Whether it needs a queue of its own before the next frame.
    pub(crate) fn is_bare(&self) -> bool {
        self.frames.capacity() == 0
    }

    /// Takes over an empty queue.
    pub(crate) fn adopt(&mut self, queue: Spare) {
        debug_assert!(self.is_bare() && queue.is_empty(), "no frame is lost");
        self.frames = queue;
    }

    /// Gives the queue away where nothing waits: nearly every socket has nothing to write nearly
    /// always.
    pub(crate) fn strip(&mut self) -> Option<Spare> {
        (self.is_empty() && !self.is_bare()).then(|| std::mem::take(&mut self.frames))
    }

    /// Writes what waits, with as few calls of `write` as it takes; several frames are put together
    /// in `scratch`. Ready when nothing is left.
    pub(crate) fn write(
        &mut self,
        scratch: &mut Vec<u8>,
        mut write: impl FnMut(&[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        while let Some(first) = self.frames.front() {
            let outcome = match self.frames.get(1) {
                Some(second) if first.len() + second.len() <= WRITE_BYTES => {
                    scratch.clear();
                    for frame in &self.frames {
                        if scratch.len() + frame.len() > WRITE_BYTES {
                            break;
                        }
                        scratch.extend_from_slice(frame);
                    }
                    write(scratch)
                }
                Some(_) | None => write(first),
            };
            match outcome {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => self.advance(written),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(first) = self.frames.front_mut() {
            if written < first.len() {
                self.begun |= written > 0;
                first.advance(written);
                return;
            }
            written -= first.len();
            self.frames.pop_front();
            self.begun = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Takes up to `sizes` bytes per call, then nothing more.
    fn drain(outbox: &mut Outbox, sizes: &[usize]) -> Vec<u8> {
        let (mut out, mut calls) = (Vec::new(), sizes.iter());
        let _left = outbox.write(&mut Vec::new(), |all| match calls.next() {
            None => Poll::Pending,
            Some(size) => {
                let taken = (*size).min(all.len()).max(1);
                out.extend_from_slice(&all[..taken]);
                Poll::Ready(Ok(taken))
            }
        });
        out
    }

    fn frame(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn control_frames_go_to_the_next_border() {
        let mut outbox = Outbox::default();
        outbox.push(frame("aaaa"));
        outbox.push(frame("bbbb"));
        let mut written = drain(&mut outbox, &[2]);
        outbox.push_control(frame("P"));
        written.extend(drain(&mut outbox, &[100; 9]));
        assert_eq!(written, b"aaaaPbbbb");
        outbox.push(frame("cc"));
        outbox.push_control(frame("P"));
        assert_eq!(drain(&mut outbox, &[100; 9]), b"Pcc");
    }

    #[test]
    fn an_overflow_keeps_the_begun_frame_and_drops_the_rest() {
        let mut outbox = Outbox::default();
        outbox.push(frame("aaaa"));
        outbox.push(frame("bbbb"));
        let mut written = drain(&mut outbox, &[1]);
        outbox.close(frame("X"), true);
        outbox.push(frame("late"));
        outbox.push_control(frame("late"));
        outbox.close(frame("late"), true);
        assert_eq!(outbox.bytes(), 4);
        written.extend(drain(&mut outbox, &[100; 9]));
        assert_eq!(written, b"aaaaX");
        assert!(outbox.is_closing() && outbox.is_empty());
    }

    #[test]
    fn a_goodbye_waits_for_what_was_queued() {
        let mut outbox = Outbox::default();
        outbox.push(frame("aa"));
        outbox.close(frame("X"), false);
        assert_eq!(drain(&mut outbox, &[100; 9]), b"aaX");
    }

    proptest! {
        #[test]
        fn writes_every_byte_once_and_in_order(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..80),
            sizes in prop::collection::vec(1_usize..200, 0..40),
        ) {
            let mut outbox = Outbox::default();
            for frame in &frames {
                outbox.push(frame.clone().into());
            }
            let all = frames.concat();
            let written = drain(&mut outbox, &sizes);
            prop_assert_eq!(&written[..], &all[..written.len()]);
            prop_assert_eq!(outbox.bytes(), all.len() - written.len());
            prop_assert_eq!(outbox.is_empty(), written.len() == all.len());
        }
    }
}
