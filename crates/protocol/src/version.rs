//! The serializer version a socket speaks, chosen once by the `vsn` query parameter.

/// Serializer version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Vsn {
    /// 1.0.x: JSON objects, text only.
    V1,
    /// 2.0.x: JSON arrays, and binary frames for broadcasts.
    V2,
}

/// The `vsn` is none that we speak. The upgrade is answered 403.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unsupported serializer version")]
pub struct UnsupportedVsn;

impl Vsn {
    /// Reads the `vsn` parameter: `1.0.x` or `2.0.x`; a missing one means 1.0.0.
    pub fn parse(vsn: Option<&str>) -> Result<Self, UnsupportedVsn> {
        let Some(text) = vsn else { return Ok(Self::V1) };
        let (version, patch) = if let Some(patch) = text.strip_prefix("1.0.") {
            (Self::V1, patch)
        } else if let Some(patch) = text.strip_prefix("2.0.") {
            (Self::V2, patch)
        } else {
            return Err(UnsupportedVsn);
        };
        let number = !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit());
        if number {
            Ok(version)
        } else {
            Err(UnsupportedVsn)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_published_versions_are_spoken() {
        let check =
            |text: Option<&str>, expected| assert_eq!(Vsn::parse(text), expected, "{text:?}");
        check(None, Ok(Vsn::V1));
        check(Some("1.0.0"), Ok(Vsn::V1));
        check(Some("1.0.17"), Ok(Vsn::V1));
        check(Some("2.0.0"), Ok(Vsn::V2));
        for text in [
            "", "1", "1.0", "1.0.", "1.1.0", "2.1.0", "3.0.0", "2.0.x", "2.0.0.0", " 2.0.0",
        ] {
            check(Some(text), Err(UnsupportedVsn));
        }
    }
}
