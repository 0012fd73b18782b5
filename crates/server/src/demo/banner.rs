//! What the demo prints: where it is, its keys, one line that writes and one that listens.

use std::{fmt, net::SocketAddr, path::Path};

use serde_json::{Map, Value, json};

use super::store::FIRST_BOOKING;
use crate::{
    auth::{MintError, mint},
    secret::Secret,
};

/// Ten years: the keys of a demo end with its secret, not with the calendar.
const KEY_LIFETIME_SECONDS: u64 = 10 * 365 * 86_400;

/// The two keys of a Supabase project, for this demo. These are meant to be shown.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) anon: String,
    pub(super) service: String,
}

impl Keys {
    pub(super) fn mint(secret: &Secret, now: u64) -> Result<Self, MintError> {
        let key = |role: &str| {
            let claims = json!({
                "iss": "pgrelay-demo", "role": role, "iat": now, "exp": now + KEY_LIFETIME_SECONDS,
            });
            let Value::Object(claims) = claims else {
                return mint(secret, &Map::new());
            };
            mint(secret, &claims)
        };
        Ok(Self {
            anon: key("anon")?,
            service: key("service_role")?,
        })
    }
}

/// The text.
pub(super) struct Banner<'a> {
    /// Where the relay listens.
    pub(super) address: SocketAddr,
    pub(super) keys: &'a Keys,
    /// The binary itself, for lines that can be pasted anywhere.
    pub(super) program: &'a Path,
    /// Where the database URL is written, if the database is the demo's own.
    pub(super) url_file: Option<&'a Path>,
}

/// Where a client on this machine reaches what listens on `address`.
pub(super) fn base_url(address: SocketAddr) -> String {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    format!("http://{address}")
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            address,
            keys: Keys { anon, service },
            program,
            url_file,
        } = self;
        let url = base_url(*address);
        let program = program.display();
        writeln!(f, "pgrelay demo\n")?;
        writeln!(f, "  url          {url}")?;
        writeln!(f, "  anon key     {anon}")?;
        writeln!(f, "  service key  {service}")?;
        if let Some(file) = url_file {
            writeln!(f, "  database     psql \"$(cat '{}')\"", file.display())?;
        }
        writeln!(f, "\nSee messages of a booking arrive: open {url} or run\n")?;
        writeln!(
            f,
            "  '{program}' tail --url {url} --key {anon} --table public.messages \
             --filter booking_id=eq.{FIRST_BOOKING}"
        )?;
        writeln!(f, "\nInsert one from another terminal:\n")?;
        writeln!(
            f,
            "  curl -sS {url}/demo/messages -H 'authorization: Bearer {service}' \
             -H 'content-type: application/json' \
             -d '{{\"booking_id\":\"{FIRST_BOOKING}\",\"content\":\"Hello from curl\"}}'"
        )?;
        writeln!(f, "\nStop with Ctrl-C.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_that_can_be_pasted_is_whole() {
        let keys = Keys::mint(&Secret::new("s"), 1_800_000_000).unwrap();
        let banner = Banner {
            address: SocketAddr::from(([0, 0, 0, 0], 4000)),
            keys: &keys,
            program: Path::new("/opt/pg relay/pgrelay"),
            url_file: None,
        };
        let text = banner.to_string();
        let line = |needle: &str| {
            text.lines()
                .find(|line| line.contains(needle))
                .unwrap()
                .to_owned()
        };
        assert!(
            line(" tail ")
                .starts_with("  '/opt/pg relay/pgrelay' tail --url http://127.0.0.1:4000 ")
        );
        assert!(line("curl").contains(&keys.service));
        assert!(line(" tail ").contains(&keys.anon));
        assert!(line("anon key").ends_with(&keys.anon));
        assert!(line("service key").ends_with(&keys.service));
    }
}
