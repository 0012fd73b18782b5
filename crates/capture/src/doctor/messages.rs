//! The table of broadcasts: ours, or that of a Supabase database that was there before.

use tokio_postgres::Row;

use super::{Doctor, Verdict};
use crate::{error::Error, session::Session, statements};

const NAME: &str = "realtime.messages";

/// Says whose it is and what it lacks.
pub(super) async fn examine(doctor: &mut Doctor<'_>, session: &mut Session) -> Result<(), Error> {
    let rows = session
        .rows(
            "look at the table of messages",
            &statements::messages::STATE,
            &[],
        )
        .await?;
    let Some(row) = rows.first() else {
        doctor.note(
            NAME,
            Verdict::Red,
            "does not exist: no private channels, no broadcast from the database",
            Some("run the SQL that `pgrelay migrate` printed, or migrate as the owner of schema realtime".to_owned()),
        );
        return Ok(());
    };
    let problems = problems(row);
    if problems.is_empty() {
        let owner: &str = row.get(0);
        let keeper = if row.get(1) {
            "the relay makes its partitions and drops them after three days"
        } else {
            "its owner makes and drops its partitions"
        };
        doctor.ok(NAME, format!("belongs to {owner}; {keeper}"));
    }
    for (verdict, detail, cure) in problems {
        doctor.note(NAME, verdict, detail, Some(cure));
    }
    Ok(())
}

fn problems(row: &Row) -> Vec<(Verdict, String, String)> {
    let owner: &str = row.get(0);
    let mut found = Vec::new();
    let mut note = |verdict, detail: &str, cure: String| {
        found.push((verdict, detail.to_owned(), cure));
    };
    if let Some(missing) = row.get::<_, Option<&str>>(3) {
        let detail = format!("belongs to {owner} and lacks columns: {missing}");
        note(
            Verdict::Red,
            &detail,
            "upgrade the Supabase schema that it belongs to".to_owned(),
        );
    }
    if let Some(statement) = row.get::<_, Option<&str>>(2) {
        note(
            Verdict::Red,
            "messages are not captured",
            format!("run as {owner} or as a superuser: {statement}"),
        );
    }
    if !row.get::<_, bool>(4) {
        let cure = format!("let {owner} make it, or grant {owner} to the role of DATABASE_URL");
        note(Verdict::Red, "there is no partition for tomorrow", cure);
    }
    if !row.get::<_, bool>(7) {
        let cure =
            "as its owner: grant select, insert on realtime.messages to the role of DATABASE_URL";
        note(
            Verdict::Red,
            "the relay may not read and write it",
            cure.to_owned(),
        );
    }
    if row.get(5) {
        let cure = "run as a superuser: alter role ... bypassrls, for the role of DATABASE_URL";
        note(
            Verdict::Warn,
            "row security hides it from the relay: nothing is replayed",
            cure.to_owned(),
        );
    }
    if !row.get::<_, bool>(6) {
        let cure = "run: alter table realtime.messages enable row level security";
        note(
            Verdict::Red,
            "row security is off: every role may read and write every private channel",
            cure.to_owned(),
        );
    }
    found
}
