//! Values of PostgreSQL's own types that tokio-postgres leaves to its users.

use std::error::Error;

use tokio_postgres::types::{FromSql, Type};

type Reading<T> = Result<T, Box<dyn Error + Sync + Send>>;

/// `xid8`: a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Xid(pub(crate) u64);

/// `tid`: the place of a row version in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Tid([u8; 6]);

/// `timestamptz`: microseconds since 2000-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamp(pub(crate) i64);

impl<'a> FromSql<'a> for Xid {
    fn from_sql(_type: &Type, raw: &'a [u8]) -> Reading<Self> {
        Ok(Self(u64::from_be_bytes(raw.try_into()?)))
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::XID8
    }
}

impl<'a> FromSql<'a> for Tid {
    fn from_sql(_type: &Type, raw: &'a [u8]) -> Reading<Self> {
        Ok(Self(raw.try_into()?))
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::TID
    }
}

impl<'a> FromSql<'a> for Timestamp {
    fn from_sql(_type: &Type, raw: &'a [u8]) -> Reading<Self> {
        Ok(Self(i64::from_be_bytes(raw.try_into()?)))
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::TIMESTAMPTZ
    }
}

#[cfg(test)]
impl Tid {
    /// A place for tests.
    pub(crate) fn of(n: u8) -> Self {
        Self([0, 0, 0, 0, 0, n])
    }
}

impl Timestamp {
    /// `YYYY-MM-DDTHH:MM:SS.mmmZ`, truncated.
    pub(crate) fn to_wire(self) -> Box<str> {
        const DAY_MS: i64 = 86_400_000;
        /// From 1970-01-01 to 2000-01-01.
        const EPOCH_DAYS: i64 = 10_957;
        let ms = self.0.div_euclid(1000);
        let (year, month, day) = civil(ms.div_euclid(DAY_MS) + EPOCH_DAYS);
        let ms = ms.rem_euclid(DAY_MS);
        let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
        format!(
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
            ms % 1000
        )
        .into()
    }
}

/// Year, month and day of the Gregorian calendar, from days since 1970-01-01. Counts from a 1st of
/// March, so that the leap day is the last day of its year.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_utc_with_three_truncated_digits() {
        for (micros, want) in [
            (0, "2000-01-01T00:00:00.000Z"),
            (-1, "1999-12-31T23:59:59.999Z"),
            (59_999_900, "2000-01-01T00:00:59.999Z"),
            (757_382_399_999_999, "2023-12-31T23:59:59.999Z"),
            (762_480_000_000_000, "2024-02-29T00:00:00.000Z"),
            (-3_155_673_600_000_000, "1900-01-01T00:00:00.000Z"),
            (4_105_123_199_123_456, "2130-01-31T23:59:59.123Z"),
        ] {
            assert_eq!(&*Timestamp(micros).to_wire(), want);
        }
    }
}
