//! Parsers from the text of a setting to its value. Each error says what was expected.

use std::{net::SocketAddr, num::NonZeroUsize, time::Duration};

use crate::auth::Demand;

/// A duration with its unit: `250ms`, `10s`, `5m`, `24h`, `7d`.
///
/// # Errors
/// Says which forms are accepted.
pub fn duration(text: &str) -> Result<Duration, String> {
    let expected = || "expected a number and a unit, such as 250ms, 10s, 5m, 24h or 7d".to_owned();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .ok_or_else(expected)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_not_a_number| expected())?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(expected()),
    };
    number
        .checked_mul(milliseconds)
        .map(Duration::from_millis)
        .ok_or_else(expected)
}

/// A [`duration`] of at least a second, for what must not be done without a pause.
pub(super) fn pause(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        pause if pause < Duration::from_secs(1) => Err("expected at least 1s".to_owned()),
        pause => Ok(pause),
    }
}

/// A number of bytes: plain, or with `kB`, `MB`, `GB`, `KiB`, `MiB`, `GiB`.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let expected = || "expected a number of bytes, such as 5000000, 64MiB or 2GB".to_owned();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_not_a_number| expected())?;
    let factor = match unit {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(expected()),
    };
    number.checked_mul(factor).ok_or_else(expected)
}

/// [`bytes`] that must be held in memory.
pub(super) fn memory(text: &str) -> Result<usize, String> {
    usize::try_from(bytes(text)?).map_err(|_too_large| "does not fit into memory".to_owned())
}

/// How much may happen in a time.
pub(super) fn rate(text: &str) -> Result<u32, String> {
    let count = count(text)?;
    u32::try_from(count).map_err(|_too_large| "expected less than 4294967296".to_owned())
}

/// A count of at least one.
pub(super) fn count(text: &str) -> Result<usize, String> {
    text.parse::<NonZeroUsize>()
        .map(NonZeroUsize::get)
        .map_err(|_not_a_count| "expected a whole number, at least 1".to_owned())
}

/// `true` or `false`.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

/// An address to listen on. Port 0 lets the system choose.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.replace("localhost:", "127.0.0.1:")
        .parse()
        .map_err(|_not_an_address| {
            "expected an IP address and a port, such as 127.0.0.1:4000 or 0.0.0.0:4000".to_owned()
        })
}

/// Values that claims must have: `iss=https://a.example|https://b.example,aud=authenticated`.
pub(super) fn demands(text: &str) -> Result<Vec<Demand>, String> {
    let demand = |pair: &str| {
        let (claim, values) = pair.trim().split_once('=')?;
        let values: Vec<Box<str>> = values.split('|').map(Into::into).collect();
        let usable = !claim.is_empty() && values.iter().all(|value| !value.is_empty());
        usable.then(|| Demand {
            claim: claim.into(),
            values,
        })
    };
    let demands: Option<Vec<Demand>> = text.split(',').map(demand).collect();
    demands.ok_or_else(|| {
        "expected claim=value pairs separated by commas, alternatives by |, such as aud=authenticated,role=anon|authenticated"
            .to_owned()
    })
}

/// A name PostgreSQL could have given to an object.
pub(super) fn name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 63 || text.contains('\0') {
        return Err("expected a PostgreSQL name of 1 to 63 bytes".to_owned());
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        for (text, milliseconds) in [
            ("250ms", 250),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(
                duration(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for text in [
            "",
            "10",
            "s",
            "-1s",
            "1.5s",
            "1w",
            "99999999999999999999s",
            "999999999999999999d",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bytes_know_both_kinds_of_unit() {
        for (text, value) in [
            ("17", 17),
            ("2kB", 2_000),
            ("2KiB", 2_048),
            ("1GB", 1_000_000_000),
            ("1GiB", 1 << 30),
        ] {
            assert_eq!(bytes(text), Ok(value), "{text}");
        }
        for text in ["", "MiB", "1.5GB", "1TB", "99999999999999GiB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_are_literal() {
        assert_eq!(
            address("localhost:4000"),
            Ok(SocketAddr::from(([127, 0, 0, 1], 4000)))
        );
        assert!(address("[::]:4000").is_ok());
        for text in ["4000", "example.test:4000", "127.0.0.1", "127.0.0.1:70000"] {
            assert!(address(text).is_err(), "{text}");
        }
    }
}
