-- Who may see and do what. Rights end at columns and policies; what a policy cannot say, a trigger does.

alter table public.bookings enable row level security;
alter table public.messages enable row level security;
alter table public.participants enable row level security;
alter table public.receipts enable row level security;
alter table public.booking_status_history enable row level security;
alter table public.assignments enable row level security;
alter table public.canned_replies enable row level security;
alter table pgrelay_chat.inbox enable row level security;

-- The sub-selects make PostgreSQL ask once per statement and not once per row.
create policy chat_read on public.bookings for select using (
  (select pgrelay_chat.is_operator()) or id in (select pgrelay_chat.caller_bookings()));
create policy chat_team on public.bookings using ((select pgrelay_chat.is_operator()));

create policy chat_read on public.messages for select using (
  (select pgrelay_chat.is_operator())
  or (message_type <> 'note' and booking_id in (select pgrelay_chat.caller_bookings())));
create policy chat_send on public.messages for insert with check (
  (select pgrelay_chat.is_operator()) or booking_id in (select pgrelay_chat.caller_bookings()));
-- Nobody deletes a system message: without it a status would have changed in silence.
create policy chat_delete on public.messages for update using (
  message_type <> 'system'
  and ((select pgrelay_chat.is_operator()) or sender_id = (select pgrelay_chat.caller_id())));
create policy chat_bury on public.messages for delete using (
  message_type <> 'system'
  and ((select pgrelay_chat.is_operator()) or sender_id = (select pgrelay_chat.caller_id())));

create policy chat_read on public.participants for select using (
  (select pgrelay_chat.is_operator()) or booking_id in (select pgrelay_chat.caller_bookings()));
create policy chat_team on public.participants using ((select pgrelay_chat.caller_role()) = 'service_role');

create policy chat_read on public.receipts for select using (
  (select pgrelay_chat.is_operator()) or booking_id in (select pgrelay_chat.caller_bookings()));
create policy chat_own on public.receipts using (
  participant_id = (select pgrelay_chat.caller_id())
  and ((select pgrelay_chat.is_operator()) or booking_id in (select pgrelay_chat.caller_bookings())));
create policy chat_team on public.receipts using ((select pgrelay_chat.caller_role()) = 'service_role');

create policy chat_read on public.booking_status_history for select using (
  (select pgrelay_chat.is_operator()) or booking_id in (select pgrelay_chat.caller_bookings()));

create policy chat_team on public.assignments using ((select pgrelay_chat.is_operator()));
create policy chat_team on public.canned_replies using ((select pgrelay_chat.is_operator()));
create policy chat_team on pgrelay_chat.inbox using ((select pgrelay_chat.is_operator()));

-- The private channel of a booking, for typing and presence: realtime.topic() is 'booking:<id>'.
create function pgrelay_chat.may_join(topic text) returns boolean
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  reference text := substr(topic, length('booking:') + 1);
begin
  if topic not like 'booking:%' or not pgrelay_chat.is_uuid(reference) then
    return false;
  end if;
  return pgrelay_chat.is_client(reference::uuid)
      or pgrelay_chat.is_operator() and exists (select from public.bookings b where b.id = reference::uuid);
end $$;

-- Runs a statement, or says that somebody with more rights has to.
create function pgrelay_chat.attempt(statement text) returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  execute statement;
exception when insufficient_privilege then
  raise notice 'pgrelay-needs: %;', statement;
end $$;

-- The publication that the relay follows.
create function pgrelay_chat.publication() returns name
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if to_regprocedure('pgrelay.publication()') is not null then
    return pgrelay.publication();
  end if;
  return 'supabase_realtime';
end $$;

create function pgrelay_chat.published_tables() returns setof regclass
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select unnest(array['public.bookings', 'public.messages', 'public.participants', 'public.receipts',
                      'public.booking_status_history', 'public.assignments', 'public.canned_replies']::regclass[])
$$;

-- Rights of the roles that requests run as, where they exist.
create function pgrelay_chat.refresh_rights() returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  api_role name;
  tables text := (select string_agg(t::text, ', ') from pgrelay_chat.published_tables() t);
begin
  for api_role in select rolname from pg_roles where rolname in ('authenticated', 'service_role') loop
    if not has_schema_privilege(api_role, pgrelay_chat.tables_schema(), 'usage') then
      perform pgrelay_chat.attempt(format('grant usage on schema %I to %I', pgrelay_chat.tables_schema(), api_role));
    end if;
    execute format('grant select on pgrelay_chat.inbox, pgrelay_chat.status_messages, pgrelay_chat.status_transitions, %s to %I',
                   tables, api_role);
  end loop;
  if exists (select from pg_roles where rolname = 'service_role') then
    execute format('grant insert, update, delete on %s to service_role', tables);
  end if;
  if exists (select from pg_roles where rolname = 'authenticated') then
    grant update (status, status_version, closed_at, client_name, locale) on public.bookings to authenticated;
    grant insert (booking_id, client_id, message_type, content, metadata, reply_to), update (deleted_at), delete
      on public.messages to authenticated;
    grant insert (booking_id, participant_id, delivered_seq, read_seq), update (delivered_seq, read_seq)
      on public.receipts to authenticated;
    grant insert (booking_id, operator_id, operator_name), update (released_at) on public.assignments to authenticated;
    grant insert, update, delete on public.canned_replies to authenticated;
  end if;
end $$;

-- Trigger functions and our own upkeep are for nobody to call: attached to a table of their own, some
-- would write as we do.
create function pgrelay_chat.refresh_functions() returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  -- What policies, triggers and defaults call as whoever writes.
  for_all constant name[] := array['uuid_v7', 'claims', 'is_uuid', 'caller_id', 'caller_role', 'is_operator', 'is_client',
    'caller_bookings', 'may_join'];
  for_callers constant name[] := array['caller_name', 'is_team', 'require_team', 'resolve', 'open_booking',
    'allowed_transitions', 'status_text', 'booking_json', 'message_json', 'receipts_json', 'messages', 'throttle', 'send',
    'send_system', 'delete_message', 'acknowledge', 'status_message', 'set_status', 'booking', 'in_tab', 'search', 'inbox',
    'assignment_json', 'assign', 'unassign', 'canned_replies'];
  callers text := (select string_agg(quote_ident(rolname), ', ') from pg_roles
                    where rolname in ('authenticated', 'service_role'));
  f record;
begin
  grant usage on schema pgrelay_chat to public;
  for f in select p.oid::regprocedure as signature, p.proname from pg_proc p
            where p.pronamespace = 'pgrelay_chat'::regnamespace
  loop
    execute format('revoke execute on function %s from public', f.signature);
    if f.proname = any (for_all) then
      execute format('grant execute on function %s to public', f.signature);
    elsif f.proname = any (for_callers) and callers is not null then
      execute format('grant execute on function %s to %s', f.signature, callers);
    end if;
  end loop;
end $$;

create function pgrelay_chat.refresh_publication() returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  pub record;
  relation regclass;
begin
  select * into pub from pg_publication p where p.pubname = pgrelay_chat.publication();
  for relation in
    select t from pgrelay_chat.published_tables() t
     where not exists (select from pg_publication_rel r where r.prpubid = pub.oid and r.prrelid = t) and not pub.puballtables
  loop
    perform pgrelay_chat.attempt(format('alter publication %I add table %s', pub.pubname, relation));
  end loop;
  if to_regprocedure('pgrelay.sync(oid, boolean)') is not null then
    perform pgrelay.sync();
  end if;
end $$;

create function pgrelay_chat.refresh_channel() returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  p record;
  members text := (select string_agg(quote_ident(rolname), ', ') from pg_roles where rolname in ('authenticated', 'service_role'));
begin
  if to_regclass('realtime.messages') is null or to_regprocedure('realtime.topic()') is null or members is null then
    return;
  end if;
  for p in
    select * from (values ('chat_booking_read', 'select', 'using'), ('chat_booking_write', 'insert', 'with check'))
      v (name, command, clause)
  loop
    if not exists (select from pg_policy where polrelid = 'realtime.messages'::regclass and polname = p.name) then
      perform pgrelay_chat.attempt(format(
        'create policy %I on realtime.messages for %s to %s %s (pgrelay_chat.may_join((select realtime.topic())))',
        p.name, p.command, members, p.clause));
    end if;
  end loop;
end $$;

-- Brings everything around the tables in line: rights, publication, capture, private channels. Running it again
-- changes nothing; every migration ends with it. Roles and publication are made by sql/pgrelay and
-- sql/realtime; what is missing is left out, and examine() says so.
create function pgrelay_chat.refresh() returns void
  language sql
  set search_path = pg_catalog, pg_temp
as $$
  select pgrelay_chat.refresh_rights();
  select pgrelay_chat.refresh_functions();
  select pgrelay_chat.refresh_publication();
  select pgrelay_chat.refresh_channel();
$$;
