//! Where clients stood that named a session.

use tokio_postgres::types::Type;

use crate::query::Query;

/// All places that have changed, in one statement. A place without a cursor is forgotten.
pub(crate) const WRITE: Query = Query::new(
    "with place as (
       select * from unnest($1, $2, $3, $4) as place (session, topic, subject, cursor)
     ), gone as (
       delete from pgrelay.session kept using place
        where kept.session = place.session and kept.topic = place.topic and place.cursor is null
     )
     insert into pgrelay.session (session, topic, subject, cursor)
     select session, topic, subject, cursor from place where cursor is not null
     on conflict (session, topic) do update
       set subject = excluded.subject, cursor = excluded.cursor, seen_at = clock_timestamp()",
    &[
        Type::UUID_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
    ],
);

pub(crate) const READ: Query = Query::new(
    "select topic, subject, cursor from pgrelay.session
      where session = $1 and seen_at > clock_timestamp() - make_interval(secs => $2)",
    &[Type::UUID, Type::FLOAT8],
);

pub(crate) const CLEAR: Query = Query::new(
    "delete from pgrelay.session where seen_at <= clock_timestamp() - make_interval(secs => $1)",
    &[Type::FLOAT8],
);
