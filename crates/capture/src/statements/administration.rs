//! Migrations, housekeeping, and what operators ask for.

use tokio_postgres::types::Type;

use crate::query::Query;

/// Two relays that start together must not migrate together.
pub(crate) const LOCK: &str = "select pg_advisory_lock(8101814504)";

pub(crate) const BOOKKEEPING: &str = "
    create table if not exists pgrelay.schema_migrations (
      name       text primary key,
      checksum   text not null,
      applied_at timestamptz not null default clock_timestamp()
    )";

pub(crate) const IS_INSTALLED: Query = Query::new(
    "select to_regclass('pgrelay.schema_migrations') is not null, to_regnamespace('pgrelay') is not null",
    &[],
);

pub(crate) const APPLIED: Query =
    Query::new("select name, checksum from pgrelay.schema_migrations", &[]);

pub(crate) const CHECKSUM: Query = Query::new(
    "select encode(sha256(convert_to($1, 'UTF8')), 'hex')",
    &[Type::TEXT],
);

pub(crate) const RECORD: Query = Query::new(
    "insert into pgrelay.schema_migrations (name, checksum) values ($1, encode(sha256(convert_to($2, 'UTF8')), 'hex'))",
    &[Type::TEXT, Type::TEXT],
);

/// The name is needed before the file that creates the publication.
pub(crate) const SET_PUBLICATION: Query = Query::new(
    "update pgrelay.meta set value = $1 where key = 'publication' and value <> $1",
    &[Type::TEXT],
);

pub(crate) const CREATE_PUBLICATION: Query = Query::new(
    "select format('create publication %I with (publish = ''insert'')', $1)
      where not exists (select from pg_catalog.pg_publication where pubname = $1)",
    &[Type::TEXT],
);

pub(crate) const CURSOR_KEY: Query = Query::new(
    "select value from pgrelay.meta where key = 'cursor_key'",
    &[],
);

pub(crate) const SETTLE_HOLES: Query = Query::new("select pgrelay.settle_holes()", &[]);

pub(crate) const MAINTAIN: Query = Query::new(
    "select action, detail from pgrelay.maintain(make_interval(secs => $1), $2)",
    &[Type::FLOAT8, Type::INT8],
);

pub(crate) const SIZES: Query = Query::new(
    "select coalesce((select sum(bytes) from pgrelay.segments()), 0)::bigint,
            coalesce((select max(value::bigint) from pgrelay.meta where key = 'floor'), 0),
            coalesce((select max(id) from pgrelay.ledger), 0),
            pg_sequence_last_value('pgrelay.log_segment') < 0,
            pg_sequence_last_value('pgrelay.log_holes')
              - coalesce((select max(value::bigint) from pgrelay.meta where key = 'holes_settled'), 0),
            pg_notification_queue_usage(),
            (select count(*) from pg_catalog.pg_locks l join pg_catalog.pg_class c on c.oid = l.relation
              where not l.granted and c.relnamespace = 'pgrelay'::regnamespace
                and l.database = (select oid from pg_catalog.pg_database where datname = current_database()))",
    &[],
);

pub(crate) const ENABLE: Query =
    Query::new("select pgrelay.enable($1::text::regclass)", &[Type::TEXT]);

pub(crate) const DISABLE: Query =
    Query::new("select pgrelay.disable($1::text::regclass)", &[Type::TEXT]);

/// Triggers first, each with a lock of its own; those on tables of others go with the schema.
pub(crate) const UNINSTALL: Query = Query::new(
    "select format('drop trigger %I on %s', t.tgname, t.tgrelid::regclass)
       from pg_catalog.pg_trigger t join pg_catalog.pg_class c on c.oid = t.tgrelid
      where t.tgfoid in ('pgrelay.capture()'::regprocedure, 'pgrelay.capture_truncate()'::regprocedure,
                         'pgrelay.capture_message()'::regprocedure)
        and t.tgparentid = 0 and pg_has_role(c.relowner, 'usage')
     union all
     select 'drop schema pgrelay cascade'",
    &[],
);

pub(crate) const TABLES: Query = Query::new(
    "select p.relid, p.relid::regclass::text, c.relrowsecurity
       from pgrelay.published() p join pg_catalog.pg_class c on c.oid = p.relid order by 2",
    &[],
);

/// Roles that tokens name and that the relay cannot look at rows for.
pub(crate) const UNREACHABLE: Query = Query::new(
    "select session_user::text, string_agg(quote_ident(r.rolname), ', ' order by r.rolname)
       from pg_catalog.pg_roles r
      where r.rolname in ('anon', 'authenticated') and not pgrelay.may_become(r.oid)",
    &[],
);

pub(crate) const NEWEST: Query = Query::new(
    "select epoch, id, tag, n, extract(epoch from clock_timestamp() - at)::float8
       from pgrelay.ledger order by id desc limit 1",
    &[],
);

pub(crate) const LOG: Query = Query::new(
    "select coalesce(sum(s.bytes), 0)::bigint, count(*),
            pg_sequence_last_value('pgrelay.log_segment') < 0,
            coalesce((select max(value::bigint) from pgrelay.meta where key = 'floor'), 0),
            pg_sequence_last_value('pgrelay.log_holes')
              - coalesce((select max(value::bigint) from pgrelay.meta where key = 'holes_settled'), 0)
       from pgrelay.segments() s",
    &[],
);

/// Changes that no batch has, and for how long the oldest of them has waited; and who waits for locks.
pub(crate) const BACKLOG: Query = Query::new(
    "with last as materialized (select snap from pgrelay.ledger order by id desc limit 1)
     select (select count(*) from pgrelay.log g, last l
              where g.xid >= pg_snapshot_xmax(l.snap) or g.xid = any (array(select pg_snapshot_xip(l.snap)))),
            (select extract(epoch from clock_timestamp() - min(g.at))::float8 from pgrelay.log g, last l
              where g.xid >= pg_snapshot_xmax(l.snap) or g.xid = any (array(select pg_snapshot_xip(l.snap)))),
            (select string_agg(format('%s of backend %s', c.relname, l.pid), ', ' order by c.relname, l.pid)
               from pg_catalog.pg_locks l join pg_catalog.pg_class c on c.oid = l.relation
              where not l.granted and c.relnamespace = 'pgrelay'::regnamespace
                and l.database = (select oid from pg_catalog.pg_database where datname = current_database()))",
    &[],
);

/// Who holds an advisory lock, and how.
pub(crate) const HOLDERS: Query = Query::new(
    "select l.pid, coalesce(a.application_name, ''), l.mode = 'ExclusiveLock'
       from pg_catalog.pg_locks l left join pg_catalog.pg_stat_activity a on a.pid = l.pid
      where l.locktype = 'advisory' and l.granted and l.objsubid = 1
        and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
        and l.classid::bigint = $1 >> 32 and l.objid::bigint = $1 & 4294967295
      order by l.pid",
    &[Type::INT8],
);

/// A statement that waits for a lock for longer is given up.
pub(crate) const LOCK_TIMEOUT: &str = "set lock_timeout = '5s'";

pub(crate) const FACTS: Query = Query::new(
    "select current_setting('server_version'), current_database()::text,
            exists (select from pg_catalog.pg_roles where rolname = 'pgrelay_capture'),
            exists (select from pg_catalog.pg_event_trigger where evtname = 'pgrelay_ddl' and evtenabled <> 'D'),
            pg_notification_queue_usage(),
            (select count(*) from pg_catalog.pg_prepared_xacts where prepared < now() - interval '1 hour'),
            current_setting('max_locks_per_transaction')::int",
    &[],
);

pub(crate) const PUBLICATION: Query = Query::new(
    "select b.pubupdate or b.pubdelete,
            (select string_agg(c.oid::regclass::text, ', ' order by c.oid::regclass::text)
               from pg_catalog.pg_class c
              where c.oid in (select p.name_relid from pgrelay.published() p)
                and (c.relreplident = 'n' or c.relreplident = 'd' and not exists (
                      select from pg_catalog.pg_index i where i.indrelid = c.oid and i.indisprimary)))
       from pg_catalog.pg_publication b where b.pubname = pgrelay.publication()",
    &[],
);

pub(crate) const SAME_DATABASE: Query = Query::new(
    "select current_database()::text || ' ' || (select system_identifier from pg_control_system())",
    &[],
);

pub(crate) const RING: &str = "select pg_notify('pgrelay', '')";
