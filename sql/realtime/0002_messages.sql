-- Broadcast from the database: schema realtime as applications written for Supabase know it. Names,
-- signatures and effects are Supabase's; where the schema is there already, nothing in it is replaced.

-- A message enters the log in its writer's transaction, as one row: what it is about in new_row, what
-- it says in old_row, as JSON text (op M) or as hex (op B). Like pgrelay.capture(), whose comments
-- hold here too, it must never fail its writer. A message that cannot be logged is not told to those
-- who listen; it stays in its table for those who ask for it later.
create function pgrelay.capture_message() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  message_bytes_max constant int := 16777216;
  segment bigint;
  number bigint;
  about text;
  said text;
begin
  -- Nobody is told of half a message. The rows that try out policies are such.
  if new.event is null or new.private is null or (new.payload is null and new.binary_payload is null) then
    return null;
  end if;
  begin
    number := nextval('pgrelay.log_seq');
    if has_table_privilege('pgrelay.log'::regclass, 'insert') then
      segment := pg_sequence_last_value('pgrelay.log_segment');
    end if;
    if segment >= 0 then
      about := json_build_object('id', new.id, 'topic', new.topic, 'event', new.event, 'private', new.private,
                                 'at', trunc(extract(epoch from new.inserted_at) * 1000000)::bigint);
      said := coalesce(encode(new.binary_payload, 'hex'), new.payload::text);
    end if;
  exception when others then
    raise log 'pgrelay: a message cannot be logged (sqlstate %)', sqlstate;
    return null;
  end;
  if segment is null or segment < 0 or octet_length(said) > message_bytes_max then
    return null;
  end if;
  insert into pgrelay.log (segment, seq, relid, op, new_row, old_row)
  values (segment, number, tg_relid, case when new.binary_payload is null then 'M' else 'B' end, about, said);
  if number % 4096 = 0 or octet_length(said) > 65536 then
    perform pgrelay.check_abandoned();
  end if;
  if not pg_try_advisory_xact_lock_shared(8101814501)
    and current_setting('max_prepared_transactions') = '0' and pg_notification_queue_usage() < 0.5
  then
    perform pg_notify('pgrelay', '');
  end if;
  return null;
end $$;

-- The owner as in 0002_capture.sql. Whoever makes a partition hands the trigger on to it, and nobody
-- can name the function to put it elsewhere.
do $$
declare
  script text := 'grant usage, create on schema pgrelay to pgrelay_capture; '
    'alter function pgrelay.capture_message() owner to pgrelay_capture; '
    || format('grant execute on function pgrelay.capture_message() to %I; ', current_user)
    || 'revoke create on schema pgrelay from pgrelay_capture;';
begin
  if exists (select from pg_roles where rolname = 'pgrelay_capture') then
    execute script;
  else
    raise notice 'pgrelay-needs: %', script;
  end if;
exception when insufficient_privilege then
  raise notice 'pgrelay-needs: %', script;
end $$;
grant execute on function pgrelay.capture_message() to public;

-- The table of messages, looked up without a right on its schema.
create function pgrelay.messages_table() returns pg_class
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select c from pg_class c join pg_namespace n on n.oid = c.relnamespace
   where n.nspname = 'realtime' and c.relname = 'messages'
$$;

-- What realtime.messages lacks to be captured, as a statement; nothing where nothing is.
create function pgrelay.message_trigger_statement() returns text
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select 'create trigger "!pgrelay_message" after insert on realtime.messages '
         'for each row execute function pgrelay.capture_message()'
    from pgrelay.messages_table() m
   where m.oid is not null
     and not exists (select from pg_trigger t
                      where t.tgrelid = m.oid and t.tgfoid = 'pgrelay.capture_message()'::regprocedure)
$$;

-- A round of housekeeping for messages: the trigger, a partition for each of the next days, and
-- nothing older than three days. Each attempt waits at most 50 ms for its lock; what was not to be
-- had is tried again in the next round. Days are those of UTC, as inserted_at is. Partitions are made
-- and dropped only by those who act for the owner of the table: somebody else's has a keeper.
create function pgrelay.keep_messages()
  returns table (action text, detail text, error text)
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set lock_timeout = '50ms'
as $$
declare
  messages pg_class := pgrelay.messages_table();
  today date := timezone('utc', clock_timestamp())::date;
  part text;
  statements text[] := array_remove(array[pgrelay.message_trigger_statement()], null);
  command text;
begin
  if messages.oid is null then
    return;
  end if;
  if messages.relkind = 'p' and pg_has_role(messages.relowner, 'usage') then
    for part, command in
      select d.name, format('create table realtime.%1$I (like realtime.messages including all); '
                            'alter table realtime.%1$I enable row level security; '
                            'alter table realtime.%1$I owner to %2$s; '
                            'alter table realtime.messages attach partition realtime.%1$I for values from (%3$L) to (%4$L)',
                            d.name, messages.relowner::regrole, d.day, d.day + 1)
        from (select to_char(today + n, '"messages_"YYYY_MM_DD') as name, today + n as day from generate_series(0, 3) n) d
       where not exists (select from pg_class c where c.relnamespace = messages.relnamespace and c.relname = d.name)
         -- A day that began in the default partition ends there.
         and not (to_regclass('realtime.messages_default') is not null and d.day = today)
    loop
      statements := statements || command;
    end loop;
    statements := statements || array(
      select format('drop table realtime.%I', c.relname)
        from pg_inherits i join pg_class c on c.oid = i.inhrelid
       where i.inhparent = messages.oid and c.relname ~ '^messages_\d{4}_\d\d_\d\d$'
         and c.relname < to_char(timezone('utc', clock_timestamp()) - interval '72 hours', '"messages_"YYYY_MM_DD'));
    if to_regclass('realtime.messages_default') is not null then
      delete from realtime.messages_default where inserted_at < timezone('utc', clock_timestamp()) - interval '72 hours';
    end if;
  end if;
  foreach command in array statements loop
    begin
      execute command;
      action := 'kept';
      error := null;
    exception when others then
      action := case when sqlstate in ('55P03', '42P07', '40P01') then 'locked' else 'failed' end;
      error := sqlerrm;
    end;
    detail := command;
    return next;
  end loop;
end $$;

-- What a role with these claims may do on a private topic, found out the way it would do it: rows
-- are put there and looked for, and others are tried to be put there. All of it is undone. Policies,
-- and what they call, see the session as the role of the connection has set it up.
create function pgrelay.channel_rights(role_name text, claims text, subject text, topic_name text)
  returns table (broadcast_read boolean, presence_read boolean, broadcast_write boolean, presence_write boolean, problem text)
  language plpgsql
as $$
declare
  probes uuid[] := array[pg_catalog.gen_random_uuid(), pg_catalog.gen_random_uuid()];
  tried text;
  allowed boolean;
begin
  broadcast_read := false;
  presence_read := false;
  broadcast_write := false;
  presence_write := false;
  -- Whoever signs tokens hands out the roles of an application, and not the server.
  if not exists (select from pg_catalog.pg_roles r
                  where r.rolname = role_name and not r.rolsuper and pg_catalog.pg_has_role(r.oid, 'member'))
  then
    problem := pg_catalog.format('role %I cannot be taken on', role_name);
    return next;
    return;
  end if;
  begin
    if pg_catalog.row_security_active('realtime.messages') then
      perform pg_catalog.set_config('role', 'service_role', true);
    end if;
    insert into realtime.messages (id, topic, extension)
      values (probes[1], topic_name, 'broadcast'), (probes[2], topic_name, 'presence');
    perform pg_catalog.set_config('role', role_name, true),
            pg_catalog.set_config('realtime.topic', topic_name, true),
            pg_catalog.set_config('request.jwt.claims', claims, true),
            pg_catalog.set_config('request.jwt.claim.sub', subject, true),
            pg_catalog.set_config('request.jwt.claim.role', role_name, true),
            pg_catalog.set_config('request.headers', '{}', true);
    begin
      select coalesce(pg_catalog.bool_or(m.id = probes[1]), false), coalesce(pg_catalog.bool_or(m.id = probes[2]), false)
        into broadcast_read, presence_read
        from realtime.messages m
       where m.id = any (probes);
    exception
      when insufficient_privilege then null;
      when others then problem := sqlerrm;
    end;
    foreach tried in array array['broadcast', 'presence'] loop
      allowed := false;
      begin
        insert into realtime.messages (topic, extension) values (topic_name, tried);
        allowed := true;
        raise sqlstate 'PGR00';
      exception
        when sqlstate 'PGR00' or insufficient_privilege then null;
        when others then problem := sqlerrm;
      end;
      if tried = 'broadcast' then
        broadcast_write := allowed;
      else
        presence_write := allowed;
      end if;
    end loop;
    raise sqlstate 'PGR00';
  exception when sqlstate 'PGR00' then
    null;
  end;
  return next;
end $$;

revoke all on function pgrelay.messages_table(), pgrelay.message_trigger_statement(), pgrelay.keep_messages(),
  pgrelay.channel_rights(text, text, text, text) from public;

do $$
declare
  f record;
  r text;
  made boolean := false;
begin
  if to_regnamespace('realtime') is null then
    create schema realtime;
  end if;

  -- By day. A sender that had no day to write to would lose its message, so there is always a default.
  -- The clock and not now(): messages of one transaction have an order.
  if (pgrelay.messages_table()).oid is null then
    create table realtime.messages (
      topic          text not null,
      extension      text not null,
      payload        jsonb,
      event          text,
      private        boolean default false,
      updated_at     timestamp not null default timezone('utc', clock_timestamp()),
      inserted_at    timestamp not null default timezone('utc', clock_timestamp()),
      id             uuid not null default gen_random_uuid(),
      binary_payload bytea,
      primary key (id, inserted_at),
      constraint messages_payload_exclusive check (payload is null or binary_payload is null)
    ) partition by range (inserted_at);
    execute format('create table realtime.messages_%s partition of realtime.messages for values from (%L) to (%L)',
                   to_char(timezone('utc', now()), 'YYYY_MM_DD'),
                   timezone('utc', now())::date, timezone('utc', now())::date + 1);
    execute format('alter table realtime.messages_%s enable row level security', to_char(timezone('utc', now()), 'YYYY_MM_DD'));
    create table realtime.messages_default partition of realtime.messages default;
    alter table realtime.messages_default enable row level security;
    create index messages_inserted_at_topic_index on realtime.messages (inserted_at desc, topic)
      where extension = 'broadcast' and private is true;
    alter table realtime.messages enable row level security;
    made := true;
  end if;

  for f in
    select * from (values
      ('topic', '', $f$
        create function realtime.topic() returns text
          language sql stable
          as $b$ select nullif(current_setting('realtime.topic', true), '') $b$ $f$),

      -- Whatever goes wrong is a warning: a message must not undo the change it tells of. The
      -- setting realtime.topic is what policies see.
      ('send', 'jsonb, text, text, boolean', $f$
        create function realtime.send(payload jsonb, event text, topic text, private boolean default true) returns void
          language plpgsql
          as $b$
        declare
          message_id uuid := gen_random_uuid();
        begin
          if not payload ? 'id' then
            payload := jsonb_set(payload, '{id}', to_jsonb(message_id));
          end if;
          perform set_config('realtime.topic', topic, true);
          insert into realtime.messages (id, payload, event, topic, private, extension)
            values (message_id, payload, event, topic, private, 'broadcast');
        exception when others then
          raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
        end $b$ $f$),

      ('send_binary', 'bytea, text, text, boolean', $f$
        create function realtime.send_binary(payload bytea, event text, topic text, private boolean default true) returns void
          language plpgsql
          as $b$
        begin
          perform set_config('realtime.topic', topic, true);
          insert into realtime.messages (id, binary_payload, event, topic, private, extension)
            values (gen_random_uuid(), payload, event, topic, private, 'broadcast');
        exception when others then
          raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
        end $b$ $f$),

      -- Called by a row trigger of an application. What goes wrong in here is the application's
      -- mistake and does undo the change.
      ('broadcast_changes', 'text, text, text, text, text, record, record, text', $f$
        create function realtime.broadcast_changes(topic_name text, event_name text, operation text, table_name text,
                                                   table_schema text, new record, old record, level text default 'ROW')
          returns void
          language plpgsql
          as $b$
        begin
          if level = 'STATEMENT' then
            raise exception 'function can only be triggered for each row, not for each statement';
          end if;
          if operation not in ('INSERT', 'UPDATE', 'DELETE') then
            raise exception 'Unexpected operation type: %', operation;
          end if;
          perform realtime.send(
            jsonb_build_object('old_record', old, 'record', new, 'operation', operation,
                               'table', table_name, 'schema', table_schema),
            event_name, topic_name);
        exception when others then
          raise exception 'Failed to process the row: %', sqlerrm;
        end $b$ $f$)
    ) v (name, arguments, definition)
  loop
    continue when exists (
      select from pg_proc p join pg_namespace n on n.oid = p.pronamespace
       where n.nspname = 'realtime' and p.proname = f.name
         and (select coalesce(string_agg(format_type(t.oid, null), ', ' order by t.place), '')
                from unnest(p.proargtypes) with ordinality t (oid, place)) = f.arguments);
    execute f.definition;
  end loop;

  if made then
    for r in select rolname from pg_roles where rolname in ('anon', 'authenticated', 'service_role') loop
      execute format('grant usage on schema realtime to %I', r);
      execute format('grant select, insert, update on realtime.messages to %I', r);
    end loop;
  end if;
exception when insufficient_privilege then
  raise notice 'pgrelay-needs: -- schema realtime belongs to %: it is used as it is (%)',
    (select nspowner::regrole from pg_namespace where nspname = 'realtime'), sqlerrm;
end $$;

do $$
declare
  script text := pgrelay.message_trigger_statement();
begin
  if script is not null then
    execute script;
  end if;
  perform pgrelay.keep_messages();
exception when insufficient_privilege then
  raise notice 'pgrelay-needs: %;', script;
end $$;
