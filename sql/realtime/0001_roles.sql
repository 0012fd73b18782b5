-- What applications written for Supabase expect to find: the roles that tokens name, and the
-- helpers that policies call. Where a database already has them they are left as they are.

do $$
declare
  r text;
  script text;
begin
  foreach r in array array['anon nologin', 'authenticated nologin', 'service_role nologin bypassrls'] loop
    continue when exists (select from pg_roles where rolname = split_part(r, ' ', 1));
    script := 'create role ' || r;
    begin
      execute script;
    exception
      when duplicate_object or unique_violation then null;  -- made at this moment, for another database
      when insufficient_privilege then
        raise notice 'pgrelay-needs: %;', script;
    end;
  end loop;
  -- The relay takes these roles on when it asks what their holders may see.
  foreach r in array array['anon', 'authenticated', 'service_role'] loop
    continue when not exists (select from pg_roles where rolname = r)
               or pg_has_role(current_user, r, 'member');
    script := format('grant %I to %I', r, current_user);
    begin
      execute script;
    exception when insufficient_privilege then
      raise notice 'pgrelay-needs: %;', script;
    end;
  end loop;
end $$;

create schema if not exists auth;

-- A claim is looked up in its own setting first, then in the document of all claims. A setting
-- that was once set locally reads as '' later in the session, not as null.
do $$
declare
  f record;
begin
  for f in
    select * from (values
      ('uid', 'uuid', $f$ select coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''),
                            nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid $f$),
      ('role', 'text', $f$ select coalesce(nullif(current_setting('request.jwt.claim.role', true), ''),
                             nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role') $f$),
      ('email', 'text', $f$ select coalesce(nullif(current_setting('request.jwt.claim.email', true), ''),
                              nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email') $f$),
      ('jwt', 'jsonb', $f$ select coalesce(nullif(current_setting('request.jwt.claim', true), ''),
                             nullif(current_setting('request.jwt.claims', true), ''))::jsonb $f$)
    ) v (name, result, body)
  loop
    continue when to_regprocedure(format('auth.%s()', f.name)) is not null;
    execute format('create function auth.%I() returns %s language sql stable as %L', f.name, f.result, f.body);
  end loop;
  for f in select rolname as name from pg_roles where rolname in ('anon', 'authenticated', 'service_role') loop
    execute format('grant usage on schema auth to %I', f.name);
  end loop;
exception when insufficient_privilege then
  -- Somebody else's schema auth: it has what its owner gave it.
  raise notice 'pgrelay-needs: -- schema auth belongs to %: check that it has auth.uid(), auth.role() and auth.jwt()',
    (select nspowner::regrole from pg_namespace where nspname = 'auth');
end $$;
