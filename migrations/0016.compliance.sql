-- depends: 0015.limits

-- Why: who answers for personal data must be able to say what administrators did and, where a tenant wants it, who read
-- what; to show that no entry of these logs was altered or removed; and to say what is kept of a tenant, above all of
-- one that is suspended or has ended. The group `thea_auditor` reads the logs of every tenant, the directory and the
-- policies of retention, and learns how many rows each table has of a tenant, and of when. It sees no row, and writes
-- nothing; only that noted reads come into their chain.
--
-- The logs are read, and not judged by a function, because who owns the database could replace a function.

do $$
begin
  if not exists (select from pg_catalog.pg_roles where rolname = 'thea_auditor') then
    create role thea_auditor nologin noinherit;
  end if;
end
$$;

grant usage on schema thea to thea_auditor;

grant usage on sequence thea.keystone to thea_auditor;

grant select on _yoyo_migration to thea_auditor;

create policy auditor_reads on thea.compliance_log for select to thea_auditor using (true);

grant select on thea.compliance_log to thea_auditor;

create policy auditor_reads on thea.tenants for select to thea_auditor using (true);

grant select on thea.tenants to thea_auditor;

create policy auditor_reads on thea.retention_policies for select to thea_auditor using (true);

grant select on thea.retention_policies to thea_auditor;

-- How many rows each table has of a tenant, whether it may work or not, and when the oldest and the newest came about.
-- Rows are found by an index, because how many were fetched is for everybody to see.
create function thea.kept_of(p_tenant text)
  returns table (table_name text, row_count bigint, oldest timestamptz, newest timestamptz)
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  set client_min_messages = warning
  set enable_seqscan = off
as $$
declare
  target regclass;
begin
  for target in select t from thea.tables_of_tenants() t loop
    table_name := thea.short_name(target::text);
    execute format('select count(*), min(created_at), max(created_at) from %s where tenant_id = $1', target)
      into row_count, oldest, newest
      using p_tenant;
    return next;
  end loop;
end
$$;

-- The same of the audit log, which another role may read.
create function thea.entries_kept_of(
  p_tenant text, out row_count bigint, out oldest timestamptz, out newest timestamptz
)
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  set client_min_messages = warning
  set enable_seqscan = off
as $$
begin
  select count(*), min(e.at), max(e.at) into row_count, oldest, newest
  from thea.audit_log e
  where e.tenant_id = p_tenant;
end
$$;

-- What administrators did, and who read what of the tenants that want it written down. The log belongs to no tenant,
-- and no service sees it: it has an operator's words. What is about all tenants together has the tenant ''.
--
-- The entries of a tenant are two chains, as the certificates are one (0012.people): who reads must not be able to hold
-- up who suspends, by a transaction that does not end.
create table thea.activity_log (
  tenant text not null,
  kind text not null,
  place bigint not null,
  at timestamptz not null,
  login text not null,
  actor text,
  request_id text,
  action text not null,
  subject_id bigint,
  reason text,
  details jsonb not null,
  hash bytea not null,
  constraint activity_log_tenant_key primary key (tenant, kind, place),
  constraint activity_log_kind_check check (kind in ('administration', 'reads')),
  -- A service says whom it reads: it must not fill the log with what is no tenant's name.
  constraint activity_log_tenant_check
    check (tenant = '' or char_length(tenant) between 1 and 50 and tenant !~ '^\s|\s$|[[:cntrl:]]')
);

comment on table thea.activity_log is 'what administrators did, and who read what, by tenant; `` for all tenants';

alter table thea.activity_log owner to thea_owner;

alter table thea.activity_log enable row level security;

alter table thea.activity_log force row level security;

create policy recorder_reads on thea.activity_log for select to thea_recorder using (true);

create policy recorder_writes on thea.activity_log for insert to thea_recorder with check (true);

grant select, insert on thea.activity_log to thea_recorder;

create policy auditor_reads on thea.activity_log for select to thea_auditor using (true);

grant select on thea.activity_log to thea_auditor;

-- Entries whose time is over are removed as a role that can do nothing else (0014.retention).
create function thea.activity_is_append_only() returns trigger
  language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'DELETE' and current_user = 'thea_audit_expirer' then
    return null;
  end if;
  raise exception 'the activity log is append-only' using errcode = 'insufficient_privilege';
end
$$;

alter function thea.activity_is_append_only() owner to thea_owner;

create trigger append_only before update or delete or truncate on thea.activity_log
  for each statement execute function thea.activity_is_append_only();

-- Reads that are noted and not in their chain yet. A chain has one end, so whoever adds to it waits for the one before;
-- readers must not wait for each other. A worker brings them into the chain, and so does whoever verifies it.
create table thea.noted_reads (
  tenant text not null,
  id bigint generated always as identity,
  at timestamptz not null,
  login text not null,
  actor text,
  request_id text,
  action text not null,
  subject_id bigint,
  details jsonb not null,
  constraint noted_reads_tenant_key primary key (tenant, id),
  -- As of thea.activity_log.
  constraint noted_reads_tenant_check
    check (char_length(tenant) between 1 and 50 and tenant !~ '^\s|\s$|[[:cntrl:]]')
);

comment on table thea.noted_reads is 'who read what, until it is in the chain of thea.activity_log';

alter table thea.noted_reads owner to thea_owner;

alter table thea.noted_reads enable row level security;

alter table thea.noted_reads force row level security;

create policy recorder_chains on thea.noted_reads to thea_recorder using (true) with check (true);

grant select, insert, delete on thea.noted_reads to thea_recorder;

create policy auditor_reads on thea.noted_reads for select to thea_auditor using (true);

grant select on thea.noted_reads to thea_auditor;

create policy recorder_reads on thea.tenants for select to thea_recorder using (true);

grant select (id, settings) on thea.tenants to thea_recorder;

create function thea.activity_hash(previous bytea, entry thea.activity_log) returns bytea
  language sql stable set search_path = pg_catalog, pg_temp
begin atomic
  select sha256(
    coalesce(previous, sha256(convert_to(jsonb_build_array(entry.tenant, entry.kind)::text, 'UTF8')))
    || convert_to(
      jsonb_build_array(
        entry.place, extract(epoch from entry.at), entry.login, entry.actor, entry.request_id, entry.action,
        entry.subject_id, entry.reason, entry.details
      )::text,
      'UTF8'
    )
  );
end;

-- Write an entry behind the last one of its chain. See thea.record_compliance for what becomes of several at once, and
-- for how the last one is found.
create function thea.append_activity(entry thea.activity_log) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set client_min_messages = warning
  set enable_seqscan = off
  set enable_bitmapscan = off
  set enable_sort = off
  set enable_indexscan = on
  set enable_indexonlyscan = on
  set seq_page_cost = 1
  set random_page_cost = 4
  set cpu_tuple_cost = 0.01
  set cpu_index_tuple_cost = 0.005
  set cpu_operator_cost = 0.0025
as $$
declare
  noted_at constant timestamptz := entry.at;
  last_hash bytea;
begin
  loop
    select l.place, l.hash into entry.place, last_hash
    from thea.activity_log l
    where l.tenant = entry.tenant
      and l.kind = entry.kind
    order by l.place desc
    limit 1;
    entry.place := coalesce(entry.place, 0) + 1;
    entry.at := coalesce(noted_at, clock_timestamp());
    entry.hash := thea.activity_hash(last_hash, entry);
    insert into thea.activity_log values (entry.*) on conflict (tenant, kind, place) do nothing;
    exit when found;
  end loop;
end
$$;

-- The same of what is done now, by whoever the session says to be.
create function thea.record_activity(
  p_tenant text, p_kind text, p_action text, p_subject bigint, p_reason text, p_details jsonb
) returns void
  language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  entry thea.activity_log;
begin
  entry.tenant := p_tenant;
  entry.kind := p_kind;
  entry.login := session_user;
  entry.actor := nullif(current_setting('app.actor', true), '');
  entry.request_id := nullif(current_setting('app.request_id', true), '');
  entry.action := p_action;
  entry.subject_id := p_subject;
  entry.reason := p_reason;
  entry.details := p_details;
  perform thea.append_activity(entry);
end
$$;

-- What is done to the directory, by whatever login and statement. An entry has the fields that changed.
create function thea.record_directory() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  was constant jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) else '{}' end;
  is_now constant jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) else '{}' end;
  standing constant text := is_now ->> 'status';
  before jsonb;
  after jsonb;
begin
  select jsonb_object_agg(f.name, was -> f.name), jsonb_object_agg(f.name, is_now -> f.name) into before, after
  from unnest(array['name', 'status', 'reason', 'limits', 'settings']) as f (name)
  where was -> f.name is distinct from is_now -> f.name;
  if after is null then
    return null;
  end if;
  perform thea.record_activity(
    coalesce(is_now ->> 'id', was ->> 'id'),
    'administration',
    case
      when tg_op = 'DELETE' then 'forget tenant'
      when standing <> coalesce(was ->> 'status', 'active')
        then case standing
          when 'suspended' then 'suspend tenant'
          when 'ended' then 'end tenant'
          else 'resume tenant'
        end
      when tg_op = 'INSERT' then 'create tenant'
      else 'change tenant'
    end,
    null,
    is_now ->> 'reason',
    jsonb_build_object('before', jsonb_strip_nulls(before), 'after', jsonb_strip_nulls(after))
  );
  return null;
end
$$;

-- What is done to the policies of retention.
create function thea.record_policy() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  was constant jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
  is_now constant jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
begin
  perform thea.record_activity(
    coalesce(coalesce(is_now, was) ->> 'tenant', ''),
    'administration',
    case tg_op when 'DELETE' then 'remove policy' else 'set policy' end,
    null,
    null,
    jsonb_build_object(
      'table', coalesce(is_now, was) -> 'table_name', 'rule', coalesce(is_now, was) -> 'rule',
      'before', was -> 'keep', 'after', is_now -> 'keep'
    )
  );
  return null;
end
$$;

-- What is done to a tenant as a whole (0011.archive) has an entry in the audit log, which says what.
create function thea.record_whole() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform thea.record_activity(
    new.tenant_id,
    'administration',
    case new.action when 'insert' then 'import tenant' else 'remove tenant' end,
    null,
    null,
    coalesce(new.after, new.before, '{}')
  );
  return null;
end
$$;

-- Note a read of the session, by whoever it says to be, for the chain of the tenant.
create function thea.note_read(p_tenant text, p_action text, p_subject bigint, p_details jsonb) returns void
  language sql volatile set search_path = pg_catalog, pg_temp
  -- A migrator's session has it off, and could not make this function.
  set row_security = on
begin atomic
  insert into thea.noted_reads (tenant, at, login, actor, request_id, action, subject_id, details)
  values (
    p_tenant, clock_timestamp(), session_user, nullif(current_setting('app.actor', true), ''),
    nullif(current_setting('app.request_id', true), ''), p_action, p_subject, p_details
  );
end;

-- Bring a batch of a tenant's noted reads into their chain; whether there was one. Of two that come at once, one does
-- it.
create function thea.chain_reads(p_tenant text) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set client_min_messages = warning
  set enable_seqscan = off
as $$
declare
  noted thea.noted_reads;
  entry thea.activity_log;
begin
  for noted in
    with taken as (
      delete from thea.noted_reads n
      where n.tenant = p_tenant
        and n.id = any (
          array(select f.id from thea.noted_reads f where f.tenant = p_tenant order by f.id limit 500)
        )
      returning n.*
    )
    select * from taken order by id
  loop
    entry.tenant := noted.tenant;
    entry.kind := 'reads';
    entry.at := noted.at;
    entry.login := noted.login;
    entry.actor := noted.actor;
    entry.request_id := noted.request_id;
    entry.action := noted.action;
    entry.subject_id := noted.subject_id;
    entry.details := noted.details;
    perform thea.append_activity(entry);
  end loop;
  return noted.id is not null;
end
$$;

-- The tenants that have noted reads which are in no chain yet, by name, from after the given one. Also those that may
-- not work: who read them is known by then.
create function thea.tenants_with_noted_reads(p_after text, p_limit integer) returns setof text
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set client_min_messages = warning
  set plan_cache_mode = force_custom_plan
  set jit = off
  set enable_seqscan = off
  set enable_bitmapscan = off
  set enable_indexscan = on
  set enable_indexonlyscan = on
  set enable_sort = off
  set enable_incremental_sort = off
  set seq_page_cost = 1
  set random_page_cost = 4
  set cpu_tuple_cost = 0.01
  set cpu_index_tuple_cost = 0.005
  set cpu_operator_cost = 0.0025
  set max_parallel_workers_per_gather = 0
as $$
begin
  return query
    -- Each tenant is looked up once, however many reads are noted of it.
    with recursive found (tenant) as (
      (select n.tenant from thea.noted_reads n where n.tenant > coalesce(p_after, '') order by n.tenant limit 1)
      union all
      select m.tenant
      from found f
      cross join lateral (
        select n.tenant from thea.noted_reads n where n.tenant > f.tenant order by n.tenant limit 1
      ) m
    )
    select f.tenant from found f limit p_limit;
end
$$;

-- That the session reads what this query finds, of this person where it is about one. Written where the directory says
-- that reads of the tenant are logged (`log_reads` in its settings). It returns nothing, so that it can be sent with
-- the query itself.
create procedure thea.log_read(p_query text, p_subject bigint)
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  whose constant text := thea.named_tenant();
begin
  if exists (select from thea.tenants t where t.id = whose and t.settings @> '{"log_reads": true}') then
    perform thea.note_read(whose, 'read', p_subject, jsonb_build_object('query', left(p_query, 200)));
  end if;
end
$$;

-- That the session takes the tenant out of the database as an archive, which is written down of every tenant.
create procedure thea.log_export(p_archive text)
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  whose constant text := thea.named_tenant();
begin
  if whose is not null then
    perform thea.note_read(whose, 'export tenant', null, jsonb_build_object('archive', left(p_archive, 200)));
  end if;
end
$$;

alter function thea.activity_hash(bytea, thea.activity_log) owner to thea_owner;

alter function thea.append_activity(thea.activity_log) owner to thea_owner;

alter function thea.record_activity(text, text, text, bigint, text, jsonb) owner to thea_owner;

alter function thea.note_read(text, text, bigint, jsonb) owner to thea_owner;

create trigger record_directory after insert or update or delete on thea.tenants
  for each row execute function thea.record_directory();

create trigger record_policy after insert or update or delete on thea.retention_policies
  for each row execute function thea.record_policy();

create trigger record_whole after insert on thea.audit_log
  for each row when (new.table_name = 'tenant') execute function thea.record_whole();

revoke all on function thea.activity_hash(bytea, thea.activity_log), thea.activity_is_append_only(),
    thea.append_activity(thea.activity_log),
    thea.record_activity(text, text, text, bigint, text, jsonb), thea.record_directory(), thea.record_policy(),
    thea.record_whole(), thea.note_read(text, text, bigint, jsonb), thea.chain_reads(text),
    thea.tenants_with_noted_reads(text, integer)
  from public;

revoke all on procedure thea.log_read(text, bigint), thea.log_export(text) from public;

grant execute on function thea.named_tenant(), thea.activity_hash(bytea, thea.activity_log),
    thea.append_activity(thea.activity_log), thea.record_activity(text, text, text, bigint, text, jsonb),
    thea.note_read(text, text, bigint, jsonb)
  to thea_recorder;

grant execute on function thea.chain_reads(text) to thea_worker, thea_auditor;

grant execute on function thea.tenants_with_noted_reads(text, integer) to thea_worker, thea_auditor;

grant execute on procedure thea.log_read(text, bigint) to thea_app, thea_privacy, thea_readonly;

grant execute on procedure thea.log_export(text) to thea_app, thea_mover, thea_privacy, thea_readonly;

revoke all on function thea.kept_of(text), thea.entries_kept_of(text) from public;

grant execute on function thea.kept_of(text), thea.entries_kept_of(text) to thea_auditor;

-- Who gets a function must be allowed to create in its schema: for this moment only.
grant create on schema thea to thea_maintenance, thea_audit_expirer, thea_recorder;

alter function thea.kept_of(text) owner to thea_maintenance;

alter function thea.entries_kept_of(text) owner to thea_audit_expirer;

alter function thea.record_directory() owner to thea_recorder;

alter function thea.record_policy() owner to thea_recorder;

alter function thea.record_whole() owner to thea_recorder;

alter function thea.chain_reads(text) owner to thea_recorder;

alter function thea.tenants_with_noted_reads(text, integer) owner to thea_recorder;

alter procedure thea.log_read(text, bigint) owner to thea_recorder;

alter procedure thea.log_export(text) owner to thea_recorder;

revoke create on schema thea from thea_maintenance, thea_audit_expirer, thea_recorder;
