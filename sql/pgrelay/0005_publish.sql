-- Which tables are captured: those of the publication. Triggers are attached where they are missing.

create function pgrelay.publication() returns name
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$ select value::name from pgrelay.meta where key = 'publication' $$;

-- Relations whose changes are delivered, under the name they are delivered as.
create function pgrelay.published()
  returns table (relid oid, name_relid oid)
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  -- A partitioned table is listed by its root or by its leaves, as the publication says; changes
  -- are always captured on the leaves.
  select leaf.oid, c.oid
    from pg_publication_tables t
    join pg_namespace n on n.nspname = t.schemaname
    join pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
    cross join lateral (
      select c.oid where c.relkind = 'r'
      union all
      select p.relid from pg_partition_tree(c.oid) p where c.relkind = 'p' and p.isleaf
    ) leaf
   where t.pubname = pgrelay.publication()
     and n.nspname not in ('pgrelay', 'realtime', 'auth', 'storage')
     and c.relpersistence = 'p'
$$;

-- Captured relations, and where their trigger belongs: on the topmost published ancestor, so that
-- partitions made later inherit it at once.
create function pgrelay.captured() returns table (relid oid, point oid)
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select p.relid, coalesce(
      (select a.relid::oid
         from pg_partition_ancestors(p.relid) with ordinality a (relid, depth)
        where exists (select from pg_publication b left join pg_publication_rel r on r.prpubid = b.oid
                       where b.pubname = pgrelay.publication()
                         and (r.prrelid = a.relid or b.puballtables))
        order by a.depth desc limit 1),
      p.relid)
    from pgrelay.published() p
$$;

-- What is missing for a relation to be captured, as statements; no rows where nothing is.
create function pgrelay.attach_statements(relation oid, point oid) returns setof text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  target oid;
  enabled "char";
  part oid;
begin
  -- '!' sorts before every letter: our trigger logs a change before a user's own trigger adds to it.
  if not exists (select from pg_trigger t where t.tgrelid = relation and t.tgname = '!pgrelay_capture') then
    -- A partition that was published alone gives way to the trigger it will inherit.
    for part in
      select p.relid from pg_partition_tree(point) p
        join pg_trigger t on t.tgrelid = p.relid and t.tgname = '!pgrelay_capture' and t.tgparentid = 0
    loop
      return next format('drop trigger "!pgrelay_capture" on %s', part::regclass);
    end loop;
    return next format('create trigger "!pgrelay_capture" after insert or update or delete on %s '
                       'for each row execute function pgrelay.capture()', point::regclass);
  end if;
  -- Being truncated is not inherited.
  foreach target in array case when relation = point then array[point] else array[point, relation] end loop
    if not exists (select from pg_trigger t where t.tgrelid = target and t.tgname = '!pgrelay_truncate') then
      return next format('create trigger "!pgrelay_truncate" after truncate on %s '
                         'for each statement execute function pgrelay.capture_truncate()', target::regclass);
    end if;
  end loop;
  -- Always: also in sessions that replay another server's changes.
  foreach target in array case when relation = point then array[point] else array[point, relation] end loop
    select t.tgenabled into enabled from pg_trigger t where t.tgrelid = target and t.tgname = '!pgrelay_capture';
    if enabled is distinct from 'A' then
      return next format('alter table %s enable always trigger "!pgrelay_capture"', target::regclass);
    end if;
    select t.tgenabled into enabled from pg_trigger t where t.tgrelid = target and t.tgname = '!pgrelay_truncate';
    if enabled is distinct from 'A' then
      return next format('alter table %s enable always trigger "!pgrelay_truncate"', target::regclass);
    end if;
  end loop;
end $$;

-- The version of a relation's capture trigger; another one means that it was off for a while.
create function pgrelay.trigger_row(relation oid) returns text
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select t.oid || '.' || t.xmin
    from pg_trigger t
   where t.tgrelid = relation and t.tgname = '!pgrelay_capture'
$$;

-- Brings triggers in line with the publication; a row for each relation that was, or is, not in
-- line. A relation whose trigger went away, or was replaced, may have lost changes: a hole.
-- relation: only this one (a partitioned table stands for its partitions). apply false: only look.
create function pgrelay.sync(relation oid default null, apply boolean default true)
  returns table (relid oid, name text, action text, statement text, error text)
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  c record;
  known text;
  statements text[];
  command text;
begin
  for c in
    select * from pgrelay.captured() c
     where relation is null or relation in (c.relid, c.point)
        or exists (select from pg_partition_ancestors(c.relid) a where a.relid = relation)
     order by c.relid
  loop
    statements := array(select pgrelay.attach_statements(c.relid, c.point));
    known := (select a.trigger_row from pgrelay.attached a where a.relid = c.relid);
    if statements = '{}' and known is not distinct from pgrelay.trigger_row(c.relid) then
      continue;
    end if;
    if not apply then
      return query select c.relid, c.relid::regclass::text, 'missing', array_to_string(statements, '; '), null::text;
      continue;
    end if;
    begin
      -- A lock request that queues would make every writer behind it wait.
      perform set_config('lock_timeout', '50ms', true);
      foreach command in array statements loop
        execute command;
      end loop;
      if known is not null and known is distinct from pgrelay.trigger_row(c.relid) then
        perform pgrelay.log_hole(c.relid);
      end if;
      insert into pgrelay.attached (relid, trigger_row) values (c.relid, pgrelay.trigger_row(c.relid))
        on conflict on constraint attached_pkey do update set trigger_row = excluded.trigger_row, since = clock_timestamp();
      return query select c.relid, c.relid::regclass::text, 'attached', array_to_string(statements, '; '), null::text;
    exception when others then
      return query select c.relid, c.relid::regclass::text,
                          case when sqlstate = '55P03' then 'locked' else 'failed' end,
                          array_to_string(statements, '; '), sqlerrm;
    end;
  end loop;
  delete from pgrelay.attached a where not exists (select from pg_class c where c.oid = a.relid);
end $$;

-- A moved hole counter becomes a hole in the log once every transaction that may have moved it has
-- ended; told earlier, a subscriber would fetch again before the change that is missing is there.
-- Called every second; returns how many holes were settled.
create function pgrelay.settle_holes() returns bigint
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  counted bigint := pg_sequence_last_value('pgrelay.log_holes');
  settled bigint := (select m.value::bigint from pgrelay.meta m where m.key = 'holes_settled');
  pending text := (select m.value from pgrelay.meta m where m.key = 'holes_pending');
begin
  if counted <= settled then
    return 0;
  end if;
  if pending is null then
    insert into pgrelay.meta (key, value)
      values ('holes_pending', counted || ' ' || pg_snapshot_xmax(pg_current_snapshot()));
    return 0;
  end if;
  if pg_snapshot_xmin(pg_current_snapshot()) < split_part(pending, ' ', 2)::xid8 then
    return 0;
  end if;
  perform pgrelay.log_hole(0);
  update pgrelay.meta set value = split_part(pending, ' ', 1) where key = 'holes_settled';
  delete from pgrelay.meta where key = 'holes_pending';
  return split_part(pending, ' ', 1)::bigint - settled;
end $$;

-- Publishes a table and attaches its triggers; returns the statements.
create function pgrelay.enable(relation regclass) returns setof text
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  pub pg_publication;
  class pg_class;
  statement text;
  problem text;
begin
  select * into class from pg_class where oid = relation;
  select * into pub from pg_publication where pubname = pgrelay.publication();
  if pub.oid is null then
    raise exception 'publication % does not exist', pgrelay.publication()
      using hint = 'run: pgrelay migrate';
  end if;
  if class.relkind not in ('r', 'p') or class.relpersistence <> 'p' then
    raise exception '% is not an ordinary, logged table', relation;
  end if;
  if class.relnamespace::regnamespace::text in ('pgrelay', 'realtime', 'auth', 'storage') then
    raise exception 'tables of schema % are never captured', class.relnamespace::regnamespace;
  end if;
  if (pub.pubupdate or pub.pubdelete) and (class.relreplident = 'n'
      or class.relreplident = 'd' and not exists (select from pg_index i where i.indrelid = relation and i.indisprimary)) then
    raise exception 'publication % publishes updates and deletes, and % has no replica identity: publishing it would make your own UPDATE and DELETE fail',
        pub.pubname, relation
      using hint = format('give it a primary key, or run: alter table %s replica identity full', relation);
  end if;
  if not exists (select from pg_publication_rel r where r.prpubid = pub.oid and r.prrelid = relation) and not pub.puballtables then
    statement := format('alter publication %I add table %s', pub.pubname, relation);
    execute statement;
    return next statement;
  end if;
  return query select pgrelay.attach_statements(c.relid, c.point) from pgrelay.captured() c
                where relation in (c.relid, c.point);
  select s.error into problem from pgrelay.sync(relation) s where s.error is not null;
  if problem is not null then
    raise exception 'triggers of % could not be attached: %', relation, problem;
  end if;
end $$;

-- Takes a table out of the publication and drops its triggers; returns the statements.
create function pgrelay.disable(relation regclass) returns setof text
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  statement text;
begin
  perform set_config('lock_timeout', '1s', true);
  for statement in
    select format('alter publication %I drop table %s', b.pubname, relation)
      from pg_publication b join pg_publication_rel r on r.prpubid = b.oid
     where b.pubname = pgrelay.publication() and r.prrelid = relation
    union all
    select format('drop trigger %I on %s', t.tgname, t.tgrelid::regclass)
      from pg_trigger t
     where t.tgname in ('!pgrelay_capture', '!pgrelay_truncate') and t.tgparentid = 0
       and (t.tgrelid = relation or t.tgrelid in (select p.relid from pg_partition_tree(relation) p))
  loop
    execute statement;
    return next statement;
  end loop;
  delete from pgrelay.attached a
   where a.relid = relation or a.relid in (select p.relid from pg_partition_tree(relation) p);
end $$;

-- DDL hook, where an event trigger is allowed: attaches at once and tells the relay. Whatever goes
-- wrong in here is left to the relay's own rounds; it must not fail the user's DDL.
create function pgrelay.on_ddl() returns event_trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  if current_setting('pgrelay.in_ddl', true) = 'on' then
    return;
  end if;
  begin
    perform set_config('pgrelay.in_ddl', 'on', true);
    perform pgrelay.sync();
    if current_setting('max_prepared_transactions')::int = 0 then
      perform pg_notify('pgrelay_catalog', '');
    end if;
  exception when others then
    raise log 'pgrelay: triggers are left to the next round (sqlstate %)', sqlstate;
  end;
  perform set_config('pgrelay.in_ddl', 'off', true);
end $$;

revoke all on all functions in schema pgrelay from public;

do $$
declare
  name_of_publication name := pgrelay.publication();
  script text;
begin
  if not exists (select from pg_publication where pubname = name_of_publication) then
    -- Insert only: publishing updates of a table without replica identity would make the users'
    -- own UPDATE fail, and the triggers capture all operations anyway.
    script := format('create publication %I with (publish = ''insert'')', name_of_publication);
    begin
      execute script;
    exception when insufficient_privilege then
      raise notice 'pgrelay-needs: %;', script;
    end;
  end if;
  script := 'create event trigger pgrelay_ddl on ddl_command_end when tag in (''CREATE TABLE'', ''ALTER TABLE'', '
    || '''CREATE PUBLICATION'', ''ALTER PUBLICATION'') execute function pgrelay.on_ddl()';
  begin
    execute script;
  exception when insufficient_privilege then
    raise notice 'pgrelay-needs: %;', script;
  end;
end $$;
