//! A database for one test, gone when the test ends.

use tokio::runtime;
use uuid::Uuid;

use crate::{DatabaseUrl, Session};

/// As whom a test connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// May do everything.
    Superuser,
    /// Owns its database and nothing else: no superuser, no CREATEROLE. The API roles were made and granted to it beforehand,
    /// as someone with the right has to do where pgrelay gets no more than this.
    Owner,
}

/// A fresh database on the server of `PGRELAY_TEST_DATABASE_URL` (or another), dropped with this value.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    role: Role,
    url: DatabaseUrl,
    superuser_url: DatabaseUrl,
}

/// What an owner cannot make by itself. The lock is kept until the statements, which are one transaction, are committed.
const API_ROLES: &str = "
    select pg_advisory_xact_lock(5494821);
    do $$
    declare
        api_role text;
    begin
        foreach api_role in array array['anon', 'authenticated', 'service_role'] loop
            if not exists (select from pg_roles where rolname = api_role) then
                execute format('create role %I nologin', api_role);
            end if;
        end loop;
        alter role service_role bypassrls;
    end $$";

impl TestDatabase {
    /// A database for the role that this run of the tests is about: `PGRELAY_TEST_ROLE`, `superuser` (the default) or `owner`.
    pub async fn create() -> Self {
        let role = match environment("PGRELAY_TEST_ROLE").as_deref() {
            None | Some("superuser") => Role::Superuser,
            Some("owner") => Role::Owner,
            Some(other) => panic!("PGRELAY_TEST_ROLE is {other:?}, not superuser or owner"),
        };
        Self::create_as(role).await
    }

    /// A database for a role of the test's own choice.
    pub async fn create_as(role: Role) -> Self {
        Self::create_on(&server_url(), role).await
    }

    /// A database on a server of the test's own; `server` is a superuser's URL.
    pub async fn create_on(server: &DatabaseUrl, role: Role) -> Self {
        let name = format!("pgrelay_test_{}", Uuid::new_v4().simple());
        let session = Session::connect(server).await;
        let superuser_url = server.with_database(&name);
        let url = match role {
            Role::Superuser => {
                session.run(&format!("create database {name}")).await;
                superuser_url.clone()
            }
            Role::Owner => {
                session.run(API_ROLES).await;
                session
                    .run(&format!(
                        "create role {name} login password '{name}';
                         grant anon, authenticated, service_role to {name}"
                    ))
                    .await;
                session
                    .run(&format!("create database {name} owner {name}"))
                    .await;
                superuser_url.with_user(&format!("{name}:{name}"))
            }
        };
        Self {
            name,
            role,
            url,
            superuser_url,
        }
    }

    /// As whom [`Self::url`] connects.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Where pgrelay and the test's writers connect to.
    pub fn url(&self) -> &DatabaseUrl {
        &self.url
    }

    /// The same database, as a superuser.
    pub fn superuser_url(&self) -> &DatabaseUrl {
        &self.superuser_url
    }

    /// A connection as [`Self::role`].
    pub async fn connect(&self) -> Session {
        Session::connect(&self.url).await
    }

    /// A connection as a superuser.
    pub async fn connect_superuser(&self) -> Session {
        Session::connect(&self.superuser_url).await
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let server = self.superuser_url.with_database("postgres");
        let database = format!("drop database if exists {} with (force)", self.name);
        let role = format!("drop role if exists {}", self.name);
        let drop_both = move || {
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let session = Session::connect(&server).await;
                session.run(&database).await;
                session.run(&role).await;
            });
        };
        // A server that the test itself has stopped takes its databases with it.
        let outcome = std::thread::spawn(drop_both).join();
        if outcome.is_err() {
            eprintln!("could not drop database {}", self.name);
        }
    }
}

/// The superuser's URL of the server that all tests share.
pub(crate) fn server_url() -> DatabaseUrl {
    let Some(url) = environment("PGRELAY_TEST_DATABASE_URL") else {
        panic!(
            "this test needs PostgreSQL. Start one and say where it is:\n\
             export PGRELAY_TEST_DATABASE_URL=$(scripts/postgres start 15 /tmp/pgrelay-pg)\n\
             and afterwards: scripts/postgres stop /tmp/pgrelay-pg"
        );
    };
    DatabaseUrl::parse(&url)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test's environment, not the product's"
)]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
