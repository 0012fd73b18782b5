-- The durable change log and its ledger. sql/README.md says what they promise.
--
-- A statement that needs more rights than the migrating role has is announced as
-- NOTICE 'pgrelay-needs: <sql>' instead of failing: the log works without it.

create schema pgrelay;

-- Small facts that outlive a relay: cursor key, publication, how far holes are settled.
create table pgrelay.meta (
  key   text primary key,
  value text not null
);

insert into pgrelay.meta (key, value) values
  ('publication', 'supabase_realtime'),
  ('cursor_key', replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '')),
  ('holes_settled', '0'),
  ('floor', '0');

-- One value per logged row. CACHE 1, because the order of values must be the order of calls.
create sequence pgrelay.log_seq as bigint cache 1;

-- Names the segment that writers use now; -1 says that nobody recycles the log and it is full, so
-- that writers count holes instead of logging. A sequence, because a trigger must see the newest
-- value whatever its snapshot, without a lock that maintenance could hold.
create sequence pgrelay.log_segment as bigint minvalue -1 cache 1;
select setval('pgrelay.log_segment', 0);

-- The size in bytes at which a segment counts as abandoned. Set by the relay.
create sequence pgrelay.log_segment_bytes_max as bigint cache 1;
select setval('pgrelay.log_segment_bytes_max', 4294967296);

-- Moved, outside of any transaction, when a change could not be logged.
create sequence pgrelay.log_holes as bigint minvalue 0 cache 1;
select setval('pgrelay.log_holes', 0);

create table pgrelay.log (
  segment  bigint  not null,
  seq      bigint  not null default nextval('pgrelay.log_seq'),
  xid      xid8    not null default pg_current_xact_id(),
  relid    oid     not null,
  op       "char"  not null,                  -- I, U, D; H: changes of relid (0: of any table) may be missing before this
  oversize boolean not null default false,    -- the images hold the key columns only
  new_row  text,                              -- row_to_json of the row, rendered with pinned settings
  old_row  text,
  new_ctid tid,                               -- the two link the versions of a row inside one transaction
  old_ctid tid,
  at       timestamptz not null default clock_timestamp()
) partition by list (segment);

-- One image is read once or twice and then thrown away: compressing it costs the writer more.
alter table pgrelay.log alter column new_row set storage external;
alter table pgrelay.log alter column old_row set storage external;

create index log_xid on pgrelay.log (xid);    -- what no STEP has seen yet
create index log_seq_order on pgrelay.log (seq);  -- pages of a batch, in order

-- Never analysed, never vacuumed: a segment lives until its TRUNCATE.
create table pgrelay.log_0 partition of pgrelay.log for values in (0) with (autovacuum_enabled = off);
create table pgrelay.log_1 partition of pgrelay.log for values in (1) with (autovacuum_enabled = off);
create table pgrelay.log_2 partition of pgrelay.log for values in (2) with (autovacuum_enabled = off);
create table pgrelay.log_3 partition of pgrelay.log for values in (3) with (autovacuum_enabled = off);
-- Should a segment be missing, its rows land here instead of failing their writer.
create table pgrelay.log_default partition of pgrelay.log default with (autovacuum_enabled = off);

create table pgrelay.epoch (
  id         int primary key,
  started_at timestamptz not null default clock_timestamp(),
  reason     text not null
);

-- One row per batch: the rows visible in its snapshot and not in that of the batch before.
-- Two sequencers collide on the primary key; nothing else keeps them apart.
create table pgrelay.ledger (
  epoch   int         not null,
  id      bigint      not null primary key,
  tag     uuid        not null default gen_random_uuid(),
  snap    pg_snapshot not null,
  n       bigint      not null,
  min_seq bigint,
  max_seq bigint,
  at      timestamptz not null default clock_timestamp()
) partition by range (id);

-- Ranges of 2^20 batches; maintenance adds the next one early and drops the ones below the floor.
create table pgrelay.ledger_0 partition of pgrelay.ledger for values from (0) to (1048576);

-- Which tables carry our triggers, and the version of the trigger's catalog row: a trigger that
-- was disabled or replaced behind our back has another one, and that is a hole.
create table pgrelay.attached (
  relid       oid primary key,
  trigger_row text not null,
  since       timestamptz not null default clock_timestamp()
);

-- Advisory lock keys. Shared by writers for the length of their transaction, taken exclusively by
-- a relay that sleeps: see pgrelay.capture().
create function pgrelay.doorbell_key() returns bigint
  language sql immutable parallel safe as 'select 8101814501::bigint';
-- Held by the relay that sequences; an optimisation, not what keeps the ledger right.
create function pgrelay.lease_key() returns bigint
  language sql immutable parallel safe as 'select 8101814502::bigint';
-- Held shared by relays that follow the ledger, so that the sequencer knows to tell them.
create function pgrelay.nodes_key() returns bigint
  language sql immutable parallel safe as 'select 8101814503::bigint';

revoke all on schema pgrelay from public;
