//! The command line: what can be asked, and which settings its flags override.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Values};

/// A realtime relay for PostgreSQL.
#[derive(Debug, Parser)]
#[command(name = "pgrelay", version, about, after_help = config::help())]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the binary can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Everything on one machine: a PostgreSQL of its own, two bookings, keys, the live page
    Demo(DemoFlags),
    /// Run the relay
    Serve(ServeFlags),
    /// Install or upgrade the schema
    Migrate(MigrateFlags),
    /// Publish tables and attach their triggers; prints the SQL
    Enable(TableFlags),
    /// Withdraw tables from the publication and detach their triggers; prints the SQL
    Disable(TableFlags),
    /// Tables, triggers, log size, position, lag, doorbell
    Status(DatabaseFlags),
    /// Check every precondition, each red line with its cure
    Doctor(DoctorFlags),
    /// Remove the triggers and the schema pgrelay
    Uninstall(UninstallFlags),
    /// Make a token from the configured secret
    Token(TokenFlags),
    /// Print events as they come
    Tail(TailFlags),
}

/// Which database.
#[derive(Debug, Args)]
pub struct DatabaseFlags {
    /// Connection URL [env: DATABASE_URL]
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// The same database without a pooler [env: PGRELAY_DIRECT_URL]
    #[arg(long, value_name = "URL")]
    pub direct_url: Option<String>,
    /// Publication to relay [env: PGRELAY_PUBLICATION]
    #[arg(long, value_name = "NAME")]
    pub publication: Option<String>,
}

/// Flags of `serve`.
#[derive(Debug, Args)]
pub struct ServeFlags {
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it")]
    pub database: DatabaseFlags,
    /// Address and port to serve on [env: PGRELAY_LISTEN]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Install or upgrade the schema first [env: PGRELAY_AUTO_MIGRATE]
    #[arg(long)]
    pub auto_migrate: bool,
    /// Never attach triggers, only report what is missing [env: PGRELAY_DDL=false]
    #[arg(long)]
    pub no_ddl: bool,
}

/// Flags of `demo`.
#[derive(Debug, Args)]
pub struct DemoFlags {
    /// Address and port to serve on [env: PGRELAY_LISTEN]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Use this database instead of an own one [env: DATABASE_URL]
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// Folder for the demo's database and secret [env: PGRELAY_DEMO_DIR]
    #[arg(long, value_name = "FOLDER")]
    pub dir: Option<String>,
}

/// Flags of `migrate`.
#[derive(Debug, Args)]
pub struct MigrateFlags {
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it")]
    pub database: DatabaseFlags,
    /// Also install the booking chat
    #[arg(long)]
    pub chat: bool,
    /// Print the SQL and change nothing
    #[arg(long)]
    pub print_sql: bool,
}

/// Flags of `enable` and `disable`.
#[derive(Debug, Args)]
pub struct TableFlags {
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it")]
    pub database: DatabaseFlags,
    /// Tables, as SQL writes them: schema.table
    #[arg(required = true, value_name = "SCHEMA.TABLE")]
    pub tables: Vec<String>,
}

/// Flags of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorFlags {
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it")]
    pub database: DatabaseFlags,
    /// Also check the booking chat
    #[arg(long)]
    pub chat: bool,
}

/// Flags of `uninstall`.
#[derive(Debug, Args)]
pub struct UninstallFlags {
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it")]
    pub database: DatabaseFlags,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// Flags of `token`.
#[derive(Debug, Args)]
pub struct TokenFlags {
    /// PostgreSQL role the token speaks for
    #[arg(long)]
    pub role: String,
    /// Subject: the user's id
    #[arg(long)]
    pub sub: Option<String>,
    /// How long it is valid: 30s, 5m, 1h, 7d
    #[arg(long, default_value = "1h", value_parser = config::duration)]
    pub exp: Duration,
    /// A further claim; the value is read as JSON where it is JSON, else as text
    #[arg(long = "claim", value_name = "KEY=VALUE", value_parser = claim)]
    pub claims: Vec<(String, serde_json::Value)>,
}

/// Flags of `tail`.
#[derive(Debug, Args)]
pub struct TailFlags {
    /// Channel to listen to; broadcasts on it are printed
    #[arg(required_unless_present = "table")]
    pub topic: Option<String>,
    /// Table to follow, or * for every published one
    #[arg(long, value_name = "SCHEMA.TABLE", conflicts_with = "topic")]
    pub table: Option<String>,
    /// Only rows for which this holds, such as booking_id=eq.42
    #[arg(long, conflicts_with = "topic")]
    pub filter: Option<String>,
    /// Only INSERT, UPDATE or DELETE
    #[arg(long, default_value = "*", conflicts_with = "topic")]
    pub event: String,
    /// Begin after this cursor instead of now
    #[arg(long, value_name = "CURSOR", conflicts_with = "topic")]
    pub since: Option<String>,
    /// Stop after this many events
    #[arg(long, value_name = "EVENTS")]
    pub count: Option<u64>,
    /// The relay [env: PGRELAY_URL]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Token or key; by default one is made from the configured secret [env: PGRELAY_KEY]
    #[arg(long, value_name = "TOKEN")]
    pub key: Option<String>,
}

impl DatabaseFlags {
    /// `values` with these flags over them.
    pub fn over(&self, values: Values) -> Values {
        values
            .with_flag("DATABASE_URL", "--database-url", self.database_url.clone())
            .with_flag(
                "PGRELAY_DIRECT_URL",
                "--direct-url",
                self.direct_url.clone(),
            )
            .with_flag(
                "PGRELAY_PUBLICATION",
                "--publication",
                self.publication.clone(),
            )
    }
}

impl ServeFlags {
    /// `values` with these flags over them.
    pub fn over(&self, values: Values) -> Values {
        let given = |flag: bool, value: &str| flag.then(|| value.to_owned());
        self.database
            .over(values)
            .with_flag("PGRELAY_LISTEN", "--listen", self.listen.clone())
            .with_flag(
                "PGRELAY_AUTO_MIGRATE",
                "--auto-migrate",
                given(self.auto_migrate, "true"),
            )
            .with_flag("PGRELAY_DDL", "--no-ddl", given(self.no_ddl, "false"))
    }
}

impl DemoFlags {
    /// `values` with these flags over them.
    pub fn over(&self, values: Values) -> Values {
        values
            .with_flag("PGRELAY_LISTEN", "--listen", self.listen.clone())
            .with_flag("DATABASE_URL", "--database-url", self.database_url.clone())
            .with_flag("PGRELAY_DEMO_DIR", "--dir", self.dir.clone())
    }
}

impl TailFlags {
    /// `values` with these flags over them.
    pub fn over(&self, values: Values) -> Values {
        values
            .with_flag("PGRELAY_URL", "--url", self.url.clone())
            .with_flag("PGRELAY_KEY", "--key", self.key.clone())
    }
}

fn claim(text: &str) -> Result<(String, serde_json::Value), String> {
    let (key, value) = text.split_once('=').ok_or("expected key=value")?;
    if matches!(key, "" | "role" | "sub" | "exp" | "iat") {
        return Err(format!("{key:?} cannot be given as a further claim"));
    }
    let value = serde_json::from_str(value).unwrap_or_else(|_text| value.into());
    Ok((key.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_documented_command_is_understood() {
        for line in [
            "pgrelay demo",
            "pgrelay demo --listen 127.0.0.1:0",
            "pgrelay serve",
            "pgrelay serve --no-ddl --auto-migrate --listen 0.0.0.0:4000",
            "pgrelay migrate",
            "pgrelay migrate --chat --print-sql",
            "pgrelay enable public.messages public.bookings",
            "pgrelay disable public.messages",
            "pgrelay status",
            "pgrelay doctor",
            "pgrelay doctor --chat",
            "pgrelay uninstall --yes",
            "pgrelay token --role authenticated --sub 7f0c --exp 1h --claim k=v",
            "pgrelay tail messages:7f0c",
            "pgrelay tail --table public.messages --filter booking_id=eq.7f0c --since abc",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for line in [
            "pgrelay",
            "pgrelay serve --port 1",
            "pgrelay enable",
            "pgrelay token",
            "pgrelay token --role anon --exp soon",
            "pgrelay token --role anon --claim role=postgres",
            "pgrelay token --role anon --claim nothing",
            "pgrelay tail",
            "pgrelay tail topic --table public.messages",
            "pgrelay tail topic --filter id=eq.1",
            "pgrelay tail topic --since abc",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn claims_are_json_where_they_can_be() {
        assert_eq!(claim("n=1"), Ok(("n".to_owned(), 1.into())));
        assert_eq!(claim("n=one=1"), Ok(("n".to_owned(), "one=1".into())));
    }

    #[test]
    fn flags_reach_their_settings() {
        let Command::Serve(flags) = parse("pgrelay serve --no-ddl --listen 1.2.3.4:5")
            .unwrap()
            .command
        else {
            unreachable!()
        };
        let values = flags.over(Values::new([].into()));
        assert_eq!(values.get("PGRELAY_LISTEN").unwrap().0, "1.2.3.4:5");
        assert_eq!(values.get("PGRELAY_DDL").unwrap().0, "false");
        assert_eq!(values.get("PGRELAY_AUTO_MIGRATE").unwrap().0, "false");
    }
}
