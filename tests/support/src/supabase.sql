-- What a project of Supabase has in its database before pgrelay comes: schema realtime and schema
-- auth of other owners, their table of messages, their functions, their publications.

create schema realtime authorization supabase_admin;
create schema auth authorization supabase_auth_admin;
grant all on schema realtime to supabase_realtime_admin with grant option;
grant usage on schema realtime, auth to anon, authenticated, service_role;

set role supabase_admin;

create type realtime.equality_op as enum ('eq', 'neq', 'lt', 'lte', 'gt', 'gte', 'in', 'like', 'ilike', 'is', 'match', 'imatch', 'isdistinct');
create type realtime.action as enum ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'ERROR');
create type realtime.user_defined_filter as (column_name text, op realtime.equality_op, value text, negate boolean);
create type realtime.wal_column as (name text, type_name text, type_oid oid, value jsonb, is_pkey boolean, is_selectable boolean);
create type realtime.wal_rls as (wal jsonb, is_rls_enabled boolean, subscription_ids uuid[], errors text[]);

create table realtime.schema_migrations (version bigint primary key, inserted_at timestamp(0));
insert into realtime.schema_migrations values (20211116024918, now()), (20260709120000, now());

create table realtime.subscription (
  id bigint generated always as identity primary key,
  subscription_id uuid not null,
  entity regclass not null,
  filters realtime.user_defined_filter[] not null default '{}',
  claims jsonb not null,
  created_at timestamp not null default timezone('utc', now()),
  action_filter text default '*' check (action_filter in ('*', 'INSERT', 'UPDATE', 'DELETE')),
  selected_columns text[]
);
grant select on realtime.subscription to anon, authenticated, service_role;

create table realtime.messages (
  topic text not null,
  extension text not null,
  payload jsonb,
  event text,
  private boolean default false,
  updated_at timestamp not null default now(),
  inserted_at timestamp not null default now(),
  id uuid not null default gen_random_uuid(),
  binary_payload bytea,
  primary key (id, inserted_at)
) partition by range (inserted_at);
alter table realtime.messages add constraint messages_payload_exclusive
  check (payload is null or binary_payload is null) not valid;
create index messages_inserted_at_topic_index on realtime.messages (inserted_at desc, topic)
  where extension = 'broadcast' and private is true;
alter table realtime.messages enable row level security;
grant select, insert, update on realtime.messages to anon, authenticated, service_role;

do $$
declare
  day date;
begin
  for n in -1 .. 3 loop
    day := timezone('utc', now())::date + n;
    execute format('create table realtime.%I partition of realtime.messages for values from (%L) to (%L)',
                   to_char(day, '"messages_"YYYY_MM_DD'), day, day + 1);
  end loop;
end $$;

create function realtime.topic() returns text language sql stable as
  $$ select nullif(current_setting('realtime.topic', true), '')::text; $$;

create function realtime.send(payload jsonb, event text, topic text, private boolean default true) returns void
  language plpgsql as $$
declare
  generated_id uuid;
  final_payload jsonb;
begin
  generated_id := gen_random_uuid();
  if payload ? 'id' then
    final_payload := payload;
  else
    final_payload := jsonb_set(payload, '{id}', to_jsonb(generated_id));
  end if;
  execute format('set local realtime.topic to %L', topic);
  insert into realtime.messages (id, payload, event, topic, private, extension)
    values (generated_id, final_payload, event, topic, private, 'broadcast');
exception when others then
  raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
end $$;

create function realtime.to_regrole(role_name text) returns regrole language sql immutable as
  $$ select role_name::regrole $$;

do $$
declare
  r record;
begin
  for r in select c.relname from pg_class c where c.relnamespace = 'realtime'::regnamespace and c.relkind in ('r', 'p') loop
    execute format('alter table realtime.%I owner to supabase_realtime_admin', r.relname);
  end loop;
  for r in select p.oid::regprocedure as name from pg_proc p where p.pronamespace = 'realtime'::regnamespace loop
    execute format('alter function %s owner to supabase_realtime_admin', r.name);
  end loop;
end $$;

reset role;
set role supabase_auth_admin;
create function auth.uid() returns uuid language sql stable as $$
  select coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''),
                  (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))::uuid $$;
create function auth.role() returns text language sql stable as $$
  select coalesce(nullif(current_setting('request.jwt.claim.role', true), ''),
                  (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'))::text $$;
reset role;

set client_min_messages = error;
create publication supabase_realtime;
create publication supabase_realtime_messages_publication for table realtime.messages;
reset client_min_messages;
