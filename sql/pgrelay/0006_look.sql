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

-- Where rows of a relation are found by their primary keys, which are an array in setting pgrelay.keys:
-- text, or array literals where the key has several columns, in the order of the table's columns. k.n is
-- the place in the array, t the row.
-- Null where there is no primary key.
create function pgrelay.look_source(relation oid) returns text
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  -- Values come as the trigger rendered them. The key's own equality is used, wherever it lives; it has
  -- to stand alone between two columns, or the planner may not look by index before the policy.
  select format('(select u.n::int as n, %s
                    from pg_catalog.unnest(pg_catalog.current_setting(''pgrelay.keys'')::text[]) with ordinality u (key, n)
                  offset 0) k join %s %s t on %s',
           string_agg(format('%s as k%s', case when t.typcategory in ('A', 'C')
             then format('(pg_catalog.json_populate_record(null::%s, pg_catalog.json_build_object(%L, %s::json))).%I',
                    relation::regclass, a.attname, v.value, a.attname)
             else format('(%s)::%s', v.value, format_type(a.atttypid, a.atttypmod)) end, i.place), ', ' order by i.place),
           case when (select relkind from pg_class where oid = relation) = 'r' then 'only' else '' end,
           relation::regclass,
           string_agg(format('t.%I operator(%I.%s) k.k%s', a.attname, n.nspname, o.oprname, i.place), ' and ' order by i.place))
    from (select i.indrelid, i.indnkeyatts, k.attnum, k.place, i.indclass[k.place - 1] as class,
                 row_number() over (order by k.attnum) as rank
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
                                    else format('(u.key::text[])[%s]', i.rank) end) v (value)
  having count(*) > 0
$$;

-- The query for rows: the places of those that are there, and what they say in these columns (null: all).
-- Null where the primary key is not among them.
create function pgrelay.look_query(relation oid, columns text[]) returns text
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  -- An image beyond what a change may have is left away.
  select format('select pg_catalog.array_agg(s.n),
                        pg_catalog.array_agg(case when pg_catalog.octet_length(s.image) > 8388608 then ''{}'' else s.image end)
                   from (select k.n, pg_catalog.row_to_json(%s)::text as image from %s) s',
           case when columns is null and not a.has_virtual then 't' else format('(select r from (select %s) r)', a.names) end,
           pgrelay.look_source(relation))
    from (select string_agg(format('t.%I', a.attname), ', ' order by a.attnum) filter (where a.attgenerated <> 'v'),
                 bool_or(a.attgenerated = 'v')
            from pg_attribute a
           where a.attrelid = relation and a.attnum > 0 and not a.attisdropped
             and (columns is null or a.attname = any (columns))) a (names, has_virtual)
   where not exists (select from pg_index i join pg_attribute k on k.attrelid = i.indrelid and k.attnum = any (i.indkey)
                      where i.indrelid = relation and i.indisprimary and k.attname <> all (columns))
$$;

-- Rows by owner: {uid: [places]} for the keys in setting pgrelay.keys, where every policy lets through no
-- more than the rows of auth.uid(), so that nobody else needs to be asked. Null where that is not so, or
-- where the relay could not see all rows.
create function pgrelay.owners(relation oid) returns jsonb
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  columns text[];
  result jsonb;
begin
  -- A policy in any other words, even equivalent ones, is none of these.
  select array_agg(coalesce(m.words[1], m.words[2])) into columns
    from pg_policy p
    cross join lateral regexp_match(pg_get_expr(p.polqual, p.polrelid),
      '^\((?:([a-z_]\w*) = (?:auth\.uid\(\)|\( SELECT auth\.uid\(\) AS uid\))|(?:auth\.uid\(\)|\( SELECT auth\.uid\(\) AS uid\)) = ([a-z_]\w*))\)$') m (words)
   where p.polrelid = relation and p.polpermissive and p.polcmd in ('r', '*');
  if columns is null or array_position(columns, null) is not null
    or row_security_active(relation) or not has_table_privilege(relation, 'select')
    or (select f.provolatile = 'v' or f.proretset or f.prorettype <> 'uuid'::regtype
          from pg_proc f where f.oid = to_regprocedure('auth.uid()'))
    or exists (select from unnest(columns) c left join pg_attribute a on a.attrelid = relation and a.attname = c
                where a.atttypid is distinct from 'uuid'::regtype)
  then
    return null;
  end if;
  execute format('select coalesce(jsonb_object_agg(o.owner, o.places), ''{}'')
                    from (select v.owner, jsonb_agg(distinct k.n) as places from %s
                           cross join lateral unnest(array[%s]::text[]) v (owner)
                           where v.owner is not null group by v.owner) o',
                 pgrelay.look_source(relation),
                 (select string_agg(format('t.%I', c), ', ') from unnest(columns) c)) into result;
  return result;
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
-- transaction with one snapshot; not security definer, because such a function may not take a role on.
create function pgrelay.look(items json, batch bigint)
  returns table (viewer int, item int, columns text[], row_security boolean, policies boolean,
                 visible int[], images text[], failure text)
  language plpgsql
as $$
declare
  -- Owners are asked for where that may save as many queries.
  crowd constant int := 4;
  -- What policies' functions find their tables by.
  session_path text := pg_catalog.current_setting('search_path');
  these record;
  who record;
  -- Of whom rights and statement are.
  known text;
  statement text;
  query text;
  broken text;
  prepared text[] := '{}';
  keys text[];
  logged text[];
  owners jsonb;
  mine int[];
begin
  perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  if pg_is_in_recovery() and not exists (select from pgrelay.ledger l where l.id = batch) then
    raise exception 'this standby does not have batch % yet', batch;
  end if;
  -- What a call that was cancelled has left.
  for statement in select p.name from pg_prepared_statements p where p.name like 'pgrelay\_look\_%' loop
    execute format('deallocate %I', statement);
  end loop;
  item := -1;
  for these in
    select i.relation, i.viewers, json_array_length(i.viewers) as crowd,
           array(select json_array_elements_text(i.keys)) as keys,
           array(select json_array_elements_text(i.logged)) as logged
      from json_to_recordset(items) i (relation oid, keys json, logged json, viewers json)
  loop
    item := item + 1;
    keys := these.keys;
    logged := these.logged;
    perform set_config('pgrelay.keys', keys::text, true);
    owners := null;
    begin
      if these.crowd > crowd and keys <> '{}' then
        owners := pgrelay.owners(these.relation);
      end if;
    exception when others then
      -- Then everybody is asked, and says what is wrong.
      raise log 'pgrelay: owners of % cannot be told (sqlstate %)', these.relation::regclass, sqlstate;
    end;
    for who in
      select * from json_to_recordset(these.viewers) v (viewer int, role text, claims text, sub text) order by v.role
    loop
      if known is distinct from these.relation || ' ' || who.role then
        known := these.relation || ' ' || who.role;
        select r.columns, r.row_security, r.policies into columns, row_security, policies
          from pgrelay.rights(these.relation, who.role) r;
        statement := 'pgrelay_look_' || md5(known);
        broken := null;
        if policies and keys <> '{}' and statement <> all (prepared) then
          begin
            query := pgrelay.look_query(these.relation, columns);
            if query is not null then
              execute format('prepare %I as %s', statement, query);
              prepared := prepared || statement;
            end if;
          exception when others then
            broken := sqlstate;
          end;
        end if;
      end if;
      viewer := who.viewer;
      visible := null;
      images := null;
      failure := case when policies and keys <> '{}' then broken end;
      mine := null;
      if policies and keys <> '{}' and statement = any (prepared) then
        begin
          perform set_config('request.jwt.claims', who.claims, true),
                  set_config('request.jwt.claim.sub', coalesce(who.sub, ''), true),
                  set_config('request.jwt.claim.role', who.role, true),
                  set_config('search_path', session_path, true),
                  set_config('role', who.role, true);
          if owners is not null then
            -- In the words of the viewer's search path, hence the names in full.
            mine := array(select pg_catalog.jsonb_array_elements_text(
                      owners operator(pg_catalog.->) auth.uid()::pg_catalog.text)::pg_catalog.int4);
            perform pg_catalog.set_config('pgrelay.keys',
              array(select keys[m.n] from pg_catalog.unnest(mine) m (n))::pg_catalog.text, true);
          end if;
          if pg_catalog.cardinality(mine) is distinct from 0 then
            execute pg_catalog.concat('execute ', statement) into visible, images;
          end if;
          raise exception using errcode = 'PGR00';
        exception
          when sqlstate 'PGR00' then
            null;
          when others then
            failure := sqlstate;
        end;
      end if;
      for place in 1 .. coalesce(cardinality(visible), 0) loop
        if mine is not null then
          visible[place] := mine[visible[place]];
        end if;
        -- A row that was too large to be logged has no text to compare with, and none that could be sent.
        if logged[visible[place]] is null or images[place] = logged[visible[place]] then
          images[place] := null;
        end if;
      end loop;
      return next;
    end loop;
  end loop;
  foreach statement in array prepared loop
    execute format('deallocate %I', statement);
  end loop;
  perform set_config('search_path', session_path, true);
end $$;

revoke all on function pgrelay.rights(oid, text), pgrelay.may_become(oid), pgrelay.look_source(oid),
  pgrelay.look_query(oid, text[]), pgrelay.owners(oid), pgrelay.look(json, bigint) from public;
