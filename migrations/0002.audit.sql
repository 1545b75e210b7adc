-- depends: 0001.tenancy

-- Why: who changed what, when, on whose behalf. The table is written by a trigger function that runs
-- as its owner; no other role may insert, and nobody may change or remove an entry.
--
-- The trigger function takes the table's name from its first argument, because on a distributed server
-- the trigger fires on a shard, which has another name.

create table thea.audit_log (
  tenant_id text not null,
  id uuid not null default gen_random_uuid(),
  at timestamptz not null default clock_timestamp(),
  actor text,
  request_id text,
  table_name text not null,
  row_id bigint not null,
  action text not null,
  before jsonb,
  after jsonb,
  subject_id bigint,
  constraint audit_log_pkey primary key (tenant_id, id),
  constraint audit_log_tenant_id_check
    check (char_length(tenant_id) between 1 and 50 and tenant_id !~ '^\s|\s$|[[:cntrl:]]'),
  constraint audit_log_action_check
    check (action in ('insert', 'update', 'delete', 'restore', 'purge'))
);

alter table thea.audit_log owner to thea_owner;

-- Tenants are of very unequal size, and a plan that is made once for all of them (a server makes one after five
-- calls) is made for one of average size. Among a thousand small ones that is one of a hundred rows, of which any
-- index that begins with the tenant seems as good as the right one; for a large tenant it then reads all of its
-- rows. So the planner is told, here and for every table, that tenants are few, and so that each is large: what is
-- right for a large one is right for a small one, too. It takes effect when the table is analyzed next.
alter table thea.audit_log alter column tenant_id set (n_distinct = 50);

create index audit_log_row_idx on thea.audit_log (tenant_id, table_name, row_id, at, id);
comment on index thea.audit_log_row_idx is 'audit.get_for';

create index audit_log_at_idx on thea.audit_log (tenant_id, at, id);
comment on index thea.audit_log_at_idx is 'audit.get_all';

create index audit_log_actor_idx on thea.audit_log (tenant_id, actor, at, id);
comment on index thea.audit_log_actor_idx is 'audit.get_all+actor';

-- Small updates name nobody in `before` and `after`, so each entry says whose row it is about.
comment on column thea.audit_log.subject_id is
  'the person that the row belongs to: the id of a user, or the user_id of any other row';

create index audit_log_subject_idx on thea.audit_log (tenant_id, subject_id, at, id) where subject_id is not null;
comment on index thea.audit_log_subject_idx is 'people.entries, people.entries+after_at, erasure.erase';

alter table thea.audit_log enable row level security;
alter table thea.audit_log force row level security;

create policy tenant on thea.audit_log for select to thea_app, thea_privacy, thea_readonly
  using (tenant_id = thea.tenant());

create policy tenant_guard on thea.audit_log as restrictive to thea_app, thea_privacy, thea_readonly
  using (tenant_id = thea.tenant()) with check (tenant_id = thea.tenant());

-- The trigger function runs as the owner. It writes the tenant of the audited row, which that
-- table's own policy has compared with the transaction's; retention runs without a tenant. That policy has also asked
-- whether the tenant may work, which would be too dear to ask again for each row.
create policy audit_trigger on thea.audit_log for insert to thea_owner
  with check (tenant_id = coalesce(thea.named_tenant(), tenant_id));

-- Whole tenants are brought in with their entries, and end with them (0011.archive).
create policy mover on thea.audit_log to thea_loader, thea_mover
  using (tenant_id = thea.named_tenant()) with check (tenant_id = thea.named_tenant());

create policy mover_guard on thea.audit_log as restrictive to thea_loader, thea_mover
  using (tenant_id = thea.named_tenant()) with check (tenant_id = thea.named_tenant());

grant select on thea.audit_log to thea_app, thea_privacy, thea_readonly, thea_mover;

grant select, insert, delete on thea.audit_log to thea_loader;

-- One role may take back what entries said, when a person is erased: nobody can log in as it, it owns one function that
-- does this, and it has the right to update `before` and `after` alone. A setting of the session would be no lock,
-- because everybody can make one.
create function thea.audit_is_append_only() returns trigger
  language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  -- Retention removes entries as a role that can do nothing else (0014.retention), and that nobody can log in as.
  if tg_op = 'DELETE' and current_user = 'thea_audit_expirer' then
    return null;
  end if;
  -- The entries of a tenant that ends go with its rows. Nobody can log in as this role.
  if current_user = 'thea_loader' and tg_op = 'DELETE' then
    return null;
  end if;
  if tg_op = 'UPDATE' and current_user = 'thea_redactor' then
    return null;
  end if;
  raise exception 'the audit log is append-only' using errcode = 'insufficient_privilege';
end
$$;

alter function thea.audit_is_append_only() owner to thea_owner;

revoke all on function thea.audit_is_append_only() from public;

create trigger append_only before update or delete or truncate on thea.audit_log
  for each statement execute function thea.audit_is_append_only();

-- Arguments: the table's name, then the columns whose change alone is no edit (search vectors, the
-- time of the last activity). They appear in no entry.
create function thea.audit() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  unseen constant text[] := array['tenant_id', 'updated_at'] || tg_argv[1:];
  was jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) - unseen end;
  is_now jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) - unseen end;
  subject constant text := coalesce(was, is_now) ->> case tg_argv[0] when 'users' then 'id' else 'user_id' end;
  done text := case tg_op when 'INSERT' then 'insert' when 'DELETE' then 'purge' else 'update' end;
begin
  if tg_op = 'UPDATE' then
    if was = is_now then
      return null;
    end if;
    if old.deleted_at is null and new.deleted_at is not null then
      done := 'delete';
    elsif old.deleted_at is not null and new.deleted_at is null then
      done := 'restore';
    end if;
    select jsonb_object_agg(key, value), jsonb_object_agg(key, is_now -> key)
      into was, is_now
      from jsonb_each(was)
      where value <> is_now -> key;
  elsif coalesce(was, is_now) @? '$.*.**{1 to last} ? (@ == null)' then
    -- Columns without a value are left out, but no null within a document, which the cheaper way takes along.
    was := (select jsonb_object_agg(key, value) from jsonb_each(was) where value <> 'null');
    is_now := (select jsonb_object_agg(key, value) from jsonb_each(is_now) where value <> 'null');
  else
    was := jsonb_strip_nulls(was);
    is_now := jsonb_strip_nulls(is_now);
  end if;
  insert into thea.audit_log (tenant_id, actor, request_id, table_name, row_id, action, before, after, subject_id)
  values (
    case when tg_op = 'DELETE' then old.tenant_id else new.tenant_id end,
    nullif(current_setting('app.actor', true), ''),
    nullif(current_setting('app.request_id', true), ''),
    tg_argv[0],
    case when tg_op = 'DELETE' then old.id else new.id end,
    done, was, is_now,
    case when subject ~ '^[0-9]{1,18}$' then subject::bigint end
  );
  return null;
end
$$;

alter function thea.audit() owner to thea_owner;

revoke all on function thea.audit() from public;
