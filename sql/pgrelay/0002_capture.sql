-- The triggers. They may slow a writer by microseconds and must never fail its transaction: they
-- read no configuration, take no lock that another writer waits for, and speak of what they could
-- not log by moving pgrelay.log_holes.

-- row_to_json under settings of our own, for writers whose session has others. Never to_jsonb: it
-- refuses \u0000, lone surrogates and 1e200000, which are valid in a json column.
create function pgrelay.render(r anyelement) returns text
  language plpgsql stable strict
  set search_path = pg_catalog, pg_temp
  set "TimeZone" = 'UTC'
  set "DateStyle" = 'ISO, MDY'
  set "IntervalStyle" = 'postgres'
  set bytea_output = 'hex'
  set extra_float_digits = 1
as $$ begin return row_to_json(r)::text; end $$;

-- The primary key of a row that is too large to log.
create function pgrelay.render_key(relation oid, r anyelement) returns text
  language plpgsql stable strict
  set search_path = pg_catalog, pg_temp
as $$
declare
  columns text;
  result text;
begin
  select string_agg(format('(($1).%I) as %I', a.attname, a.attname), ', ' order by a.attnum)
    into columns
    from pg_index i
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
   where i.indrelid = relation and i.indisprimary;
  if columns is null then
    return '{}';
  end if;
  execute format('select pgrelay.render(k) from (select %s) k', columns) into result using r;
  return result;
end $$;

-- A segment that has outgrown its bound although a relay would have moved on: nobody recycles the
-- log. Stop logging before the disk is full.
create function pgrelay.check_abandoned() returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  current_segment bigint := pg_sequence_last_value('pgrelay.log_segment');
  leaf regclass := to_regclass('pgrelay.log_' || current_segment);
begin
  if pg_total_relation_size(leaf) > pg_sequence_last_value('pgrelay.log_segment_bytes_max') then
    perform setval('pgrelay.log_segment', -1);
  end if;
end $$;

create function pgrelay.capture() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  image_bytes_max constant int := 8388608;
  segment bigint := pg_sequence_last_value('pgrelay.log_segment');
  new_json text;
  old_json text;
  oversize boolean := false;
  logged bigint;
begin
  -- A block that writes nothing costs no transaction id of its own, so it may stand around every
  -- row; around the insert it would overflow the subtransaction cache of all snapshots.
  begin
    if current_setting('TimeZone') in ('UTC', 'Etc/UTC', 'GMT')
      and current_setting('DateStyle') in ('ISO, MDY', 'ISO, DMY', 'ISO, YMD')
      and current_setting('IntervalStyle') = 'postgres'
      and current_setting('bytea_output') = 'hex'
      and current_setting('extra_float_digits') in ('1', '2', '3')
    then
      new_json := row_to_json(new);
      old_json := row_to_json(old);
    else
      new_json := pgrelay.render(new);
      old_json := pgrelay.render(old);
    end if;
    if octet_length(new_json) > image_bytes_max or octet_length(old_json) > image_bytes_max then
      oversize := true;
      new_json := pgrelay.render_key(tg_relid, new);
      old_json := pgrelay.render_key(tg_relid, old);
    end if;
  exception when others then
    -- A row beyond 1 GB as text, a cast to json or an output function of the user's own that raises.
    raise log 'pgrelay: a row of % could not be rendered (sqlstate %)', tg_relid::regclass, sqlstate;
    perform nextval('pgrelay.log_holes');
    return null;
  end;

  if segment < 0 then
    perform nextval('pgrelay.log_holes');
    return null;
  end if;
  -- new is null on DELETE, old on INSERT, and so is all that is made of them.
  insert into pgrelay.log (segment, relid, op, oversize, new_row, old_row, new_ctid, old_ctid)
  values (segment, tg_relid, tg_op::"char", oversize, new_json, old_json, new.ctid, old.ctid)
  returning seq into logged;
  if logged % 4096 = 0 then
    perform pgrelay.check_abandoned();
  end if;

  -- Granted: no relay sleeps, and none can fall asleep before this transaction has ended.
  -- Refused: one sleeps or is about to, so ring. The payload is empty: equal notifications of one
  -- transaction are folded into one, and nobody may trust a payload that any role can send.
  if not pg_try_advisory_xact_lock_shared(8101814501) then
    perform pg_notify('pgrelay', '');
  end if;
  return null;
end $$;

-- TRUNCATE carries no rows; subscribers are told to fetch again.
create function pgrelay.capture_truncate() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform pgrelay.log_hole(tg_relid);
  return null;
end $$;

-- Logs that changes of a relation and its partitions (0: of any table) may be missing before here.
create function pgrelay.log_hole(relation oid) returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  if pg_sequence_last_value('pgrelay.log_segment') < 0 then
    perform nextval('pgrelay.log_holes');
    return;
  end if;
  insert into pgrelay.log (segment, relid, op)
  select pg_sequence_last_value('pgrelay.log_segment'), r.relid, 'H'
    from (select relation as relid union select t.relid::oid from pg_partition_tree(relation) t) r;
  if not pg_try_advisory_xact_lock_shared(8101814501) then
    perform pg_notify('pgrelay', '');
  end if;
end $$;

revoke all on all functions in schema pgrelay from public;

-- The triggers run as their owner. A role that owns nothing else keeps a user's own cast to json
-- from running with the rights of a superuser.
do $$
declare
  f text;
  script text := '';
begin
  if not exists (select from pg_roles where rolname = 'pgrelay_capture') then
    script := 'create role pgrelay_capture nologin noinherit; ';
  end if;
  script := script || 'grant usage, create on schema pgrelay to pgrelay_capture; '
    || 'grant insert, select (seq) on pgrelay.log to pgrelay_capture; '
    || 'grant usage, select on pgrelay.log_seq to pgrelay_capture; '
    || 'grant usage, select, update on pgrelay.log_holes, pgrelay.log_segment to pgrelay_capture; '
    || 'grant select on pgrelay.log_segment_bytes_max to pgrelay_capture; '
    || 'grant execute on all functions in schema pgrelay to pgrelay_capture; ';
  foreach f in array array['capture()', 'capture_truncate()'] loop
    script := script || format('alter function pgrelay.%s owner to pgrelay_capture; ', f);
  end loop;
  script := script || 'revoke create on schema pgrelay from pgrelay_capture;';
  begin
    execute script;
  exception when insufficient_privilege then
    raise notice 'pgrelay-needs: %', script;
  end;
end $$;
