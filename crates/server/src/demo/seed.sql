-- The demo's tables, two bookings and a first message each. Running it again changes nothing.
create table if not exists public.bookings (
  id uuid primary key default gen_random_uuid(),
  code text not null unique,
  status text not null default 'pending',
  client_id uuid not null default gen_random_uuid(),
  created_at timestamptz not null default now()
);
create table if not exists public.messages (
  id uuid primary key default gen_random_uuid(),
  booking_id uuid not null references public.bookings (id) on delete cascade,
  sender_role text not null default 'client',
  message_type text not null default 'text',
  content text not null,
  metadata jsonb not null default '{}',
  created_at timestamptz not null default now()
);
create index if not exists messages_booking_id_created_at_idx on public.messages (booking_id, created_at);

insert into public.bookings (id, code, status) values
  ('0b5f2f5e-7d0c-4f0e-9c55-0a1d5a4d1c01', 'REQ1759286674249', 'pending'),
  ('0b5f2f5e-7d0c-4f0e-9c55-0a1d5a4d1c02', 'REQ1759286674250', 'accepted')
on conflict do nothing;

insert into public.messages (id, booking_id, content) values
  ('5d1f3c1a-2f53-4a5e-8a83-6a4c7a0e9d01', '0b5f2f5e-7d0c-4f0e-9c55-0a1d5a4d1c01', 'Hello, is my booking confirmed?'),
  ('5d1f3c1a-2f53-4a5e-8a83-6a4c7a0e9d02', '0b5f2f5e-7d0c-4f0e-9c55-0a1d5a4d1c02', 'Thank you, see you on Monday.')
on conflict do nothing;

-- The two roles that browsers speak as, where they exist.
do $$
declare
  reader name;
begin
  for reader in select rolname from pg_roles where rolname in ('anon', 'authenticated', 'service_role') loop
    execute format('grant usage on schema public to %I', reader);
    execute format('grant select on public.bookings, public.messages to %I', reader);
  end loop;
end $$;
