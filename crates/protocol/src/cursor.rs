//! Positions in the change stream and the opaque text clients hold.

use std::{fmt, sync::Arc};

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// A place in the change stream: everything up to and including `seq` of `batch`.
///
/// Ordered by (epoch, batch, seq); `tag` proves that the batch is the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// Epoch of the log.
    pub epoch: u32,
    /// Ledger batch.
    pub batch: u64,
    /// Change in the batch; `i64::MAX` after the whole batch.
    pub seq: i64,
    /// First eight bytes of the batch's random tag, big endian.
    pub tag: u64,
}

/// Seals positions into cursors and opens them again.
///
/// AES-256-GCM-SIV under one fixed nonce: the same position is the same text on every node, live
/// or replayed, and that equality is all a cursor shows. This mode stays safe when a nonce repeats.
#[derive(Clone)]
pub struct CursorKey(Arc<LessSafeKey>);

/// The text is no cursor that this key sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cursor was not made by this database")]
pub struct Forged;

const POSITION_BYTES: usize = 28;
const SEALED_BYTES: usize = POSITION_BYTES + 16;
/// Told apart from everything else this key may ever seal.
const PURPOSE: &[u8] = b"pgrelay cursor 1";

impl CursorKey {
    /// A key out of 32 random bytes.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        let key =
            UnboundKey::new(&AES_256_GCM_SIV, &key).expect("the algorithm takes keys of 32 bytes");
        Self(Arc::new(LessSafeKey::new(key)))
    }

    /// The cursor of `position`: 59 letters of the URL-safe base64 alphabet.
    #[must_use]
    pub fn seal(&self, position: Position) -> String {
        let mut sealed = [0; SEALED_BYTES];
        let (text, tag) = sealed.split_at_mut(POSITION_BYTES);
        text.copy_from_slice(&position.to_bytes());
        let made = self
            .0
            .seal_in_place_separate_tag(nonce(), Aad::from(PURPOSE), text)
            .expect("a position is far below what the algorithm can seal");
        tag.copy_from_slice(made.as_ref());
        URL_SAFE_NO_PAD.encode(sealed)
    }

    /// The position that `cursor` was made of.
    pub fn open(&self, cursor: &str) -> Result<Position, Forged> {
        let mut sealed = [0; SEALED_BYTES];
        match URL_SAFE_NO_PAD.decode_slice(cursor, &mut sealed) {
            Ok(SEALED_BYTES) => {}
            Ok(_) | Err(_) => return Err(Forged),
        }
        let text = self
            .0
            .open_in_place(nonce(), Aad::from(PURPOSE), &mut sealed)
            .ok();
        let bytes: Option<&[u8; POSITION_BYTES]> = text.and_then(|text| (&*text).try_into().ok());
        bytes.map(Position::from_bytes).ok_or(Forged)
    }
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

impl Position {
    fn to_bytes(self) -> [u8; POSITION_BYTES] {
        let mut bytes = [0; POSITION_BYTES];
        bytes[..4].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.batch.to_be_bytes());
        bytes[12..20].copy_from_slice(&self.seq.to_be_bytes());
        bytes[20..].copy_from_slice(&self.tag.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; POSITION_BYTES]) -> Self {
        fn field<const N: usize>(bytes: &[u8; POSITION_BYTES], start: usize) -> [u8; N] {
            *bytes[start..]
                .first_chunk()
                .expect("the fields fill the position")
        }
        Self {
            epoch: u32::from_be_bytes(field(bytes, 0)),
            batch: u64::from_be_bytes(field(bytes, 4)),
            seq: i64::from_be_bytes(field(bytes, 12)),
            tag: u64::from_be_bytes(field(bytes, 20)),
        }
    }
}

impl fmt::Debug for CursorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CursorKey(***)")
    }
}
