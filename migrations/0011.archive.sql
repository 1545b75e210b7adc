-- depends: 0010.tenants

-- Why: a tenant is taken out of a database as an archive, brought into another one, and ended. What writes whole
-- tenants is here; what reads them are ordinary selects under row security.
--
-- A login in thea_mover may read the tenant that it names, and call these functions. They run as thea_loader, as
-- which nobody can log in: the audit log and the triggers that keep times, words and hidden rows leave alone what
-- this role writes. So each function that writes first leaves an entry of its own in the audit log, for the table
-- `tenant`, and those entries stay even when the tenant ends. Row security binds thea_loader as it binds a service:
-- nothing reaches a row of a tenant that the session has not named.
--
-- Tables, columns and references come from the catalog, so a service's own tables are brought in as the library's.

-- What the tenant's latest entry of the table `tenant` says: whether it was brought in, or ends.
create function thea.tenant_entry(p_tenant text) returns table (action text, after jsonb)
  language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
    select e.action, e.after
    from thea.audit_log e
    where e.tenant_id = p_tenant
      and e.table_name = 'tenant'
      and e.row_id = 0
    order by e.at desc, e.id desc
    limit 1;
end
$$;

-- Refuse another tenant than that of the session, and a table that has no rows of tenants.
create function thea.require_own(p_tenant text, p_table text) returns void
  language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if (p_tenant = thea.named_tenant()) is not true then
    raise exception 'this is not the tenant of the transaction' using errcode = 'insufficient_privilege';
  end if;
  if not exists (
    select from pg_policy
    where polrelid = p_table::regclass
      and polname = 'tenant'
      -- What else is kept about a tenant, only read by a service, is no part of it.
      and (polcmd = '*' or polrelid = 'thea.audit_log'::regclass)
  ) then
    raise exception 'this is no table of tenants' using errcode = 'wrong_object_type';
  end if;
end
$$;

-- Refuse rows of an archive that is not being brought in.
create function thea.require_import(p_tenant text, p_archive uuid, p_table text) returns void
  language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  perform thea.require_own(p_tenant, p_table);
  if not exists (
    select from thea.tenant_entry(p_tenant) as e
    where e.action = 'insert' and e.after ->> 'archive' = p_archive::text
  ) then
    raise exception 'this archive is not being brought in' using errcode = 'insufficient_privilege';
  end if;
end
$$;

-- The columns of a table that hold ids, and of which table: those of its foreign keys, and those whose comment
-- begins with `refers to`.
create function thea.references_of(target regclass) returns table (name text, parent text)
  language sql stable set search_path = pg_catalog, pg_temp
begin atomic
  select a.attname::text, k.confrelid::regclass::text
  from pg_catalog.pg_constraint k
  cross join lateral unnest(k.conkey, k.confkey) as c (own, other)
  join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = c.own
  join pg_catalog.pg_attribute b on b.attrelid = k.confrelid and b.attnum = c.other
  where k.conrelid = target
    and k.contype = 'f'
    and b.attname = 'id'
  union
  select a.attname::text, substring(col_description(target, a.attnum) from '^refers to ([^\s,;:]+)')
  from pg_catalog.pg_attribute a
  where a.attrelid = target
    and a.attnum > 0
    and not a.attisdropped
    and col_description(target, a.attnum) ~ '^refers to [^\s,;:]+';
end;

-- The condition that all exists which a row `i` refers to, with the tenant as $2. A column that is null refers to
-- nothing.
create function thea.parents_exist(target regclass) returns text
  language sql stable set search_path = pg_catalog, pg_temp
begin atomic
  select coalesce(
    string_agg(
      format('((%s) or exists (select from %s p where p.tenant_id = $2%s))', k.nothing, k.parent, k.same), ' and '
    ),
    'true'
  )
  from (
    select c.confrelid::regclass::text as parent,
      string_agg(format('i.%I is null', a.attname), ' or ') as nothing,
      string_agg(format(' and p.%I = i.%I', b.attname, a.attname), '') as same
    from pg_catalog.pg_constraint c
    cross join lateral unnest(c.conkey, c.confkey) as u (own, other)
    join pg_catalog.pg_attribute a on a.attrelid = c.conrelid and a.attnum = u.own
    join pg_catalog.pg_attribute b on b.attrelid = c.confrelid and b.attnum = u.other
    where c.conrelid = target
      and c.contype = 'f'
      and a.attname <> 'tenant_id'
    group by c.oid, c.confrelid
  ) k;
end;

-- The id that an archived one has here. `ids` has for each table an offset, and the exceptions from it: ids of rows
-- that were here already under another id.
create function thea.id_here(ids jsonb, table_name text, id bigint) returns bigint
  language sql immutable parallel safe
  return coalesce(
    (ids #>> array['matched', table_name, id::text])::bigint,
    id + coalesce((ids #>> array['offsets', table_name])::bigint, 0)
  );

-- Bring archived rows of one table in, with the rights of the caller. A row whose id is here already stays as it is
-- here. One that hangs on a deleted row comes in deleted with it. Of a row that a unique key keeps out, the id of the
-- row that has this key is told as `matched`.
--
-- `p_ids` is null where the rows keep their ids, else see `thea.id_here`; `anew` says that columns which a trigger
-- computes are to be computed again. Comes back: how many are `loaded` and `present`; the archived ids of those that
-- are `differing` here, `orphaned` (a row that they refer to is not here) and `refused` by a unique key; and `matched`.
-- With `p_dry` nothing is written, and `loaded` would be.
create function thea.load_rows(p_tenant text, p_table text, p_rows json, p_ids jsonb, p_dry boolean) returns jsonb
  language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  target constant regclass := p_table::regclass;
  computed text[];
  unseen text[];
  times text;
  names text;
  columns text;
  selected text;
  given text;
  parents text;
  matching text;
  insertion text;
  statement text;
  result jsonb;
begin
  perform thea.require_own(p_tenant, p_table);
  select array(select jsonb_array_elements_text(obj_description(p.oid, 'pg_policy')::jsonb -> 'computed'))
    into computed
    from pg_policy p
    where p.polrelid = target and p.polname = 'tenant';
  computed := coalesce(computed, '{}');
  unseen := array['tenant_id', 'updated_at'] || computed
    || array(select attname::text from pg_attribute where attrelid = target and attgenerated <> '');
  if p_ids is not null or current_user <> 'thea_loader' then
    select
      string_agg(format('(select p.deleted_at from %s p where p.tenant_id = $2 and p.id = i.%I)', k.parent, k.name),
        ', ' order by k.parent, k.name),
      string_agg(format('(select %L from %s p where p.tenant_id = $2 and p.id = i.%I and p.deleted_at is not null)',
        regexp_replace(k.parent, '^thea\.', ''), k.parent, k.name), ', ' order by k.parent, k.name)
      into times, names
      from (
        select c.confrelid::regclass::text as parent, a.attname::text as name
        from pg_constraint c
        join pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[2]
        where c.conrelid = target and c.contype = 'f' and c.confdeltype = 'c' and cardinality(c.conkey) = 2
      ) k;
  end if;
  select
    string_agg(quote_ident(a.attname), ', ' order by a.attnum),
    string_agg(
      case
        when times is not null and a.attname = 'deleted_at' then format('coalesce(i.deleted_at, %s)', times)
        when times is not null and a.attname = 'deleted_with'
          then format('case when i.deleted_at is null then coalesce(%s) else i.deleted_with end', names)
        else format('i.%I', a.attname)
      end, ', ' order by a.attnum
    ),
    string_agg(
      case
        when a.attname = any(computed) and (p_ids -> 'anew') is not null then format('null::%s', a.type)
        when p_ids is not null and a.parent is not null then format('thea.id_here($3, %L, r.%I)', a.parent, a.attname)
        else format('r.%I', a.attname)
      end || ' as ' || quote_ident(a.attname), ', ' order by a.attnum
    )
    into columns, selected, given
    from (
      select t.attname, t.attnum, format_type(t.atttypid, t.atttypmod) as type,
        case when t.attname = 'id' then target::text else (
          select f.parent from thea.references_of(target) as f where f.name = t.attname limit 1
        ) end as parent
      from pg_attribute t
      where t.attrelid = target
        and t.attnum > 0
        and not t.attisdropped
        and t.attgenerated = ''
        and t.attname <> 'tenant_id'
    ) a;
  parents := thea.parents_exist(target);
  -- Which row has the key that keeps another one out?
  select coalesce(string_agg(format('select u.id from (select * from %s where tenant_id = $2 and (%s)) u where true%s',
      target, x.predicate, x.same), ' union all '), 'select null::bigint where false')
    into matching
    from (
      select coalesce(pg_get_expr(n.indpred, n.indrelid), 'true') as predicate,
        string_agg(format(' and u.%I = i.%I', a.attname, a.attname), '') as same
      from pg_index n
      cross join lateral unnest(n.indkey::smallint[]) as k (number)
      join pg_attribute a on a.attrelid = n.indrelid and a.attnum = k.number
      where n.indrelid = target
        and n.indisunique
        and not n.indisprimary
        and 0 <> all(n.indkey::smallint[])
        and a.attname <> 'tenant_id'
      group by n.indexrelid, n.indpred, n.indrelid
    ) x;
  statement := format($text$
    with incoming as materialized (
      select r.id as archived_id, %2$s from json_populate_recordset(null::%1$s, $1) as r
    ), done as (
      {insertion}
    ), rest as (
      select i.* from incoming i where not exists (select from done d where d.id = i.id)
    ), orphaned as (
      select i.archived_id from rest i where not ({parents})
    ), present as (
      select i.archived_id, to_jsonb(x) - $4 is distinct from to_jsonb(i) - $4 - 'archived_id' as differs
      from rest i join %1$s x on x.tenant_id = $2 and x.id = i.id
    ), matched as (
      select i.archived_id, min(x.id) as id
      from rest i cross join lateral (%3$s) as x (id)
      where not exists (select from present p where p.archived_id = i.archived_id)
      group by i.archived_id
    )
    select jsonb_build_object(
      'loaded', (select count(*) from done),
      'present', (select count(*) from present p where not p.differs),
      'differing', (
        select coalesce(jsonb_agg(p.archived_id order by p.archived_id), '[]') from present p where p.differs
      ),
      'matched', (select coalesce(jsonb_object_agg(m.archived_id, m.id), '{}') from matched m),
      'orphaned', (select coalesce(jsonb_agg(o.archived_id order by o.archived_id), '[]') from orphaned o
        where not exists (select from present p where p.archived_id = o.archived_id)
          and not exists (select from matched m where m.archived_id = o.archived_id)),
      'refused', (select coalesce(jsonb_agg(r.archived_id order by r.archived_id), '[]') from rest r
        where not exists (select from present p where p.archived_id = r.archived_id)
          and not exists (select from matched m where m.archived_id = r.archived_id)
          and not exists (select from orphaned o where o.archived_id = r.archived_id))
    )
  $text$, target, given, matching);
  insertion := format('insert into %s (tenant_id, %s) overriding system value select $2, %s from incoming i'
    ' where {parents} on conflict do nothing returning id', target, columns, selected);
  if p_dry then
    statement := replace(statement, '{insertion}', 'select null::bigint as id where false');
  end if;
  statement := replace(statement, '{insertion}', insertion);
  begin
    execute replace(statement, '{parents}', 'true') into result using p_rows, p_tenant, p_ids, unseen;
  exception when foreign_key_violation then
    execute replace(statement, '{parents}', parents) into result using p_rows, p_tenant, p_ids, unseen;
  end;
  if p_dry then
    -- Whatever is not here yet would be loaded.
    result := result || jsonb_build_object('loaded', jsonb_array_length(result -> 'refused'), 'refused', '[]'::jsonb);
  end if;
  return result;
end
$$;

-- A document of an audit entry with the ids that its references have here.
create function thea.document_here(document jsonb, refs jsonb, ids jsonb) returns jsonb
  language sql immutable parallel safe
  return document || coalesce(
    (
      select jsonb_object_agg(r.name, thea.id_here(ids, r.parent, (document ->> r.name)::bigint))
      from jsonb_each_text(refs) as r (name, parent)
      where jsonb_typeof(document -> r.name) = 'number'
    ),
    '{}'
  );

-- Bring archived entries of the audit log in; how many were not there yet comes back. With `p_ids` they speak of the
-- rows by their ids here. What became of the tenant as a whole is for the functions below to tell, and for nobody else.
create function thea.load_entries(p_tenant text, p_rows json, p_ids jsonb) returns bigint
  language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  columns constant text := (
    select string_agg(quote_ident(attname), ', ' order by attnum)
    from pg_attribute
    where attrelid = 'thea.audit_log'::regclass and attnum > 0 and not attisdropped and attname <> 'tenant_id'
  );
  refs jsonb;
  loaded bigint;
begin
  if p_ids is not null then
    select coalesce(jsonb_object_agg(thea.short_name(t.name), t.refs), '{}') into refs
    from (
      select p.polrelid::regclass::text as name, jsonb_object_agg(r.name, r.parent) as refs
      from pg_policy p
      cross join lateral (
        select f.name, f.parent from thea.references_of(p.polrelid) as f
        union all
        select 'id', p.polrelid::regclass::text
      ) r
      where p.polname = 'tenant' and p.polcmd = '*'
      group by p.polrelid
    ) t;
    select json_agg(
        to_jsonb(e) || jsonb_build_object(
          'row_id', thea.id_here(p_ids, refs #>> array[e.table_name, 'id'], e.row_id),
          'subject_id', thea.id_here(p_ids, 'thea.users', (to_jsonb(e) ->> 'subject_id')::bigint),
          'before', thea.document_here(e.before, coalesce(refs -> e.table_name, '{}'), p_ids),
          'after', thea.document_here(e.after, coalesce(refs -> e.table_name, '{}'), p_ids)
        )
      )
      into p_rows
      from json_populate_recordset(null::thea.audit_log, p_rows) e;
  end if;
  -- What a cluster says of the number of rows counts those that were there.
  execute format('with done as (insert into thea.audit_log (tenant_id, %s) select $2, %s'
      ' from json_populate_recordset(null::thea.audit_log, $1) r where table_name <> ''tenant'' on conflict do nothing'
      ' returning id) select count(*) from done',
      columns, columns)
    into loaded using p_rows, p_tenant;
  return loaded;
end
$$;

-- Let new rows of a table have ids above this one. It never lowers a sequence, though others draw from it meanwhile:
-- a short way is gone by drawing, and on a long one nobody else can come past, a million ids at once.
--
-- On a cluster each node draws from a span of its own, the first worker from 2^48 on, and moves on where the id is its.
create function thea.advance_ids(p_table text, p_highest bigint) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  ids constant text := pg_get_serial_sequence(p_table, 'id');
  missing bigint;
begin
  if p_highest >> 48 > 0 and to_regproc('pg_catalog.citus_is_coordinator') is not null then
    if citus_is_coordinator() then
      if not (
        select bool_and(success)
        from run_command_on_workers(format('select thea.advance_ids(%L, %s)', p_table, p_highest))
      ) then
        raise exception 'a worker is out of reach' using errcode = 'connection_failure';
      end if;
      return;
    elsif p_highest not between (select seqmin from pg_sequence where seqrelid = ids::regclass)
      and (select seqmax from pg_sequence where seqrelid = ids::regclass)
    then
      return;
    end if;
  end if;
  execute format('select $1 - last_value + (not is_called)::integer from %s', ids) into missing using p_highest;
  if missing > 1000000 then
    perform setval(ids, p_highest);
  elsif missing > 0 then
    perform count(nextval(ids)) from generate_series(1, missing);
  end if;
end
$$;

-- After rows were brought into a cluster with their ids, let new rows of a table have ids above those that the tenant
-- has and its log speaks of, on every node that may have drawn some of these. Elsewhere the highest of all is enough.
create function thea.advance_past(p_tenant text, p_table text) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  highest bigint;
begin
  perform thea.require_own(p_tenant, p_table);
  if to_regproc('pg_catalog.citus_is_coordinator') is null then
    return;
  end if;
  for highest in
    execute format('select max(i.id) from ('
        'select id from %s where tenant_id = $1'
        ' union all select row_id from thea.audit_log where tenant_id = $1 and table_name = $2'
        ') i group by i.id >> 48', p_table::regclass)
      using p_tenant, thea.short_name(p_table)
  loop
    perform thea.advance_ids(p_table, highest);
  end loop;
end
$$;

-- Keep as many ids of a table for rows that are brought in; they follow the one that comes back. A million before
-- them are passed over, so that nobody draws one of them meanwhile.
create function thea.reserve_ids(p_table text, p_number bigint) returns bigint
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  ids constant text := pg_get_serial_sequence(p_table, 'id');
  reserved bigint;
begin
  execute format('select last_value + 1000000 from %s', ids) into reserved;
  perform setval(ids, reserved + p_number);
  return reserved;
end
$$;

-- Begin to bring an archive in, or go on with it. What comes back, and stands in the audit log: the archive, whether
-- its ids are `kept` or `mapped`, and the offsets of these. They are kept in a tenant without rows and entries; where
-- `p_told` says that they must be, another tenant is refused.
-- `p_told` says what the archive holds, with the lowest and highest id of each table.
create function thea.import_begin(p_tenant text, p_archive uuid, p_told jsonb) returns jsonb
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  latest record;
  holds_rows boolean := exists (
    select from thea.audit_log where tenant_id = p_tenant and table_name <> 'tenant'
  );
  told jsonb;
  part record;
  offsets jsonb := '{}';
begin
  perform thea.require_own(p_tenant, 'thea.audit_log');
  perform pg_advisory_xact_lock(hashtextextended('thea.import_begin ' || p_tenant, 0));
  select e.action, e.after into latest from thea.tenant_entry(p_tenant) as e;
  if latest.action = 'insert' and latest.after ->> 'archive' = p_archive::text then
    return latest.after;
  end if;
  if exists (select from thea.tenants t where t.id = p_tenant and t.status = 'ended') then
    raise exception 'this tenant has ended' using errcode = 'TH002';
  end if;
  for part in
    select polrelid::regclass as name from pg_policy where polname = 'tenant' and polcmd = '*'
  loop
    execute format('select $2 or exists (select from %s where tenant_id = $1)', part.name)
      into holds_rows using p_tenant, holds_rows;
  end loop;
  if holds_rows and p_told ->> 'ids' = 'kept' then
    raise exception 'the tenant holds rows already' using errcode = 'object_not_in_prerequisite_state';
  end if;
  for part in
    select t.key as name, (t.value ->> 'lowest')::bigint as lowest, (t.value ->> 'highest')::bigint as highest
    from jsonb_each(p_told -> 'tables') as t
    where t.value ->> 'highest' is not null
  loop
    perform thea.require_own(p_tenant, part.name);
    if holds_rows then
      offsets := offsets || jsonb_build_object(
        part.name, thea.reserve_ids(part.name, part.highest - part.lowest + 1) - part.lowest + 1
      );
    else
      perform thea.advance_ids(part.name, part.highest);
    end if;
  end loop;
  told := p_told || jsonb_build_object(
    'archive', p_archive, 'ids', case when holds_rows then 'mapped' else 'kept' end, 'offsets', offsets,
    'login', session_user
  );
  insert into thea.audit_log (tenant_id, actor, request_id, table_name, row_id, action, after)
  values (
    p_tenant,
    nullif(current_setting('app.actor', true), ''),
    nullif(current_setting('app.request_id', true), ''),
    'tenant', 0, 'insert', told
  );
  return told;
end
$$;

-- Bring rows of one table in, the audit log's among them, after `thea.import_begin`. See `thea.load_rows`.
create function thea.import_rows(p_tenant text, p_archive uuid, p_table text, p_rows json, p_ids jsonb) returns jsonb
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform thea.require_import(p_tenant, p_archive, p_table);
  if p_table = 'thea.audit_log' then
    return jsonb_build_object('loaded', thea.load_entries(p_tenant, p_rows, p_ids));
  end if;
  return thea.load_rows(p_tenant, p_table, p_rows, p_ids, false);
end
$$;

-- Bring rows of one table in as they are now, in place of what was brought in of them before. The ids of those come
-- back that were left out, because a row that they refer to is not here yet.
create function thea.sync_rows(p_tenant text, p_archive uuid, p_table text, p_rows json) returns bigint[]
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  target constant regclass := p_table::regclass;
  columns text;
  assignments text;
  statement text;
  changed bigint[];
begin
  perform thea.require_import(p_tenant, p_archive, p_table);
  if p_table = 'thea.audit_log' then
    -- What an entry said may have been taken back.
    delete from thea.audit_log e
    using json_populate_recordset(null::thea.audit_log, p_rows) r
    where e.tenant_id = p_tenant
      and e.id = r.id
      and e.table_name <> 'tenant';
    perform thea.load_entries(p_tenant, p_rows, null);
    return '{}';
  end if;
  select string_agg(quote_ident(attname), ', '),
      string_agg(format('%1$I = excluded.%1$I', attname), ', ') filter (where attname <> 'id')
    into columns, assignments
    from pg_attribute
    where attrelid = target and attnum > 0 and not attisdropped and attgenerated = '' and attname <> 'tenant_id';
  statement := format('with done as (insert into %s (tenant_id, %s) overriding system value select $2, %s'
    ' from json_populate_recordset(null::%s, $1) i where {parents} on conflict (tenant_id, id) do update set %s'
    ' returning id) select array(select id from done)', target, columns, columns, target, assignments);
  begin
    execute replace(statement, '{parents}', 'true') into changed using p_rows, p_tenant;
    return '{}';
  exception when foreign_key_violation then
    execute replace(statement, '{parents}', thea.parents_exist(target)) into changed using p_rows, p_tenant;
  end;
  return array(select (r ->> 'id')::bigint from json_array_elements(p_rows) r except select unnest(changed));
end
$$;

-- Remove rows that were brought in and are gone since where they came from.
create function thea.remove_rows(p_tenant text, p_archive uuid, p_table text, p_ids text[]) returns bigint
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  is_log constant boolean := p_table = 'thea.audit_log';
  removed bigint;
begin
  perform thea.require_import(p_tenant, p_archive, p_table);
  execute format('delete from %s where tenant_id = $1 and id = any($2::%s[])%s', p_table::regclass,
      case when is_log then 'uuid' else 'bigint' end, case when is_log then ' and table_name <> ''tenant''' else '' end)
    using p_tenant, p_ids;
  get diagnostics removed = row_count;
  return removed;
end
$$;

-- Stop the tenant's service for its move: the server refuses it from its next statement on. A tenant that is suspended
-- already stays as it is. Whether it was stopped by this comes back.
create function thea.pause_tenant(p_tenant text) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform thea.require_own(p_tenant, 'thea.audit_log');
  if exists (select from thea.tenants t where t.id = p_tenant and t.status = 'ended') then
    raise exception 'this tenant has ended' using errcode = 'TH002';
  end if;
  insert into thea.tenants (id, status, reason, suspended_at)
  values (p_tenant, 'suspended', 'it is being moved', now())
  on conflict (id) do update set status = 'suspended', reason = excluded.reason, suspended_at = excluded.suspended_at
    where tenants.status = 'active';
  return found;
end
$$;

-- After a move, or one that failed: a tenant that was stopped for it goes on here, or stays refused.
create function thea.unpause_tenant(p_tenant text, p_moved boolean) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform thea.require_own(p_tenant, 'thea.audit_log');
  if p_moved then
    update thea.tenants t set reason = 'it was moved to another database'
    where t.id = p_tenant and t.status = 'suspended';
  else
    update thea.tenants t set status = 'active', reason = null, suspended_at = null
    where t.id = p_tenant and t.status = 'suspended' and t.reason = 'it is being moved';
  end if;
end
$$;

-- Begin to end a tenant, or go on with it: from here on its rows may be removed. Where the directory has the tenant,
-- the server refuses its service from here on.
create function thea.end_begin(p_tenant text, p_told jsonb) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform thea.require_own(p_tenant, 'thea.audit_log');
  if exists (select from thea.tenant_entry(p_tenant) as e where e.action = 'purge') then
    return;
  end if;
  insert into thea.audit_log (tenant_id, actor, request_id, table_name, row_id, action, before)
  values (
    p_tenant,
    nullif(current_setting('app.actor', true), ''),
    nullif(current_setting('app.request_id', true), ''),
    'tenant', 0, 'purge', p_told || jsonb_build_object('login', session_user)
  );
  update thea.tenants t set status = 'ended', ended_at = now(), suspended_at = null
  where t.id = p_tenant and t.status <> 'ended';
end
$$;

-- Remove up to so many rows of one table of a tenant that ends; how many there were comes back. The entries that say
-- what became of the tenant as a whole stay.
create function thea.end_rows(p_tenant text, p_table text, p_limit integer) returns bigint
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  is_log constant boolean := p_table = 'thea.audit_log';
  removed bigint;
begin
  perform thea.require_own(p_tenant, p_table);
  if not exists (select from thea.tenant_entry(p_tenant) as e where e.action = 'purge') then
    raise exception 'this tenant does not end' using errcode = 'insufficient_privilege';
  end if;
  execute format('delete from %1$s where tenant_id = $1 and id = any(array('
      'select id from %1$s where tenant_id = $1%2$s order by %3$s limit $2))',
      p_table::regclass, case when is_log then ' and table_name <> ''tenant''' else '' end,
      case when is_log then 'at, id' else 'id' end)
    using p_tenant, p_limit;
  get diagnostics removed = row_count;
  return removed;
end
$$;

alter function thea.tenant_entry(text) owner to thea_owner;

alter function thea.require_own(text, text) owner to thea_owner;

alter function thea.require_import(text, uuid, text) owner to thea_owner;

alter function thea.references_of(regclass) owner to thea_owner;

alter function thea.parents_exist(regclass) owner to thea_owner;

alter function thea.id_here(jsonb, text, bigint) owner to thea_owner;

alter function thea.load_rows(text, text, json, jsonb, boolean) owner to thea_owner;

alter function thea.document_here(jsonb, jsonb, jsonb) owner to thea_owner;

alter function thea.load_entries(text, json, jsonb) owner to thea_owner;

alter function thea.advance_ids(text, bigint) owner to thea_owner;

alter function thea.reserve_ids(text, bigint) owner to thea_owner;

revoke all on function thea.tenant_entry(text), thea.require_own(text, text),
    thea.require_import(text, uuid, text), thea.references_of(regclass), thea.parents_exist(regclass),
    thea.id_here(jsonb, text, bigint), thea.load_rows(text, text, json, jsonb, boolean),
    thea.document_here(jsonb, jsonb, jsonb), thea.load_entries(text, json, jsonb), thea.advance_ids(text, bigint),
    thea.advance_past(text, text), thea.reserve_ids(text, bigint), thea.import_begin(text, uuid, jsonb),
    thea.import_rows(text, uuid, text, json, jsonb), thea.sync_rows(text, uuid, text, json),
    thea.remove_rows(text, uuid, text, text[]), thea.pause_tenant(text), thea.unpause_tenant(text, boolean),
    thea.end_begin(text, jsonb), thea.end_rows(text, text, integer)
  from public;

-- A service brings rows of a backup back with its own rights: each of them then has its entry in the audit log.
grant execute on function thea.require_own(text, text), thea.references_of(regclass), thea.parents_exist(regclass),
    thea.id_here(jsonb, text, bigint), thea.load_rows(text, text, json, jsonb, boolean)
  to thea_app, thea_loader;

grant execute on function thea.tenant_entry(text), thea.require_import(text, uuid, text),
    thea.document_here(jsonb, jsonb, jsonb),
    thea.load_entries(text, json, jsonb), thea.advance_ids(text, bigint), thea.reserve_ids(text, bigint)
  to thea_loader;

grant execute on function thea.import_begin(text, uuid, jsonb), thea.import_rows(text, uuid, text, json, jsonb),
    thea.sync_rows(text, uuid, text, json), thea.remove_rows(text, uuid, text, text[]), thea.pause_tenant(text),
    thea.unpause_tenant(text, boolean), thea.advance_ids(text, bigint), thea.advance_past(text, text),
    thea.end_begin(text, jsonb), thea.end_rows(text, text, integer)
  to thea_mover;

-- Of the directory these functions reach the tenant that the session names, and no other.
create policy mover on thea.tenants to thea_loader
  using (id = thea.named_tenant()) with check (id = thea.named_tenant());

grant select, insert on thea.tenants to thea_loader;

grant update (status, reason, suspended_at, ended_at) on thea.tenants to thea_loader;

-- Who gets a function must be allowed to create in its schema: for this moment only.
grant create on schema thea to thea_loader;

alter function thea.import_begin(text, uuid, jsonb) owner to thea_loader;

alter function thea.advance_past(text, text) owner to thea_loader;

alter function thea.import_rows(text, uuid, text, json, jsonb) owner to thea_loader;

alter function thea.sync_rows(text, uuid, text, json) owner to thea_loader;

alter function thea.remove_rows(text, uuid, text, text[]) owner to thea_loader;

alter function thea.pause_tenant(text) owner to thea_loader;

alter function thea.unpause_tenant(text, boolean) owner to thea_loader;

alter function thea.end_begin(text, jsonb) owner to thea_loader;

alter function thea.end_rows(text, text, integer) owner to thea_loader;

revoke create on schema thea from thea_loader;
