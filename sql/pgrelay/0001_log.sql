-- The durable change log and its ledger. See sql/README.md for what they promise.

create schema pgrelay;

-- Small facts: schema version, cursor key, system identifier.
create table pgrelay.meta (
  key   text primary key,
  value text not null
);

-- One value per logged row; CACHE 1, because order of values must be order of calls.
create sequence pgrelay.log_seq as bigint cache 1;

-- last_value names the segment that writers use now. A sequence, because a trigger must see the
-- newest value whatever its snapshot, and without a lock that maintenance could hold.
create sequence pgrelay.log_segment as bigint minvalue 0 start with 0 cache 1;

-- Moved (outside of any transaction) when a change could not be logged.
create sequence pgrelay.log_holes as bigint minvalue 0 start with 0 cache 1;

-- last_value is 1 while the log is over its size cap and nobody recycles it: triggers then move
-- log_holes instead of logging.
create sequence pgrelay.log_full as bigint minvalue 0 start with 0 cache 1;

create table pgrelay.log (
  segment  bigint   not null,
  seq      bigint   not null default nextval('pgrelay.log_seq'),
  xid      xid8     not null default pg_current_xact_id(),
  relid    oid      not null,
  op       "char"   not null,                 -- I, U, D; H: changes of relid (0: of any table) may be missing before this
  depth    smallint not null,                 -- pg_trigger_depth(): only nested rows can be logged before their cause
  oversize boolean  not null default false,   -- images hold the key columns only
  new_row  text,                              -- row_to_json of the row, rendered with pinned settings
  old_row  text,
  new_ctid tid,
  old_ctid tid,
  at       timestamptz not null default clock_timestamp()
) partition by list (segment);

create table pgrelay.epoch (
  id                int primary key,
  started_at        timestamptz not null default clock_timestamp(),
  system_identifier text not null,
  reason            text not null
);

create table pgrelay.ledger (
  segment bigint      not null,
  epoch   int         not null,
  id      bigint      not null,
  tag     uuid        not null default gen_random_uuid(),
  snap    pg_snapshot not null,
  n       bigint      not null,
  nested  bigint      not null,               -- rows with depth > 1
  min_seq bigint,
  max_seq bigint,
  at      timestamptz not null default clock_timestamp()
) partition by list (segment);
