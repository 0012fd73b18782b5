//! A database as a project of Supabase has it, before pgrelay comes.

use crate::{Role, TestDatabase};

/// Roles belong to the server, so they are made once and stay.
const ROLES: &str = "
    begin;
    select pg_advisory_xact_lock(5494822);
    do $$
    declare
        r text;
    begin
        foreach r in array array[
            'anon nologin', 'authenticated nologin', 'service_role nologin bypassrls', 'supabase_admin nologin superuser',
            'supabase_auth_admin nologin noinherit', 'supabase_realtime_admin nologin noinherit'
        ] loop
            if not exists (select from pg_roles where rolname = split_part(r, ' ', 1)) then
                execute 'create role ' || r;
            end if;
        end loop;
        grant anon, authenticated, service_role to supabase_realtime_admin;
    end $$;
    commit";

/// Everything in the schemas that are not ours, as it is: owners, rights, columns, bodies, policies. Our one trigger is left out.
const INVENTORY: &str = "
    select string_agg(line, E'\\n' order by line) from (
        select concat_ws(' ', 'relation', c.oid::regclass, c.relkind, c.relowner::regrole, c.relacl, c.relrowsecurity) as line
          from pg_class c where c.relnamespace::regnamespace::text in ('realtime', 'auth')
        union all
        select concat_ws(' ', 'column', a.attrelid::regclass, a.attname, a.atttypid::regtype, a.attnotnull,
                         pg_get_expr(d.adbin, d.adrelid))
          from pg_attribute a join pg_class c on c.oid = a.attrelid
          left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
         where c.relnamespace::regnamespace::text in ('realtime', 'auth') and a.attnum > 0
        union all
        select concat_ws(' ', 'function', p.oid::regprocedure, p.proowner::regrole, p.proacl, md5(p.prosrc))
          from pg_proc p where p.pronamespace::regnamespace::text in ('realtime', 'auth')
        union all
        select concat_ws(' ', 'schema', n.nspname, n.nspowner::regrole, n.nspacl)
          from pg_namespace n where n.nspname in ('realtime', 'auth')
        union all
        select concat_ws(' ', 'policy', p.polrelid::regclass, p.polname) from pg_policy p
        union all
        select concat_ws(' ', 'trigger', t.tgrelid::regclass, t.tgname) from pg_trigger t join pg_class c on c.oid = t.tgrelid
         where c.relnamespace::regnamespace::text in ('realtime', 'auth') and not t.tgisinternal and t.tgname <> '!pgrelay_message'
        union all
        select concat_ws(' ', 'publication', b.pubname, b.pubowner::regrole, b.pubinsert, b.pubupdate, b.pubdelete,
                         b.pubtruncate, (select string_agg(r.prrelid::regclass::text, ',') from pg_publication_rel r where r.prpubid = b.oid))
          from pg_publication b
        union all
        select concat_ws(' ', 'role', r.rolname, r.rolsuper, r.rolbypassrls, r.rolinherit) from pg_roles r
         where r.rolname in ('anon', 'authenticated', 'service_role', 'supabase_admin', 'supabase_realtime_admin')
    ) l";

/// The database of a project. Its owner is what Supabase calls `postgres`: no superuser, past row security, a user of the schemas
/// that others own.
#[derive(Debug)]
pub struct SupabaseDatabase {
    /// The database itself.
    pub database: TestDatabase,
}

impl SupabaseDatabase {
    /// A fresh one, as the role that this run of the tests is about.
    pub async fn create() -> Self {
        let database = TestDatabase::create().await;
        let superuser = database.connect_superuser().await;
        superuser.run(ROLES).await;
        superuser.run(include_str!("supabase.sql")).await;
        if database.role() == Role::Owner {
            let owner = superuser
                .value("select datdba::regrole from pg_database where datname = current_database()")
                .await;
            superuser
                .run(&format!(
                    "alter role {owner} bypassrls;
                     grant usage on schema realtime, auth to {owner} with grant option;
                     grant select, insert, update, truncate, trigger on realtime.messages to {owner}"
                ))
                .await;
        }
        Self { database }
    }

    /// What is there that is not ours, for comparing.
    pub async fn inventory(&self) -> String {
        self.database
            .connect_superuser()
            .await
            .value(INVENTORY)
            .await
    }
}
