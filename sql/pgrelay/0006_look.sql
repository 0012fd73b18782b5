-- What roles may see: columns by privilege, rows by policy, as a SELECT of theirs would say now.

-- The rights of a role on a table, whatever its claims: the columns it may select (null: all of them),
-- whether the table has row security, and whether policies decide about its rows for this role. No row
-- where there is no such table or role. Virtual generated columns are never told.
create function pgrelay.rights(relation oid, role_name text)
  returns table (columns text[], row_security boolean, policies boolean)
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select case when a.whole then null else a.names end,
         c.relrowsecurity,
         c.relrowsecurity and not (r.rolsuper or r.rolbypassrls
           or (pg_has_role(r.oid, c.relowner, 'usage') and not c.relforcerowsecurity))
    from pg_class c
    join pg_roles r on r.rolname = role_name
    cross join lateral (
      select coalesce(array_agg(a.attname::text order by a.attnum) filter (where a.readable), '{}'),
             coalesce(bool_and(a.readable), false)
        from (select a.attname, a.attnum,
                     has_schema_privilege(r.oid, c.relnamespace, 'usage')
                       and has_column_privilege(r.oid, c.oid, a.attnum, 'select') as readable
                from pg_attribute a
               where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated <> 'v') a
    ) a (names, whole)
   where c.oid = relation
$$;

-- Whether the session may take a role on.
create function pgrelay.may_become(role oid) returns boolean
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select pg_has_role(session_user, role,
    case when current_setting('server_version_num')::int >= 160000 then 'set' else 'member' end)
$$;

-- The query that looks for rows of a relation by primary key: $1 the keys as text (array literals where
-- the key has several columns), $2 the rows as they were logged. Returns the places of those that are
-- there, and what they say where that is not what was logged. Null where there is no primary key among
-- the columns.
create function pgrelay.look_query(relation oid, columns text[]) returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  -- An image beyond what a change may have.
  image_bytes_max constant int := 8388608;
  keys text;
  conditions text;
  image text;
begin
  -- Values come as the trigger rendered them. The key's own equality is used, wherever it lives; it has
  -- to stand alone between two columns, or the planner may not look by index before the policy.
  select string_agg(format('%s as k%s', case when t.typcategory in ('A', 'C')
             then format('(pg_catalog.json_populate_record(null::%s, pg_catalog.json_build_object(%L, %s::pg_catalog.json))).%I',
                    relation::regclass, a.attname, v.value, a.attname)
             else format('(%s)::%s', v.value, format_type(a.atttypid, a.atttypmod)) end, i.place), ', ' order by i.place),
         string_agg(format('t.%I operator(%I.%s) k.k%s', a.attname, n.nspname, o.oprname, i.place), ' and ' order by i.place)
    into keys, conditions
    from (select i.indrelid, i.indnkeyatts, k.attnum, k.place, i.indclass[k.place - 1] as class
            from pg_index i cross join lateral unnest(i.indkey::int2[]) with ordinality k (attnum, place)
           where i.indrelid = relation and i.indisprimary and k.place <= i.indnkeyatts) i
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.attnum
    join pg_type t on t.oid = a.atttypid
    join pg_opclass c on c.oid = i.class
    join pg_amop m on m.amopfamily = c.opcfamily and m.amopstrategy = 3
                  and m.amoplefttype = c.opcintype and m.amoprighttype = c.opcintype
    join pg_operator o on o.oid = m.amopopr
    join pg_namespace n on n.oid = o.oprnamespace
    cross join lateral (select case when i.indnkeyatts = 1 then 'u.key'
                                    else format('(u.key::pg_catalog.text[])[%s]', i.place) end) v (value);
  if conditions is null
    or exists (select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
                where i.indrelid = relation and i.indisprimary and a.attname <> all (columns))
  then
    return null;
  end if;
  if columns is null and not exists (select from pg_attribute a where a.attrelid = relation and a.attgenerated = 'v') then
    image := 't';
  else
    select format('(select r from (select %s) r)', string_agg(format('t.%I', a.attname), ', ' order by a.attnum))
      into image
      from pg_attribute a
     where a.attrelid = relation and a.attnum > 0 and not a.attisdropped and a.attgenerated <> 'v'
       and (columns is null or a.attname = any (columns));
  end if;
  -- A row that was too large to be logged has no text to compare with, and none that could be sent.
  return format(
    'with k as materialized (
       select u.n::int as n, u.logged, %s from unnest($1, $2) with ordinality u (key, logged, n))
     select pg_catalog.array_agg(s.n), pg_catalog.array_agg(case when pg_catalog.octet_length(s.image) > %s then ''{}'' else s.image end)
       from (select k.n, case when k.logged is not null then nullif(pg_catalog.row_to_json(%s)::text, k.logged) end as image
               from k join %s %s t on %s) s',
    keys, image_bytes_max, image, case when (select relkind from pg_class where oid = relation) = 'r' then 'only' else '' end,
    relation::regclass, conditions);
end $$;

-- What each viewer may see of some changes, one row for every viewer of every item, which are counted
-- from 0.
--
-- items: [{"relation": oid, "keys": [text], "logged": [text or null], "viewers": [{"viewer": int,
-- "role": text, "claims": text, "sub": text}]}]; batch: the newest of the changes' batches.
--
-- A viewer's query runs alone: never are the claims of two in one statement, or a value that was
-- computed for one could decide about the other. It runs as the viewer's role with the viewer's claims,
-- in a subtransaction that is always rolled back, so that nothing a policy does or sets outlives it. A
-- failure concerns its viewer only, except for a timeout, which ends the statement. Called in a read-only
-- transaction; not security definer, because such a function may not take a role on.
create function pgrelay.look(items json, batch bigint)
  returns table (viewer int, item int, columns text[], row_security boolean, policies boolean,
                 visible int[], images text[], failure text)
  language plpgsql
as $$
declare
  -- What policies' functions find their tables by.
  session_path text := pg_catalog.current_setting('search_path');
  these record;
  who record;
  known_role text;
  query text;
begin
  perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  if pg_is_in_recovery() and not exists (select from pgrelay.ledger l where l.id = batch) then
    raise exception 'this standby does not have batch % yet', batch;
  end if;
  item := -1;
  for these in
    select i.relation, i.viewers,
           array(select json_array_elements_text(i.keys)) as keys,
           array(select json_array_elements_text(i.logged)) as logged
      from json_to_recordset(items) i (relation oid, keys json, logged json, viewers json)
  loop
    item := item + 1;
    known_role := null;
    for who in
      select * from json_to_recordset(these.viewers) v (viewer int, role text, claims text, sub text) order by v.role
    loop
      if known_role is distinct from who.role then
        known_role := who.role;
        select r.columns, r.row_security, r.policies into columns, row_security, policies
          from pgrelay.rights(these.relation, who.role) r;
        query := case when policies and these.keys <> '{}' then pgrelay.look_query(these.relation, columns) end;
      end if;
      viewer := who.viewer;
      visible := null;
      images := null;
      failure := null;
      if query is not null then
        begin
          perform set_config('request.jwt.claims', who.claims, true),
                  set_config('request.jwt.claim.sub', coalesce(who.sub, ''), true),
                  set_config('request.jwt.claim.role', who.role, true),
                  set_config('search_path', session_path, true),
                  set_config('role', who.role, true);
          execute query into visible, images using these.keys, these.logged;
          raise exception using errcode = 'PGR00';
        exception
          when sqlstate 'PGR00' then
            null;
          when others then
            failure := sqlstate;
        end;
      end if;
      return next;
    end loop;
  end loop;
  perform set_config('search_path', session_path, true);
end $$;

revoke all on function pgrelay.rights(oid, text), pgrelay.may_become(oid), pgrelay.look_query(oid, text[]),
  pgrelay.look(json, bigint) from public;
