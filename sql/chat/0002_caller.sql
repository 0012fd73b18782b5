-- Who is asking. A request says so as PostgREST does: by its role and by setting request.jwt.claims.

--
-- These functions are in plpgsql because they are called in every policy: it keeps their plans, and
-- evaluates plain expressions without one.

-- The claims of the token; null in a session without one.
create function pgrelay_chat.claims() returns jsonb
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return nullif(current_setting('request.jwt.claims', true), '')::jsonb;
end $$;

create function pgrelay_chat.is_uuid(value text) returns boolean
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return value ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$';
end $$;

-- The user: claim `sub`, where it is a UUID.
create function pgrelay_chat.caller_id() returns uuid
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  sub text := pgrelay_chat.claims() ->> 'sub';
begin
  if pgrelay_chat.is_uuid(sub) then
    return sub::uuid;
  end if;
  return null;
end $$;

-- What colleagues may call this user.
create function pgrelay_chat.caller_name() returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  c jsonb := pgrelay_chat.claims();
begin
  return left(coalesce(c #>> '{user_metadata,name}', c #>> '{user_metadata,full_name}', c ->> 'name'), 100);
end $$;

-- The role that decides, also inside of functions that run as their owner.
create function pgrelay_chat.caller_role() returns name
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return coalesce(nullif(current_setting('role'), 'none')::name, session_user);
end $$;

create function pgrelay_chat.is_operator() returns boolean
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return pgrelay_chat.caller_role() = 'service_role'
      or coalesce(pgrelay_chat.claims() #>> '{app_metadata,chat_role}' = 'operator', false);
end $$;

-- Operators, and whoever owns the tables: the owner's psql needs no token.
create function pgrelay_chat.is_team() returns boolean
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return pgrelay_chat.is_operator()
      or pg_has_role(pgrelay_chat.caller_role(), (select relowner from pg_class where oid = 'public.bookings'::regclass), 'usage');
end $$;

-- The bookings whose client the caller is. Every policy for clients rests on it.
create function pgrelay_chat.caller_bookings() returns setof uuid
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  caller uuid := pgrelay_chat.caller_id();
begin
  return query select p.booking_id from public.participants p where p.user_id = caller and p.role = 'client';
end $$;

-- The same for one booking.
create function pgrelay_chat.is_client(booking uuid) returns boolean
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  caller uuid := pgrelay_chat.caller_id();
begin
  return exists (select from public.participants p where p.booking_id = booking and p.user_id = caller and p.role = 'client');
end $$;

-- Refusals. Their SQLSTATE says which one it is; whoever speaks to people finds words for it.
--   PC001 booking_not_found     PC005 not_author             PC009 status_conflict
--   PC002 not_a_participant     PC006 idempotency_conflict   PC010 illegal_transition
--   PC003 operator_only         PC007 booking_closed         PC011 already_assigned
--   PC004 message_not_found     PC008 rate_limited           PC012 invalid_value
-- DETAIL, where there is one, is a JSON object.
create function pgrelay_chat.require_team() returns void
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if not pgrelay_chat.is_team() then
    raise exception 'only operators may do this' using errcode = 'PC003';
  end if;
end $$;

-- The id behind an id or a code; null where there is none. Tells nothing but that it exists.
create function pgrelay_chat.resolve(reference text) returns uuid
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  found_id uuid;
begin
  if pgrelay_chat.is_uuid(reference) then
    select b.id into found_id from public.bookings b where b.id = reference::uuid;
  end if;
  if found_id is null then
    select b.id into found_id from public.bookings b where upper(b.code) = upper(reference);
  end if;
  return found_id;
end $$;

-- A booking by id or code, if the caller may see it.
create function pgrelay_chat.open_booking(reference text) returns public.bookings
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  booking_id uuid := pgrelay_chat.resolve(reference);
  result public.bookings;
begin
  if booking_id is null then
    raise exception 'there is no booking %', reference using errcode = 'PC001';
  end if;
  select * into result from public.bookings b where b.id = booking_id;
  if not found then
    raise exception 'booking % is not the caller''s', reference using errcode = 'PC002';
  end if;
  return result;
end $$;
