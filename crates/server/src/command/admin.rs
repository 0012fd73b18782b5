//! Commands that look at the database or change it, and how they print.

use std::io::{self, Write};

use pgrelay_capture::{
    self as capture, Finding, Verdict,
    admin::{self, Holder, Status},
};
use pgrelay_chat::{doctor as chat_doctor, schema as chat_schema};

use super::running;
use crate::{
    chain::Chain,
    chat::with_connection,
    cli::{DatabaseFlags, DoctorFlags, MigrateFlags, TableFlags, UninstallFlags},
    config::Values,
    error::Error,
    schema,
};

type Out<'a> = &'a mut (dyn Write + Send);

/// `pgrelay migrate`
pub(super) async fn migrate(
    flags: &MigrateFlags,
    values: Values,
    out: Out<'_>,
) -> Result<(), Error> {
    let values = flags.database.over(values);
    let chat = flags.chat.then(|| values.chat_schema()).transpose()?;
    if flags.print_sql {
        let chat = chat.as_ref().map(chat_schema::script).unwrap_or_default();
        return print(out, &format!("{}{chat}", capture::migrations()));
    }
    let (database, patience) = (values.database()?, values.start_timeout()?);
    let report = schema::migrate(&database, patience, chat.as_ref()).await?;
    let mut text = String::new();
    for name in &report.applied {
        text.push_str(&format!("applied {name}\n"));
    }
    if report.applied.is_empty() {
        text.push_str("the schema is current\n");
    }
    if !report.needs.is_empty() {
        text.push_str("\npgrelay works without it, with less; a superuser can run:\n\n");
        text.push_str(&sql(&report.needs));
    }
    print(out, &text)
}

/// `pgrelay enable`
pub(super) async fn enable(flags: &TableFlags, values: Values, out: Out<'_>) -> Result<(), Error> {
    let database = flags.database.over(values).database()?;
    for table in &flags.tables {
        let ran = admin::enable(&database, table).await?;
        print(out, &ran_on(table, "is published already", &ran))?;
    }
    Ok(())
}

/// `pgrelay disable`
pub(super) async fn disable(flags: &TableFlags, values: Values, out: Out<'_>) -> Result<(), Error> {
    let database = flags.database.over(values).database()?;
    for table in &flags.tables {
        let ran = admin::disable(&database, table).await?;
        print(out, &ran_on(table, "is not published", &ran))?;
    }
    Ok(())
}

/// `pgrelay uninstall`. Asks on `notes` and reads the answer from `answers`.
pub(super) async fn uninstall(
    flags: &UninstallFlags,
    values: Values,
    (out, notes): (Out<'_>, Out<'_>),
    answers: &mut (dyn io::BufRead + Send),
) -> Result<(), Error> {
    let values = flags.database.over(values);
    let database = values.database()?;
    if !flags.yes {
        let target = values.shown("DATABASE_URL").unwrap_or_default();
        let question = format!(
            "This drops pgrelay's triggers and the schema pgrelay with its change log in\n  {target}\n\
             Clients can no longer resume from before it; your tables, the booking chat's too, stay. Go on? [y/N] "
        );
        print(notes, &question)?;
        let mut answer = String::new();
        answers
            .read_line(&mut answer)
            .map_err(Error::io("read the answer"))?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            return Err(Error::Usage(
                "nothing was removed; --yes goes on without asking".to_owned(),
            ));
        }
    }
    let ran = admin::uninstall(&database).await?;
    if ran.is_empty() {
        return print(out, "pgrelay is not installed\n");
    }
    let chat = with_connection(&database.direct, async |client| {
        chat_schema::installed(client).await
    });
    let stays = chat.await?.0.map_or(String::new(), |schema| {
        format!(
            "-- the booking chat stays: its tables in schema {schema}, and schema pgrelay_chat\n"
        )
    });
    print(out, &format!("{}{stays}", sql(&ran)))
}

/// `pgrelay status`
pub(super) async fn status(
    flags: &DatabaseFlags,
    values: Values,
    out: Out<'_>,
) -> Result<(), Error> {
    let database = flags.over(values).database()?;
    let status = admin::status(&database).await?;
    print(out, &status_text(&status))
}

/// `pgrelay doctor`: mistakes in the settings are findings like the others.
pub(super) async fn doctor(flags: &DoctorFlags, values: Values, out: Out<'_>) -> Result<(), Error> {
    let values = flags.database.over(values);
    let mut text = String::from("settings\n");
    for (key, value, origin) in values.effective() {
        text.push_str(&format!("  {key} = {value} ({origin})\n"));
    }
    print(out, &text)?;
    let mut findings: Vec<Line> = Vec::new();
    match values.serve() {
        Ok(serve) if serve.signing.is_weak() => findings.push(Line {
            name: "settings".to_owned(),
            verdict: Verdict::Warn,
            detail: "PGRELAY_JWT_SECRET is shorter than 32 bytes".to_owned(),
            cure: Some("make a longer one, for example with `openssl rand -hex 32`".to_owned()),
        }),
        Ok(_) => findings.push(Line::ok("settings", "complete")),
        Err(mistakes) => findings.extend(mistakes.0.into_iter().map(|mistake| Line {
            name: "settings".to_owned(),
            verdict: Verdict::Red,
            detail: format!(
                "{} {}",
                mistake.key,
                if mistake.given.is_some() {
                    "cannot be used"
                } else {
                    "is not set"
                }
            ),
            cure: Some(mistake.cure),
        })),
    }
    findings.extend(published_keys(&values).await);
    for key in values.unknown() {
        findings.push(Line {
            name: "settings".to_owned(),
            verdict: Verdict::Warn,
            detail: format!("{key} is no setting"),
            cure: Some("correct its spelling, or remove it".to_owned()),
        });
    }
    findings.extend(running::findings(&values).await.into_iter().map(Line::from));
    if let Ok(database) = values.database() {
        findings.extend(capture::doctor(&database).await.into_iter().map(Line::from));
        if flags.chat {
            findings.extend(chat_findings(&database).await);
        }
    }
    let red = findings
        .iter()
        .filter(|line| line.verdict == Verdict::Red)
        .count();
    let text: String = findings.iter().map(Line::to_text).collect();
    print(out, &format!("\n{text}"))?;
    if red == 0 {
        Ok(())
    } else {
        Err(Error::Red(red))
    }
}

/// Whether the keys that others publish can be had.
async fn published_keys(values: &Values) -> Option<Line> {
    const NAME: &str = "JWK set";
    let jwks = values.serve().ok()?.signing.published()?;
    Some(match jwks.refresh().await {
        Ok(keys) => Line::ok(NAME, &format!("{keys} keys")),
        Err(error) => Line {
            name: NAME.to_owned(),
            verdict: Verdict::Red,
            detail: Chain(&error).to_string(),
            cure: Some("correct PGRELAY_JWKS, or what it names".to_owned()),
        },
    })
}

/// The checklists of the booking chat.
async fn chat_findings(database: &capture::Config) -> Vec<Line> {
    let examined = with_connection(&database.direct, async |client| {
        chat_doctor::examine(client).await
    });
    match examined.await {
        Ok((findings, _)) => findings.into_iter().map(Line::from).collect(),
        Err(error) => vec![Line {
            name: "chat".to_owned(),
            verdict: Verdict::Red,
            detail: format!("it cannot be examined: {}", error.report()),
            cure: Some("let the database answer, then ask again".to_owned()),
        }],
    }
}

/// One finding, as it is printed.
struct Line {
    name: String,
    verdict: Verdict,
    detail: String,
    cure: Option<String>,
}

impl From<Finding> for Line {
    fn from(finding: Finding) -> Self {
        let Finding {
            name,
            verdict,
            detail,
            cure,
        } = finding;
        Self {
            name: name.to_owned(),
            verdict,
            detail,
            cure,
        }
    }
}

impl From<chat_doctor::Finding> for Line {
    fn from(finding: chat_doctor::Finding) -> Self {
        match finding.problem {
            None => Self::ok("chat", finding.check.sentence()),
            Some(problem) => Self {
                name: "chat".to_owned(),
                verdict: Verdict::Red,
                detail: problem.what,
                cure: Some(problem.cure),
            },
        }
    }
}

impl Line {
    fn ok(name: &str, detail: &str) -> Self {
        Self {
            name: name.to_owned(),
            verdict: Verdict::Ok,
            detail: detail.to_owned(),
            cure: None,
        }
    }

    fn to_text(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Ok => "ok  ",
            Verdict::Warn => "warn",
            Verdict::Red => "RED ",
        };
        let mut text = format!("{verdict}  {}: {}\n", self.name, self.detail);
        if let Some(cure) = &self.cure {
            text.push_str(&format!(
                "      cure: {}\n",
                cure.replace('\n', "\n            ")
            ));
        }
        text
    }
}

fn status_text(status: &Status) -> String {
    let mut text = String::from("tables\n");
    for table in &status.tables {
        let state = table
            .missing
            .as_deref()
            .map_or("captured".to_owned(), |missing| {
                format!("NOT captured, missing: {missing}")
            });
        let hidden = if table.row_security {
            "; row security is on"
        } else {
            ""
        };
        text.push_str(&format!("  {}: {state}{hidden}\n", table.name));
    }
    if status.tables.is_empty() {
        text.push_str("  none is published; `pgrelay enable <schema.table>` publishes one\n");
    }
    let position = match (&status.head, status.head_age) {
        (Some(head), Some(age)) => {
            format!(
                "epoch {} batch {}, {} s ago",
                head.epoch,
                head.batch,
                age.as_secs()
            )
        }
        (Some(head), None) => format!("epoch {} batch {}", head.epoch, head.batch),
        (None, _) => "none: no relay has run yet".to_owned(),
    };
    let holder = |holder: &Option<Holder>, none: &str| match holder {
        Some(Holder { pid, application }) => format!("{application} (backend {pid})"),
        None => none.to_owned(),
    };
    let doorbell = holder(
        &status.doorbell,
        "nobody sleeps: the relay is busy, or there is none",
    );
    let leader = holder(&status.leader, "no relay is running");
    let full = if status.log_is_full {
        ", FULL: changes are not logged"
    } else {
        ""
    };
    text.push_str(&format!(
        "log\n  size: {} bytes in {} segments{full}\n  position: {position}\n  \
         resumable after batch: {}\n  changes that could not be logged, not told yet: {}\n\
         relay\n  sequencer: {leader}\n  doorbell: {doorbell}\n",
        status.log_bytes, status.segments, status.floor, status.holes_pending,
    ));
    text
}

/// The SQL that was run for `table`; `nothing` says why none was.
fn ran_on(table: &str, nothing: &str, ran: &[String]) -> String {
    if ran.is_empty() {
        format!("-- {table} {nothing}\n")
    } else {
        sql(ran)
    }
}

fn sql(statements: &[String]) -> String {
    statements
        .iter()
        .map(|statement| format!("{};\n", statement.trim_end_matches(';')))
        .collect()
}

fn print(out: Out<'_>, text: &str) -> Result<(), Error> {
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Error::io("print"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pgrelay_capture::admin::TableStatus;
    use pgrelay_protocol::Position;

    use super::*;

    fn values(pairs: &[(&str, &str)]) -> Values {
        Values::new(
            pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }

    fn nowhere() -> Values {
        values(&[("DATABASE_URL", "postgres://app:pa55@127.0.0.1:1/app")])
    }

    fn database_flags() -> DatabaseFlags {
        DatabaseFlags {
            database_url: None,
            direct_url: None,
            publication: None,
        }
    }

    #[test]
    fn the_status_says_what_is_missing() {
        let status = Status {
            tables: vec![TableStatus {
                name: "public.messages".to_owned(),
                missing: Some("create trigger x".to_owned()),
                row_security: true,
            }],
            head: Some(Position {
                epoch: 1,
                batch: 7,
                seq: i64::MAX,
                tag: 0,
            }),
            head_age: Some(Duration::from_secs(3)),
            floor: 2,
            log_bytes: 100,
            segments: 4,
            log_is_full: true,
            holes_pending: 0,
            doorbell: Some(Holder {
                pid: 9,
                application: "pgrelay".to_owned(),
            }),
            leader: None,
        };
        let text = status_text(&status);
        for part in [
            "public.messages: NOT captured, missing: create trigger x; row security is on",
            "epoch 1 batch 7, 3 s ago",
            "FULL",
            "doorbell: pgrelay (backend 9)",
            "sequencer: no relay is running",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[tokio::test]
    async fn the_sql_is_printed_without_a_database_and_the_chats_on_demand() {
        let printed = async |chat, schema| {
            let mut out = Vec::new();
            let flags = MigrateFlags {
                database: database_flags(),
                chat,
                print_sql: true,
            };
            let values = values(&[("PGRELAY_CHAT_SCHEMA", schema)]);
            migrate(&flags, values, &mut out)
                .await
                .map(|()| String::from_utf8(out).unwrap())
        };
        let relay = printed(false, "public").await.unwrap();
        assert!(relay.contains("create schema pgrelay;") && !relay.contains("pgrelay_chat"));
        let both = printed(true, "desk").await.unwrap();
        assert!(
            both.starts_with(&relay)
                && both.contains("create table if not exists \"desk\".bookings")
        );
        assert_eq!(printed(true, "pg_x").await.unwrap_err().exit_code(), 64);
    }

    #[tokio::test]
    async fn uninstall_does_nothing_without_a_yes() {
        for answer in ["", "\n", "n\n", "maybe\n"] {
            let flags = UninstallFlags {
                database: database_flags(),
                yes: false,
            };
            let (mut out, mut notes) = (Vec::new(), Vec::new());
            let mut answers = answer.as_bytes();
            let ended = uninstall(&flags, nowhere(), (&mut out, &mut notes), &mut answers).await;
            assert!(matches!(ended, Err(Error::Usage(_))), "{answer:?}");
            let asked = String::from_utf8(notes).unwrap();
            assert!(
                asked.contains("postgres://app:***@127.0.0.1:1/app"),
                "{asked}"
            );
        }
    }

    #[tokio::test]
    async fn the_doctor_tells_of_settings_and_database_in_one_go() {
        let mut out = Vec::new();
        let given = values(&[
            ("DATABASE_URL", "postgres://app:pa55@127.0.0.1:1/app"),
            ("PGRELAY_IDLE_TIMEOUT", "soon"),
            ("PGRELAY_LISTNE", "x"),
        ]);
        let flags = DoctorFlags {
            database: database_flags(),
            chat: true,
        };
        let error = doctor(&flags, given, &mut out).await.unwrap_err();
        let text = String::from_utf8(out).unwrap();
        assert!(matches!(error, Error::Red(4)), "{text}");
        assert!(!text.contains("pa55"), "{text}");
        for part in [
            "RED   settings: PGRELAY_IDLE_TIMEOUT cannot be used\n      cure: expected a number",
            "RED   settings: PGRELAY_JWT_SECRET is not set\n      cure: ",
            "warn  settings: PGRELAY_LISTNE is no setting",
            "RED   direct connection: ",
            "RED   chat: it cannot be examined: connect to PostgreSQL",
            "DATABASE_URL = postgres://app:***@127.0.0.1:1/app (environment)",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
