//! The checklists of a chat that works, as findings. The database answers them (`sql/chat/0007_doctor.sql`);
//! `pgrelay doctor --chat` prints them.

use tokio_postgres::Client;

use crate::{error::Error, schema};

const EXAMINE: &str = "select check_name, problem, cure from pgrelay_chat.examine()";

/// A question of the checklists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// The schema is there and current.
    Installed,
    /// Realtime is on: the tables are in the publication.
    Published,
    /// Realtime is on: changes of the tables are captured.
    Captured,
    /// Users see their own bookings only.
    Protected,
    /// Requests can run as their caller.
    Roles,
    /// Every status change has its system message.
    Told,
    /// No message is missing.
    Complete,
    /// Codes lead to UUIDs.
    Resolved,
    /// Typing and presence have their private channel.
    Channel,
    /// A message, an answer, a status change and a receipt went through.
    Rehearsed,
}

impl Check {
    /// All of them, in the order in which one looks.
    pub const ALL: [Self; 10] = [
        Self::Installed,
        Self::Published,
        Self::Captured,
        Self::Protected,
        Self::Roles,
        Self::Told,
        Self::Complete,
        Self::Resolved,
        Self::Channel,
        Self::Rehearsed,
    ];

    /// What is true when the check is green.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Installed => "the chat schema is installed and current",
            Self::Published => "bookings, messages and receipts are in the realtime publication",
            Self::Captured => "changes of bookings, messages and receipts are captured",
            Self::Protected => "row-level security is on: clients see their own bookings only",
            Self::Roles => "requests can run as anon, authenticated and service_role",
            Self::Told => "every status change has its system message",
            Self::Complete => "no message is missing: numbers run without a gap",
            Self::Resolved => "booking codes lead to their UUIDs",
            Self::Channel => "typing and presence have their private channel",
            Self::Rehearsed => "a rehearsal passed: message, answer, status change, receipt",
        }
    }

    /// The word by which the database calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::Published => "published",
            Self::Captured => "captured",
            Self::Protected => "protected",
            Self::Roles => "roles",
            Self::Told => "told",
            Self::Complete => "complete",
            Self::Resolved => "resolved",
            Self::Channel => "channel",
            Self::Rehearsed => "rehearsed",
        }
    }
}

/// The answer to one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which check.
    pub check: Check,
    /// What is wrong; `None` is green.
    pub problem: Option<Problem>,
}

/// Why a check is red.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is the matter.
    pub what: String,
    /// What to do about it: a command, or SQL.
    pub cure: String,
}

/// Asks every question. Needs a connection of the role that owns the tables; what it tries out, it takes back.
///
/// # Errors
/// When the database does not answer.
pub async fn examine(client: &Client) -> Result<Vec<Finding>, Error> {
    let installed =
        schema::installed(client).await?.is_some() && schema::is_current(client).await?;
    let mut findings = vec![Finding {
        check: Check::Installed,
        problem: (!installed).then(|| Problem {
            what: "the chat schema is missing or older than this program".into(),
            cure: "pgrelay migrate --chat".into(),
        }),
    }];
    if !installed {
        return Ok(findings);
    }
    let failed = |action| Error::database(action);
    let rows = client
        .query(EXAMINE, &[])
        .await
        .map_err(failed("examine the chat"))?;
    for row in rows {
        let name: String = row.try_get(0).map_err(failed("read a finding"))?;
        let what: Option<String> = row.try_get(1).map_err(failed("read a finding"))?;
        let cure: Option<String> = row.try_get(2).map_err(failed("read a finding"))?;
        if let Some(check) = Check::ALL.into_iter().find(|check| check.name() == name) {
            let problem = what.map(|what| Problem {
                what,
                cure: cure.unwrap_or_default(),
            });
            findings.push(Finding { check, problem });
        }
    }
    Ok(findings)
}
