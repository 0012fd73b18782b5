//! What the demo prints: where it is, its keys, one line that writes and one that listens.

use std::{fmt, net::SocketAddr, path::Path};

use pgrelay_chat::demo::{BOOKINGS, Booking, Person};
use serde_json::{Value, json};

use super::FOLLOWED;
use crate::{
    auth::{MintError, mint},
    secret::Secret,
};

/// Ten years: the keys of a demo end with its secret, not with the calendar.
const KEY_LIFETIME_SECONDS: u64 = 10 * 365 * 86_400;

/// The two keys of a Supabase project, and tokens of those who talk in the bookings. All of them are
/// meant to be shown.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) anon: String,
    pub(super) service: String,
    pub(super) people: Vec<People>,
}

/// Who talks in a booking.
#[derive(Debug)]
pub(super) struct People {
    pub(super) booking: Booking,
    pub(super) client: String,
    pub(super) operator: String,
}

impl People {
    /// The client's page and the operator's, below the relay's URL.
    pub(super) fn links(&self) -> (String, String) {
        let Self {
            booking,
            client,
            operator,
        } = self;
        let code = booking.code;
        (
            format!("chat?booking={code}#token={client}"),
            format!("desk?booking={code}#token={operator}"),
        )
    }
}

impl Keys {
    pub(super) fn mint(secret: &Secret, now: u64) -> Result<Self, MintError> {
        let sign = |claims: &Value| {
            let mut claims = claims.as_object().cloned().unwrap_or_default();
            claims.insert("iss".to_owned(), json!("pgrelay-demo"));
            claims.insert("iat".to_owned(), json!(now));
            claims.insert("exp".to_owned(), json!(now + KEY_LIFETIME_SECONDS));
            mint(secret, &claims)
        };
        let person = |person: Person| sign(&person.claims());
        let people = BOOKINGS.into_iter().map(|booking| {
            Ok(People {
                booking,
                client: person(booking.client)?,
                operator: person(booking.operator)?,
            })
        });
        Ok(Self {
            anon: sign(&json!({"role": "anon"}))?,
            service: sign(&json!({"role": "service_role"}))?,
            people: people.collect::<Result<_, MintError>>()?,
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
fn base_url(address: SocketAddr) -> String {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    format!("http://{address}")
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = base_url(self.address);
        writeln!(f, "pgrelay demo\n")?;
        writeln!(f, "  url          {url}")?;
        writeln!(f, "  anon key     {}", self.keys.anon)?;
        writeln!(f, "  service key  {}", self.keys.service)?;
        if let Some(file) = self.url_file {
            writeln!(f, "  database     psql \"$(cat '{}')\"", file.display())?;
        }
        for people in &self.keys.people {
            let Booking {
                code,
                client,
                operator,
                ..
            } = people.booking;
            writeln!(f, "\nBooking {code}\n")?;
            let (chat, desk) = people.links();
            writeln!(f, "  client {}:   {url}/{chat}", client.name)?;
            writeln!(f, "  operator {}: {url}/{desk}", operator.name)?;
        }
        self.write_lines(f, &url)?;
        writeln!(f, "\nStop with Ctrl-C.")
    }
}

impl Banner<'_> {
    /// The two lines to paste, for the first booking.
    fn write_lines(&self, f: &mut fmt::Formatter<'_>, url: &str) -> fmt::Result {
        let Some(People {
            booking, client, ..
        }) = self.keys.people.first()
        else {
            return Ok(());
        };
        let program = self.program.display();
        writeln!(f, "\nSee messages of a booking arrive: open {url} or run\n")?;
        writeln!(
            f,
            "  '{program}' tail --url {url} --key {client} --table {FOLLOWED} \
             --filter booking_id=eq.{}",
            booking.id
        )?;
        writeln!(f, "\nSend one from another terminal:\n")?;
        writeln!(
            f,
            "  curl -sS {url}/api/messages -H 'authorization: Bearer {client}' \
             -H 'content-type: application/json' \
             -d '{{\"bookingId\":\"{}\",\"content\":\"Hello from curl\"}}'",
            booking.code
        )
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
        assert!(line("curl").contains(&keys.people[0].client));
        assert!(line(" tail ").contains(&keys.people[0].client));
        assert!(line("anon key").ends_with(&keys.anon));
        assert!(line("service key").ends_with(&keys.service));
        for people in &keys.people {
            let (client, operator) = (people.booking.client, people.booking.operator);
            assert!(line(&format!("client {}:", client.name)).ends_with(&people.client));
            assert!(line(&format!("operator {}:", operator.name)).ends_with(&people.operator));
        }
    }
}
