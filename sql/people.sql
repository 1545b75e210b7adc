-- What is kept of one person, in whatever tables; and that they were erased.

-- name: tables
-- The tables that have rows of people, users first, and whether each audit entry of such a table says whose it is.
-- not null: name, by_user_id
-- tenant: none, it reads the server's catalogs alone
select name, by_user_id
from thea.person_tables();

-- name: other_user_ids
-- The tables whose `user_id` is no reference to a user; empty where there is none.
-- not null: names
-- tenant: none, it reads the server's catalogs alone
select thea.other_user_ids() as names;

-- name: rows
-- A page of the person's rows of one table, in the order of time, from after the given place; empty past the end.
-- not null: created_at, id, document
select r.created_at, r.id, r.document
from thea.person_rows(:tenant_id, :subject_id, :table, :after_at, :after_id, :limit) r
order by r.created_at, r.id;

-- name: row_ids
-- The ids of the person's rows of one table, as far as the audit log knows them, also of those that are gone.
-- not null: row_id
select r.row_id
from thea.person_row_ids(:tenant_id, :subject_id, :table) as r (row_id);

-- name: entries
-- A page of the audit entries about a person that still say something, in the order of time; empty past the end.
-- not null: document
-- variants: after_at
select
  at, id,
  jsonb_build_object(
    'tenant_id', tenant_id, 'id', id, 'at', at, 'actor', actor, 'request_id', request_id,
    'table_name', table_name, 'row_id', row_id, 'action', action, 'before', before, 'after', after
  ) as document
from thea.audit_log
where tenant_id = :tenant_id
  and subject_id = :subject_id
  and table_name <> all (:other_user_ids::text[])
  and (before is not null or after is not null)
  and (:after_at::timestamptz is null or (at, id) > (:after_at, :after_id))
order by at, id
limit :limit;

-- name: entries_of_rows
-- The audit entries about these rows that still say something, in the order of time; empty when there are none.
-- not null: document
select
  at, id,
  jsonb_build_object(
    'tenant_id', tenant_id, 'id', id, 'at', at, 'actor', actor, 'request_id', request_id,
    'table_name', table_name, 'row_id', row_id, 'action', action, 'before', before, 'after', after
  ) as document
from thea.audit_log
where tenant_id = :tenant_id
  and table_name = :table
  and row_id = any (:row_ids::bigint[])
  and (before is not null or after is not null)
order by at, id;

-- name: get_erasures
-- A page of certificates, the newest first, of one person or of all, from after the given place; empty past the end.
-- not null: user_id, reason, counts, counts_of_others, redacted
-- variants: subject_id, after_at
select
  id, at, actor, request_id, login,
  subject_id as user_id,
  reason,
  details -> 'counts' as counts,
  details -> 'counts_of_others' as counts_of_others,
  (details ->> 'redacted')::bigint as redacted
from thea.compliance_log
where tenant_id = :tenant_id
  and action = 'erase user'
  and (:subject_id::bigint is null or subject_id = :subject_id)
  and (:after_at::timestamptz is null or (at, id) < (:after_at, :after_id))
order by at desc, id desc
limit :limit;
