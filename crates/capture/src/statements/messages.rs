//! Stored messages, and who may read and write them.

use tokio_postgres::types::Type;

use crate::query::Query;

/// The newest first. Those above `$4` bytes were never broadcast either.
pub(crate) const REPLAY: Query = Query::new(
    "select id, topic, event, payload::text, binary_payload,
            trunc(extract(epoch from inserted_at) * 1000000)::bigint
       from realtime.messages
      where topic = $1 and private is true and extension = 'broadcast' and event is not null
        and coalesce(octet_length(binary_payload), octet_length(payload::text)) <= $4
        and inserted_at >= timezone('utc', to_timestamp($2 / 1000.0))
        and inserted_at < timezone('utc', clock_timestamp()) + interval '1 minute'
      order by inserted_at desc
      limit $3",
    &[Type::TEXT, Type::INT8, Type::INT8, Type::INT8],
);

pub(crate) const RIGHTS: Query = Query::new(
    "select broadcast_read, presence_read, broadcast_write, presence_write, problem
       from pgrelay.channel_rights($1, $2, $3, $4)",
    &[Type::TEXT, Type::TEXT, Type::TEXT, Type::TEXT],
);

pub(crate) const KEEP: Query = Query::new(
    "select action, detail, error from pgrelay.keep_messages()",
    &[],
);

/// How the table of messages stands; no row where there is none.
pub(crate) const STATE: Query = Query::new(
    "select m.relowner::regrole::text, pg_has_role(m.relowner, 'usage'),
            pgrelay.message_trigger_statement(),
            (select string_agg(c.column_name, ', ')
               from (values ('id'), ('topic'), ('extension'), ('event'), ('private'), ('payload'), ('binary_payload'),
                            ('inserted_at')) c (column_name)
              where not exists (select from pg_catalog.pg_attribute a
                                 where a.attrelid = m.oid and a.attname = c.column_name and not a.attisdropped)),
            m.relkind <> 'p'
              or exists (select from pg_catalog.pg_inherits i
                           join pg_catalog.pg_class c on c.oid = i.inhrelid
                          where i.inhparent = m.oid
                            and (pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT'
                                 or c.relname = to_char(timezone('utc', clock_timestamp()) + interval '1 day', '\"messages_\"YYYY_MM_DD'))),
            row_security_active(m.oid),
            m.relrowsecurity,
            has_table_privilege(m.oid, 'select') and has_table_privilege(m.oid, 'insert')
       from pgrelay.messages_table() m
      where m.oid is not null",
    &[],
);
