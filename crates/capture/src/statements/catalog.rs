//! Tables, columns, privileges and publications.

use tokio_postgres::types::Type;

use crate::query::Query;

/// The version of everything a [`Relation`] is made of: catalog rows change their `xmin` with every
/// change. Called with the tables of one batch.
pub(crate) const VERSIONS: Query = Query::new(
    "select c.oid,
            concat_ws(' ', c.xmin, n.xmin,
              (select string_agg(a.xmin::text, ',' order by a.attnum)
                 from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attnum > 0),
              (select string_agg(i.xmin::text, ',' order by i.indexrelid)
                 from pg_catalog.pg_index i where i.indrelid = c.oid))
       from pg_catalog.pg_class c
       join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      where c.oid = any ($1)",
    &[Type::OID_ARRAY],
);

/// Virtual generated columns are left out: the log does not have them.
pub(crate) const DEFINITIONS: Query = Query::new(
    "select c.oid, n.nspname, c.relname, c.relreplident = 'f',
            a.attname, t.typname, a.atttypid,
            coalesce(a.attnum = any (pk.columns), false),
            case c.relreplident
              when 'f' then true
              when 'i' then coalesce(a.attnum = any (ri.columns), false)
              else coalesce(pk.indimmediate and a.attnum = any (pk.columns), false)
            end
       from pg_catalog.pg_class c
       join pg_catalog.pg_namespace n on n.oid = c.relnamespace
       left join lateral (select (i.indkey::int2[])[0:i.indnkeyatts - 1] as columns, i.indimmediate
                            from pg_catalog.pg_index i where i.indrelid = c.oid and i.indisprimary) pk on true
       left join lateral (select (i.indkey::int2[])[0:i.indnkeyatts - 1] as columns
                            from pg_catalog.pg_index i where i.indrelid = c.oid and i.indisreplident) ri on true
       left join pg_catalog.pg_attribute a
         on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated <> 'v'
       left join pg_catalog.pg_type t on t.oid = a.atttypid
      where c.oid = any ($1)
      order by c.oid, a.attnum",
    &[Type::OID_ARRAY],
);

/// Captured relations, and the relation under whose name each is delivered (a partitioned root, where
/// the publication says so).
pub(crate) const PUBLISHED: Query =
    Query::new("select relid, name_relid from pgrelay.published()", &[]);

pub(crate) const COLUMNS: Query = Query::new(
    "with recursive base as (
       select a.attnum, t.oid, t.typtype, t.typbasetype
         from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid
        where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped
       union all
       select b.attnum, t.oid, t.typtype, t.typbasetype
         from base b join pg_catalog.pg_type t on t.oid = b.typbasetype where b.typtype = 'd'
     )
     select a.attname, t.oid, t.typarray, pg_catalog.format_type(t.oid, null), t.typtype = 'd',
            b.oid, b.typtype = 'e', b.typcategory, coalesce(e.typdelim, t.typdelim), pg_catalog.quote_ident(n.nspname),
            (select pg_catalog.format('%I.%I', cn.nspname, c.collname)
               from pg_catalog.pg_collation c join pg_catalog.pg_namespace cn on cn.oid = c.collnamespace
              where c.oid = a.attcollation and not c.collisdeterministic),
            exists (select from pg_catalog.pg_cast c
                     where c.castsource = t.oid and c.casttarget = 'pg_catalog.json'::pg_catalog.regtype
                       and t.oid >= 16384),
            k.reltype
       from pg_catalog.pg_attribute a
       join pg_catalog.pg_class k on k.oid = a.attrelid
       join pg_catalog.pg_type t on t.oid = a.atttypid
       join pg_catalog.pg_namespace n on n.oid = t.typnamespace
       join base on base.attnum = a.attnum and base.typtype <> 'd'
       join pg_catalog.pg_type b on b.oid = base.oid
       left join pg_catalog.pg_type e on e.oid = b.typelem and b.typcategory = 'A'
      where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped and a.attgenerated <> 'v'",
    &[Type::OID],
);

/// A table by name as one role sees it. `role` is null where there is none of that name.
pub(crate) const TABLE: Query = Query::new(
    "select r.oid is not null, c.oid, pg_catalog.format('%I.%I', $1, $2),
            exists (select from pgrelay.published() p where p.name_relid = c.oid),
            coalesce(pg_catalog.has_schema_privilege(r.oid, n.oid, 'usage'), false),
            pgrelay.may_become(r.oid), session_user::text,
            k.columns, k.row_security, k.policies
       from (select) one
       left join pg_catalog.pg_roles r on r.rolname = $3
       left join (pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace)
         on n.nspname = $1 and c.relname = $2
       left join lateral pgrelay.rights(c.oid, $3) k on true",
    &[Type::TEXT, Type::TEXT, Type::TEXT],
);

/// Published tables that match a pattern (null: any name), as one role sees them: how many there are,
/// one of which it may select nothing, and one that the relay cannot look at for it.
pub(crate) const MATCHING: Query = Query::new(
    "select r.oid is not null, count(c.oid),
            min(pg_catalog.format('%I.%I', n.nspname, c.relname)) filter (where r.oid is not null and k.columns = '{}'),
            min(pg_catalog.format('%I.%I', n.nspname, c.relname)) filter (where k.policies and not pgrelay.may_become(r.oid)),
            session_user::text
       from (select) one
       left join pg_catalog.pg_roles r on r.rolname = $3
       left join (pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                  join (select distinct name_relid from pgrelay.published()) p on p.name_relid = c.oid)
         on ($1 is null or n.nspname = $1) and ($2 is null or c.relname = $2)
       left join lateral pgrelay.rights(c.oid, $3) k on true
      group by r.oid",
    &[Type::TEXT, Type::TEXT, Type::TEXT],
);

/// What viewers may see of rows: viewer, item, rights in three columns, places and rows, a failure.
pub(crate) const LOOK: Query = Query::new(
    "select viewer, item, columns, row_security, policies, visible, images, failure
       from pgrelay.look($1::text::json, $2)",
    &[Type::TEXT, Type::INT8],
);

/// Everything that decides which subscriptions can be live, as one value.
pub(crate) const NEWS: Query = Query::new(
    "select md5(concat_ws('|',
       (select string_agg(concat_ws(',', p.relid, p.name_relid, c.xmin,
                 (select string_agg(a.attacl::text, '') from pg_catalog.pg_attribute a
                   where a.attrelid = c.oid and a.attacl is not null)), ';' order by p.relid, p.name_relid)
          from pgrelay.published() p join pg_catalog.pg_class c on c.oid = p.name_relid),
       (select string_agg(concat_ws(',', n.oid, n.nspacl), ';' order by n.oid) from pg_catalog.pg_namespace n),
       (select string_agg(concat_ws(',', m.roleid, m.member, m.xmin), ';' order by m.roleid, m.member, m.grantor)
          from pg_catalog.pg_auth_members m),
       (select string_agg(concat_ws(',', r.oid, r.rolname, r.rolsuper, r.rolbypassrls), ';' order by r.oid)
          from pg_catalog.pg_roles r)))",
    &[],
);

pub(crate) const SYNC: Query = Query::new(
    "select relid, name, action, coalesce(statement, ''), coalesce(error, '') from pgrelay.sync($1, $2)",
    &[Type::OID, Type::BOOL],
);
