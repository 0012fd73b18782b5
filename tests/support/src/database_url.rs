//! A connection URL taken apart, so that a test can change the user, the database or the way there.

use std::fmt;
use std::net::SocketAddr;

/// `postgresql://user[:password]@host:port/database[?parameters]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    user: String,
    address: String,
    database: String,
    parameters: String,
}

impl DatabaseUrl {
    /// Takes a URL apart.
    ///
    /// # Panics
    /// When `url` has not the form above.
    pub fn parse(url: &str) -> Self {
        let parts = || {
            let rest = url
                .strip_prefix("postgresql://")
                .or_else(|| url.strip_prefix("postgres://"))?;
            let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
            let (server, database) = rest.split_once('/')?;
            let (user, address) = server.rsplit_once('@')?;
            Some(Self {
                user: user.into(),
                address: address.into(),
                database: database.into(),
                parameters: parameters.into(),
            })
        };
        parts().unwrap_or_else(|| {
            panic!("{url:?} is not postgresql://user[:password]@host:port/database")
        })
    }

    /// The same, as another user (`name` or `name:password`).
    #[must_use]
    pub fn with_user(&self, user: &str) -> Self {
        Self {
            user: user.into(),
            ..self.clone()
        }
    }

    /// The same, to another database.
    #[must_use]
    pub fn with_database(&self, database: &str) -> Self {
        Self {
            database: database.into(),
            ..self.clone()
        }
    }

    /// The same, by another way: a proxy, say.
    #[must_use]
    pub fn through(&self, address: SocketAddr) -> Self {
        Self {
            address: address.to_string(),
            ..self.clone()
        }
    }

    /// The same, with the host called by another name.
    #[must_use]
    pub fn with_host(&self, host: &str) -> Self {
        Self {
            address: format!("{host}:{}", self.address().port()),
            ..self.clone()
        }
    }

    /// The same, with these parameters (`sslmode=require`), replacing what was there.
    #[must_use]
    pub fn with_parameters(&self, parameters: &str) -> Self {
        Self {
            parameters: parameters.into(),
            ..self.clone()
        }
    }

    /// Where the server listens.
    ///
    /// # Panics
    /// When the URL names its host by name: tests use servers on this machine, by address.
    pub fn address(&self) -> SocketAddr {
        self.address
            .replace("localhost", "127.0.0.1")
            .parse()
            .unwrap_or_else(|_| panic!("{:?} is no address and port of this machine", self.address))
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            user,
            address,
            database,
            parameters,
        } = self;
        write!(f, "postgresql://{user}@{address}/{database}")?;
        if !parameters.is_empty() {
            write!(f, "?{parameters}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_url_apart_and_puts_it_together() {
        for url in [
            "postgresql://postgres@127.0.0.1:5432/postgres",
            "postgresql://u:p@ss@127.0.0.1:5432/db?sslmode=require",
        ] {
            assert_eq!(DatabaseUrl::parse(url).to_string(), url);
        }
    }

    #[test]
    fn changes_one_part_at_a_time() {
        let url = DatabaseUrl::parse("postgres://a:b@localhost:1/c");
        assert_eq!(
            url.with_user("x")
                .with_database("y")
                .through(url.address())
                .with_host("localhost")
                .with_parameters("sslmode=disable")
                .to_string(),
            "postgresql://x@localhost:1/y?sslmode=disable"
        );
    }
}
