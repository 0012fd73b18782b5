-- Where clients stood that named a session, so that they go on there after an absence.
-- Written by the relay alone, once a second for all of them.

create table pgrelay.session (
  session uuid not null,
  -- In full, with `realtime:`.
  topic   text not null,
  -- Claim `sub` of the channel's token; another one gets nothing of this.
  subject text,
  -- Everything up to here has reached the client.
  cursor  text not null,
  seen_at timestamptz not null default clock_timestamp(),
  primary key (session, topic)
);

create index session_seen_at on pgrelay.session (seen_at);
