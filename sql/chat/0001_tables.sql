-- The tables of the booking chat. docs/chat.md says what they promise.
--
-- Another schema for them is chosen by replacing every "public." of these files, so nothing else in
-- here may be spelled like that. Our own functions and the tables that are never published live in
-- schema pgrelay_chat.
--
-- Bookings and messages that exist already are taken over: they get the columns they lack. A table
-- that cannot be taken over makes the migration fail as a whole and stays as it was.

create schema pgrelay_chat;

create table pgrelay_chat.migrations (
  name       text primary key,
  checksum   text,                      -- null: applied by hand
  applied_at timestamptz not null default clock_timestamp()
);

-- Time-ordered identifiers; PostgreSQL has them built in only since 18.
create function pgrelay_chat.uuid_v7() returns uuid
  language sql volatile parallel safe
  set search_path = pg_catalog, pg_temp
as $$
  -- The version of a random identifier is 4 (binary 0100); two more bits make it 7 (0111).
  select encode(set_bit(set_bit(overlay(
      uuid_send(gen_random_uuid())
      placing substring(int8send(floor(extract(epoch from clock_timestamp()) * 1000)::bigint) from 3)
      from 1 for 6), 52, 1), 53, 1), 'hex')::uuid
$$;

create table if not exists public.bookings (
  id uuid primary key default pgrelay_chat.uuid_v7()
);

alter table public.bookings
  add column if not exists code           text,
  add column if not exists client_id      uuid,        -- `sub` of the client's token
  add column if not exists client_name    text,
  add column if not exists locale         text not null default 'en',
  add column if not exists status         text not null default 'pending',
  add column if not exists status_version int not null default 1,  -- counts status changes
  add column if not exists closed_at      timestamptz, -- an operator closed the chat
  add column if not exists created_at     timestamptz not null default clock_timestamp();

alter table public.bookings
  alter column code set not null,
  add constraint bookings_code_form
    check (code ~ '^[^[:space:][:cntrl:]]{1,64}$' and code ~ '[[:alnum:]]'),
  add constraint bookings_status_form check (status ~ '^[^[:cntrl:]]{1,64}$');

-- The schema that these tables are in.
create function pgrelay_chat.tables_schema() returns name
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select n.nspname from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = 'public.bookings'::regclass
$$;

create unique index if not exists bookings_code_key on public.bookings (code);
-- People type codes; REQ1 and req1 are the same booking.
create unique index bookings_code_folded on public.bookings (upper(code));

create table if not exists public.messages (
  id         uuid primary key default pgrelay_chat.uuid_v7(),
  booking_id uuid not null references public.bookings (id) on delete cascade
);

alter table public.messages
  add column if not exists seq          bigint,  -- 1, 2, 3 ... in each booking; set by a trigger
  add column if not exists client_id    text,    -- the sender's own name for it: sending again is harmless
  add column if not exists sender_role  text,
  add column if not exists sender_id    uuid,
  add column if not exists message_type text not null default 'text',
  add column if not exists content      text,
  add column if not exists metadata     jsonb not null default '{}',
  add column if not exists reply_to     uuid,
  add column if not exists created_at   timestamptz,
  add column if not exists deleted_at   timestamptz;

-- Messages from before the chat are numbered in the order in which they were made.
update public.messages m
   set seq = o.seq,
       client_id = coalesce(m.client_id, m.id::text),
       sender_role = coalesce(m.sender_role, case m.message_type when 'system' then 'system' else 'client' end),
       created_at = coalesce(m.created_at, clock_timestamp())
  from (select id, row_number() over (partition by booking_id order by created_at, id) as seq from public.messages) o
 where o.id = m.id;

alter table public.messages
  alter column seq set not null,
  alter column client_id set not null,
  alter column sender_role set not null,
  alter column message_type set default 'text',
  alter column content drop not null,
  alter column created_at set not null,
  alter column created_at drop default,  -- the trigger takes the time once it is this message's turn
  add constraint messages_seq_positive check (seq > 0),
  add constraint messages_client_id_form check (char_length(client_id) between 1 and 200),
  -- Names that status messages are found by.
  add constraint messages_client_id_reserved check (message_type = 'system' or client_id not like 'system:%'),
  add constraint messages_sender_role check (sender_role in ('client', 'operator', 'system')),
  add constraint messages_type check (message_type in ('text', 'system', 'note')),
  add constraint messages_content_length check (char_length(content) <= 4000),
  add constraint messages_content_present
    check (case when deleted_at is null then content is not null and content ~ '[^[:space:]]' else content is null end),
  add constraint messages_metadata_object check (jsonb_typeof(metadata) = 'object');

create unique index messages_booking_seq on public.messages (booking_id, seq);
create unique index messages_booking_client on public.messages (booking_id, client_id);
create index messages_words on public.messages using gin (to_tsvector('simple', content));

create table public.participants (
  booking_id uuid not null references public.bookings (id) on delete cascade,
  user_id    uuid not null,
  role       text not null check (role in ('client', 'operator')),
  joined_at  timestamptz not null default clock_timestamp(),
  primary key (booking_id, user_id)
);

-- What a user may see begins here.
create index participants_client on public.participants (user_id, booking_id) where role = 'client';

-- How far somebody's devices have received, and somebody has read. Watermarks, so that catching up
-- with 500 messages is one row and not 500.
create table public.receipts (
  booking_id     uuid not null references public.bookings (id) on delete cascade,
  participant_id uuid not null,
  role           text not null,
  delivered_seq  bigint not null default 0,
  read_seq       bigint not null default 0,
  updated_at     timestamptz not null default clock_timestamp(),
  primary key (booking_id, participant_id)
);

create table public.booking_status_history (
  booking_id  uuid not null references public.bookings (id) on delete cascade,
  version     int  not null,
  from_status text,                     -- null: the booking was opened
  to_status   text not null,
  actor_id    uuid,
  actor_role  text not null,
  actor_name  text,
  note        text,
  message_id  uuid not null,            -- the system message that told it
  at          timestamptz not null default clock_timestamp(),
  primary key (booking_id, version)
);

create table public.assignments (
  id            uuid primary key default pgrelay_chat.uuid_v7(),
  booking_id    uuid not null references public.bookings (id) on delete cascade,
  operator_id   uuid not null,
  operator_name text,
  assigned_at   timestamptz not null default clock_timestamp(),
  released_at   timestamptz
);

create unique index assignments_active on public.assignments (booking_id) where released_at is null;

create table public.canned_replies (
  shortcut text not null,
  locale   text not null default 'en',
  body     text not null,
  primary key (shortcut, locale)
);

-- One row per booking that changes with every message, and therefore is not published. Its row lock
-- is what a booking's messages queue for.
create table pgrelay_chat.inbox (
  booking_id    uuid primary key references public.bookings (id) on delete cascade,
  status        text not null,
  closed        boolean not null,
  assigned_to   uuid,
  last_seq      bigint,                 -- the newest line that is not a note
  last_at       timestamptz not null,
  waiting_since timestamptz,            -- the oldest message of the client that nobody answered
  unread        int not null default 0, -- messages of the client that no operator has read
  read_seq      bigint not null default 0
) with (fillfactor = 70);

create index inbox_waiting on pgrelay_chat.inbox ((coalesce(waiting_since, 'infinity')), booking_id);
create index inbox_recent on pgrelay_chat.inbox (last_at desc, booking_id desc);
create index inbox_open on pgrelay_chat.inbox (assigned_to) where not closed;

-- Which status may follow which. A status that is not in here at all may follow, and be followed by, any.
create table pgrelay_chat.status_transitions (
  from_status text not null,
  to_status   text not null,
  primary key (from_status, to_status)
);

insert into pgrelay_chat.status_transitions values
  ('pending', 'accepted'), ('pending', 'declined'), ('pending', 'cancelled'),
  ('accepted', 'deployed'), ('accepted', 'cancelled'),
  ('deployed', 'completed'), ('deployed', 'cancelled');

-- What a status change says in the chat. Status '*' is for those without a text of their own.
create table pgrelay_chat.status_messages (
  status  text not null,
  locale  text not null,
  content text not null,
  primary key (status, locale)
);

insert into pgrelay_chat.status_messages values
  ('pending', 'en', '⏳ Your booking request has been received...'),
  ('accepted', 'en', '✅ Your booking has been accepted by our team...'),
  ('deployed', 'en', '🚀 Our team has been deployed and is on the way.'),
  ('completed', 'en', '🏁 Your booking is complete. Thank you for choosing us.'),
  ('declined', 'en', '❌ We are sorry, we cannot take on your booking.'),
  ('cancelled', 'en', '🚫 Your booking has been cancelled.'),
  ('*', 'en', '🔄 Status updated to: {status}'),
  ('pending', 'de', '⏳ Ihre Buchungsanfrage ist bei uns eingegangen...'),
  ('accepted', 'de', '✅ Unser Team hat Ihre Buchung angenommen...'),
  ('deployed', 'de', '🚀 Unser Team ist unterwegs.'),
  ('completed', 'de', '🏁 Ihre Buchung ist abgeschlossen. Vielen Dank für Ihr Vertrauen.'),
  ('declined', 'de', '❌ Wir können Ihre Buchung leider nicht annehmen.'),
  ('cancelled', 'de', '🚫 Ihre Buchung wurde storniert.'),
  ('*', 'de', '🔄 Neuer Status: {status}');

-- Bookings from before the chat.
insert into public.participants (booking_id, user_id, role)
  select id, client_id, 'client' from public.bookings where client_id is not null;

insert into pgrelay_chat.inbox (booking_id, status, closed, last_seq, last_at)
  select b.id, b.status, b.closed_at is not null, max(m.seq), coalesce(max(m.created_at), b.created_at)
    from public.bookings b left join public.messages m on m.booking_id = b.id
   group by b.id;
