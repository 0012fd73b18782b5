-- What must be true whoever writes: psql, the API, a service. Triggers, each for one promise.

-- Who sent a message. End users, those whom row-level security holds for, cannot choose.
create function pgrelay_chat.stamp_sender() returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  client boolean;
begin
  if row_security_active(tg_relid) and pgrelay_chat.caller_role() <> 'service_role' then
    client := pgrelay_chat.is_client(new.booking_id);
    if new.message_type <> 'text' and (client or not pgrelay_chat.is_operator()) then
      raise exception 'only operators may write a % message', new.message_type using errcode = 'PC003';
    end if;
    new.sender_id := pgrelay_chat.caller_id();
    new.sender_role := case when client then 'client' else 'operator' end;
  end if;
  if new.sender_id is null then
    new.sender_id := pgrelay_chat.caller_id();
  end if;
  if new.message_type = 'system' then
    new.sender_role := 'system';
  elsif new.sender_role is null then
    new.sender_role := case when exists (select from public.bookings b where b.id = new.booking_id and b.client_id = new.sender_id)
                            then 'client' else 'operator' end;
  end if;
  if new.reply_to is not null
    and not exists (select from public.messages m where m.id = new.reply_to and m.booking_id = new.booking_id) then
    raise exception 'the message that this one replies to is not in this booking'
      using errcode = 'PC012', detail = '{"field":"reply_to"}';
  end if;
  new.client_id := coalesce(new.client_id, new.id::text);
  return new;
end $$;

-- Which message it is. Computed from the rows themselves under the booking's lock, so there is no
-- gap, whatever becomes of the row afterwards.
create function pgrelay_chat.number_message() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform from pgrelay_chat.inbox i where i.booking_id = new.booking_id for no key update;
  if new.message_type = 'text'
    and exists (select from public.bookings b where b.id = new.booking_id and b.closed_at is not null) then
    raise exception 'this chat is closed' using errcode = 'PC007';
  end if;
  new.seq := coalesce((select max(m.seq) from public.messages m where m.booking_id = new.booking_id), 0) + 1;
  new.created_at := coalesce(new.created_at, clock_timestamp());
  return new;
end $$;

-- Keeps the inbox: once per statement, because a row that is updated again and again within one
-- transaction gets slower each time.
create function pgrelay_chat.count_messages() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  update pgrelay_chat.inbox i
     set last_seq = coalesce(s.last_seq, i.last_seq),
         last_at = s.last_at,
         waiting_since = case when s.answered_seq is null then coalesce(i.waiting_since, s.asked_at) else s.asked_at end,
         unread = s.asked + case when s.answered_seq is null then i.unread else 0 end,
         read_seq = coalesce(s.answered_seq, i.read_seq)
    from (select m.booking_id, a.answered_seq,
                 max(m.seq) filter (where m.message_type <> 'note') as last_seq,
                 max(m.created_at) as last_at,
                 count(*) filter (where m.sender_role = 'client' and m.message_type = 'text'
                                    and (a.answered_seq is null or m.seq > a.answered_seq)) as asked,
                 min(m.created_at) filter (where m.sender_role = 'client' and m.message_type = 'text'
                                    and (a.answered_seq is null or m.seq > a.answered_seq)) as asked_at
            from sent m
            left join (select booking_id, max(seq) as answered_seq from sent
                        where sender_role = 'operator' and message_type = 'text' group by booking_id) a
              on a.booking_id = m.booking_id
           group by m.booking_id, a.answered_seq) s
   where i.booking_id = s.booking_id;
  return null;
end $$;

-- A message keeps its place and its author for ever; deleted, it stays as a tombstone.
create function pgrelay_chat.keep_message() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  if old.deleted_at is not null then
    return null;
  end if;
  if (new.id, new.booking_id, new.seq, new.client_id, new.sender_role, new.sender_id, new.message_type, new.created_at)
    is distinct from
     (old.id, old.booking_id, old.seq, old.client_id, old.sender_role, old.sender_id, old.message_type, old.created_at)
  then
    raise exception 'a message keeps its identity, its place and its author'
      using errcode = 'object_not_in_prerequisite_state';
  end if;
  if new.deleted_at is not null then
    new.content := null;
    new.metadata := '{}';
  end if;
  -- Before the row is written: somebody who holds this lock and sends under the same client_id would
  -- wait for the writer of the row.
  perform from pgrelay_chat.inbox i where i.booking_id = new.booking_id for no key update;
  return new;
end $$;

-- DELETE leaves a tombstone, except where the whole booking goes.
create function pgrelay_chat.bury_message() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from public.bookings b where b.id = old.booking_id) then
    return old;
  end if;
  update public.messages set deleted_at = clock_timestamp() where id = old.id;
  return null;
end $$;

create function pgrelay_chat.uncount_message() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  update pgrelay_chat.inbox i
     set unread = pgrelay_chat.unread(i.booking_id, i.read_seq),
         waiting_since = case when i.waiting_since is not null then (
           select min(m.created_at) from public.messages m
            where m.booking_id = i.booking_id and m.sender_role = 'client' and m.message_type = 'text' and m.deleted_at is null
              and m.seq > coalesce((select max(a.seq) from public.messages a
                                     where a.booking_id = i.booking_id and a.sender_role = 'operator' and a.message_type = 'text'), 0))
         end
   where i.booking_id = new.booking_id;
  return null;
end $$;

create function pgrelay_chat.unread(booking uuid, after bigint) returns int
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select count(*)::int from public.messages m
   where m.booking_id = booking and m.seq > after
     and m.sender_role = 'client' and m.message_type = 'text' and m.deleted_at is null
$$;

create trigger chat_1_sender before insert on public.messages
  for each row execute function pgrelay_chat.stamp_sender();
create trigger chat_2_number before insert on public.messages
  for each row execute function pgrelay_chat.number_message();
create trigger chat_count after insert on public.messages referencing new table as sent
  for each statement execute function pgrelay_chat.count_messages();
create trigger chat_keep before update on public.messages
  for each row execute function pgrelay_chat.keep_message();
create trigger chat_bury before delete on public.messages
  for each row execute function pgrelay_chat.bury_message();
create trigger chat_uncount after update of deleted_at on public.messages
  for each row execute function pgrelay_chat.uncount_message();

-- Status ---------------------------------------------------------------------

create function pgrelay_chat.allowed_transitions(from_status text) returns text[]
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(t.to_status order by t.to_status), '{}')
    from pgrelay_chat.status_transitions t where t.from_status = $1
$$;

create function pgrelay_chat.check_status() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  known text[];
begin
  new.status := lower(btrim(new.status));
  if tg_op = 'INSERT' then
    new.status_version := 1;
  elsif new.status <> old.status then
    select array_agg(t.from_status) || array_agg(t.to_status) into known from pgrelay_chat.status_transitions t;
    if old.status = any (known) and new.status = any (known)
      and new.status <> all (pgrelay_chat.allowed_transitions(old.status)) then
      raise exception 'a booking that is % cannot become %', old.status, new.status
        using errcode = 'PC010',
              detail = json_build_object('from', old.status, 'to', new.status,
                                         'allowed', pgrelay_chat.allowed_transitions(old.status));
    end if;
    new.status_version := old.status_version + 1;
  elsif new.status_version <> old.status_version then
    -- The same status is to be told once more.
    new.status_version := old.status_version + 1;
  end if;
  return new;
end $$;

-- What the chat says about a status.
create function pgrelay_chat.status_text(booking public.bookings) returns text
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select replace(replace(t.content, '{status}', booking.status), '{code}', booking.code)
    from pgrelay_chat.status_messages t
   where t.status in (booking.status, '*') and t.locale in (booking.locale, split_part(booking.locale, '-', 1), 'en')
   order by t.status = '*', t.locale <> booking.locale, t.locale = 'en'
   limit 1
$$;

-- Tells a new status: its system message and its line in the history, in the transaction that set it.
-- Other words, and a note, may be given by set_config('pgrelay_chat.status_content' | '...note').
create function pgrelay_chat.announce_status() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  before text := case tg_op when 'UPDATE' then old.status end;
  message uuid;
begin
  insert into public.messages (booking_id, message_type, content, metadata)
    values (new.id, 'system',
            coalesce(nullif(current_setting('pgrelay_chat.status_content', true), ''), pgrelay_chat.status_text(new),
                     'Status: ' || new.status),
            json_build_object('status', new.status, 'previous_status', before, 'status_version', new.status_version,
                              'timestamp', to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')))
    returning id into message;
  insert into public.booking_status_history
      (booking_id, version, from_status, to_status, actor_id, actor_role, actor_name, note, message_id)
    values (new.id, new.status_version, before, new.status, pgrelay_chat.caller_id(),
            case when pgrelay_chat.is_operator() then 'operator' else 'system' end, pgrelay_chat.caller_name(),
            nullif(current_setting('pgrelay_chat.status_note', true), ''), message);
  return null;
end $$;

-- The rows that every booking has.
create function pgrelay_chat.open_chat() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  insert into pgrelay_chat.inbox (booking_id, status, closed, last_at)
    values (new.id, new.status, new.closed_at is not null, new.created_at);
  if new.client_id is not null then
    insert into public.participants (booking_id, user_id, role) values (new.id, new.client_id, 'client');
  end if;
  return null;
end $$;

-- A closed chat: the inbox row's lock orders closing among the messages.
create function pgrelay_chat.follow_booking() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  update pgrelay_chat.inbox i
     set status = new.status, closed = new.closed_at is not null
   where i.booking_id = new.id;
  if new.client_id is distinct from old.client_id then
    delete from public.participants p where p.booking_id = new.id and p.user_id = old.client_id and p.role = 'client';
    if new.client_id is not null then
      insert into public.participants (booking_id, user_id, role) values (new.id, new.client_id, 'client')
        on conflict (booking_id, user_id) do update set role = 'client';
    end if;
  end if;
  return null;
end $$;

create trigger chat_status before insert or update on public.bookings
  for each row execute function pgrelay_chat.check_status();
create trigger chat_1_open after insert on public.bookings
  for each row execute function pgrelay_chat.open_chat();
create trigger chat_1_follow after update of status, closed_at, client_id on public.bookings
  for each row when ((old.status, old.closed_at, old.client_id) is distinct from (new.status, new.closed_at, new.client_id))
  execute function pgrelay_chat.follow_booking();
create trigger chat_2_announce after insert on public.bookings
  for each row execute function pgrelay_chat.announce_status();
create trigger chat_2_announce_change after update on public.bookings
  for each row when (old.status_version <> new.status_version)
  execute function pgrelay_chat.announce_status();

-- Receipts -------------------------------------------------------------------

-- A watermark only rises, and never above what there is; one that does not rise is no change.
create function pgrelay_chat.raise_receipt() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  newest bigint := coalesce((select max(m.seq) from public.messages m where m.booking_id = new.booking_id), 0);
begin
  new.read_seq := least(newest, new.read_seq);
  new.delivered_seq := greatest(least(newest, new.delivered_seq), new.read_seq);
  if tg_op = 'UPDATE' then
    if (new.booking_id, new.participant_id) <> (old.booking_id, old.participant_id) then
      raise exception 'a receipt keeps its owner' using errcode = 'object_not_in_prerequisite_state';
    end if;
    new.read_seq := greatest(old.read_seq, new.read_seq);
    new.delivered_seq := greatest(old.delivered_seq, new.delivered_seq);
    if (new.delivered_seq, new.read_seq) = (old.delivered_seq, old.read_seq) then
      return null;
    end if;
  end if;
  new.read_seq := greatest(new.read_seq, 0);
  new.delivered_seq := greatest(new.delivered_seq, 0);
  new.role := coalesce((select p.role from public.participants p
                         where p.booking_id = new.booking_id and p.user_id = new.participant_id), 'operator');
  new.updated_at := clock_timestamp();
  return new;
end $$;

create function pgrelay_chat.count_read() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- Locked by a statement of its own, so that the next one counts what the lock waited for.
  perform from pgrelay_chat.inbox i where i.booking_id = new.booking_id for no key update;
  update pgrelay_chat.inbox i
     set read_seq = new.read_seq, unread = pgrelay_chat.unread(new.booking_id, new.read_seq)
   where i.booking_id = new.booking_id and i.read_seq < new.read_seq;
  return null;
end $$;

create trigger chat_raise before insert or update on public.receipts
  for each row execute function pgrelay_chat.raise_receipt();
create trigger chat_read after insert or update on public.receipts
  for each row when (new.role = 'operator')
  execute function pgrelay_chat.count_read();

-- Assignment -----------------------------------------------------------------

create function pgrelay_chat.follow_assignment() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform from pgrelay_chat.inbox i where i.booking_id = coalesce(new.booking_id, old.booking_id) for no key update;
  update pgrelay_chat.inbox i
     set assigned_to = (select a.operator_id from public.assignments a
                         where a.booking_id = i.booking_id and a.released_at is null)
   where i.booking_id = coalesce(new.booking_id, old.booking_id);
  if tg_op = 'INSERT' then
    insert into public.participants (booking_id, user_id, role) values (new.booking_id, new.operator_id, 'operator')
      on conflict (booking_id, user_id) do nothing;
  end if;
  return null;
end $$;

create trigger chat_follow after insert or update or delete on public.assignments
  for each row execute function pgrelay_chat.follow_assignment();
