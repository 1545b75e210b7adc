-- depends: 0011.archive

-- Why: a person may ask for everything that is kept of them, and that it is erased. What belongs to a person is asked
-- of the catalog, so that a service's own tables are covered, too: it is what hangs on `thea.users` by foreign keys
-- that cascade. The group `thea_privacy` may erase; the role `thea_redactor`, as which nobody can log in, owns the one
-- function that does it. A certificate of it goes into the compliance log, which the role `thea_recorder` writes:
-- nobody can log in as it, and it can do nothing else.

do $$
begin
  if not exists (select from pg_catalog.pg_roles where rolname = 'thea_recorder') then
    create role thea_recorder nologin noinherit;
  end if;
  -- The owner is a member, without inheriting anything, since only a member may hand a function over.
  if not pg_catalog.pg_has_role('thea_owner', 'thea_redactor', 'member') then
    grant thea_redactor to thea_owner;
  end if;
  if not pg_catalog.pg_has_role('thea_owner', 'thea_recorder', 'member') then
    grant thea_recorder to thea_owner;
  end if;
end
$$;

grant usage on schema thea to thea_recorder;

grant execute on function thea.tenant(), thea.admitted_tenant(), thea.unchecked_tenant()
  to thea_privacy, thea_redactor;

grant usage on sequence thea.keystone to thea_privacy;

grant select on _yoyo_migration to thea_privacy;

-- What was done for the law's sake, as the certificates that somebody was erased. The entries hold numbers, no rows.
create table thea.compliance_log (
  tenant_id text not null,
  id uuid not null default gen_random_uuid(),
  at timestamptz not null default clock_timestamp(),
  login text not null default session_user,
  actor text,
  request_id text,
  action text not null,
  subject_id bigint,
  reason text,
  details jsonb not null,
  place bigint not null,
  hash bytea not null,
  constraint compliance_log_pkey primary key (tenant_id, id),
  constraint compliance_log_place_key unique (tenant_id, place),
  constraint compliance_log_tenant_id_check
    check (char_length(tenant_id) between 1 and 50 and tenant_id !~ '^\s|\s$|[[:cntrl:]]'),
  constraint compliance_log_reason_check check (reason is not null or action <> 'erase user'),
  constraint compliance_log_details_check check (jsonb_typeof(details) = 'object')
);

alter table thea.compliance_log owner to thea_owner;

comment on table thea.compliance_log is
  'no person: a certificate names an erased person by their former id alone';

comment on table thea.audit_log is
  'no person: entries say in subject_id whose row they are about, and are redacted where that person is erased';

alter table thea.compliance_log alter column tenant_id set (n_distinct = 50);

create index compliance_log_at_idx on thea.compliance_log (tenant_id, at, id);
comment on index thea.compliance_log_at_idx is 'people.get_erasures, people.get_erasures+after_at';

create index compliance_log_subject_id_idx on thea.compliance_log (tenant_id, subject_id, at, id);
comment on index thea.compliance_log_subject_id_idx is 'people.get_erasures+subject_id, '
  'people.get_erasures+subject_id+after_at';

alter table thea.compliance_log enable row level security;
alter table thea.compliance_log force row level security;

create policy tenant on thea.compliance_log for select
  to thea_app, thea_privacy, thea_readonly
  using (tenant_id = thea.tenant());

create policy tenant_guard on thea.compliance_log as restrictive to thea_app, thea_privacy, thea_readonly
  using (tenant_id = thea.tenant()) with check (tenant_id = thea.tenant());

-- Also of a tenant that is suspended: what is done to it then is written down as well.
create policy recorder_reads on thea.compliance_log for select to thea_recorder using (true);

create policy recorder_writes on thea.compliance_log for insert to thea_recorder with check (true);

grant select on thea.compliance_log to thea_app, thea_privacy, thea_readonly;

-- Who adds to a chain reads where it ends.
grant select, insert on thea.compliance_log to thea_recorder;

create function thea.compliance_is_append_only() returns trigger
  language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'the compliance log is append-only' using errcode = 'insufficient_privilege';
end
$$;

alter function thea.compliance_is_append_only() owner to thea_owner;

create trigger append_only before update or delete or truncate on thea.compliance_log
  for each statement execute function thea.compliance_is_append_only();

-- The entries of a tenant are a chain: each has its place and a hash of itself and of the one before. So whoever goes
-- past the trigger above, as an owner or a superuser may, leaves a place that is missing or a hash that does not fit,
-- unless they write all that follows anew. Who verifies a chain computes the hashes without this function, which an
-- owner could replace: thea_store/admin/compliance/chain.py has the same expression.
create function thea.compliance_hash(previous bytea, entry thea.compliance_log) returns bytea
  language sql stable set search_path = pg_catalog, pg_temp
begin atomic
  select sha256(
    coalesce(previous, sha256(convert_to(entry.tenant_id, 'UTF8')))
    || convert_to(
      jsonb_build_array(
        entry.place, entry.id, extract(epoch from entry.at), entry.login, entry.actor, entry.request_id, entry.action,
        entry.subject_id, entry.reason, entry.details
      )::text,
      'UTF8'
    )
  );
end;

create function thea.chain_compliance() returns trigger
  language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  last_place bigint;
  last_hash bytea;
begin
  select c.place, c.hash into last_place, last_hash
  from thea.compliance_log c
  where c.tenant_id = new.tenant_id
  order by c.place desc
  limit 1;
  new.place := coalesce(last_place, 0) + 1;
  new.hash := thea.compliance_hash(last_hash, new);
  return new;
end
$$;

alter function thea.compliance_hash(bytea, thea.compliance_log) owner to thea_owner;

alter function thea.chain_compliance() owner to thea_owner;

create trigger chain before insert on thea.compliance_log
  for each row execute function thea.chain_compliance();

-- Write an entry, by whoever the session says to be; the functions that call it say what it is about.
--
-- Of several who add to a chain, the unique place lets all but one wait for that one's end, and then look anew where
-- the chain ends. No lock is taken that somebody else could hold. A transaction stricter than read committed that
-- waited does not see what the other one wrote: then the server undoes it, as it does with other such collisions.
-- The end of a chain is found by its index alone, because how many rows were fetched is for everybody to see.
create function thea.record_compliance(
  p_tenant text, p_action text, p_subject bigint, p_reason text, p_details jsonb
) returns thea.compliance_log
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
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
  entry thea.compliance_log;
begin
  while entry.id is null loop
    insert into thea.compliance_log (tenant_id, actor, request_id, action, subject_id, reason, details)
    values (
      p_tenant, nullif(current_setting('app.actor', true), ''), nullif(current_setting('app.request_id', true), ''),
      p_action, p_subject, p_reason, p_details
    )
    on conflict (tenant_id, place) do nothing
    returning * into entry;
  end loop;
  return entry;
end
$$;

-- What the redactor may do: remove a user of the tenant, with which the rest goes by the foreign keys, and take back
-- what entries said. It has no other table.
create policy redaction on thea.users to thea_redactor
  using (tenant_id = thea.tenant()) with check (tenant_id = thea.tenant());

grant select, delete on thea.users to thea_redactor;

create policy redaction on thea.audit_log to thea_redactor
  using (tenant_id = thea.tenant()) with check (tenant_id = thea.tenant());

grant select, update (before, after) on thea.audit_log to thea_redactor;

-- How a person's rows of a table are found, as a condition on `alias`, with the tenant as $1 and the person as $2; null
-- for a table that does not hang on people. Rows that name a person themselves are theirs, and `user_id` goes before
-- other columns that do. Where none does, the rows of a person's rows are theirs.
create function thea.person_condition(target regclass, alias text, seen regclass[] default '{}') returns text
  language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  own text;
  link record;
  inner_condition text;
  found text[] := '{}';
begin
  if target = 'thea.users'::regclass then
    return format('%s.id = $2', alias);
  end if;
  select string_agg(format('%s.%I = $2', alias, p.reference), ' or ' order by p.reference) into own
  from thea.parents(target) p
  where p.parent = 'thea.users'
    and (
      p.reference = 'user_id'
      or not exists (select from thea.parents(target) u where (u.parent, u.reference) = ('thea.users', 'user_id'))
    );
  if own is not null then
    return own;
  end if;
  for link in
    select p.parent::regclass as parent, p.reference
    from thea.parents(target) p
    where p.parent::regclass <> all (seen || target)
    order by p.parent, p.reference
  loop
    inner_condition := thea.person_condition(link.parent, alias || 'p', seen || target);
    if inner_condition is not null then
      found := found || format(
        'exists (select from %1$s %2$sp where %2$sp.tenant_id = $1 and %2$sp.id = %2$s.%3$I and (%4$s))',
        link.parent, alias, link.reference, inner_condition
      );
    end if;
  end loop;
  return nullif(array_to_string(found, ' or '), '');
end
$$;

alter function thea.person_condition(regclass, text, regclass[]) owner to thea_owner;

-- The tables that have rows of people, users first, under the names that the audit log has for them. `by_user_id`: each
-- entry of such a table says whose it is. Of the others, that is looked up.
create function thea.person_tables() returns table (name text, by_user_id boolean)
  language sql stable set search_path = pg_catalog, pg_temp
begin atomic
  select
    thea.short_name(g.polrelid::regclass::text),
    g.polrelid = 'thea.users'::regclass or exists (
      select from thea.parents(g.polrelid::regclass) p where (p.parent, p.reference) = ('thea.users', 'user_id')
    )
  from pg_catalog.pg_policy g
  where g.polname = 'tenant_guard'
    and thea.person_condition(g.polrelid::regclass, 't') is not null
  order by g.polrelid <> 'thea.users'::regclass, 1;
end;

alter function thea.person_tables() owner to thea_owner;

-- Tables whose `user_id` is no reference to a user: their entries are not about this person, whatever the number says.
create function thea.other_user_ids() returns text[]
  language sql stable set search_path = pg_catalog, pg_temp
begin atomic
  select array(
    select thea.short_name(g.polrelid::regclass::text)
    from pg_catalog.pg_policy g
    join pg_catalog.pg_attribute a on a.attrelid = g.polrelid and a.attname = 'user_id' and not a.attisdropped
    where g.polname = 'tenant_guard'
      and not exists (
        select from thea.parents(g.polrelid::regclass) p where (p.parent, p.reference) = ('thea.users', 'user_id')
      )
  );
end;

alter function thea.other_user_ids() owner to thea_owner;

-- A page of the person's rows of one table, deleted ones among them, in the order of time. It reads with the rights of
-- who asks, under row security. What the database computes from other columns (`computed` of thea.protect) is left out.
create function thea.person_rows(
  p_tenant text, p_user bigint, p_table text, p_after_at timestamptz, p_after_id bigint, p_limit integer
) returns table (created_at timestamptz, id bigint, document jsonb)
  language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  target constant regclass := to_regclass(case when strpos(p_table, '.') > 0 then p_table else 'thea.' || p_table end);
  condition constant text := thea.person_condition(target, 't');
  computed text[];
begin
  if (p_tenant = thea.tenant()) is not true then
    raise exception 'this is not the tenant of the transaction' using errcode = 'insufficient_privilege';
  end if;
  if condition is null then
    raise exception 'no rows of people are in this table' using errcode = 'undefined_table';
  end if;
  select array(select jsonb_array_elements_text(obj_description(p.oid, 'pg_policy')::jsonb -> 'computed')) into computed
  from pg_policy p
  where p.polrelid = target and p.polname = 'tenant';
  return query execute format(
    'select t.created_at, t.id, to_jsonb(t) - %L::text[] from %s t where t.tenant_id = $1 and (%s)'
    ' and ($3 is null or (t.created_at, t.id) > ($3, $4)) order by t.created_at, t.id limit $5',
    coalesce(computed, '{}'), target, condition
  ) using p_tenant, p_user, p_after_at, p_after_id, p_limit;
end
$$;

alter function thea.person_rows(text, bigint, text, timestamptz, bigint, integer) owner to thea_owner;

-- The person's rows of a table by the word of the audit log, also of rows that are gone. The first and the last entry
-- of a row have all its columns, and so what it referred to.
create function thea.person_row_ids(p_tenant text, p_user bigint, p_table text) returns setof bigint
  language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  target constant regclass := to_regclass(case when strpos(p_table, '.') > 0 then p_table else 'thea.' || p_table end);
  names_people constant boolean := exists (select from thea.parents(target) p where p.parent = 'thea.users');
  link record;
begin
  if (p_tenant = thea.tenant()) is not true then
    raise exception 'this is not the tenant of the transaction' using errcode = 'insufficient_privilege';
  end if;
  if p_table = any (array(select t.name from thea.person_tables() t where t.by_user_id)) then
    return query
      select distinct e.row_id
      from thea.audit_log e
      where e.tenant_id = p_tenant
        and e.subject_id = p_user
        and e.table_name = p_table;
    return;
  end if;
  for link in
    select p.parent, p.reference
    from thea.parents(target) p
    where (p.parent = 'thea.users' or not names_people)
      and p.parent::regclass <> target
      and thea.person_condition(p.parent::regclass, 't', array[target]) is not null
  loop
    return query
      select distinct e.row_id
      from thea.audit_log e
      where e.tenant_id = p_tenant
        and e.table_name = p_table
        and e.action in ('insert', 'purge')
        and case
          when link.parent = 'thea.users' then coalesce(e.after, e.before) ->> link.reference = p_user::text
          else (coalesce(e.after, e.before) ->> link.reference)::bigint in (
            select thea.person_row_ids(p_tenant, p_user, thea.short_name(link.parent))
          )
        end;
  end loop;
end
$$;

alter function thea.person_row_ids(text, bigint, text) owner to thea_owner;

-- The person is gone: their row, and all that hangs on it. Of their entries in the audit log stays that something
-- happened, when, and by whom; what they said goes. Returns the certificate, or no row where nothing is left of such a
-- person.
--
-- The delete comes first, because it waits for whoever writes rows of this person; what went with it stands in the
-- audit log afterwards, so that nothing is counted that was not removed, and nothing removed that was not counted.
create function thea.erase_person(p_tenant text, p_user bigint, p_reason text, p_with_others boolean)
  returns table (
    id uuid, at timestamptz, actor text, request_id text, login text, user_id bigint, reason text, details jsonb
  )
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  began constant timestamptz := clock_timestamp();
  strangers constant text[] := thea.other_user_ids();
  slow constant text[] := array(select t.name from thea.person_tables() t where not t.by_user_id);
  row_ids jsonb := '{}';
  place text;
  own jsonb;
  others jsonb;
  redacted bigint;
  more bigint;
begin
  if (p_tenant = thea.tenant()) is not true then
    raise exception 'this is not the tenant of the transaction' using errcode = 'insufficient_privilege';
  end if;
  begin
    delete from thea.users u
    where u.tenant_id = p_tenant
      and u.id = p_user;
  exception
    when foreign_key_violation then
      get stacked diagnostics place = table_name;
      raise exception 'rows of % refer to this person, by a foreign key that does not cascade', place
        using errcode = 'TH102';
  end;
  foreach place in array slow loop
    row_ids := row_ids || jsonb_build_object(
      place,
      array(select distinct r.id from thea.person_row_ids(p_tenant, p_user, place) as r (id))
    );
  end loop;

  -- What this very delete removed: its entries were written by one transaction, as that of the user was.
  select
    coalesce(jsonb_object_agg(c.table_name, c.own) filter (where c.own > 0), '{}'),
    coalesce(jsonb_object_agg(c.table_name, c.others) filter (where c.others > 0), '{}')
  into own, others
  from (
    select e.table_name, count(*) filter (where w.is_own) as own,
      count(*) filter (where w.is_own is not true) as others
    from thea.audit_log e
    left join (
      select t.key as table_name, r.id::bigint as row_id
      from jsonb_each(row_ids) t
      cross join lateral jsonb_array_elements_text(t.value) r (id)
    ) m on m.table_name = e.table_name and m.row_id = e.row_id
    cross join lateral (
      select case when e.table_name = any (slow) then m.row_id is not null else e.subject_id = p_user end as is_own
    ) w
    where e.tenant_id = p_tenant
      and e.at >= began
      and e.action = 'purge'
      and e.xmin = (
        select u.xmin
        from thea.audit_log u
        where u.tenant_id = p_tenant
          and u.table_name = 'users'
          and u.row_id = p_user
          and u.at >= began
          and u.action = 'purge'
      )
    group by e.table_name
  ) c;
  if others <> '{}' and not p_with_others then
    raise exception 'rows of other people hang on those of this person: %',
      (select string_agg(format('%s %s', o.value, o.key), ', ' order by o.key) from jsonb_each(others) o)
      using errcode = 'TH101';
  end if;

  update thea.audit_log e
  set before = null, after = null
  where e.tenant_id = p_tenant
    and e.subject_id = p_user
    and e.table_name <> all (strangers)
    and (e.before is not null or e.after is not null);
  get diagnostics redacted = row_count;
  foreach place in array slow loop
    update thea.audit_log e
    set before = null, after = null
    where e.tenant_id = p_tenant
      and e.table_name = place
      and e.row_id in (select r.id::bigint from jsonb_array_elements_text(row_ids -> place) r (id))
      and (e.before is not null or e.after is not null);
    get diagnostics more = row_count;
    redacted := redacted + more;
  end loop;
  if own = '{}' and redacted = 0 then
    return;
  end if;

  return query
    select e.id, e.at, e.actor, e.request_id, e.login, e.subject_id, e.reason, e.details
    from thea.record_compliance(
      p_tenant, 'erase user', p_user, p_reason,
      jsonb_build_object('counts', own, 'counts_of_others', others, 'redacted', redacted)
    ) e;
end
$$;

revoke all on function thea.compliance_is_append_only(),
    thea.chain_compliance(),
    thea.compliance_hash(bytea, thea.compliance_log),
    thea.record_compliance(text, text, bigint, text, jsonb),
    thea.person_condition(regclass, text, regclass[]),
    thea.person_tables(),
    thea.other_user_ids(),
    thea.person_rows(text, bigint, text, timestamptz, bigint, integer),
    thea.person_row_ids(text, bigint, text),
    thea.erase_person(text, bigint, text, boolean)
  from public;

-- They tell what the catalogs tell everybody, or read with the rights of who asks.
grant execute on function thea.person_condition(regclass, text, regclass[]),
    thea.person_tables(),
    thea.other_user_ids(),
    thea.person_rows(text, bigint, text, timestamptz, bigint, integer),
    thea.person_row_ids(text, bigint, text),
    thea.parents(regclass),
    thea.short_name(text)
  to thea_app, thea_privacy, thea_readonly;

grant execute on function thea.record_compliance(text, text, bigint, text, jsonb),
    thea.person_condition(regclass, text, regclass[]),
    thea.person_tables(),
    thea.other_user_ids(),
    thea.person_row_ids(text, bigint, text),
    thea.parents(regclass),
    thea.short_name(text)
  to thea_redactor;

grant execute on function thea.compliance_hash(bytea, thea.compliance_log) to thea_recorder;

grant execute on function thea.erase_person(text, bigint, text, boolean) to thea_privacy;

-- Who gets a function must be allowed to create in its schema: for this moment only.
grant create on schema thea to thea_redactor, thea_recorder;

alter function thea.erase_person(text, bigint, text, boolean) owner to thea_redactor;

alter function thea.record_compliance(text, text, bigint, text, jsonb) owner to thea_recorder;

revoke create on schema thea from thea_redactor, thea_recorder;
