//! Every precondition, looked at, each with its cure.

mod messages;

use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::{
    admin::{self, Holder},
    config::{Arm, Config},
    error::Error,
    migrate,
    pool::Pool,
    retry::Retry,
    session::{Session, refuse_pooler},
    statements,
};

/// How a precondition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Works, with less than there could be.
    Warn,
    /// Does not work.
    Red,
}

/// One precondition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub name: &'static str,
    /// How it stands.
    pub verdict: Verdict,
    /// What was seen.
    pub detail: String,
    /// What to do about it.
    pub cure: Option<String>,
}

/// A bell that takes longer does not arrive.
const BELL_MAX: Duration = Duration::from_secs(4);
/// Of the room for notifications, above which somebody listens and does not read.
const QUEUE_USED_MAX: f64 = 0.1;
/// A change that waits for longer has no relay that looks for it.
const BACKLOG_AGE_MAX: Duration = Duration::from_secs(10);
const MIB: i64 = 1 << 20;

/// Findings under way.
struct Doctor<'a> {
    config: &'a Config,
    findings: Vec<Finding>,
}

/// Looks at everything. What needs a connection is left out where there is none.
pub async fn doctor(config: &Config) -> Vec<Finding> {
    let mut doctor = Doctor {
        config,
        findings: Vec::new(),
    };
    match Session::connect(&config.direct).await {
        Err(error) => doctor.failed("direct connection", &error),
        Ok(mut session) => {
            let version = session.server.version;
            doctor.ok(
                "direct connection",
                format!("PostgreSQL {}.{}", version / 10_000, version % 10_000),
            );
            if let Err(error) = doctor.examine(&mut session).await {
                doctor.failed("examination", &error);
            }
        }
    }
    doctor.findings
}

impl Doctor<'_> {
    fn note(
        &mut self,
        name: &'static str,
        verdict: Verdict,
        detail: impl Into<String>,
        cure: Option<String>,
    ) {
        self.findings.push(Finding {
            name,
            verdict,
            detail: detail.into(),
            cure,
        });
    }

    fn ok(&mut self, name: &'static str, detail: impl Into<String>) {
        self.note(name, Verdict::Ok, detail, None);
    }

    fn failed(&mut self, name: &'static str, error: &Error) {
        let cure = match Retry::after(error) {
            Retry::Stop(cure) => cure,
            Retry::Now | Retry::Backoff => {
                "start PostgreSQL, or correct the address in DATABASE_URL or PGRELAY_DIRECT_URL"
            }
        };
        self.note(
            name,
            Verdict::Red,
            error.report().to_string(),
            Some(cure.to_owned()),
        );
    }

    async fn examine(&mut self, session: &mut Session) -> Result<(), Error> {
        self.server(session);
        match refuse_pooler(session, &self.config.direct).await {
            Ok(()) => self.ok(
                "no pooler on the direct connection",
                "one session, one backend",
            ),
            Err(error) => self.failed("no pooler on the direct connection", &error),
        }
        self.pool(session).await?;
        match migrate::require_current(session).await {
            Ok(()) => self.ok("schema", "current"),
            Err(error) => {
                self.failed("schema", &error);
                return Ok(());
            }
        }
        self.helpers(session).await?;
        self.publication(session).await?;
        self.tables(session).await?;
        messages::examine(self, session).await?;
        self.log().await?;
        self.backlog(session).await?;
        self.doorbell(session).await
    }

    fn server(&mut self, session: &Session) {
        let version = session.server.version;
        if version < 130_000 {
            let cure = "use PostgreSQL 13 or later".to_owned();
            self.note("version", Verdict::Red, "older than 13", Some(cure));
        } else if version < 140_000 {
            let detail = "no idle_session_timeout before 14: a frozen relay makes writers ring until its connection ends";
            self.note(
                "version",
                Verdict::Warn,
                detail,
                Some("use PostgreSQL 14 or later".to_owned()),
            );
        } else {
            self.ok("version", "14 or later");
        }
        if session.server.standby {
            let cure = "point DATABASE_URL to the primary".to_owned();
            self.note(
                "primary",
                Verdict::Red,
                "this server is a standby",
                Some(cure),
            );
        } else {
            self.ok("primary", "accepts writes");
        }
    }

    async fn pool(&mut self, session: &mut Session) -> Result<(), Error> {
        const NAME: &str = "pooled connection";
        let pool = Pool::new(&self.config.database, 1);
        let here = session
            .rows(
                "ask for the database",
                &statements::administration::SAME_DATABASE,
                &[],
            )
            .await?;
        match pool
            .ask(
                "ask for the database",
                BELL_MAX,
                &statements::administration::SAME_DATABASE,
                &[],
            )
            .await
        {
            Err(error) => self.failed(NAME, &error),
            Ok(there) if there[0].get::<_, &str>(0) == here[0].get::<_, &str>(0) => {
                self.ok(NAME, "the same database");
            }
            Ok(_) => {
                let cure =
                    "let DATABASE_URL and PGRELAY_DIRECT_URL lead to the same database".to_owned();
                self.note(
                    NAME,
                    Verdict::Red,
                    "leads to another database than the direct one",
                    Some(cure),
                );
            }
        }
        Ok(())
    }

    /// What a plain owner of the database cannot make.
    async fn helpers(&mut self, session: &mut Session) -> Result<(), Error> {
        let row = &session
            .rows(
                "look at the server",
                &statements::administration::FACTS,
                &[],
            )
            .await?[0];
        if row.get(2) {
            self.ok(
                "role pgrelay_capture",
                "triggers can run as a role that owns nothing else",
            );
        } else {
            let cure = "run the SQL that `pgrelay migrate` printed, as a superuser".to_owned();
            self.note(
                "role pgrelay_capture",
                Verdict::Warn,
                "missing: triggers run as the owner of the schema",
                Some(cure),
            );
        }
        if row.get(3) {
            self.ok("event trigger", "new tables are captured at once");
        } else {
            let cure = "run the SQL that `pgrelay migrate` printed, as a superuser".to_owned();
            self.note(
                "event trigger",
                Verdict::Warn,
                "missing: new tables are captured within seconds",
                Some(cure),
            );
        }
        let used: f64 = row.get(4);
        if used > QUEUE_USED_MAX {
            let cure = "end the session that LISTENs inside a long transaction (pg_stat_activity)"
                .to_owned();
            self.note(
                "notification queue",
                Verdict::Red,
                format!("{:.0} % full", used * 100.0),
                Some(cure),
            );
        } else {
            self.ok("notification queue", "has room");
        }
        if row.get::<_, i64>(5) > 0 {
            let cure = "commit or roll back what pg_prepared_xacts lists".to_owned();
            self.note(
                "prepared transactions",
                Verdict::Warn,
                "some are older than an hour and keep history alive",
                Some(cure),
            );
        }
        Ok(())
    }

    async fn publication(&mut self, session: &mut Session) -> Result<(), Error> {
        const NAME: &str = "publication";
        let name = &self.config.publication;
        let rows = session
            .rows(
                "look at the publication",
                &statements::administration::PUBLICATION,
                &[],
            )
            .await?;
        let Some(row) = rows.first() else {
            let cure = format!(
                "run `pgrelay migrate`, or as a superuser: create publication {name} with (publish = 'insert');"
            );
            self.note(
                NAME,
                Verdict::Red,
                format!("{name} does not exist"),
                Some(cure),
            );
            return Ok(());
        };
        match (row.get(0), row.get::<_, Option<String>>(1)) {
            (true, Some(tables)) => {
                let detail = format!(
                    "{name} publishes updates and deletes of tables without replica identity, whose own UPDATE and DELETE fail: {tables}"
                );
                let cure = "give them a primary key, or run: alter table ... replica identity full"
                    .to_owned();
                self.note(NAME, Verdict::Red, detail, Some(cure));
            }
            _ => self.ok(NAME, name.clone()),
        }
        Ok(())
    }

    async fn tables(&mut self, session: &mut Session) -> Result<(), Error> {
        const NAME: &str = "triggers";
        let tables = admin::tables(session).await?;
        if tables.is_empty() {
            let cure = "run: pgrelay enable <schema.table>".to_owned();
            self.note(NAME, Verdict::Warn, "no table is published", Some(cure));
        }
        let mut missing = false;
        for table in &tables {
            if let Some(statement) = &table.missing {
                missing = true;
                self.note(
                    NAME,
                    Verdict::Red,
                    format!("missing on {}", table.name),
                    Some(format!("run: {statement}")),
                );
            }
        }
        if tables.iter().any(|table| table.row_security) {
            self.row_security(session).await?;
        }
        if !missing && !tables.is_empty() {
            self.ok(NAME, format!("attached to {} tables", tables.len()));
        }
        Ok(())
    }

    /// Policies are asked as the roles that tokens name.
    async fn row_security(&mut self, session: &mut Session) -> Result<(), Error> {
        const NAME: &str = "row security";
        let query = &statements::administration::UNREACHABLE;
        let rows = session.rows("look up roles", query, &[]).await?;
        let relay: &str = rows[0].get(0);
        match rows[0].get::<_, Option<&str>>(1) {
            None => self.ok(
                NAME,
                "policies can be asked as every role of tokens".to_owned(),
            ),
            Some(roles) => self.note(
                NAME,
                Verdict::Red,
                format!("policies cannot be asked as {roles}"),
                Some(format!("run: grant {roles} to {relay}")),
            ),
        }
        Ok(())
    }

    async fn log(&mut self) -> Result<(), Error> {
        const NAME: &str = "change log";
        let status = admin::status(self.config).await?;
        let bound = i64::try_from(self.config.log_bytes_max).unwrap_or(i64::MAX);
        let detail = format!("{} of {} MiB", status.log_bytes / MIB, bound / MIB);
        if status.log_is_full {
            let cure = "start a relay: it recycles the log and tells subscribers to fetch again"
                .to_owned();
            self.note(
                NAME,
                Verdict::Red,
                "full: changes are counted, not logged",
                Some(cure),
            );
        } else if status.log_bytes > bound {
            let cure = "look for a session that locks tables of schema pgrelay (a dump), or raise PGRELAY_LOG_BYTES_MAX".to_owned();
            self.note(NAME, Verdict::Warn, detail, Some(cure));
        } else {
            self.ok(NAME, detail);
        }
        if status.holes_pending > 0 {
            let detail = format!(
                "{} changes could not be logged, and no subscriber knows yet",
                status.holes_pending
            );
            let cure = "start a relay: it tells subscribers to fetch again; PostgreSQL's own log says why, in lines with \"pgrelay:\"";
            self.note("holes", Verdict::Warn, detail, Some(cure.to_owned()));
        } else {
            self.ok("holes", "all are told");
        }
        Ok(())
    }

    /// What waits to be told, and who waits for whom.
    async fn backlog(&mut self, session: &mut Session) -> Result<(), Error> {
        let row = &session
            .rows(
                "look at the backlog",
                &statements::administration::BACKLOG,
                &[],
            )
            .await?[0];
        let waiting: i64 = row.get(0);
        let oldest = row
            .get::<_, Option<f64>>(1)
            .map_or(Duration::ZERO, |seconds| {
                Duration::from_secs_f64(seconds.max(0.0))
            });
        if oldest > BACKLOG_AGE_MAX {
            let detail = format!(
                "{waiting} changes wait, the oldest for {} s",
                oldest.as_secs()
            );
            let cure = "start a relay, or look into its log for what keeps it from the database";
            self.note("ledger", Verdict::Red, detail, Some(cure.to_owned()));
        } else {
            self.ok("ledger", "nothing waits for long");
        }
        match row.get::<_, Option<String>>(2) {
            Some(waits) => {
                let cure =
                    "find who holds it with pg_blocking_pids(), and end that session".to_owned();
                self.note(
                    "locks",
                    Verdict::Warn,
                    format!("somebody waits: {waits}"),
                    Some(cure),
                );
            }
            None => self.ok("locks", "nobody waits for the change log"),
        }
        Ok(())
    }

    async fn doorbell(&mut self, session: &mut Session) -> Result<(), Error> {
        const NAME: &str = "doorbell";
        let key = session
            .rows("read the lock key", &statements::ledger::KEYS, &[])
            .await?[0]
            .get(0);
        match admin::holder(session, key).await? {
            Some(Holder { pid, application }) if application != "pgrelay" => {
                let detail = format!(
                    "backend {pid} ({application}), which is no relay, makes every writer ring"
                );
                self.note(
                    NAME,
                    Verdict::Red,
                    detail,
                    Some(format!("run: select pg_terminate_backend({pid})")),
                );
            }
            Some(_) => self.ok(NAME, "a relay sleeps"),
            None if session.server.prepares_transactions && self.config.arm == Arm::Auto => {
                let detail = "max_prepared_transactions > 0: a transaction that rang could not be prepared, so the relay polls every 20 ms";
                self.note(
                    NAME,
                    Verdict::Warn,
                    detail,
                    Some(
                        "set max_prepared_transactions = 0 if nobody uses two-phase commit"
                            .to_owned(),
                    ),
                );
            }
            None => self.ok(NAME, "no relay sleeps"),
        }
        let heard = self.ring(session).await?;
        if heard {
            self.ok("LISTEN", "a bell arrives");
        } else {
            let cure = "set PGRELAY_DIRECT_URL to an address of PostgreSQL itself".to_owned();
            self.note("LISTEN", Verdict::Red, "a bell does not arrive", Some(cure));
        }
        Ok(())
    }

    /// Whether a bell rung by somebody else is heard.
    async fn ring(&self, session: &mut Session) -> Result<bool, Error> {
        session.listen().await?;
        let mut other = Session::connect(&self.config.direct).await?;
        other
            .batch("ring the doorbell", statements::administration::RING)
            .await?;
        let deadline = Instant::now() + BELL_MAX;
        let heard = timeout(BELL_MAX, async {
            loop {
                let heard = session.wire.listen(deadline).await?;
                if heard.bell || Instant::now() >= deadline {
                    return Ok::<_, Error>(heard.bell);
                }
            }
        });
        heard.await.unwrap_or(Ok(false))
    }
}
