-- What only operators need: the inbox, who takes care of a booking, canned replies.

create function pgrelay_chat.in_tab(i pgrelay_chat.inbox, tab text, operator uuid) returns boolean
  language sql immutable
as $$
  select case tab when 'open' then not i.closed
                  when 'unassigned' then not i.closed and i.assigned_to is null
                  when 'mine' then not i.closed and i.assigned_to = operator
                  when 'closed' then i.closed
                  else true end
$$;

-- Bookings whose code or name contains the text, or whose messages contain its words.
create function pgrelay_chat.search(query text) returns uuid[]
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select array(
    select b.id from public.bookings b
     where position(upper(query) in upper(b.code)) > 0 or position(upper(query) in upper(b.client_name)) > 0
    union
    select m.booking_id from public.messages m
     where to_tsvector('simple', m.content) @@ websearch_to_tsquery('simple', query)
    limit 1000)
$$;

-- A page of the inbox, in the order of a number that rises from row to row: those who wait longest
-- first, then those who do not wait; or those with the newest message first. A page begins after
-- (after_rank, after_id). Each bound is written for both orders, so that an index serves either.
create function pgrelay_chat.inbox(
  tab text, statuses text[], query text, by_recent boolean, after_rank bigint, after_id uuid, rows_max int) returns json
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  operator uuid := pgrelay_chat.caller_id();
  matches uuid[] := case when query is not null then pgrelay_chat.search(query) end;
  after_time timestamptz := case when after_rank is null then null when after_rank = 9223372036854775807 then 'infinity'
                                 else timestamptz 'epoch' + after_rank * interval '1 microsecond' end;
  page pgrelay_chat.inbox[];
  has_more boolean;
begin
  perform pgrelay_chat.require_team();
  if by_recent then
    page := array(
      select i from pgrelay_chat.inbox i
       where pgrelay_chat.in_tab(i, tab, operator) and (statuses is null or i.status = any (statuses))
         and (matches is null or i.booking_id = any (matches))
         and (after_id is null or (i.last_at, i.booking_id) < (after_time, after_id))
       order by i.last_at desc, i.booking_id desc limit rows_max + 1);
  else
    page := array(
      select i from pgrelay_chat.inbox i
       where pgrelay_chat.in_tab(i, tab, operator) and (statuses is null or i.status = any (statuses))
         and (matches is null or i.booking_id = any (matches))
         and (after_id is null or (coalesce(i.waiting_since, 'infinity'), i.booking_id) > (after_time, after_id))
       order by coalesce(i.waiting_since, 'infinity'), i.booking_id limit rows_max + 1);
  end if;
  has_more := cardinality(page) > rows_max;
  page := page[:rows_max];
  return json_build_object(
    'bookings', (
      select coalesce(json_agg(json_build_object(
               'id', b.id, 'database_id', b.id, 'code', b.code, 'status', b.status, 'status_version', b.status_version,
               'client_id', b.client_id, 'client_name', b.client_name, 'locale', b.locale,
               'created_at', b.created_at, 'closed_at', b.closed_at,
               'last_message', pgrelay_chat.message_json(m), 'waiting_since', i.waiting_since, 'unread', i.unread,
               'assigned_to', i.assigned_to) order by i.ordinality), '[]')
        from unnest(page) with ordinality i
        join public.bookings b on b.id = i.booking_id
        left join public.messages m on m.booking_id = i.booking_id and m.seq = i.last_seq),
    'counts', (
      select json_build_object(
               'open', count(*),
               'unassigned', count(*) filter (where i.assigned_to is null),
               'mine', count(*) filter (where i.assigned_to = operator))
        from pgrelay_chat.inbox i where not i.closed),
    'cursor', (
      select case when has_more then
               (case when by_recent then (extract(epoch from i.last_at) * 1000000)::bigint
                     when i.waiting_since is null then 9223372036854775807
                     else (extract(epoch from i.waiting_since) * 1000000)::bigint end) || '.' || i.booking_id end
        from (select (page[cardinality(page)]).*) i),
    'has_more', has_more);
end $$;

create function pgrelay_chat.assignment_json(booking uuid) returns json
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select json_build_object('id', a.id, 'booking_id', a.booking_id, 'operator_id', a.operator_id,
                           'operator_name', a.operator_name, 'assigned_at', a.assigned_at)
    from public.assignments a where a.booking_id = booking and a.released_at is null
$$;

-- Takes a booking over. What somebody else has taken stays theirs unless `force` is given.
create function pgrelay_chat.assign(
  reference text, operator uuid default null, force boolean default false, out assignment json, out replayed boolean)
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  booking public.bookings;
  assignee uuid := coalesce(operator, pgrelay_chat.caller_id());
  assignee_name text := case when assignee = pgrelay_chat.caller_id() then pgrelay_chat.caller_name() end;
  holder uuid;
begin
  perform pgrelay_chat.require_team();
  booking := pgrelay_chat.open_booking(reference);
  if assignee is null then
    raise exception 'nobody to assign it to' using errcode = 'PC012', detail = '{"field":"operator_id"}';
  end if;
  -- One at a time, so that each sees whom the one before has made the assignee.
  perform from public.bookings b where b.id = booking.id for no key update;
  select a.operator_id into holder from public.assignments a where a.booking_id = booking.id and a.released_at is null;
  replayed := holder is not distinct from assignee;
  if not replayed then
    if holder is not null and not force then
      raise exception 'somebody else takes care of this booking' using errcode = 'PC011',
        detail = json_build_object('assignment', pgrelay_chat.assignment_json(booking.id));
    end if;
    update public.assignments a set released_at = clock_timestamp()
     where a.booking_id = booking.id and a.released_at is null;
    insert into public.assignments (booking_id, operator_id, operator_name)
      values (booking.id, assignee, assignee_name);
  end if;
  assignment := pgrelay_chat.assignment_json(booking.id);
end $$;

create function pgrelay_chat.unassign(reference text) returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  booking public.bookings;
begin
  perform pgrelay_chat.require_team();
  booking := pgrelay_chat.open_booking(reference);
  update public.assignments a set released_at = clock_timestamp()
   where a.booking_id = booking.id and a.released_at is null;
end $$;

create function pgrelay_chat.canned_replies(wanted_locale text default null) returns json
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform pgrelay_chat.require_team();
  return json_build_object('canned_replies', (
    select coalesce(json_agg(json_build_object('shortcut', c.shortcut, 'locale', c.locale, 'body', c.body)
                             order by c.shortcut, c.locale), '[]')
      from public.canned_replies c where wanted_locale is null or c.locale = wanted_locale));
end $$;
