-- Retention: segments are recycled with TRUNCATE, one lock attempt of at most 50 ms at a time, and
-- only after a proof under that lock.

create function pgrelay.segments()
  returns table (leaf regclass, segment bigint, bytes bigint)
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select i.inhrelid::regclass,
         nullif(regexp_replace(c.relname, '^log_', ''), 'default')::bigint,
         pg_total_relation_size(i.inhrelid)
    from pg_inherits i
    join pg_class c on c.oid = i.inhrelid
   where i.inhparent = 'pgrelay.log'::regclass
$$;

-- Adds a segment to the ring and returns its number. Created on its own and then attached:
-- CREATE TABLE ... PARTITION OF would lock writers out.
create function pgrelay.grow_ring() returns bigint
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  number bigint := (select max(s.segment) + 1 from pgrelay.segments() s);
begin
  execute format('create table pgrelay.log_%s (like pgrelay.log including all) with (autovacuum_enabled = off)', number);
  execute format('alter table pgrelay.log attach partition pgrelay.log_%1$s for values in (%1$s)', number);
  return number;
end $$;

-- Moves writers to an empty segment; a full ring grows.
create function pgrelay.switch_segment() returns bigint
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  target bigint;
begin
  select s.segment into target
    from pgrelay.segments() s
   where s.segment is not null
     and s.segment <> pg_sequence_last_value('pgrelay.log_segment')
     and pg_relation_size(s.leaf) = 0
   order by s.segment
   limit 1;
  target := coalesce(target, pgrelay.grow_ring());
  perform setval('pgrelay.log_segment', target);
  return target;
end $$;

-- Empties one segment if no batch above `floor_max` uses it. Returns the last batch whose rows are
-- gone thereby, or null where the segment must stay.
create function pgrelay.recycle(leaf regclass, floor_max bigint) returns bigint
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  last pgrelay.ledger;
  new_floor bigint;
  unsequenced boolean;
begin
  perform set_config('lock_timeout', '50ms', true);
  begin
    execute format('lock table %s in access exclusive mode', leaf);
  exception when lock_not_available or query_canceled then
    return null;
  end;
  -- Under the lock, and with snapshots taken after it was granted: whoever wrote here has ended,
  -- so a committed row is visible now, and either the last batch has it or it would be lost.
  select * into last from pgrelay.ledger l order by l.id desc limit 1;
  execute format('select exists (select from %s g where g.xid >= $1 or g.xid = any ($2))', leaf)
    into unsequenced
    using pg_snapshot_xmax(last.snap), array(select pg_snapshot_xip(last.snap));
  if unsequenced then
    return null;
  end if;
  execute format('select max(l.id) from pgrelay.ledger l where l.min_seq <= (select max(g.seq) from %s g)', leaf)
    into new_floor;
  if new_floor > floor_max then
    return null;
  end if;
  execute format('truncate %s', leaf);
  return coalesce(new_floor, 0);
end $$;

-- One round of housekeeping, called every second by the relay that holds the lease. Recycles at
-- most one segment per call, last, because its lock is held until the call ends.
create function pgrelay.maintain(retention interval, bytes_max bigint)
  returns table (action text, detail text)
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  writing bigint := pg_sequence_last_value('pgrelay.log_segment');
  last_id bigint := (select max(l.id) from pgrelay.ledger l);
  floor_id bigint := (select m.value::bigint from pgrelay.meta m where m.key = 'floor');
  floor_max bigint;
  total bigint := (select sum(s.bytes) from pgrelay.segments() s)
                + coalesce((select sum(pg_total_relation_size(i.inhrelid)) from pg_inherits i
                             where i.inhparent = 'pgrelay.ledger'::regclass), 0);
  first_at timestamptz;
  part record;
  leaves regclass[];
  leaf regclass;
  recycled bigint;
begin
  perform setval('pgrelay.log_segment_bytes_max', greatest(bytes_max / 2, 1048576));

  if writing < 0 then
    writing := pgrelay.switch_segment();
    return query select 'resumed', 'segment ' || writing;
  end if;

  select g.at into first_at from pgrelay.log g where g.segment = writing order by g.seq limit 1;
  if (select s.bytes from pgrelay.segments() s where s.segment = writing) > greatest(bytes_max / 8, 1048576)
     or first_at < clock_timestamp() - retention / 8
  then
    return query select 'switched', 'segment ' || pgrelay.switch_segment();
    writing := pg_sequence_last_value('pgrelay.log_segment');
  end if;

  if not exists (select from pg_class c where c.relnamespace = 'pgrelay'::regnamespace
                    and c.relname = 'ledger_' || ((last_id + 131072) >> 20)) then
    execute format('create table pgrelay.ledger_%s (like pgrelay.ledger including all)', (last_id + 131072) >> 20);
    execute format('alter table pgrelay.ledger attach partition pgrelay.ledger_%s for values from (%s) to (%s)',
                   (last_id + 131072) >> 20, ((last_id + 131072) >> 20) << 20, (((last_id + 131072) >> 20) + 1) << 20);
    return query select 'ledger', 'range ' || ((last_id + 131072) >> 20);
  end if;

  for part in
    select c.oid::regclass as leaf
      from pg_inherits i join pg_class c on c.oid = i.inhrelid
     where i.inhparent = 'pgrelay.ledger'::regclass
       and (regexp_replace(c.relname, '^ledger_', '')::bigint + 1) << 20 <= floor_id
  loop
    begin
      perform set_config('lock_timeout', '50ms', true);
      execute format('drop table %s', part.leaf);
      return query select 'ledger', part.leaf || ' dropped';
    exception when lock_not_available then
      null;  -- a dump reads it; the next round tries again
    end;
  end loop;

  -- Over the size bound history gives way to disk: every sequenced row may go.
  floor_max := case when total > bytes_max then last_id
                    else (select l.id from pgrelay.ledger l where l.at < clock_timestamp() - retention
                           order by l.id desc limit 1) end;

  -- Collected first: a TRUNCATE refuses a table that a query of its own session still reads.
  leaves := array(
    select s.leaf from pgrelay.segments() s
     where s.segment is distinct from writing and pg_relation_size(s.leaf) > 0 and floor_max is not null
     order by (select min(g.seq) from pgrelay.log g where g.segment = s.segment));
  foreach leaf in array leaves loop
    recycled := pgrelay.recycle(leaf, floor_max);
    if recycled is not null then
      update pgrelay.meta set value = recycled::text where key = 'floor' and value::bigint < recycled;
      return query select 'recycled', leaf::text;
      return;
    end if;
  end loop;
end $$;

revoke all on all functions in schema pgrelay from public;
