-- Which tables are captured: those of the publication. Triggers are attached where they are missing.

create function pgrelay.publication() returns name
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$ select value::name from pgrelay.meta where key = 'publication' $$;

-- Whether the publication names a relation: itself, its schema, or all tables.
create function pgrelay.publishes(relation oid) returns boolean
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  pub pg_publication;
begin
  select * into pub from pg_publication where pubname = pgrelay.publication();
  return pub.puballtables
    or exists (select from pg_publication_rel r where r.prpubid = pub.oid and r.prrelid = relation)
    -- Schemas can be published since PostgreSQL 15; before it the catalog does not exist.
    or current_setting('server_version_num')::int >= 150000 and pgrelay.publishes_schema_of(pub.oid, relation);
end $$;

create function pgrelay.publishes_schema_of(publication oid, relation oid) returns boolean
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (select from pg_publication_namespace n join pg_class c on c.relnamespace = n.pnnspid
                  where n.pnpubid = publication and c.oid = relation);
end $$;

-- Relations whose changes are delivered, under the name they are delivered as.
create function pgrelay.published()
  returns table (relid oid, name_relid oid)
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  -- A partitioned table is listed by its root or by its leaves, as the publication says; changes
  -- are always captured on the leaves. Older servers list both where both were added.
  select distinct on (leaf.oid) leaf.oid, c.oid
    from pg_publication_tables t
    join pg_namespace n on n.nspname = t.schemaname
    join pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
    cross join lateral (
      select c.oid where c.relkind = 'r'
      union all
      select p.relid from pg_partition_tree(c.oid) p join pg_class l on l.oid = p.relid
       where c.relkind = 'p' and l.relkind = 'r'
    ) leaf
   where t.pubname = pgrelay.publication()
     and n.nspname not in ('pgrelay', 'realtime', 'auth', 'storage')
     and c.relpersistence = 'p'
   order by leaf.oid, c.relkind = 'p' desc
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
        where pgrelay.publishes(a.relid)
        order by a.depth desc limit 1),
      p.relid)
    from pgrelay.published() p
$$;

-- The capture triggers of a relation, told by their function: their names differ, because a table
-- that is captured by itself may become a partition of one that is, and then has both for a moment.
-- `version` is that of their catalog rows, the one for truncation included: another one means that
-- they were off for a while.
create function pgrelay.capture_triggers(relation oid)
  returns table (name name, inherited boolean, enabled "char", version text)
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select t.tgname, t.tgparentid <> 0, t.tgenabled, concat(t.oid, '.', t.xmin, ' ', u.oid, '.', u.xmin)
    from pg_trigger t
    left join pg_trigger u on u.tgrelid = t.tgrelid and u.tgname = '!pgrelay_truncate'
   where t.tgrelid = relation and t.tgfoid = 'pgrelay.capture()'::regprocedure
   order by t.tgparentid <> 0 desc
$$;

-- What is missing for a relation to be captured once, as statements; no rows where nothing is.
create function pgrelay.attach_statements(relation oid, point oid) returns setof text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  target oid;
  -- '!' sorts before every letter: our trigger logs a change before a user's own trigger adds to it.
  own_name name := '!pgrelay_capture_' || point;
  created boolean := not exists (select from pgrelay.capture_triggers(relation) t where relation = point or t.inherited);
begin
  if created then
    return next format('create trigger %I after insert or update or delete on %s '
                       'for each row execute function pgrelay.capture()', own_name, point::regclass);
    return next format('alter table %s enable always trigger %I', point::regclass, own_name);
  end if;
  -- Whoever inherits a trigger gives up its own.
  return query select format('drop trigger %I on %s', t.name, p.relid)
    from (select relation::regclass as relid where relation <> point
          union select d.relid from pg_partition_tree(point) d where created and d.relid <> point) p,
         pgrelay.capture_triggers(p.relid) t
   where not t.inherited;
  -- Always enabled: also in sessions that replay another server's changes. Being truncated is not
  -- inherited.
  foreach target in array case when relation = point then array[point] else array[point, relation] end loop
    return query select format('alter table %s enable always trigger %I', target::regclass, t.name)
      from pgrelay.capture_triggers(target) t where t.enabled <> 'A';
    if not exists (select from pg_trigger t where t.tgrelid = target and t.tgname = '!pgrelay_truncate') then
      return next format('create trigger "!pgrelay_truncate" after truncate on %s '
                         'for each statement execute function pgrelay.capture_truncate()', target::regclass);
    end if;
    if not exists (select from pg_trigger t where t.tgrelid = target and t.tgname = '!pgrelay_truncate' and t.tgenabled = 'A') then
      return next format('alter table %s enable always trigger "!pgrelay_truncate"', target::regclass);
    end if;
  end loop;
end $$;

-- Brings triggers in line with the publication; a row for each relation that was, or is, not in
-- line. A relation whose trigger went away, or was replaced, may have lost changes: a hole.
-- relation: only this one (a partitioned table stands for its partitions). apply false: no DDL; what
-- somebody else has attached is noted all the same, or its gaps would never be noticed.
-- A lock request that queues would make every writer behind it wait, hence the timeout.
create function pgrelay.sync(relation oid default null, apply boolean default true)
  returns table (relid oid, name text, action text, statement text, error text)
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set lock_timeout = '50ms'
as $$
#variable_conflict use_column
declare
  c record;
  known text;
  gap boolean;
  statements text[];
  command text;
begin
  perform set_config('pgrelay.syncing', 'on', true);  -- the DDL in here is no news to the hook
  for c in
    select * from pgrelay.captured() c
     where relation is null or relation in (c.relid, c.point)
        or exists (select from pg_partition_ancestors(c.relid) a where a.relid = relation)
     order by c.relid
  loop
    statements := array(select pgrelay.attach_statements(c.relid, c.point));
    known := (select a.trigger_row from pgrelay.attached a where a.relid = c.relid);
    gap := known is not null and known not in (select t.version from pgrelay.capture_triggers(c.relid) t);
    if statements = '{}' and known is not null and not gap then
      continue;
    end if;
    if not apply and statements <> '{}' then
      return query select c.relid, c.relid::regclass::text, 'missing', array_to_string(statements, '; '), null::text;
      continue;
    end if;
    begin
      foreach command in array statements loop
        execute command;
      end loop;
      if gap then
        perform pgrelay.log_hole(c.relid);
      end if;
      insert into pgrelay.attached (relid, trigger_row)
        select c.relid, t.version from pgrelay.capture_triggers(c.relid) t limit 1
        on conflict on constraint attached_pkey do update set trigger_row = excluded.trigger_row, since = clock_timestamp();
      return query select c.relid, c.relid::regclass::text, 'attached', array_to_string(statements, '; '), null::text;
    exception when others then
      -- Where another session attached at the same time there is nothing left to do.
      return query select c.relid, c.relid::regclass::text,
                          case when sqlstate in ('55P03', '42710', '42704') then 'locked' else 'failed' end,
                          array_to_string(statements, '; '), sqlerrm;
    end;
  end loop;
  delete from pgrelay.attached a
   where a.relid in (select b.relid from pgrelay.attached b
                      where not exists (select from pg_class c where c.oid = b.relid) for update skip locked);
  perform set_config('pgrelay.syncing', 'off', true);
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

-- Whether the server would let a table be updated and deleted from while that is published.
create function pgrelay.has_replica_identity(relation oid) returns boolean
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select c.relreplident = 'f'
      or exists (select from pg_index i
                  where i.indrelid = c.oid and i.indisvalid and i.indimmediate
                    and (c.relreplident = 'd' and i.indisprimary or c.relreplident = 'i' and i.indisreplident))
    from pg_class c
   where c.oid = relation
$$;

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
  if (pub.pubupdate or pub.pubdelete) and exists (
      select from (select relation union select t.relid from pg_partition_tree(relation) t where t.isleaf) r
       where not pgrelay.has_replica_identity(r.relation))
  then
    raise exception 'publication % publishes updates and deletes, and % has no replica identity: publishing it would make your own UPDATE and DELETE fail',
        pub.pubname, relation
      using hint = format('give it a primary key, or run: alter table %s replica identity full', relation);
  end if;
  if not pgrelay.publishes(relation) then
    statement := format('alter publication %I add table %s', pub.pubname, relation);
    execute statement;
    return next statement;
  end if;
  for statement, problem in select s.statement, s.error from pgrelay.sync(relation) s loop
    if problem is not null then
      raise exception 'triggers of % could not be attached: %', relation, problem;
    end if;
    if statement <> '' then
      return next statement;
    end if;
  end loop;
end $$;

-- Takes a table out of the publication and drops its triggers; returns the statements.
create function pgrelay.disable(relation regclass) returns setof text
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set lock_timeout = '1s'
as $$
declare
  statement text;
begin
  for statement in
    select format('alter publication %I drop table %s', b.pubname, relation)
      from pg_publication b join pg_publication_rel r on r.prpubid = b.oid
     where b.pubname = pgrelay.publication() and r.prrelid = relation
  loop
    execute statement;
    return next statement;
  end loop;
  if exists (select from pgrelay.published() p
              where p.relid = relation or p.relid in (select t.relid from pg_partition_tree(relation) t))
  then
    raise exception '% is still published: with all tables, with its schema, with the table it is a partition of, or by a partition of its own',
        relation
      using hint = 'change that first';
  end if;
  for statement in
    select format('drop trigger %I on %s', t.tgname, t.tgrelid::regclass)
      from pg_trigger t
     where t.tgfoid in ('pgrelay.capture()'::regprocedure, 'pgrelay.capture_truncate()'::regprocedure)
       and t.tgparentid = 0
       and (t.tgrelid = relation or t.tgrelid in (select p.relid from pg_partition_tree(relation) p))
  loop
    execute statement;
    return next statement;
  end loop;
  delete from pgrelay.attached a
   where a.relid = relation or a.relid in (select p.relid from pg_partition_tree(relation) p);
end $$;

-- DDL hook, where an event trigger is allowed: attaches at once and tells the relay. Whatever goes
-- wrong in here is left to the relay's own rounds; it must not fail the user's DDL. Tables that the
-- command does not speak of are left alone, because attaching locks them until the user commits.
create function pgrelay.on_ddl() returns event_trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  tables oid[];
begin
  if current_setting('pgrelay.syncing', true) = 'on' then
    return;
  end if;
  begin
    if tg_tag in ('CREATE PUBLICATION', 'ALTER PUBLICATION') then
      perform pgrelay.sync();
    else
      tables := array(select d.objid from pg_event_trigger_ddl_commands() d
                       where d.classid = 'pg_class'::regclass and d.schema_name <> 'pg_temp');
      if not exists (select from pgrelay.captured() c
                      where c.relid = any (tables) or c.point = any (tables)
                         or exists (select from pg_partition_ancestors(c.relid) a where a.relid = any (tables)))
      then
        tables := '{}';
      end if;
      perform pgrelay.sync(t) from unnest(tables) t;
    end if;
    if (tables is null or tables <> '{}')
      and current_setting('max_prepared_transactions') = '0' and pg_notification_queue_usage() < 0.5
    then
      perform pg_notify('pgrelay_catalog', '');
    end if;
  exception when others then
    raise log 'pgrelay: triggers are left to the next round (sqlstate %)', sqlstate;
  end;
end $$;

revoke all on all functions in schema pgrelay from public;
-- Whoever makes a partition of a captured table inherits the trigger, and needs this for it. The
-- schema stays closed: nobody can name the functions to put them on a table of his own.
grant execute on function pgrelay.capture(), pgrelay.capture_truncate() to public;

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
  script := 'create event trigger pgrelay_ddl on ddl_command_end when tag in (''CREATE TABLE'', ''CREATE TABLE AS'', '
    || '''SELECT INTO'', ''ALTER TABLE'', ''CREATE PUBLICATION'', ''ALTER PUBLICATION'') execute function pgrelay.on_ddl()';
  begin
    execute script;
  exception when insufficient_privilege then
    raise notice 'pgrelay-needs: %;', script;
  end;
end $$;
