-- The checklists of a chat that works, answered by the database itself.

-- Plays one conversation and takes it back; null when everything happened as promised.
create function pgrelay_chat.rehearse() returns text
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  client constant uuid := gen_random_uuid();
  operator constant uuid := gen_random_uuid();
  booking uuid;
  told text;
  problem text := 'not finished';
begin
  begin
    insert into public.bookings (code, client_id) values ('REHEARSAL-' || client, client) returning id into booking;
    perform set_config('request.jwt.claims', json_build_object('role', 'authenticated', 'sub', client)::text, true),
            set_config('role', 'authenticated', true);
    perform pgrelay_chat.send('rehearsal-' || client, 'Hello');
    perform set_config('request.jwt.claims', json_build_object('role', 'authenticated', 'sub', operator,
                         'app_metadata', json_build_object('chat_role', 'operator'))::text, true);
    perform pgrelay_chat.send(booking::text, 'Hello back');
    perform pgrelay_chat.set_status(booking::text, 'accepted', 1);
    perform pgrelay_chat.acknowledge(booking::text, 4, 4);
    select string_agg(m.seq || ' ' || m.sender_role || ' ' || coalesce(m.metadata ->> 'status', '-'), ', ' order by m.seq)
      into told from public.messages m where m.booking_id = booking;
    problem := case when told <> '1 system pending, 2 client -, 3 operator -, 4 system accepted'
                    then 'the conversation came out as: ' || coalesce(told, 'nothing') end;
    raise exception using errcode = 'PC999';
  exception
    when sqlstate 'PC999' then null;
    when others then problem := sqlerrm;
  end;
  return problem;
end $$;

-- One row per question. The 1,000 bookings with the newest messages stand for all.
create function pgrelay_chat.examine() returns table (check_name text, problem text, cure text)
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  pub name := pgrelay_chat.publication();
  recent uuid[] := array(select i.booking_id from pgrelay_chat.inbox i order by i.last_at desc, i.booking_id desc limit 1000);
begin
  check_name := 'published';
  select 'not in publication ' || pub || ': ' || string_agg(t::text, ', '),
         case when exists (select from pg_publication where pubname = pub)
              then string_agg(format('alter publication %I add table %s;', pub, t), ' ')
              else 'pgrelay migrate --chat' end
    into problem, cure
    from pgrelay_chat.published_tables() t
   where not exists (select from pg_publication_tables p
                      where p.pubname = pub and format('%I.%I', p.schemaname, p.tablename)::regclass = t);
  return next;

  check_name := 'captured';
  cure := 'pgrelay migrate, then pgrelay serve';
  if to_regnamespace('pgrelay') is null then
    problem := 'schema pgrelay is not installed, so nothing is delivered live';
  else
    select 'changes are not captured on ' || string_agg(t::text, ', ') into problem
      from pgrelay_chat.published_tables() t
     where not exists (select from pg_trigger g join pg_proc f on f.oid = g.tgfoid
                        where g.tgrelid = t and g.tgenabled = 'A'
                          and f.pronamespace = 'pgrelay'::regnamespace and f.proname = 'capture');
  end if;
  return next;

  check_name := 'protected';
  select 'row-level security is off on ' || string_agg(c.oid::regclass::text, ', '),
         string_agg(format('alter table %s enable row level security;', c.oid::regclass), ' ')
    into problem, cure
    from pg_class c
   where c.oid in (select pgrelay_chat.published_tables() union all select 'pgrelay_chat.inbox'::regclass) and not c.relrowsecurity;
  return next;

  check_name := 'roles';
  select string_agg(r.name || case when p.rolname is null then ' does not exist' else ' cannot be used by ' || current_user end, ', '),
         string_agg(case when p.rolname is null then format('create role %I nologin; ', r.name) else '' end
                    || format('grant %I to %I;', r.name, current_user), ' ') || ' -- then: pgrelay migrate --chat'
    into problem, cure
    from unnest(array['anon', 'authenticated', 'service_role']::name[]) r (name)
    left join pg_roles p on p.rolname = r.name
   where p.rolname is null or not pg_has_role(current_user, p.oid, 'member');
  return next;

  check_name := 'told';
  cure := 'enable the triggers of the bookings table again: alter table public.bookings enable trigger user;';
  select nullif(count(*), 0) || ' status changes without a system message' into problem
    from public.bookings b
    cross join generate_series(2, b.status_version) v
    left join public.booking_status_history h on h.booking_id = b.id and h.version = v
    left join public.messages m on m.id = h.message_id and m.booking_id = b.id and m.message_type = 'system'
   where b.id = any (recent) and m.id is null;
  return next;

  check_name := 'complete';
  cure := 'enable the triggers of the messages table again: alter table public.messages enable trigger user;';
  select nullif(count(*), 0) || ' bookings with a gap in their messages' into problem
    from (select from public.messages m where m.booking_id = any (recent)
           group by m.booking_id having count(*) <> max(m.seq)) g;
  return next;

  check_name := 'resolved';
  cure := 'reindex table public.bookings;';
  select nullif(count(*), 0) || ' codes that do not lead to their booking' into problem
    from public.bookings b
   where b.id = any (recent) and pgrelay_chat.resolve(lower(b.code)) is distinct from b.id;
  return next;

  check_name := 'channel';
  cure := 'install schema realtime, then run: pgrelay migrate --chat';
  problem := case when to_regclass('realtime.messages') is null or to_regprocedure('realtime.topic()') is null
                  then 'schema realtime is not installed, so there is no typing and no presence'
                  when (select count(*) from pg_policy p where p.polrelid = to_regclass('realtime.messages')
                                                           and p.polname in ('chat_booking_read', 'chat_booking_write')) < 2
                  then 'realtime.messages lacks the policies of the booking channels' end;
  return next;

  check_name := 'rehearsed';
  cure := 'pgrelay migrate --chat';
  problem := pgrelay_chat.rehearse();
  return next;
end $$;
