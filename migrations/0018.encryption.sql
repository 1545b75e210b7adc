-- depends: 0017.message_counts

-- Why: what people said is kept so that nobody reads it from the database, its backups or its files. A service seals
-- texts before they are sent and opens them after they were read; here are the tenant's data keys, each wrapped by a
-- key that the database never sees. A tenant is encrypted from its first key on, until all its keys are retired.
--
-- A table whose texts can be sealed has a column `sealed jsonb`, whose comment begins with `seals` and names the
-- columns: of a sealed text the column is null, and `sealed` has the ciphertext under the column's name.
--
-- With the first key of any tenant, triggers come to these tables that refuse a plain text of an encrypted tenant: a
-- process that does not know the key yet would write one. Until then nothing is looked up.
--
-- The way back: keys are retired, from when on services write plain texts; what was sealed is opened; then the notes
-- can be searched again. The keys stay, since backups and the audit log have texts that they sealed.

create table thea.encryption_keys (
  tenant_id text not null,
  id bigint generated always as identity,
  version integer not null,
  wrapped bytea not null,
  retired_at timestamptz,
  opened_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  deleted_at timestamptz,
  constraint encryption_keys_pkey primary key (tenant_id, id),
  constraint encryption_keys_version_key unique (tenant_id, version),
  constraint encryption_keys_version_check check (version between 1 and 16777215),
  constraint encryption_keys_opened_at_check check (opened_at is null or retired_at is not null)
);

comment on table thea.encryption_keys is
  'no person: the data keys of tenants, wrapped by keys that the database does not have';

comment on column thea.encryption_keys.retired_at is 'since when it seals nothing any more';

comment on column thea.encryption_keys.opened_at is 'when no text that it sealed was left in a row';

comment on index thea.encryption_keys_version_key is 'keys.get_wrapped';

select thea.protect('thea.encryption_keys', quiet => array['wrapped']);

-- A service only reads keys. Whoever could remove one would have services write plain texts again.
revoke insert, update, delete on thea.encryption_keys from thea_app;

-- The tables whose texts can be sealed, and the names of these columns.
create function thea.sealed_columns() returns table (target regclass, names text[])
  language sql stable set search_path = pg_catalog, pg_temp
begin atomic
  select a.attrelid::regclass, string_to_array(substring(d.description from '^seals ([^;:]+)'), ', ')
  from pg_catalog.pg_attribute a
  join pg_catalog.pg_description d
    on d.classoid = 'pg_class'::regclass and d.objoid = a.attrelid and d.objsubid = a.attnum
  where a.attname = 'sealed'
    and not a.attisdropped
    and a.atttypid = 'jsonb'::regtype
    and d.description like 'seals %'
  order by a.attrelid::regclass::text;
end;

-- Whether a tenant has a key that seals, by the word of the keys that the session may see.
create function thea.seals_texts(p_tenant text) returns boolean
  language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  -- Of a subquery, a node of a cluster keeps no plan.
  perform from thea.encryption_keys k where k.tenant_id = p_tenant and k.retired_at is null;
  return found;
end
$$;

-- Whether a tenant may have sealed texts, in the same manner. A function of its own, because a cluster plans no
-- statement of an SQL function by its parameters.
create function thea.has_sealed_texts(p_tenant text) returns boolean
  language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  perform from thea.encryption_keys k where k.tenant_id = p_tenant and k.opened_at is null;
  return found;
end
$$;

-- It is called for a plain text that is new, of any tenant. Beside a sealed one, which it would leave to be read in its
-- place, it is refused also where the keys are retired: who writes does not know of them.
create function thea.refuse_plain_text() returns trigger
  language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if thea.seals_texts(new.tenant_id)
    or jsonb_strip_nulls(to_jsonb(new) - 'sealed') ?| array(select jsonb_object_keys(new.sealed))
  then
    raise exception 'texts of this tenant are encrypted' using errcode = 'TH006';
  end if;
  return new;
end
$$;

-- It is called for a row whose sealed texts get another key of the row than they were sealed for: they would not open.
create function thea.keep_row_key() returns trigger
  language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'texts of this row are sealed for another key' using errcode = 'TH006';
end
$$;

-- Have plain texts of encrypted tenants refused, in every table whose texts can be sealed. Of several first keys that
-- come at once, one does it, and the others wait for it. Later keys find it done, but for tables that are new.
create function thea.install_encryption() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  -- While it waits for the writers of a table, others wait behind it.
  set lock_timeout = '5s'
as $$
declare
  asks constant text := 'create or replace function thea.is_encrypted(p_tenant text) returns boolean'
    ' language sql stable parallel safe return thea.has_sealed_texts(p_tenant)';
  sealable record;
begin
  perform pg_advisory_xact_lock(7423642018);
  if pg_get_function_sqlbody('thea.is_encrypted(text)'::regprocedure) = 'RETURN false' then
    execute asks;
  end if;
  for sealable in
    select s.target,
      string_agg(format('new.%I is not null', n.name), ' or ') as given,
      string_agg(format('(new.%1$I is not null and new.%1$I is distinct from old.%1$I)', n.name), ' or ') as changed
    from thea.sealed_columns() s
    cross join unnest(s.names) as n (name)
    where not exists (
      select from pg_trigger t
      where t.tgrelid = s.target
        and t.tgname in ('refuse_plain_insert', 'refuse_plain_update', 'keep_row_key')
      having count(*) = 3
    )
    group by s.target
    order by s.target::text
  loop
    -- A tenant that is brought in keeps its texts as they are.
    execute format('create or replace trigger refuse_plain_insert before insert on %s for each row'
      ' when (current_user <> ''thea_loader'' and (%s)) execute function thea.refuse_plain_text()',
      sealable.target, sealable.given);
    execute format('create or replace trigger refuse_plain_update before update on %s for each row'
      ' when (current_user <> ''thea_loader'' and (%s)) execute function thea.refuse_plain_text()',
      sealable.target, sealable.changed);
    execute format('create or replace trigger keep_row_key before update on %s for each row'
      ' when (old.sealed is not null and new.sealed -> ''row'' is distinct from old.sealed -> ''row'''
      ' and new.sealed is not null) execute function thea.keep_row_key()',
      sealable.target);
  end loop;
  return null;
end
$$;

create trigger install_encryption after insert on thea.encryption_keys
  for each statement execute function thea.install_encryption();

-- What is done to a tenant's keys, by whatever login and statement. An entry has no key.
create function thea.record_key() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  subject constant thea.encryption_keys := case when tg_op = 'DELETE' then old else new end;
begin
  perform thea.record_activity(
    subject.tenant_id,
    'administration',
    case
      when tg_op = 'INSERT' then 'add key'
      when tg_op = 'DELETE' then 'remove key'
      when old.opened_at is null and new.opened_at is not null then 'open texts'
      when old.retired_at is null and new.retired_at is not null then 'retire key'
      else 'change key'
    end,
    null,
    null,
    jsonb_build_object('version', subject.version)
  );
  return null;
end
$$;

create trigger record_key after insert or update or delete on thea.encryption_keys
  for each row execute function thea.record_key();

-- That the session has the provider's key of the tenant destroyed, of which the database knows nothing. Also of a
-- tenant that has ended, which is the one that it is mostly done to.
create function thea.log_forgotten_key() returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  whose constant text := thea.named_tenant();
begin
  if whose is not null then
    perform thea.record_activity(whose, 'administration', 'forget key', null, null, '{}');
  end if;
end
$$;

-- Refuse what is for tenants that have keys alone.
create function thea.require_key(p_tenant text) returns void
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform thea.require_own(p_tenant, 'thea.encryption_keys');
  if not exists (select from thea.encryption_keys k where k.tenant_id = p_tenant) then
    raise exception 'this tenant has no key' using errcode = 'insufficient_privilege';
  end if;
end
$$;

-- The tenants that have keys, with the newest of each: how a key is to be found that is forgotten, or was lost.
create function thea.encrypted_tenants()
  returns table (tenant text, version integer, since timestamptz, retired_at timestamptz, opened_at timestamptz)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  set client_min_messages = warning
  -- A migrator's session has it off, and could not make this function.
  set row_security = on
begin atomic
  select distinct on (k.tenant_id) k.tenant_id, k.version, k.created_at, k.retired_at, k.opened_at
  from thea.encryption_keys k
  order by k.tenant_id, k.version desc;
end;

-- Give a tenant a key, which has its entry in the audit log, without the key.
create function thea.add_key(p_tenant text, p_version integer, p_wrapped bytea) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  added bigint;
begin
  perform thea.require_own(p_tenant, 'thea.encryption_keys');
  insert into thea.encryption_keys (tenant_id, version, wrapped) values (p_tenant, p_version, p_wrapped)
  returning id into added;
  insert into thea.audit_log (tenant_id, actor, request_id, table_name, row_id, action, after)
  values (
    p_tenant,
    nullif(current_setting('app.actor', true), ''),
    nullif(current_setting('app.request_id', true), ''),
    'encryption_keys', added, 'insert', jsonb_build_object('version', p_version, 'login', session_user)
  );
end
$$;

-- Have services write plain texts from now on. Done already, nothing happens.
create function thea.retire_keys(p_tenant text) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform thea.require_key(p_tenant);
  update thea.encryption_keys set retired_at = now() where tenant_id = p_tenant and retired_at is null;
end
$$;

-- Let notes be searched again, where no sealed text is left.
create function thea.end_encryption(p_tenant text) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform thea.require_key(p_tenant);
  update thea.encryption_keys set opened_at = now()
  where tenant_id = p_tenant
    and retired_at is not null
    and opened_at is null;
end
$$;

-- What empties the texts of a row, and what is computed of them, as part of an update.
create function thea.emptied_columns(p_table text) returns text
  language sql stable set search_path = pg_catalog, pg_temp
begin atomic
  select string_agg(format('%I = null', e.name), ', ')
  from thea.sealed_columns() s
  join pg_policy p on p.polrelid = s.target and p.polname = 'tenant'
  cross join unnest(
    s.names || array(select jsonb_array_elements_text(obj_description(p.oid, 'pg_policy')::jsonb -> 'computed'))
  ) as e (name)
  where s.target = p_table::regclass;
end;

-- Put sealed texts in the place of those that are there; how many rows that were comes back. Each of `p_rows` has the
-- row's `id`, `xmin` as it was read, and `sealed`: a row that changed meanwhile stays as it is. It leaves no entries,
-- which would hold the plain texts, and moves no times.
create function thea.seal_rows(p_tenant text, p_table text, p_rows jsonb) returns bigint
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  target constant regclass := p_table::regclass;
  sealed bigint;
begin
  perform thea.require_own(p_tenant, p_table);
  if not thea.seals_texts(p_tenant) then
    raise exception 'this tenant has no key that seals' using errcode = 'insufficient_privilege';
  end if;
  -- What is computed of the texts is computed anew, of none.
  execute format('update %s x set sealed = r.sealed, %s'
      ' from jsonb_to_recordset($1) as r (id bigint, xmin text, sealed jsonb)'
      ' where x.tenant_id = $2 and x.id = r.id and x.xmin::text = r.xmin',
      target, thea.emptied_columns(p_table))
    using p_rows, p_tenant;
  get diagnostics sealed = row_count;
  return sealed;
end
$$;

-- The way back, in the same manner: each of `p_rows` has the row's `id`, `xmin`, and in `texts` what was sealed of it.
create function thea.open_rows(p_tenant text, p_table text, p_rows jsonb) returns bigint
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  target constant regclass := p_table::regclass;
  names text[];
  computed text[];
  opened bigint;
begin
  perform thea.require_own(p_tenant, p_table);
  perform thea.require_key(p_tenant);
  if thea.seals_texts(p_tenant) then
    raise exception 'the keys of this tenant are not retired' using errcode = 'insufficient_privilege';
  end if;
  select s.names, array(select jsonb_array_elements_text(obj_description(p.oid, 'pg_policy')::jsonb -> 'computed'))
    into names, computed
    from thea.sealed_columns() s
    join pg_policy p on p.polrelid = s.target and p.polname = 'tenant'
    where s.target = p_table::regclass;
  execute format('update %1$s x set sealed = null, %2$s'
      ' from jsonb_to_recordset($1) as r (id bigint, xmin text, texts jsonb)'
      ' where x.tenant_id = $2 and x.id = r.id and x.xmin::text = r.xmin',
      target,
      (
        select string_agg(
          case
            when n.name = any (computed) then format('%I = null', n.name)
            else format('%1$I = (select p.%1$I from jsonb_populate_record(x, r.texts) p)', n.name)
          end, ', ')
        from unnest(names || computed) as n (name)
      ))
    using p_rows, p_tenant;
  get diagnostics opened = row_count;
  return opened;
end
$$;

-- Take the plain texts out of the audit log's entries of one table, of some rows after the given one; the last of these
-- rows comes back, and null where there is no more.
create function thea.redact_texts(p_tenant text, p_table text, p_after bigint, p_limit integer) returns bigint
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  texts text[];
  last bigint;
begin
  if (p_tenant = thea.tenant()) is not true then
    raise exception 'this is not the tenant of the transaction' using errcode = 'insufficient_privilege';
  end if;
  perform thea.require_key(p_tenant);
  select s.names into texts from thea.sealed_columns() s where s.target = p_table::regclass;
  select max(e.row_id) into last
  from (
    select a.row_id
    from thea.audit_log a
    where a.tenant_id = p_tenant
      and a.table_name = thea.short_name(p_table)
      and a.row_id > p_after
    order by a.row_id
    limit p_limit
  ) e;
  update thea.audit_log a
  set before = a.before - texts, after = a.after - texts
  where a.tenant_id = p_tenant
    and a.table_name = thea.short_name(p_table)
    and a.row_id > p_after
    and a.row_id <= last
    and (a.before ?| texts or a.after ?| texts);
  return last;
end
$$;

alter function thea.sealed_columns() owner to thea_owner;

alter function thea.seals_texts(text) owner to thea_owner;

alter function thea.has_sealed_texts(text) owner to thea_owner;

alter function thea.refuse_plain_text() owner to thea_owner;

alter function thea.keep_row_key() owner to thea_owner;

alter function thea.install_encryption() owner to thea_owner;

alter function thea.emptied_columns(text) owner to thea_owner;

revoke all on function thea.sealed_columns(), thea.seals_texts(text), thea.has_sealed_texts(text),
    thea.refuse_plain_text(), thea.keep_row_key(), thea.install_encryption(), thea.record_key(),
    thea.require_key(text), thea.encrypted_tenants(),
    thea.add_key(text, integer, bytea), thea.retire_keys(text), thea.end_encryption(text),
    thea.emptied_columns(text), thea.seal_rows(text, text, jsonb), thea.open_rows(text, text, jsonb),
    thea.redact_texts(text, text, bigint, integer)
  from public;

revoke all on function thea.log_forgotten_key() from public;

grant execute on function thea.sealed_columns() to thea_mover, thea_loader, thea_redactor;

grant execute on function thea.is_encrypted(text), thea.emptied_columns(text) to thea_loader;

-- Whoever may search asks for it.
grant execute on function thea.has_sealed_texts(text) to thea_app, thea_readonly, thea_loader;

-- Whoever writes a text has it asked by the trigger.
grant execute on function thea.seals_texts(text) to thea_app, thea_loader;

grant execute on function thea.require_key(text) to thea_redactor;

grant execute on function thea.encrypted_tenants() to thea_mover, thea_auditor;

grant execute on function thea.add_key(text, integer, bytea), thea.retire_keys(text), thea.end_encryption(text),
    thea.seal_rows(text, text, jsonb), thea.open_rows(text, text, jsonb),
    thea.redact_texts(text, text, bigint, integer)
  to thea_mover;

grant execute on function thea.log_forgotten_key() to thea_mover;

-- Who gets a function must be allowed to create in its schema: for this moment only.
grant create on schema thea to thea_loader, thea_redactor, thea_recorder, thea_maintenance;

alter function thea.require_key(text) owner to thea_loader;

alter function thea.add_key(text, integer, bytea) owner to thea_loader;

alter function thea.retire_keys(text) owner to thea_loader;

alter function thea.end_encryption(text) owner to thea_loader;

alter function thea.seal_rows(text, text, jsonb) owner to thea_loader;

alter function thea.open_rows(text, text, jsonb) owner to thea_loader;

alter function thea.redact_texts(text, text, bigint, integer) owner to thea_redactor;

alter function thea.record_key() owner to thea_recorder;

alter function thea.log_forgotten_key() owner to thea_recorder;

alter function thea.encrypted_tenants() owner to thea_maintenance;

revoke create on schema thea from thea_loader, thea_redactor, thea_recorder, thea_maintenance;
