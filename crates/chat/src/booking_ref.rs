//! What a caller names a booking by.

use crate::{
    code::Code,
    fields::{BOOKING, Fields},
    refusal::Refusal,
};

/// Longest code; as in sql/chat/0001_tables.sql.
const CHARS_MAX: usize = 64;

/// A UUID or a code; which of them, the database finds out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BookingRef(String);

impl BookingRef {
    pub(crate) fn parse(text: &str) -> Result<Self, Refusal> {
        let text = text.trim();
        let is_possible = text.chars().count() <= CHARS_MAX
            && text.chars().any(char::is_alphanumeric)
            && !text.chars().any(|c| c.is_whitespace() || c.is_control());
        if is_possible {
            Ok(Self(text.into()))
        } else {
            Err(Refusal::new(Code::InvalidBookingRef).field(BOOKING[0]))
        }
    }

    /// The booking that `fields` name.
    pub(crate) fn of(fields: &Fields) -> Result<Self, Refusal> {
        let given = fields
            .text(BOOKING)
            .map_err(|_wrong| Refusal::new(Code::InvalidBookingRef).field(BOOKING[0]))?;
        Self::parse(given.unwrap_or_default())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_ids_and_codes_and_nothing_else() {
        for good in [
            "REQ1759286674249",
            "0b5f2f5e-7d0c-4f0e-9c55-0a1d5a4d1c01",
            " req-1 ",
            "Ü/7",
            &"x".repeat(64),
        ] {
            assert_eq!(BookingRef::parse(good).unwrap().as_str(), good.trim());
        }
        for bad in ["", "   ", "a b", "a\nb", "a\0", "???", &"x".repeat(65)] {
            assert_eq!(
                BookingRef::parse(bad).unwrap_err().code(),
                Code::InvalidBookingRef,
                "{bad:?}"
            );
        }
    }
}
