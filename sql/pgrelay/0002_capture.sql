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
  set lc_monetary = 'C'
  set quote_all_identifiers = off
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
  -- Written as k.*, because the key may have a column k.
  execute format('select pgrelay.render(k.*) from (select %s) k', columns) into result using r;
  return result;
end $$;

-- A segment that has outgrown its bound although a relay would have moved on: nobody recycles the
-- log. Stop logging before the disk is full.
create function pgrelay.check_abandoned() returns void
  language plpgsql security definer
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
  segment bigint;
  number bigint;
  new_json text;
  old_json text;
  oversize boolean := false;
begin
  -- A block that writes nothing costs no transaction id of its own, so it may stand around every
  -- row; around the insert it would overflow the subtransaction cache of all snapshots. That is why
  -- it tries beforehand what the insert needs: a log that is gone, rights that were revoked.
  begin
    number := nextval('pgrelay.log_seq');
    if has_table_privilege('pgrelay.log'::regclass, 'insert') then
      segment := pg_sequence_last_value('pgrelay.log_segment');
    end if;
    if segment >= 0 then
      if current_setting('TimeZone') in ('UTC', 'Etc/UTC', 'GMT')
        and current_setting('DateStyle') in ('ISO, MDY', 'ISO, DMY', 'ISO, YMD')
        and current_setting('IntervalStyle') = 'postgres'
        and current_setting('bytea_output') = 'hex'
        and current_setting('extra_float_digits') in ('1', '2', '3')
        and current_setting('lc_monetary') in ('C', 'C.UTF-8', 'POSIX', 'en_US.UTF-8', 'en_US.utf8')
        and current_setting('quote_all_identifiers') = 'off'
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
    end if;
  exception when others then
    raise log 'pgrelay: a row of % cannot be logged (sqlstate %)', tg_relid::regclass, sqlstate;
    -- Not the log failed but the row: it is beyond 1 GB as text, or a cast to json or an output
    -- function of the user's own raised. Only changes of this table are missing then.
    if segment >= 0 then
      perform pgrelay.log_hole(tg_relid);
      return null;
    end if;
  end;

  if segment is null or segment < 0 then
    begin
      perform nextval('pgrelay.log_holes');
    exception when others then
      raise log 'pgrelay: a hole cannot be counted (sqlstate %)', sqlstate;
    end;
    return null;
  end if;
  -- new is null on DELETE, old on INSERT, and so is all that is made of them.
  insert into pgrelay.log (segment, seq, relid, op, oversize, new_row, old_row, new_ctid, old_ctid)
  values (segment, number, tg_relid, tg_op::"char", oversize, new_json, old_json, new.ctid, old.ctid);
  -- Large rows fill a disk in fewer numbers.
  if number % 4096 = 0 or octet_length(new_json) > 65536 then
    perform pgrelay.check_abandoned();
  end if;

  -- Granted: no relay sleeps, and none can fall asleep before this transaction has ended.
  -- Refused: one sleeps or is about to, so ring, unless that could fail the transaction: one that
  -- notified cannot be prepared, and none can commit while a listener anywhere is stuck and the
  -- queue is full. The payload is empty: equal notifications of one transaction are folded into
  -- one, and nobody may trust a payload that any role can send.
  if not pg_try_advisory_xact_lock_shared(8101814501)
    and current_setting('max_prepared_transactions') = '0' and pg_notification_queue_usage() < 0.5
  then
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
exception when others then
  raise log 'pgrelay: a truncation of % cannot be logged (sqlstate %)', tg_relid::regclass, sqlstate;
  begin
    perform nextval('pgrelay.log_holes');
  exception when others then
    raise log 'pgrelay: a hole cannot be counted (sqlstate %)', sqlstate;
  end;
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
  -- As in pgrelay.capture().
  if not pg_try_advisory_xact_lock_shared(8101814501)
    and current_setting('max_prepared_transactions') = '0' and pg_notification_queue_usage() < 0.5
  then
    perform pg_notify('pgrelay', '');
  end if;
end $$;

revoke all on all functions in schema pgrelay from public;

-- The triggers run as their owner. A role that owns nothing else keeps a user's own cast to json
-- from running with the rights of the migrating role.
do $$
declare
  script text := '';
begin
  begin
    if not exists (select from pg_roles where rolname = 'pgrelay_capture') then
      script := 'create role pgrelay_capture nologin noinherit; ';
      execute script;
      script := '';
    end if;
  exception
    when duplicate_object or unique_violation then script := '';  -- made at this moment, for another database
    when insufficient_privilege then null;
  end;
  -- May make roles, but owns nothing that it is no member of.
  if (select rolcreaterole and not rolsuper from pg_roles where rolname = current_user) then
    script := script || format('grant pgrelay_capture to %I; ', current_user);
  end if;
  script := script || 'grant usage, create on schema pgrelay to pgrelay_capture; '
    || 'grant insert on pgrelay.log to pgrelay_capture; '
    || 'grant usage on pgrelay.log_seq, pgrelay.log_holes to pgrelay_capture; '
    || 'grant select on pgrelay.log_segment to pgrelay_capture; '
    || 'grant execute on function pgrelay.render(anyelement), pgrelay.render_key(oid, anyelement), '
    || 'pgrelay.check_abandoned(), pgrelay.log_hole(oid) to pgrelay_capture; '
    || 'alter function pgrelay.capture() owner to pgrelay_capture; '
    || 'alter function pgrelay.capture_truncate() owner to pgrelay_capture; '
    -- Whoever attaches triggers needs this, and lost it with the ownership.
    || format('grant execute on function pgrelay.capture(), pgrelay.capture_truncate() to %I; ', current_user)
    || 'revoke create on schema pgrelay from pgrelay_capture;';
  begin
    execute script;
  exception when insufficient_privilege then
    raise notice 'pgrelay-needs: %', script;
  end;
end $$;
