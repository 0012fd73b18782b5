-- Retention: segments are recycled with TRUNCATE, one lock attempt of at most 50 ms at a time, and
-- only after a proof under that lock.

-- The default partition has no number. (Nor have other relations, whose names may be looked at too.)
create function pgrelay.segments()
  returns table (leaf regclass, segment bigint, bytes bigint)
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select i.inhrelid::regclass,
         substring(c.relname from '^log_(\d+)$')::bigint,
         pg_total_relation_size(i.inhrelid)
    from pg_inherits i
    join pg_class c on c.oid = i.inhrelid
   where i.inhparent = 'pgrelay.log'::regclass
$$;

-- The segment that writers can be moved to: one that is empty and known to all of them.
create function pgrelay.spare_segment() returns bigint
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select s.segment
    from pgrelay.segments() s
   where s.segment is not null
     and s.segment <> pg_sequence_last_value('pgrelay.log_segment')
     and pg_relation_size(s.leaf) = 0
     and not exists (select from pgrelay.meta m
                      where m.key = 'segment_pending' and split_part(m.value, ' ', 1) = s.segment::text)
   order by s.segment
   limit 1
$$;

-- Moves writers to a spare segment; null, and they stay, where there is none.
create function pgrelay.switch_segment() returns bigint
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  target bigint := pgrelay.spare_segment();
begin
  if target is not null then
    perform setval('pgrelay.log_segment', target);
  end if;
  return target;
end $$;

-- Adds a segment to the ring and returns its number, or null where a lock was not to be had. Created
-- on its own and then attached: CREATE TABLE ... PARTITION OF would lock writers out. It stays
-- pending until settle_segment().
create function pgrelay.grow_ring() returns bigint
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set lock_timeout = '50ms'
as $$
declare
  -- Above the rows, too, that found their segment missing: they must not belong to the new one.
  number bigint := 1 + greatest((select max(s.segment) from pgrelay.segments() s),
                                (select max(g.segment) from pgrelay.log_default g));
begin
  execute format('create table pgrelay.log_%s (like pgrelay.log including all) with (autovacuum_enabled = off)', number);
  execute format('alter table pgrelay.log attach partition pgrelay.log_%1$s for values in (%1$s)', number);
  insert into pgrelay.meta (key, value) values ('segment_pending', number::text);
  return number;
exception when lock_not_available then
  return null;
end $$;

-- A transaction that has used the log before a segment was added goes on without seeing it, and
-- would fail if it were sent there. So the segment may be used when every transaction that held the
-- log when the segment was first seen here has let it go. (Prepared ones have: they do no more.)
create function pgrelay.settle_segment() returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  waits_for text := (select split_part(m.value, ' ', 2) from pgrelay.meta m where m.key = 'segment_pending');
  users text[];
begin
  if waits_for is null then
    return;
  end if;
  users := array(
    select l.virtualtransaction from pg_locks l
     where l.locktype = 'relation' and l.relation = 'pgrelay.log'::regclass
       and l.database = (select d.oid from pg_database d where d.datname = current_database())
       and l.pid <> pg_backend_pid());
  if waits_for = '' then
    update pgrelay.meta set value = value || ' ' || users::text where key = 'segment_pending';
  elsif not users && waits_for::text[] then
    delete from pgrelay.meta where key = 'segment_pending';
  end if;
end $$;

-- Whether a segment holds rows that are not in `batch` or one before it.
create function pgrelay.reaches_beyond(leaf regclass, batch bigint) returns boolean
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  snap pg_snapshot := (select l.snap from pgrelay.ledger l where l.id = batch);
  beyond boolean;
begin
  execute format('select exists (select from %s g where g.xid >= $1 or g.xid = any ($2))', leaf)
    into beyond
    using pg_snapshot_xmax(snap), array(select pg_snapshot_xip(snap));
  return snap is null or beyond;
end $$;

-- Empties one segment if all that is committed in it is in the batches up to `floor_max`. Returns
-- the last batch whose rows are gone thereby, or null where the segment must stay.
create function pgrelay.recycle(leaf regclass, floor_min bigint, floor_max bigint, patient boolean) returns bigint
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set lock_timeout = '50ms'
as $$
declare
  low bigint := floor_min;
  high bigint := floor_max;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'segments are recycled in read committed only'
      using hint = 'A snapshot from before the lock does not show what was committed while it was waited for.';
  end if;
  begin
    execute format('lock table %s in access exclusive mode %s', leaf, case when not patient then 'nowait' end);
    -- Under the lock, and with a snapshot taken after it was granted: whoever wrote here has ended,
    -- so a committed row is visible now, and either a batch has it or it would be lost.
    if pgrelay.reaches_beyond(leaf, floor_max) then
      raise lock_not_available;  -- gives the lock back at once
    end if;
  exception when lock_not_available then
    return null;
  end;
  while low < high loop
    if pgrelay.reaches_beyond(leaf, (low + high) / 2) then
      low := (low + high) / 2 + 1;
    else
      high := (low + high) / 2;
    end if;
  end loop;
  execute format('truncate %s', leaf);
  return low;
end $$;

-- The last batch made before a moment; `floor_min` where none is younger than that one.
create function pgrelay.last_batch_before(moment timestamptz, floor_min bigint, last_id bigint) returns bigint
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  low bigint := floor_min;
  high bigint := last_id;
begin
  while low < high loop
    if (select l.at < moment from pgrelay.ledger l where l.id = (low + high + 1) / 2) then
      low := (low + high + 1) / 2;
    else
      high := (low + high + 1) / 2 - 1;
    end if;
  end loop;
  return low;
end $$;

-- One round of housekeeping, called every second by the relay that holds the lease. What takes a
-- lock that STEP would wait for ends the round, so that the lock ends with it.
create function pgrelay.maintain(retention interval, bytes_max bigint)
  returns table (action text, detail text)
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set lock_timeout = '50ms'
as $$
#variable_conflict use_column
declare
  writing bigint := pg_sequence_last_value('pgrelay.log_segment');
  spare bigint;
  last_id bigint := (select max(l.id) from pgrelay.ledger l);
  floor_id bigint := (select m.value::bigint from pgrelay.meta m where m.key = 'floor');
  floor_max bigint;
  total bigint := (select sum(s.bytes) from pgrelay.segments() s)
                + coalesce((select sum(pg_total_relation_size(i.inhrelid)) from pg_inherits i
                             where i.inhparent = 'pgrelay.ledger'::regclass), 0);
  first_at timestamptz;
  part text;
  leaves regclass[];
  leaf regclass;
  patient boolean;
  recycled bigint;
begin
  -- Ahead of a segment that cannot be left: only a log that nobody looks after is abandoned.
  perform setval('pgrelay.log_segment_bytes_max', greatest(bytes_max / 2, 1048576)
                 + coalesce((select s.bytes from pgrelay.segments() s where s.segment = writing), 0));

  -- A segment is added before it is needed and used in a later round: setval is seen at once, and
  -- is not taken back with the transaction, so it must name one that everybody sees and that stays.
  perform pgrelay.settle_segment();
  spare := pgrelay.spare_segment();
  if spare is null then
    if not exists (select from pgrelay.meta m where m.key = 'segment_pending') then
      spare := pgrelay.grow_ring();
      if spare is not null then
        return query select 'grown', 'segment ' || spare;
        return;
      end if;
    end if;
  elsif writing < 0 then
    writing := pgrelay.switch_segment();
    return query select 'resumed', 'segment ' || writing;
  else
    select g.at into first_at from pgrelay.log g where g.segment = writing order by g.seq limit 1;
    if (select s.bytes from pgrelay.segments() s where s.segment = writing) > greatest(bytes_max / 8, 1048576)
       or first_at < clock_timestamp() - retention / 8
    then
      writing := pgrelay.switch_segment();
      return query select 'switched', 'segment ' || writing;
    end if;
  end if;

  -- No history yet: nothing has been told to anybody, so nothing may go.
  if last_id is null then
    return;
  end if;

  if not exists (select from pg_class c where c.relnamespace = 'pgrelay'::regnamespace
                    and c.relname = 'ledger_' || ((last_id + 131072) >> 20)) then
    execute format('create table pgrelay.ledger_%s (like pgrelay.ledger including all)', (last_id + 131072) >> 20);
    execute format('alter table pgrelay.ledger attach partition pgrelay.ledger_%s for values from (%s) to (%s)',
                   (last_id + 131072) >> 20, ((last_id + 131072) >> 20) << 20, (((last_id + 131072) >> 20) + 1) << 20);
    return query select 'ledger', 'range ' || ((last_id + 131072) >> 20);
    return;
  end if;

  for part in
    select c.oid::regclass::text
      from pg_inherits i join pg_class c on c.oid = i.inhrelid
     where i.inhparent = 'pgrelay.ledger'::regclass
       and (substring(c.relname from '^ledger_(\d+)$')::bigint + 1) << 20 <= floor_id
  loop
    begin
      execute 'drop table ' || part;
      return query select 'ledger', part || ' dropped';
      return;
    exception when lock_not_available then
      null;  -- a dump reads it; the next round tries again
    end;
  end loop;

  -- Over the size bound history gives way to disk: every sequenced row may go.
  floor_max := case when total > bytes_max then last_id
                    else pgrelay.last_batch_before(clock_timestamp() - retention, floor_id, last_id) end;

  -- Collected first: a TRUNCATE refuses a table that a query of its own session still reads. Those
  -- that must stay are left out without a lock.
  leaves := array(
    select s.leaf from pgrelay.segments() s
     where s.segment is distinct from writing and pg_relation_size(s.leaf) > 0
       and not pgrelay.reaches_beyond(s.leaf, floor_max)
     order by (select min(g.seq) from pgrelay.log g where g.segment = s.segment));
  -- Whatever is free, the oldest first; else wait for the oldest. Whoever waits makes others wait.
  foreach patient in array array[false, true] loop
    foreach leaf in array case when patient then leaves[:1] else leaves end loop
      recycled := pgrelay.recycle(leaf, floor_id, floor_max, patient);
      if recycled is not null then
        update pgrelay.meta set value = recycled::text where key = 'floor' and value::bigint < recycled;
        return query select 'recycled', leaf::text;
        return;
      end if;
    end loop;
  end loop;
end $$;

revoke all on all functions in schema pgrelay from public;
