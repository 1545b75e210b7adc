-- depends: 0002.audit

-- Why: `select thea.protect('planner.tasks')` makes of a plain table one that keeps tenants apart. A service's own
-- migrations call it, and the library's own do, so that there is one text of it. The functions that its triggers run
-- come first, then what it asks of the catalogs, then itself.

-- `updated_at` moves with every change, also with the second one of a transaction.
create function thea.touch() returns trigger
  language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  -- A row that is brought in from elsewhere keeps its time.
  if current_user = 'thea_loader' then
    return new;
  end if;
  new.updated_at := greatest(clock_timestamp(), old.updated_at + interval '1 microsecond');
  return new;
end
$$;

alter function thea.touch() owner to thea_owner;

revoke all on function thea.touch() from public;

-- Deletes are soft. A row that is deleted hides the rows that hang on it, and a row that is restored brings back
-- exactly those. A hidden row remembers in `deleted_with` which parent it was hidden with.
--
-- A person may have hundreds of thousands of rows. So all rows of a table are changed by one statement, and another one
-- writes their entries of the audit log; the triggers of single rows stay quiet, because this runs as thea_loader
-- (0011.archive). Row security binds that role to the tenant that is named.
--
-- `link` says what hangs on the given rows, as the arguments of the trigger below do. The rows were deleted at
-- `is_now`; or it is null, and they are back from what was deleted at `was`. What has another deleted parent stays
-- hidden then, and belongs to that other one.
create function thea.cascade_rows(link text[], whose text, ids bigint[], was timestamptz, is_now timestamptz)
  returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
  -- It is planned for these very rows, also before the tables were analyzed, and never reads those of all tenants.
  set enable_seqscan = off
  set jit = off
as $$
declare
  children constant regclass := to_regclass(link[1]);
  this constant text := link[3];
  subject constant text := case
    when exists (select from pg_attribute where attrelid = children and attname = 'user_id' and not attisdropped)
      then 'substring(c.user_id::text from ''^[0-9]{1,18}$'')::bigint'
    else 'null::bigint'
  end;
  parent text;
  is_with text;
  changed bigint[];
  subjects bigint[];
  times timestamptz[];
  deeper text[];
begin
  -- A table that was dropped without `thea.unprotect` must not stop every delete.
  if children is null then
    return;
  end if;
  -- To restore has a step for each other parent, and one for those that have no other that is deleted.
  for place in 4 .. cardinality(link) + 2 by 2 loop
    parent := case when is_now is null then link[place] end;
    is_with := case when is_now is null then thea.short_name(parent) else this end;
    execute format('with changed as ('
        'update %1$s c set deleted_at = %2$s, deleted_with = %3$L,'
        -- In UTC, because what depends on a timezone is refused here by a cluster.
        ' updated_at = greatest($5, (c.updated_at at time zone ''UTC'' + interval ''1 microsecond'')'
        ' at time zone ''UTC'')%4$s'
        ' where c.tenant_id = $1 and c.%5$I = any ($2) and %6$s returning c.id, %7$s as subject, c.deleted_at'
        ') select array_agg(id), array_agg(subject), array_agg(deleted_at) from changed',
        children,
        case when parent is null then '$4' else 'p.deleted_at' end,
        is_with,
        case when parent is null then '' else format(' from %s p', parent) end,
        link[2],
        concat_ws(' and ',
          case
            when is_now is not null then 'c.deleted_at is null'
            -- Those that this very delete hid have its time; what an earlier one hid, before the row began anew, stays
            -- hidden. `is true`: never by the index on the time, because all of them have the same.
            else format('c.deleted_with = %L and (c.deleted_at = $3) is true', this)
          end,
          case when parent is not null then
            format('p.tenant_id = $1 and p.id = c.%I and p.deleted_at is not null', link[place + 1])
          end),
        subject)
      into changed, subjects, times using whose, ids, was, is_now, clock_timestamp();
    -- The entries are those that `thea.audit` writes.
    insert into thea.audit_log (tenant_id, actor, request_id, table_name, row_id, action, before, after, subject_id)
    select
      whose, nullif(current_setting('app.actor', true), ''), nullif(current_setting('app.request_id', true), ''),
      thea.short_name(children::text), r.id,
      case when is_now is not null then 'delete' when parent is null then 'restore' else 'update' end,
      jsonb_build_object('deleted_at', was, 'deleted_with', case when was is not null then this end),
      jsonb_build_object('deleted_at', r.deleted_at, 'deleted_with', is_with),
      r.subject
    from unnest(changed, subjects, times) as r (id, subject, deleted_at);
    exit when is_now is not null;
  end loop;
  if changed is null then
    return;
  end if;
  for deeper in
    select (string_to_array(encode(t.tgargs, 'escape'), '\000'))[1:t.tgnargs]
    from pg_trigger t
    where t.tgrelid = children
      and t.tgfoid = 'thea.cascade_deletion'::regproc
    order by t.tgname
  loop
    perform thea.cascade_rows(deeper, whose, changed, was, is_now);
  end loop;
end
$$;

-- Arguments: the table of the rows that hang on this one, their column that refers to it, the name of this table;
-- then a pair for each other parent that they have: its table, and the column that refers to it.
create function thea.cascade_deletion() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  named constant text := current_setting('app.tenant_id', true);
begin
  -- A superuser may have changed the row without naming its tenant.
  if named is distinct from new.tenant_id then
    perform set_config('app.tenant_id', new.tenant_id, true);
  end if;
  perform thea.cascade_rows(tg_argv[0:], new.tenant_id, array[new.id], old.deleted_at, new.deleted_at);
  if named is distinct from new.tenant_id then
    perform set_config('app.tenant_id', coalesce(named, ''), true);
  end if;
  return null;
end
$$;

-- The name of a table in the audit log and in `deleted_with`: the library's own without their schema.
create function thea.short_name(table_name text) returns text
  language sql immutable parallel safe
  return regexp_replace(table_name, '^thea\.', '');

-- The name of a table without its schema.
create function thea.table_of(target regclass) returns text
  language sql stable
  return (select relname::text from pg_catalog.pg_class where oid = target);

-- The protected tables that a table hangs on, with the column that refers to each: its cascading foreign keys.
create function thea.parents(target regclass) returns table (parent text, reference text)
  language sql stable set search_path = pg_catalog, pg_temp
begin atomic
  select k.confrelid::regclass::text, a.attname::text
  from pg_catalog.pg_constraint k
  join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = k.conkey[2]
  join pg_catalog.pg_attribute b on b.attrelid = k.confrelid and b.attnum = k.confkey[2]
  where k.conrelid = target
    and k.contype = 'f'
    and k.confdeltype = 'c'
    and b.attname = 'id'
    and cardinality(k.conkey) = 2
  order by 1, 2;
end;

-- A list of pairs without one of them.
create function thea.without_pair(pairs text[], first text, second text) returns text[]
  language sql immutable parallel safe
  return array(
    select e.part
    from generate_series(1, cardinality(pairs), 2) as g (place)
    cross join lateral (values (0, pairs[g.place]), (1, pairs[g.place + 1])) as e (step, part)
    where (pairs[g.place], pairs[g.place + 1]) is distinct from (first, second)
    order by g.place, e.step
  );

-- Make a row trigger, unless it is there as it should be. The words are those of `pg_get_triggerdef`.
create function thea.ensure_trigger(target regclass, name text, moment text, action text) returns void
  language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  wanted constant text := format('CREATE TRIGGER %I %s ON %s FOR EACH ROW %s', name, moment, target, action);
  there constant text := (
    select pg_get_triggerdef(oid) from pg_trigger where tgrelid = target and tgname = name and not tgisinternal
  );
begin
  if there is null then
    execute wanted;
  elsif there <> wanted then
    execute replace(wanted, 'CREATE TRIGGER', 'CREATE OR REPLACE TRIGGER');
  end if;
end
$$;

-- Is it protected? Asked of the parents of a table.
create function thea.is_protected(target oid) returns boolean
  language sql stable
  return exists (select from pg_catalog.pg_policy where polrelid = target and polname = 'tenant_guard')
    and exists (select from pg_catalog.pg_policy where polrelid = target and polname = 'tenant');

-- What keeps a table from being protected, a sentence for each.
create function thea.obstacles(target regclass) returns setof text
  language sql stable
begin atomic
  select format('%s is no ordinary table', target)
  from pg_catalog.pg_class
  where oid = target
    and (relkind not in ('r', 'p') or relispartition or relpersistence = 't')
  union all
  select format('the column `%s %s` is missing or of another kind: add it', w.name, w.kind)
  from (
    values
      ('tenant_id', 'text not null', 'text', true),
      ('id', 'bigint not null generated always as identity', 'bigint', true),
      ('created_at', 'timestamptz not null default now()', 'timestamp with time zone', true),
      ('updated_at', 'timestamptz not null default now()', 'timestamp with time zone', true),
      ('deleted_at', 'timestamptz', 'timestamp with time zone', false)
  ) as w (name, kind, type, required)
  where not exists (
    select from pg_catalog.pg_attribute a
    where a.attrelid = target
      and a.attname = w.name
      and a.attnum > 0
      and not a.attisdropped
      and format_type(a.atttypid, a.atttypmod) = w.type
      and a.attnotnull = w.required
      and (w.name <> 'id' or a.attidentity <> '')
      and (not w.required or w.name = 'tenant_id' or a.atthasdef or a.attidentity <> '')
  )
  union all
  select format('`tenant_id` has the non-deterministic collation %s, for which different tenants are equal: drop it',
    c.collname)
  from pg_catalog.pg_attribute a
  join pg_catalog.pg_collation c on c.oid = a.attcollation
  where a.attrelid = target
    and a.attname = 'tenant_id'
    and not c.collisdeterministic
  union all
  select 'the primary key is missing or another one: make it `primary key (tenant_id, id)`'
  where not exists (
    select from pg_catalog.pg_constraint
    where conrelid = target
      and contype = 'p'
      and pg_get_constraintdef(oid) = 'PRIMARY KEY (tenant_id, id)'
  )
  union all
  select format('%s is unique across tenants: begin it with tenant_id', i.indexrelid::regclass)
  from pg_catalog.pg_index i
  left join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
  where i.indrelid = target
    and (i.indisunique or i.indisexclusion)
    and a.attname is distinct from 'tenant_id'
  union all
  select format('%s excludes rows of other tenants: begin it with `tenant_id with =`', conname)
  from pg_catalog.pg_constraint
  where conrelid = target
    and contype = 'x'
    and conexclop[1] <> 'pg_catalog.=(text,text)'::regoperator
  union all
  select format('the foreign key %s does not begin with tenant_id on both sides: '
    '`foreign key (tenant_id, …) references %s (tenant_id, id)`',
    k.conname, k.confrelid::regclass)
  from pg_catalog.pg_constraint k
  left join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = k.conkey[1]
  left join pg_catalog.pg_attribute b on b.attrelid = k.confrelid and b.attnum = k.confkey[1]
  where k.conrelid = target
    and k.contype = 'f'
    and (a.attname, b.attname) is distinct from ('tenant_id', 'tenant_id')
  union all
  select format('the foreign key %s leads to %s, which is not protected: protect that table first',
    conname, confrelid::regclass)
  from pg_catalog.pg_constraint
  where conrelid = target
    and contype = 'f'
    and confrelid <> target
    and not thea.is_protected(confrelid)
  union all
  select format('the foreign key %s would set columns to null or a default, tenant_id among them: '
    'make it `on delete cascade`', conname)
  from pg_catalog.pg_constraint
  where conrelid = target
    and contype = 'f'
    and (confdeltype in ('n', 'd') or confupdtype in ('n', 'd', 'c'))
  union all
  select format('the policy %s is not one of the library''s: drop it', polname)
  from pg_catalog.pg_policy
  where polrelid = target
    and polname <> all (array[
      'tenant', 'tenant_guard', 'mover', 'mover_guard', 'maintenance_reads', 'maintenance_deletes'
    ])
    -- The search functions' role, which no login may become.
    and polroles::regrole[]::text[] <> array['thea_search']
  union all
  select format('the rule %s rewrites statements on it: drop it', rulename)
  from pg_catalog.pg_rewrite
  where ev_class = target
    and rulename <> '_RETURN'
  union all
  select format('it inherits from, or is inherited by, %s: row security does not follow inheritance', i.other::regclass)
  from (
    select inhparent as other from pg_catalog.pg_inherits where inhrelid = target
    union all
    select inhrelid from pg_catalog.pg_inherits where inhparent = target
  ) i
  join pg_catalog.pg_class c on c.oid = target and c.relkind = 'r';
end;

-- The index that begins with the tenant and then this column, and that has every row in which the column is not null;
-- null where there is none.
create function thea.index_on(target regclass, moment text) returns regclass
  language sql stable set search_path = pg_catalog, pg_temp
begin atomic
  select i.indexrelid::regclass
  from pg_catalog.pg_index i
  join pg_catalog.pg_class c on c.oid = i.indexrelid
  join pg_catalog.pg_am m on m.oid = c.relam and m.amname = 'btree'
  join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0] and a.attname = 'tenant_id'
  join pg_catalog.pg_attribute b on b.attrelid = i.indrelid and b.attnum = i.indkey[1] and b.attname = moment
  where i.indrelid = target
    and i.indisvalid
    and (i.indpred is null or pg_get_expr(i.indpred, i.indrelid) = format('(%I IS NOT NULL)', moment))
  order by c.relname
  limit 1;
end;

-- Protect a table, or bring its protection up to date; everything is compared before it is changed, because changing
-- a trigger stops all writers of the table. What stands in the way of it is raised as one error that names all of it.
--
-- `quiet` columns change without an entry in the audit log; `untouched` columns do not move `updated_at` either;
-- `computed` columns are kept by a trigger of the table's own: in no entry, moving nothing, not to be updated by a
-- service. A call that leaves a list out keeps what the last call said.
create function thea.protect(
  target regclass, quiet text[] default null, computed text[] default null, untouched text[] default null
) returns void
  language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  full_name constant text := target::text;
  -- Those who see the rows of the tenant that the session names, in the order of their names.
  of_tenants constant text[] := array['thea_app', 'thea_privacy', 'thea_readonly'];
  problems text[];
  said jsonb;
  home record;
  parent record;
  wanted record;
  parents text[];
  fixed text[];
  updated text[];
  touching text[];
begin
  select array_agg(o.obstacle) into problems from thea.obstacles(target) as o (obstacle);
  if problems is not null then
    raise exception '% cannot keep tenants apart: %', full_name, array_to_string(problems, '; ')
      using errcode = 'invalid_table_definition';
  end if;

  -- The lists are remembered where a dump keeps them.
  select obj_description(p.oid, 'pg_policy')::jsonb into said
  from pg_policy p
  where p.polrelid = target and p.polname = 'tenant';
  quiet := coalesce(quiet, array(select jsonb_array_elements_text(said -> 'quiet')));
  computed := coalesce(computed, array(select jsonb_array_elements_text(said -> 'computed')));
  untouched := coalesce(untouched, array(select jsonb_array_elements_text(said -> 'untouched')));
  select array_agg(n.name) into problems
  from unnest(quiet || computed || untouched) as n (name)
  where not exists (
    select from pg_attribute a where a.attrelid = target and a.attname = n.name and a.attnum > 0 and not a.attisdropped
  );
  if problems is not null then
    raise exception '% has no column %: correct the lists of thea.protect', full_name, array_to_string(problems, ', ')
      using errcode = 'undefined_column';
  end if;

  select n.nspname as name, n.nspowner = 'thea_owner'::regrole as is_ours into home
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.oid = target;
  if not home.is_ours then
    execute format('alter schema %I owner to thea_owner', home.name);
  end if;
  execute format('grant usage on schema %I to thea_app, thea_privacy, thea_readonly, thea_maintenance, thea_mover,'
    ' thea_loader, thea_redactor',
    home.name);
  if not exists (
    select from pg_constraint
    where conrelid = target and contype = 'c' and pg_get_constraintdef(oid) like '%char_length(tenant_id)%'
  ) then
    execute format('alter table %s add constraint %I check (char_length(tenant_id) between 1 and 50'
      ' and tenant_id !~ ''^\s|\s$|[[:cntrl:]]'')', full_name, thea.table_of(target) || '_tenant_id_check');
  end if;
  -- Tenants are of very unequal size: 0002.audit says why the planner is told so.
  execute format('alter table %s alter column tenant_id set (n_distinct = 50)', full_name);
  -- A count reads an index alone where a vacuum has marked the pages. By default that comes only after a fifth of new
  -- rows, and until then such a count takes two to three times as long.
  if not exists (
    select from pg_class c cross join lateral pg_options_to_table(c.reloptions) as o
    where c.oid = target and o.option_name = 'autovacuum_vacuum_insert_scale_factor'
  ) then
    execute format('alter table %s set (autovacuum_vacuum_insert_scale_factor = 0.02)', full_name);
  end if;

  -- What was deleted long ago is found by this index (see 0014.retention).
  if thea.index_on(target, 'deleted_at') is null then
    execute format('create index %I on %s (tenant_id, deleted_at, id) where deleted_at is not null',
      thea.table_of(target) || '_deleted_at_idx', full_name);
    execute format('comment on index %s is %L', thea.index_on(target, 'deleted_at'), 'work.expire_rows');
  end if;

  -- The parents that it is deleted, restored and purged with.
  parents := array(
    select e.part
    from thea.parents(target) as p
    cross join lateral (values (1, p.parent), (2, p.reference)) as e (place, part)
    order by p.parent, p.reference, e.place
  );
  if parents <> '{}' and not exists (
    select from pg_attribute where attrelid = target and attname = 'deleted_with' and not attisdropped
  ) then
    execute format('alter table %s add column deleted_with text', full_name);
    execute format('alter table %s add constraint %I check (deleted_with is null or deleted_at is not null)',
      full_name, thea.table_of(target) || '_deleted_with_check');
  end if;
  for parent in select * from thea.parents(target) loop
    perform thea.ensure_trigger(parent.parent::regclass,
      format('hide_%s_%s', replace(thea.short_name(full_name), '.', '_'), parent.reference),
      'AFTER UPDATE OF deleted_at',
      -- Rows that are brought in from elsewhere are hidden there already.
      format('WHEN ((((old.deleted_at IS NULL) <> (new.deleted_at IS NULL))'
        ' AND (CURRENT_USER <> ''thea_loader''::name))) EXECUTE FUNCTION thea.cascade_deletion(%s)',
        (select string_agg(quote_literal(a.argument), ', ' order by a.place)
         from unnest(
             array[full_name, parent.reference, thea.short_name(parent.parent)]
               || thea.without_pair(parents, parent.parent, parent.reference)
           ) with ordinality as a (argument, place))));
  end loop;

  execute format('alter table %s enable row level security', full_name);
  execute format('alter table %s force row level security', full_name);
  for wanted in
    select *
    from (
      values
        ('tenant', '', '*', of_tenants, 'tenant_id = thea.tenant()', true),
        ('tenant_guard', 'as restrictive', '*', of_tenants, 'tenant_id = thea.tenant()', true),
        ('mover', '', '*', array['thea_loader', 'thea_mover'], 'tenant_id = thea.named_tenant()', true),
        ('mover_guard', 'as restrictive', '*', array['thea_loader', 'thea_mover'],
          'tenant_id = thea.named_tenant()', true),
        ('maintenance_reads', 'for select', 'r', array['thea_maintenance'], 'true', false),
        ('maintenance_deletes', 'for delete', 'd', array['thea_maintenance'], 'true', false)
    ) as p (name, clause, command, roles, condition, checked)
  loop
    if exists (
      select from pg_policy p
      where p.polrelid = target
        and p.polname = wanted.name
        and p.polcmd::text = wanted.command
        and p.polpermissive = (wanted.clause <> 'as restrictive')
        and array(select r::regrole::text from unnest(p.polroles) r order by 1) = wanted.roles
        and trim('()' from pg_get_expr(p.polqual, target)) = trim('()' from wanted.condition)
        and (p.polwithcheck is not null) = wanted.checked
        and (p.polwithcheck is null or pg_get_expr(p.polwithcheck, target) = pg_get_expr(p.polqual, target))
    ) then
      continue;
    end if;
    execute format('drop policy if exists %I on %s', wanted.name, full_name);
    execute format('create policy %I on %s %s to %s using (%s)%s', wanted.name, full_name, wanted.clause,
      array_to_string(wanted.roles, ', '), wanted.condition,
      case when wanted.checked then format(' with check (%s)', wanted.condition) else '' end);
  end loop;
  execute format('comment on policy tenant on %s is %L', full_name,
    jsonb_build_object('quiet', quiet, 'computed', computed, 'untouched', untouched));

  -- A row stays with its tenant and its parents, and what the database keeps is the database's.
  fixed := array['tenant_id', 'id', 'created_at', 'updated_at'] || computed
    || array(select p.reference from thea.parents(target) as p);
  updated := array(
    select a.attname::text
    from pg_attribute a
    where a.attrelid = target
      and a.attnum > 0
      and not a.attisdropped
      and a.attgenerated = ''
      and a.attname::text <> all (fixed)
    order by a.attnum
  );
  execute format('revoke all on %s from public, thea_app, thea_privacy, thea_readonly, thea_maintenance, thea_mover,'
    ' thea_loader', full_name);
  execute format('grant select on %s to thea_privacy, thea_readonly, thea_mover', full_name);
  execute format('grant select, insert, update, delete on %s to thea_loader', full_name);
  execute format('grant select, delete on %s to thea_maintenance', full_name);
  execute format('grant select, insert, delete on %s to thea_app', full_name);
  execute format('grant update (%s) on %s to thea_app',
    (select string_agg(quote_ident(u.name), ', ') from unnest(updated) as u (name)), full_name);

  touching := array(select u.name from unnest(updated) as u (name) where u.name <> all (untouched));
  perform thea.ensure_trigger(target, 'touch',
    'BEFORE UPDATE' || case when cardinality(computed || untouched) > 0
      then ' OF ' || (select string_agg(quote_ident(u.name), ', ') from unnest(touching) as u (name))
      else '' end,
    'EXECUTE FUNCTION thea.touch()');
  perform thea.ensure_trigger(target, 'audit', 'AFTER INSERT OR DELETE OR UPDATE',
    -- Of rows that are brought in with all of their tenant there is one entry instead of one each.
    format('WHEN ((CURRENT_USER <> ''thea_loader''::name)) EXECUTE FUNCTION thea.audit(%s)',
      (select string_agg(quote_literal(a.argument), ', ' order by a.place)
       from unnest(array[thea.short_name(full_name)] || quiet || computed) with ordinality as a (argument, place))));

  execute format('alter table %s owner to thea_owner', full_name);
end
$$;

-- Take back what `thea.protect` made on other tables, before the table itself is dropped. The table stays closed.
create function thea.unprotect(target regclass) returns void
  language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  hiding record;
begin
  for hiding in
    select t.tgrelid::regclass as parent, t.tgname
    from pg_trigger t
    where t.tgfoid = 'thea.cascade_deletion'::regproc
      and split_part(encode(t.tgargs, 'escape'), '\000', 1) = target::text
  loop
    execute format('drop trigger %I on %s', hiding.tgname, hiding.parent);
  end loop;
  execute format('revoke all on %s from thea_app, thea_privacy, thea_readonly, thea_maintenance, thea_mover,'
    ' thea_loader', target);
end
$$;

alter function thea.cascade_rows(text[], text, bigint[], timestamptz, timestamptz) owner to thea_owner;

alter function thea.short_name(text) owner to thea_owner;

alter function thea.table_of(regclass) owner to thea_owner;

alter function thea.parents(regclass) owner to thea_owner;

alter function thea.without_pair(text[], text, text) owner to thea_owner;

alter function thea.ensure_trigger(regclass, text, text, text) owner to thea_owner;

alter function thea.is_protected(oid) owner to thea_owner;

alter function thea.obstacles(regclass) owner to thea_owner;

alter function thea.index_on(regclass, text) owner to thea_owner;

alter function thea.protect(regclass, text[], text[], text[]) owner to thea_owner;

alter function thea.unprotect(regclass) owner to thea_owner;

revoke all on function thea.cascade_rows(text[], text, bigint[], timestamptz, timestamptz),
    thea.cascade_deletion(),
    thea.short_name(text),
    thea.table_of(regclass),
    thea.parents(regclass),
    thea.without_pair(text[], text, text),
    thea.ensure_trigger(regclass, text, text, text),
    thea.is_protected(oid),
    thea.obstacles(regclass),
    thea.index_on(regclass, text),
    thea.protect(regclass, text[], text[], text[]),
    thea.unprotect(regclass)
  from public;

grant execute on function thea.cascade_rows(text[], text, bigint[], timestamptz, timestamptz), thea.short_name(text)
  to thea_loader;

-- Who makes a trigger needs it.
grant execute on function thea.cascade_deletion() to thea_owner;

-- Who gets a function must be allowed to create in its schema: for this moment only.
grant create on schema thea to thea_loader;

alter function thea.cascade_deletion() owner to thea_loader;

revoke create on schema thea from thea_loader;
