-- depends: 0014.retention

-- Why: an operator limits how many rows of a table a tenant may have, and how many bytes of text in all. The database
-- keeps these limits itself, so that no client and no race goes beyond them.
--
-- Each limit of a tenant is a row of `thea.quotas`, which says how much is used. What a statement adds or removes is
-- added up there, after the statement, by triggers that a table gets with the first limit that is about it: without
-- limits nothing is paid, and a tenant without a limit pays for a look that finds none. The writers of a tenant with a
-- limit wait for each other there, until the first one's transaction ends; that is what makes the figure exact.

create table thea.quotas (
  tenant text not null,
  counted text not null,
  allowed bigint not null,
  used bigint not null,
  constraint quotas_tenant_key primary key (tenant, counted),
  constraint quotas_allowed_check check (allowed >= 0)
);

comment on table thea.quotas is 'the limits of tenants that the database keeps: `text_bytes`, or a table''s name';

alter table thea.quotas owner to thea_owner;

alter table thea.quotas enable row level security;

alter table thea.quotas force row level security;

create policy owner_keeps on thea.quotas to thea_owner using (true) with check (true);

create policy admin_reads on thea.quotas for select to thea_admin using (true);

grant select on thea.quotas to thea_admin;

-- The tables that have rows of tenants, by their full names.
create function thea.tables_of_tenants() returns setof regclass
  language sql stable set search_path = pg_catalog, pg_temp
begin atomic
  select p.polrelid::regclass
  from pg_catalog.pg_policy p
  join pg_catalog.pg_class c on c.oid = p.polrelid
  where p.polname = 'tenant'
    and c.oid <> 'thea.audit_log'::regclass
    and exists (
      select from pg_catalog.pg_trigger t where t.tgrelid = c.oid and t.tgfoid = 'thea.audit()'::regprocedure
    )
  order by p.polrelid::regclass::text;
end;

-- How many bytes of text a row has: an expression on its columns of texts, lists of texts and documents.
create function thea.text_bytes_of(target regclass) returns text
  language sql stable set search_path = pg_catalog, pg_temp
begin atomic
  select coalesce(string_agg(format('coalesce(octet_length(x.%I::text), 0)', a.attname), ' + ' order by a.attnum), '0')
  from pg_catalog.pg_attribute a
  where a.attrelid = target
    and a.attnum > 0
    and not a.attisdropped
    and a.attgenerated = ''
    and a.atttypid = any (array['text', 'varchar', 'text[]', 'jsonb']::regtype[])
    and a.attname <> all (array['tenant_id', 'deleted_with']);
end;

-- What a tenant has in a table. It reads as a role that may read every tenant, and only the named one's rows: by an
-- index, because how many rows were fetched is for everybody to see.
create function thea.count_rows(p_id text, target regclass, out row_count bigint, out text_bytes bigint)
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  set client_min_messages = warning
  set enable_seqscan = off
as $$
begin
  execute format('select count(*), coalesce(sum(%s), 0)::bigint from %s x where x.tenant_id = $1',
    thea.text_bytes_of(target), target)
    into row_count, text_bytes
    using p_id;
end
$$;

-- What a tenant has, table by table; for those who keep the directory.
create function thea.usage_of(p_id text) returns table (table_name text, row_count bigint, text_bytes bigint)
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  set client_min_messages = warning
as $$
declare
  target regclass;
begin
  for target in select t from thea.tables_of_tenants() t loop
    table_name := thea.short_name(target::text);
    select c.row_count, c.text_bytes into row_count, text_bytes from thea.count_rows(p_id, target) c;
    return next;
  end loop;
end
$$;

-- Add to what a tenant uses; more than it may is refused, less never is.
create function thea.charge(p_id text, p_counted text, p_amount bigint) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  quota record;
begin
  update thea.quotas
  set used = used + p_amount
  where tenant = p_id and counted = p_counted
  returning allowed, used into quota;
  if p_amount > 0 and quota.used > quota.allowed then
    raise exception 'this tenant may have % of %', quota.allowed, p_counted
      using errcode = 'TH004', constraint = p_counted;
  end if;
end
$$;

-- Arguments: the table's name, and what its rows have of text. One of the three triggers that call it knows the new
-- rows, one the old ones, and one both. Text is added up by a statement that is planned each time, so that is done only
-- where it is limited.
create function thea.meter() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  limited boolean;
  text_is_limited boolean;
  changed record;
begin
  -- The tenants of the statement that have a limit here: seldom more than the session's own, and mostly none.
  select count(*) > 0, bool_or(q.counted = 'text_bytes') into limited, text_is_limited
  from thea.quotas q
  where q.counted in (tg_argv[0], 'text_bytes')
    and (thea.named_tenant() is null or q.tenant = thea.named_tenant());
  if not limited then
    return null;
  end if;
  if tg_op = 'INSERT' then
    for changed in select x.tenant_id, count(*) as n from added x group by x.tenant_id order by x.tenant_id loop
      perform thea.charge(changed.tenant_id, tg_argv[0], changed.n);
    end loop;
  elsif tg_op = 'DELETE' then
    for changed in select x.tenant_id, count(*) as n from removed x group by x.tenant_id order by x.tenant_id loop
      perform thea.charge(changed.tenant_id, tg_argv[0], -changed.n);
    end loop;
  end if;
  if not text_is_limited then
    return null;
  end if;
  for changed in execute format('select tenant_id, sum(bytes)::bigint as n from ('
    || case tg_op
      when 'INSERT' then 'select x.tenant_id, %1$s as bytes from added x'
      when 'DELETE' then 'select x.tenant_id, -(%1$s) as bytes from removed x'
      else 'select x.tenant_id, %1$s as bytes from added x union all select x.tenant_id, -(%1$s) from removed x'
    end
    || ') c group by tenant_id order by tenant_id', tg_argv[1])
  loop
    if changed.n <> 0 then
      perform thea.charge(changed.tenant_id, 'text_bytes', changed.n);
    end if;
  end loop;
  return null;
end
$$;

-- What the directory says of the calls of the tenant that the session names: how many there may be at once, for how
-- many milliseconds a statement may run, and whether reads are noted (0016.compliance). Services ask for it, because
-- each process knows its own calls alone. It is null where this is said of no tenant: then a service need not ask for
-- others.
create function thea.limits_of_calls() returns jsonb
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  -- The planner would look for the first of some, and read the whole directory where there is none.
  set enable_seqscan = off
as $$
begin
  -- The conditions in the words of the indexes, which no other words match.
  if not exists (select from thea.tenants t where t.limits ?| array['calls_in_flight', 'statement_ms'])
    and not exists (select from thea.tenants t where t.settings @> '{"log_reads": true}')
  then
    return null;
  end if;
  return coalesce((
    select jsonb_object_agg(l.key, l.value)
    from thea.tenants t
    cross join lateral (
      select e.key, e.value from jsonb_each(t.limits) e where e.key in ('calls_in_flight', 'statement_ms')
      union all
      select 'log_reads', t.settings -> 'log_reads' where t.settings ? 'log_reads'
    ) l
    where t.id = nullif(current_setting('app.tenant_id', true), '')
  ), '{}');
end
$$;

-- The same of several tenants, which the session names one after the other, in one message; with those of which
-- something is said alone.
create function thea.limits_of_calls_of(p_tenants text[]) returns jsonb
  language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  before constant text := current_setting('app.tenant_id', true);
  named text;
  limits jsonb := thea.limits_of_calls();
  found jsonb := case when limits is not null then '{}' end;
begin
  foreach named in array p_tenants loop
    exit when limits is null;
    perform set_config('app.tenant_id', named, true);
    limits := thea.limits_of_calls();
    if limits <> '{}' then
      found := found || jsonb_build_object(named, limits);
    end if;
  end loop;
  perform set_config('app.tenant_id', before, true);
  return found;
end
$$;

-- Let a table's changes be added up. Whoever calls it waits until no writer of the table is left, and holds back new
-- ones until the end of its transaction.
create function thea.ensure_metered(target regclass) returns void
  language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  action constant text := format('for each statement execute function thea.meter(%L, %L)',
    thea.short_name(target::text), thea.text_bytes_of(target));
begin
  execute format('lock table %s in share row exclusive mode', target);
  execute format('create or replace trigger meter_insert after insert on %s referencing new table as added %s',
    target, action);
  execute format('create or replace trigger meter_delete after delete on %s referencing old table as removed %s',
    target, action);
  execute format('create or replace trigger meter_update after update on %s'
    ' referencing new table as added old table as removed %s', target, action);
end
$$;

-- What a tenant's limits say, one for each row; an unknown name is refused.
create function thea.limits_in(limits jsonb) returns table (counted text, allowed bigint)
  language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  wrong text;
begin
  select r.key into wrong
  from jsonb_object_keys(case jsonb_typeof(limits -> 'rows') when 'object' then limits -> 'rows' else '{}' end) r (key)
  where not exists (select from thea.tables_of_tenants() t where thea.short_name(t::text) = r.key)
  limit 1;
  if found then
    raise exception 'rows: no table of tenants has one of these names' using errcode = 'TH005';
  end if;
  return query
    select 'text_bytes', (limits ->> 'text_bytes')::bigint where limits ? 'text_bytes'
    union all
    select thea.short_name(t::text), case jsonb_typeof(limits -> 'rows')
        when 'number' then (limits ->> 'rows')::bigint
        else (limits -> 'rows' ->> thea.short_name(t::text))::bigint
      end
    from thea.tables_of_tenants() t
    where jsonb_typeof(limits -> 'rows') = 'number' or limits -> 'rows' ? thea.short_name(t::text);
end
$$;

-- Keep what the directory says of a tenant's limits. What is new is counted once, while nobody writes the tables that
-- it is about. A tenant that has more than a new limit keeps it, and may add nothing.
create function thea.keep_limits() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set client_min_messages = warning
  -- While it waits for the writers of a table, others wait behind it.
  set lock_timeout = '5s'
as $$
declare
  wanted record;
  target regclass;
  total bigint;
begin
  delete from thea.quotas q
  where q.tenant = new.id and q.counted not in (select l.counted from thea.limits_in(new.limits) l);
  for wanted in select l.counted, l.allowed from thea.limits_in(new.limits) l order by l.counted loop
    update thea.quotas set allowed = wanted.allowed where tenant = new.id and counted = wanted.counted;
    if found then
      continue;
    end if;
    total := 0;
    for target in
      select t from thea.tables_of_tenants() t where wanted.counted in ('text_bytes', thea.short_name(t::text))
    loop
      perform thea.ensure_metered(target);
      select total + case wanted.counted when 'text_bytes' then c.text_bytes else c.row_count end into total
      from thea.count_rows(new.id, target) c;
    end loop;
    insert into thea.quotas (tenant, counted, allowed, used) values (new.id, wanted.counted, wanted.allowed, total);
  end loop;
  return null;
end
$$;

create trigger keep_limits after insert or update of limits on thea.tenants
  for each row execute function thea.keep_limits();

alter function thea.tables_of_tenants() owner to thea_owner;

alter function thea.text_bytes_of(regclass) owner to thea_owner;

alter function thea.charge(text, text, bigint) owner to thea_owner;

alter function thea.meter() owner to thea_owner;

alter function thea.ensure_metered(regclass) owner to thea_owner;

alter function thea.limits_in(jsonb) owner to thea_owner;

alter function thea.keep_limits() owner to thea_owner;

alter function thea.limits_of_calls() owner to thea_owner;

alter function thea.limits_of_calls_of(text[]) owner to thea_owner;

revoke all on function thea.tables_of_tenants(), thea.text_bytes_of(regclass), thea.count_rows(text, regclass),
    thea.usage_of(text), thea.charge(text, text, bigint), thea.meter(), thea.ensure_metered(regclass),
    thea.limits_in(jsonb), thea.keep_limits(), thea.limits_of_calls(),
    thea.limits_of_calls_of(text[])
  from public;

grant execute on function thea.limits_of_calls(), thea.limits_of_calls_of(text[])
  to thea_app, thea_privacy, thea_readonly;

grant execute on function thea.tables_of_tenants(), thea.text_bytes_of(regclass) to thea_maintenance;

grant execute on function thea.count_rows(text, regclass) to thea_owner;

grant execute on function thea.usage_of(text) to thea_admin;

-- Who gets a function must be allowed to create in its schema: for this moment only.
grant create on schema thea to thea_maintenance;

alter function thea.count_rows(text, regclass) owner to thea_maintenance;

alter function thea.usage_of(text) owner to thea_maintenance;

revoke create on schema thea from thea_maintenance;
