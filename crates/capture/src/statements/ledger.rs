//! The log and its ledger: STEP, READ, locks, epochs.

use tokio_postgres::types::Type;

use crate::query::Query;

/// The newest batch.
pub(crate) const LAST: Query = Query::new(
    "select epoch, id, tag, n from pgrelay.ledger order by id desc limit 1",
    &[],
);

/// One batch.
pub(crate) const BY_ID: Query = Query::new(
    "select epoch, id, tag, n from pgrelay.ledger where id = $1",
    &[Type::INT8],
);

/// The batches after one, oldest first.
pub(crate) const AFTER: Query = Query::new(
    "select epoch, id, tag, n from pgrelay.ledger where id > $1 order by id limit $2",
    &[Type::INT8, Type::INT8],
);

/// The last batch whose rows may be gone.
pub(crate) const FLOOR: Query = Query::new(
    "select coalesce(max(value::bigint), 0) from pgrelay.meta where key = 'floor'",
    &[],
);

/// A page. Lengths of images are known without reading them, so a page of large rows costs no more
/// than one of small ones.
pub(crate) const READ: Query = Query::new(
    "select seq, xid, relid, op, oversize, new_row, old_row, new_ctid, old_ctid, at
       from (select r.*, sum(coalesce(octet_length(r.new_row), 0) + coalesce(octet_length(r.old_row), 0))
                           over (order by r.seq rows between unbounded preceding and 1 preceding) as before
               from pgrelay.read($1, $2, $3) r) page
      where before is null or before < $4
      order by seq",
    &[Type::INT8, Type::INT8, Type::INT4, Type::INT8],
);

/// Several small batches, `$1` < id <= `$2`, at once.
pub(crate) const READ_RANGE: Query = Query::new(
    "select batch, seq, xid, relid, op, oversize, new_row, old_row, new_ctid, old_ctid, at
       from (select l.id as batch, r.*,
                    sum(coalesce(octet_length(r.new_row), 0) + coalesce(octet_length(r.old_row), 0))
                      over (order by l.id, r.seq rows between unbounded preceding and 1 preceding) as before
               from pgrelay.ledger l cross join lateral pgrelay.read(l.id, 0, $3) r
              where l.id > $1 and l.id <= $2) page
      where before is null or before < $4
      order by batch, seq",
    &[Type::INT8, Type::INT8, Type::INT4, Type::INT8],
);

/// Totals of a batch in the first row, then the transactions with several changes.
pub(crate) const SUMMARY: Query = Query::new(
    "with s as materialized (select xid, n, followers, last_at from pgrelay.batch_summary($1))
     select sum(n)::bigint, sum(followers)::bigint, null::xid8, null::timestamptz from s
     union all
     select null, null, xid, last_at from s where n > 1",
    &[Type::INT8],
);

/// Links of the rows whose versions were not logged in the order they were made.
pub(crate) const INVERSIONS: Query = Query::new(
    "select seq, after_seq from pgrelay.inversions($1)",
    &[Type::INT8],
);

/// Rows of a batch by seq.
pub(crate) const PICK: Query = Query::new(
    "select r.seq, r.xid, r.relid, r.op, r.oversize, r.new_row, r.old_row, r.new_ctid, r.old_ctid, r.at
       from unnest($2::bigint[]) s (seq) cross join lateral pgrelay.read($1, s.seq - 1, 1) r
      where r.seq = s.seq",
    &[Type::INT8, Type::INT8_ARRAY],
);

pub(crate) const STEP: Query = Query::new(
    "select epoch, id, tag, n from pgrelay.step($1)",
    &[Type::BOOL],
);

pub(crate) const TRY_LOCK: Query = Query::new("select pg_try_advisory_lock($1)", &[Type::INT8]);

pub(crate) const UNLOCK: Query = Query::new("select pg_advisory_unlock($1)", &[Type::INT8]);

pub(crate) const TRY_LOCK_SHARED: Query =
    Query::new("select pg_try_advisory_lock_shared($1)", &[Type::INT8]);

pub(crate) const UNLOCK_SHARED: Query =
    Query::new("select pg_advisory_unlock_shared($1)", &[Type::INT8]);

/// Taken and given back at once: it is free exactly when no other relay follows the ledger.
pub(crate) const IS_FREE: Query = Query::new(
    "select case when pg_try_advisory_lock($1) then pg_advisory_unlock($1) else false end",
    &[Type::INT8],
);

pub(crate) const KEYS: Query = Query::new(
    "select pgrelay.doorbell_key(), pgrelay.lease_key(), pgrelay.nodes_key()",
    &[],
);

pub(crate) const STATE: Query = Query::new(
    "select l.epoch, l.id, l.tag, l.n,
            coalesce(pg_snapshot_xmax(l.snap) > pg_snapshot_xmax(pg_current_snapshot()), false),
            (select value from pgrelay.meta where key = 'system_identifier'),
            (select system_identifier::text from pg_control_system())
       from (select) one
       left join lateral (select * from pgrelay.ledger order by id desc limit 1) l on true",
    &[],
);

/// The cluster is noted in the same statement, so that neither is done without the other.
pub(crate) const BEGIN_EPOCH: Query = Query::new(
    "with cluster as (
       insert into pgrelay.meta (key, value) select 'system_identifier', system_identifier::text from pg_control_system()
       on conflict (key) do update set value = excluded.value
     )
     select epoch, id, tag, n from pgrelay.begin_epoch($1)",
    &[Type::TEXT],
);
