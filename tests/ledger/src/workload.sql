-- Three tables that writers change, and the code in them that upsets the order of a statement's changes.

create sequence lives;  -- names each row for as long as it lives, so that a row made again is another one

create table plain (id int primary key, life bigint not null default nextval('lives'), v bigint not null default 1, tx text not null);
create table chained (like plain including all);
create table calling (like plain including all);

-- How many rows a transaction has changed, savepoints respected, counted apart from the log.
create function count_change() returns trigger language plpgsql as $$
begin
  perform set_config('test.changes', (coalesce(nullif(current_setting('test.changes', true), ''), '0')::int + 1)::text, true);
  return null;
end $$;

-- The neighbour is often a row of the same statement whose own triggers have not had their turn.
create function change_neighbour() returns trigger language plpgsql as $$
begin
  if pg_trigger_depth() > 1 then
    return null;
  end if;
  if new.v % 11 = 0 then
    delete from chained where id = new.id # 1;
    return null;
  end if;
  update chained set v = v + 1, tx = new.tx where id = new.id # 1;
  if new.v % 3 = 0 then
    update chained set v = v + 1, tx = new.tx where id = new.id # 1;
  end if;
  return null;
end $$;
create trigger change_neighbour after update on chained for each row execute function change_neighbour();

-- Called in the middle of an UPDATE of the same table.
create function touch(neighbour int, tag text) returns bigint language plpgsql volatile as $$
begin
  update calling set v = v + 1, tx = tag where id = neighbour;
  if neighbour % 3 = 0 then
    update calling set v = v + 1, tx = tag where id = neighbour;
  end if;
  return 0;
end $$;

do $$
declare
  name text;
begin
  foreach name in array array['plain', 'chained', 'calling'] loop
    execute format('create trigger zz_count after insert or update or delete on %I '
                   'for each row execute function count_change()', name);
    execute format('insert into %I (id, tx) select g, ''base'' from generate_series(0, 39) g', name);
    perform pgrelay.enable(name::regclass);
  end loop;
end $$;
