-- The directory of tenants. Its queries belong to no tenant: a login in `thea_admin` runs them, and sees nothing else.

-- name: create
-- The new tenant.
-- tenant: none, the directory belongs to none
insert into thea.tenants (id, name, limits)
values (:id, :name, :limits)
returning
  id, name, status, reason, limits, settings, created_at, updated_at, suspended_at, ended_at;

-- name: get
-- The tenant with this id; no row when the directory has none.
-- tenant: none, the directory belongs to none
select
  id, name, status, reason, limits, settings, created_at, updated_at, suspended_at, ended_at
from thea.tenants
where id = :id;

-- name: get_all
-- A page of tenants, the newest first, from after the given place; empty past the end.
-- tenant: none, the directory belongs to none
-- variants: status, after_at
select
  id, name, status, reason, limits, settings, created_at, updated_at, suspended_at, ended_at
from thea.tenants
where (:after_at::timestamptz is null or (created_at, id) < (:after_at, :after_id))
  and (:status::text is null or status = :status)
order by created_at desc, id desc
limit :limit;

-- name: update
-- The tenant with the given fields changed; no row when there is none, or when it has ended.
-- tenant: none, the directory belongs to none
update thea.tenants
set (name, limits, settings) = (
  select n.name, n.limits, n.settings
  from jsonb_populate_record(tenants, :changes) n
)
where id = :id
  and status <> 'ended'
returning
  id, name, status, reason, limits, settings, created_at, updated_at, suspended_at, ended_at;

-- name: suspend
-- The suspended tenant; no row when there is none, or when it has ended.
-- tenant: none, the directory belongs to none
update thea.tenants t
set status = 'suspended',
  reason = :reason,
  suspended_at = coalesce(t.suspended_at, moment.at)
from (select now() as at) moment
where t.id = :id
  and t.status <> 'ended'
returning
  t.id, t.name, t.status, t.reason, t.limits, t.settings, t.created_at, t.updated_at, t.suspended_at, t.ended_at;

-- name: resume
-- The tenant, which works again; no row when there is none, or when it has ended.
-- tenant: none, the directory belongs to none
update thea.tenants
set status = 'active',
  reason = null,
  suspended_at = null
where id = :id
  and status <> 'ended'
returning
  id, name, status, reason, limits, settings, created_at, updated_at, suspended_at, ended_at;

-- name: end
-- The tenant, which has ended; no row when there is none, or when it had ended before.
-- tenant: none, the directory belongs to none
update thea.tenants
set status = 'ended',
  reason = null,
  suspended_at = null,
  ended_at = now()
where id = :id
  and status <> 'ended'
returning
  id, name, status, reason, limits, settings, created_at, updated_at, suspended_at, ended_at;

-- name: usage
-- What a tenant has in each table that has rows of tenants, by the table's name.
-- tenant: none, a function counts for those who keep the directory, and shows no row
-- not null: table_name, row_count, text_bytes
select table_name, row_count, text_bytes
from thea.usage_of(:id)
order by table_name;
