-- Sequencing: from rows in the log to numbered, durable batches, and back.
--
-- The rules: a batch is what is visible in its snapshot and not in that of the batch before, so
-- every committed row is in exactly one batch, whatever the order of commits; inside a batch rows
-- are ordered by seq, which for one row of a table is the order of its versions, because a writer
-- takes seq after it holds the row lock. Callers fan out only after STEP has committed.

-- One STEP. No row: nothing new. 23505: another sequencer was first, call again. The counting and
-- pg_current_snapshot() are one statement, so that they speak of the same snapshot.
create function pgrelay.step(tell_nodes boolean default false)
  returns table (epoch int, id bigint, tag uuid, snap pg_snapshot, n bigint, min_seq bigint, max_seq bigint, at timestamptz)
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  last pgrelay.ledger;
begin
  -- What is told must outlive a crash, and with this commit everything committed before it does,
  -- whatever the database or the role prefers.
  if current_setting('synchronous_commit') = 'off' then
    perform set_config('synchronous_commit', 'on', true);
  end if;
  select * into last from pgrelay.ledger l order by l.id desc limit 1;
  return query
    with fresh as (
      select count(*) as n, min(g.seq) as min_seq, max(g.seq) as max_seq
        from pgrelay.log g
       where g.xid >= pg_snapshot_xmax(last.snap)
          or g.xid = any (array(select pg_snapshot_xip(last.snap)))
    )
    insert into pgrelay.ledger (epoch, id, snap, n, min_seq, max_seq)
    select last.epoch, last.id + 1, pg_current_snapshot(), f.n, f.min_seq, f.max_seq
      from fresh f
     where f.n > 0
    returning epoch, id, tag, snap, n, min_seq, max_seq, at;
  if found and tell_nodes then
    perform pg_notify('pgrelay_ledger', '');
  end if;
end $$;

-- Rows of a batch after after_seq, ordered by seq, at most rows_max; nothing while the batch does
-- not exist. relations: only of these, or of all where null.
create function pgrelay.read(batch bigint, after_seq bigint, rows_max int, relations oid[] default null)
  returns table (seq bigint, xid xid8, relid oid, op "char", oversize boolean, new_row text, old_row text,
                 new_ctid tid, old_ctid tid, at timestamptz)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set enable_sort = off  -- a sort of all that is left looks cheaper than the index, and is paid for every page
as $$
#variable_conflict use_column
declare
  prev pgrelay.ledger;
  this pgrelay.ledger;
  prev_running xid8[];
begin
  select * into this from pgrelay.ledger l where l.id = batch;
  select * into prev from pgrelay.ledger l where l.id = batch - 1;
  if this.n is null or this.n = 0 or prev.id is null then
    return;
  end if;
  prev_running := array(select pg_snapshot_xip(prev.snap));
  if this.max_seq - this.min_seq < 4 * this.n + 10000 then
    -- Dense: walk the order. The inner query is a fence, so that each page costs one page.
    return query
      select g.seq, g.xid, g.relid, g.op, g.oversize, g.new_row, g.old_row, g.new_ctid, g.old_ctid, g.at
        from (select * from pgrelay.log w
               where w.seq > greatest(after_seq, this.min_seq - 1) and w.seq <= this.max_seq
               order by w.seq offset 0) g
       where (g.xid >= pg_snapshot_xmax(prev.snap) or g.xid = any (prev_running))
         and pg_visible_in_snapshot(g.xid, this.snap)
         and (relations is null or g.relid = any (relations))
       limit rows_max;
  else
    -- Sparse: a transaction that was open for long. Its rows are found by who wrote them.
    return query
      select g.seq, g.xid, g.relid, g.op, g.oversize, g.new_row, g.old_row, g.new_ctid, g.old_ctid, g.at
        from (select * from pgrelay.log w
               where w.xid >= pg_snapshot_xmax(prev.snap) and w.xid < pg_snapshot_xmax(this.snap)
                  or w.xid = any (prev_running)
              offset 0) g
       where g.seq > after_seq
         and pg_visible_in_snapshot(g.xid, this.snap)
         and (relations is null or g.relid = any (relations))
       order by g.seq
       limit rows_max;
  end if;
end $$;

-- The transactions of a batch: their rows, their last clock time, and whether they hold changes
-- that follow another version of the row. For batches that are larger than a page: the sum of n
-- must be the ledger's n, else rows have been recycled.
create function pgrelay.batch_summary(batch bigint)
  returns table (xid xid8, n bigint, followers bigint, last_at timestamptz)
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select g.xid, count(*), count(g.old_ctid), max(g.at)
    from pgrelay.ledger this
    join pgrelay.ledger prev on prev.id = this.id - 1
    join pgrelay.log g
      on (g.xid >= pg_snapshot_xmax(prev.snap) or g.xid = any (array(select pg_snapshot_xip(prev.snap))))
     and g.xid < pg_snapshot_xmax(this.snap)
     and pg_visible_in_snapshot(g.xid, this.snap)
   where this.id = batch
   group by g.xid
$$;

-- A version may be logged before the version it is built on. That happens only inside one
-- transaction: a user's AFTER trigger, or a function called in the middle of a statement, changes
-- a row whose own trigger has not had its turn. Returned are all links of every chain of versions
-- in which that happened: the change `seq` is built on the change `after_seq`. To put a chain in
-- order, let its changes take each other's places.
create function pgrelay.inversions(batch bigint)
  returns table (seq bigint, after_seq bigint)
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  with recursive rows as materialized (
    select g.xid, g.relid, g.seq, g.op, g.old_ctid, g.new_ctid
      from pgrelay.ledger this
      join pgrelay.ledger prev on prev.id = this.id - 1
      join pgrelay.log g
        on (g.xid >= pg_snapshot_xmax(prev.snap) or g.xid = any (array(select pg_snapshot_xip(prev.snap))))
       and g.xid < pg_snapshot_xmax(this.snap)
       and pg_visible_in_snapshot(g.xid, this.snap)
     where this.id = batch
  ),
  links as materialized (
    select f.seq, c.seq as after_seq
      from rows f
      join rows c on c.xid = f.xid and c.relid = f.relid and c.new_ctid = f.old_ctid
     -- After a TRUNCATE the same places are handed out again.
     where not exists (select from rows h
                        where h.op = 'H' and h.xid = f.xid and h.relid = f.relid
                          and h.seq between least(f.seq, c.seq) and greatest(f.seq, c.seq))
  ),
  upset as (
    select l.seq from links l where l.seq < l.after_seq
    union
    select n.seq
      from upset u
      join (select l.seq as known, l.after_seq as seq from links l
            union all
            select l.after_seq, l.seq from links l) n on n.known = u.seq
  )
  select l.seq, l.after_seq from links l where l.seq in (select u.seq from upset u)
$$;

-- Starts a history that earlier cursors do not belong to: at the first start, and where the last
-- snapshot cannot belong to this cluster's future (a restore, a lost tail). Everything committed
-- before it counts as told.
create function pgrelay.begin_epoch(why text)
  returns table (epoch int, id bigint, tag uuid, snap pg_snapshot, n bigint, min_seq bigint, max_seq bigint, at timestamptz)
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  new_epoch int := coalesce((select max(e.id) from pgrelay.epoch e), 0) + 1;
  new_id bigint := coalesce((select max(l.id) from pgrelay.ledger l), 0) + 1;
begin
  insert into pgrelay.epoch (id, reason) values (new_epoch, why);
  -- A committed row whose transaction has not ended yet, or does not exist yet, came from another
  -- cluster. STEP would find it fresh as soon as this cluster hands out the same number.
  delete from pgrelay.log g where not pg_visible_in_snapshot(g.xid, pg_current_snapshot());
  -- And what waits for the end of another cluster's transactions would wait for ever.
  delete from pgrelay.meta where key = 'holes_pending';
  update pgrelay.meta set value = new_id::text where key = 'floor';
  return query
    insert into pgrelay.ledger (epoch, id, snap, n) values (new_epoch, new_id, pg_current_snapshot(), 0)
    returning epoch, id, tag, snap, n, min_seq, max_seq, at;
end $$;

revoke all on function pgrelay.step(boolean), pgrelay.read(bigint, bigint, int, oid[]),
  pgrelay.batch_summary(bigint), pgrelay.inversions(bigint), pgrelay.begin_epoch(text) from public;
