-- What the HTTP API does, as functions that psql may call as well. They run as the caller: rights and
-- policies decide. Refusals are listed in 0002_caller.sql. Answers are JSON with the fields in the
-- order in which a reader wants them.

create function pgrelay_chat.booking_json(b public.bookings) returns json
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select json_build_object(
    'id', b.id, 'database_id', b.id, 'code', b.code, 'status', b.status, 'status_version', b.status_version,
    'client_id', b.client_id, 'client_name', b.client_name, 'locale', b.locale,
    'created_at', b.created_at, 'closed_at', b.closed_at)
$$;

-- `message` and `sender_type` are other names for `content` and `sender_role`.
create function pgrelay_chat.message_json(m public.messages) returns json
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select case when m.id is not null then json_build_object(
    'id', m.id, 'client_id', m.client_id, 'booking_id', m.booking_id, 'seq', m.seq,
    'sender_role', m.sender_role, 'sender_type', m.sender_role, 'sender_id', m.sender_id,
    'message_type', m.message_type, 'content', m.content, 'message', m.content, 'metadata', m.metadata,
    'reply_to', m.reply_to, 'created_at', m.created_at, 'deleted_at', m.deleted_at) end
$$;

create function pgrelay_chat.receipts_json(booking uuid) returns json
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select coalesce(json_agg(json_build_object(
           'booking_id', r.booking_id, 'participant_id', r.participant_id, 'role', r.role,
           'delivered_seq', r.delivered_seq, 'read_seq', r.read_seq, 'updated_at', r.updated_at)
           order by r.role, r.participant_id), '[]')
    from public.receipts r where r.booking_id = booking
$$;

-- Messages ---------------------------------------------------------------------

-- A page of a conversation, oldest first: the newest messages, those before a seq, or those after one.
-- `cursor` names the page's first and last seq, so that it leads on in both directions.
create function pgrelay_chat.messages(reference text, before bigint, after bigint, rows_max int) returns json
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  booking public.bookings := pgrelay_chat.open_booking(reference);
  page public.messages[];
  has_more boolean;
  first_seq bigint;
  last_seq bigint;
begin
  if after is null then
    page := array(select m from public.messages m
                   where m.booking_id = booking.id and (before is null or m.seq < before)
                   order by m.seq desc limit rows_max + 1);
  else
    page := array(select m from public.messages m
                   where m.booking_id = booking.id and m.seq > after and (before is null or m.seq < before)
                   order by m.seq limit rows_max + 1);
  end if;
  has_more := cardinality(page) > rows_max;
  page := page[:rows_max];
  select min(m.seq), max(m.seq) into first_seq, last_seq from unnest(page) m;
  return json_build_object(
    'booking', pgrelay_chat.booking_json(booking),
    'messages', (select coalesce(json_agg(pgrelay_chat.message_json(m) order by m.seq), '[]') from unnest(page) m),
    'receipts', pgrelay_chat.receipts_json(booking.id),
    'cursor', coalesce(first_seq || '-' || last_seq,
                       case when after is not null then (after + 1) || '-' || after
                            when before is not null then before || '-' || (before - 1) else '1-0' end),
    'has_more', has_more);
end $$;

-- Refuses when the caller wrote `messages_max` messages to this booking within `period`.
create function pgrelay_chat.throttle(booking uuid, messages_max int, period interval) returns void
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  oldest timestamptz;
begin
  -- Mostly one look into an index: a booking whose last messages are older than that is no flood.
  if messages_max is null or pgrelay_chat.is_team() or not exists (
    select from public.messages m
     where m.booking_id = booking and m.created_at > clock_timestamp() - period
       and m.seq = (select max(seq) - messages_max + 1 from public.messages where booking_id = booking))
  then
    return;
  end if;
  select m.created_at into oldest from public.messages m
   where m.booking_id = booking and m.sender_id = pgrelay_chat.caller_id()
   order by m.seq desc offset messages_max - 1 limit 1;
  if oldest > clock_timestamp() - period then
    raise exception 'too many messages' using errcode = 'PC008',
      detail = json_build_object('retry_after', greatest(1, ceil(extract(epoch from oldest + period - clock_timestamp()))));
  end if;
end $$;

-- Sends a message once: the same key with the same message is answered with the one that is there.
create function pgrelay_chat.send(
  reference text, content text, message_type text default 'text', key text default null, metadata jsonb default '{}',
  reply_to uuid default null, messages_max int default null, period interval default '10 seconds',
  out message json, out replayed boolean)
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  booking public.bookings := pgrelay_chat.open_booking(reference);
  sent public.messages;
begin
  -- First the look, so that a repetition is neither throttled nor told that the chat has closed since.
  for attempt in 1..2 loop
    select m.* into sent from public.messages m where m.booking_id = booking.id and m.client_id = key;
    if found then
      if sent.sender_id is distinct from pgrelay_chat.caller_id()
        or sent.message_type <> send.message_type
        or sent.deleted_at is null
           and (sent.content, sent.metadata, sent.reply_to) is distinct from (send.content, send.metadata, send.reply_to)
      then
        raise exception 'this client_id was used for another message' using errcode = 'PC006';
      end if;
      replayed := true;
      message := pgrelay_chat.message_json(sent);
      return;
    end if;
    perform pgrelay_chat.throttle(booking.id, messages_max, period);
    insert into public.messages (booking_id, client_id, message_type, content, metadata, reply_to)
      values (booking.id, key, send.message_type, send.content, send.metadata, send.reply_to)
      on conflict (booking_id, client_id) do nothing
      returning * into sent;
    if found then
      replayed := false;
      message := pgrelay_chat.message_json(sent);
      return;
    end if;
  end loop;
  -- Taken by a message that the caller may not even see.
  raise exception 'this client_id was used for another message' using errcode = 'PC006';
end $$;

-- A system message beside the automatic ones. One that tells a status which the booking has or had (the
-- last time, or at metadata.status_version) is answered with the message that told it.
create function pgrelay_chat.send_system(
  reference text, content text default null, metadata jsonb default '{}', key text default null,
  out message json, out replayed boolean)
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  booking public.bookings;
  told text := lower(btrim(metadata ->> 'status'));
  told_version int;
  sent public.messages;
begin
  perform pgrelay_chat.require_team();
  booking := pgrelay_chat.open_booking(reference);
  if told is not null then
    told_version := case when metadata ->> 'status_version' ~ '^[0-9]{1,9}$' then (metadata ->> 'status_version')::int
                         else coalesce((select max(h.version) from public.booking_status_history h
                                         where h.booking_id = booking.id and h.to_status = told),
                                       booking.status_version) end;
    select m.* into sent
      from public.booking_status_history h join public.messages m on m.id = h.message_id
     where h.booking_id = booking.id and h.version = told_version and h.to_status = told;
    key := coalesce(key, 'system:' || told || ':' || told_version);
  end if;
  if sent.id is null then
    if content is null then
      booking.status := coalesce(told, booking.status);
      content := pgrelay_chat.status_text(booking);
    end if;
    insert into public.messages (booking_id, client_id, message_type, content, metadata)
      values (booking.id, key, 'system', send_system.content, send_system.metadata)
      on conflict (booking_id, client_id) do nothing
      returning * into sent;
    replayed := not found;
    if replayed then
      select m.* into sent from public.messages m where m.booking_id = booking.id and m.client_id = key;
      if sent.message_type <> 'system' then
        raise exception 'this client_id was used for another message' using errcode = 'PC006';
      end if;
    end if;
  else
    replayed := true;
  end if;
  message := pgrelay_chat.message_json(sent);
end $$;

-- Leaves a tombstone; done again, it stays what it is.
create function pgrelay_chat.delete_message(message_id uuid) returns json
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  target public.messages;
begin
  select * into target from public.messages m where m.id = message_id;
  if not found then
    raise exception 'there is no message %', message_id using errcode = 'PC004';
  end if;
  if target.message_type = 'system'
    or target.sender_id is distinct from pgrelay_chat.caller_id() and not pgrelay_chat.is_team() then
    raise exception 'only its author or an operator may delete a message' using errcode = 'PC005';
  end if;
  update public.messages m set deleted_at = clock_timestamp() where m.id = message_id and m.deleted_at is null;
  select * into target from public.messages m where m.id = message_id;
  return json_build_object('message', pgrelay_chat.message_json(target));
end $$;

create function pgrelay_chat.acknowledge(reference text, delivered_seq bigint, read_seq bigint) returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  booking public.bookings := pgrelay_chat.open_booking(reference);
begin
  if pgrelay_chat.caller_id() is null then
    raise exception 'a receipt belongs to a user' using errcode = 'PC002';
  end if;
  insert into public.receipts (booking_id, participant_id, delivered_seq, read_seq)
    values (booking.id, pgrelay_chat.caller_id(), coalesce(acknowledge.delivered_seq, 0), coalesce(acknowledge.read_seq, 0))
    on conflict (booking_id, participant_id)
    do update set delivered_seq = excluded.delivered_seq, read_seq = excluded.read_seq;
end $$;

-- Bookings -----------------------------------------------------------------------

-- The message that told a version of a booking's status.
create function pgrelay_chat.status_message(booking uuid, version int) returns public.messages
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select m from public.booking_status_history h join public.messages m on m.id = h.message_id
   where h.booking_id = $1 and h.version = $2
$$;

-- Changes a booking's status, and closes or reopens its chat. The status that is there already is no
-- change, unless forced. expected_version: the version that the caller's decision rests on. `changed`
-- says whether this call made a new version.
create function pgrelay_chat.set_status(
  reference text, status text, expected_version bigint default null, note text default null, content text default null,
  force boolean default false, closed boolean default null) returns json
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  booking public.bookings;
  wanted text;
  repeated boolean;
begin
  perform pgrelay_chat.require_team();
  booking := pgrelay_chat.open_booking(reference);
  select b.* into booking from public.bookings b where b.id = booking.id for no key update;
  wanted := coalesce(lower(btrim(set_status.status)), booking.status);
  repeated := wanted = booking.status and not force;
  if booking.status_version <> expected_version then
    -- The caller's own change, whose answer was lost on the way, is no conflict.
    if not (repeated and exists (
      select from public.booking_status_history h
       where h.booking_id = booking.id and h.version = booking.status_version and h.version = expected_version + 1
         and h.actor_id = pgrelay_chat.caller_id()))
    then
      raise exception 'the status was changed by somebody else' using errcode = 'PC009',
        detail = json_build_object('booking', pgrelay_chat.booking_json(booking), 'changed_by', (
          select h.actor_name from public.booking_status_history h
           where h.booking_id = booking.id and h.version = booking.status_version));
    end if;
  end if;
  if not repeated or closed <> (booking.closed_at is not null) then
    perform set_config('pgrelay_chat.status_content', coalesce(content, ''), true),
            set_config('pgrelay_chat.status_note', coalesce(note, ''), true);
    update public.bookings b
       set status = wanted,
           status_version = b.status_version + (wanted = b.status and force)::int,
           closed_at = case closed when true then coalesce(b.closed_at, clock_timestamp())
                                   when false then null else b.closed_at end
     where b.id = booking.id
     returning b.* into booking;
    perform set_config('pgrelay_chat.status_content', '', true), set_config('pgrelay_chat.status_note', '', true);
  end if;
  return json_build_object(
    'booking', pgrelay_chat.booking_json(booking),
    'message', pgrelay_chat.message_json(pgrelay_chat.status_message(booking.id, booking.status_version)),
    'changed', not repeated);
end $$;

-- A booking with all that is known of it.
create function pgrelay_chat.booking(reference text) returns json
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  booking public.bookings := pgrelay_chat.open_booking(reference);
begin
  return json_build_object(
    'booking', pgrelay_chat.booking_json(booking),
    'transitions', pgrelay_chat.allowed_transitions(booking.status),
    'assignment', pgrelay_chat.assignment_json(booking.id),
    'participants', (
      select coalesce(json_agg(json_build_object('user_id', p.user_id, 'role', p.role, 'joined_at', p.joined_at)
                               order by p.joined_at, p.user_id), '[]')
        from public.participants p where p.booking_id = booking.id),
    'receipts', pgrelay_chat.receipts_json(booking.id),
    'history', (
      select coalesce(json_agg(json_build_object(
               'version', h.version, 'from', h.from_status, 'to', h.to_status, 'actor_id', h.actor_id,
               'actor_role', h.actor_role, 'actor_name', h.actor_name, 'note', h.note,
               'message_id', h.message_id, 'at', h.at) order by h.version), '[]')
        from public.booking_status_history h where h.booking_id = booking.id));
end $$;
