//! Values that must never be printed: signing secrets, keys, connection strings with passwords.
//!
//! A value gets in by configuration and out by [`Secret::reveal`] alone, so that a search for that
//! word finds every place that handles one in the clear.

use std::fmt;

/// Text whose `Debug` and `Display` print `***`.
#[derive(Clone)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps `value`.
    pub fn new(value: impl Into<Box<str>>) -> Self {
        Self(value.into())
    }

    /// The value itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// `url` with its password replaced by `***`; wholly `***` where no password can be told apart.
///
/// Both the URL form and the `key=value` form of libpq are understood.
pub fn mask_url(url: &str) -> String {
    if let Some((scheme, rest)) = url.split_once("://") {
        let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(authority_end);
        if tail.contains('@') || tail.contains("password") {
            return "***".to_owned();
        }
        return match authority.rsplit_once('@') {
            None => format!("{scheme}://{authority}{tail}"),
            Some((user, host)) => {
                let name = user.split_once(':').map_or(user, |(name, _)| name);
                let password = if user.contains(':') { ":***" } else { "" };
                format!("{scheme}://{name}{password}@{host}{tail}")
            }
        };
    }
    if url.contains('=') && !url.contains("password") {
        return url.to_owned();
    }
    "***".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_prints_itself() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        assert_eq!(secret.reveal(), "hunter2");
    }

    #[test]
    fn a_url_is_shown_without_its_password() {
        for (given, shown) in [
            ("postgres://u:p@h:5432/d", "postgres://u:***@h:5432/d"),
            (
                "postgres://u@h/d?sslmode=require",
                "postgres://u@h/d?sslmode=require",
            ),
            ("postgres://h/d", "postgres://h/d"),
            ("postgres://u:p@ss@h/d", "postgres://u:***@h/d"),
            ("postgres://u:p/w@h/d", "***"),
            ("postgres://h/d?password=p", "***"),
            ("host=h dbname=d", "host=h dbname=d"),
            ("host=h password=p", "***"),
            ("hunter2", "***"),
        ] {
            assert_eq!(mask_url(given), shown, "{given}");
        }
    }
}
