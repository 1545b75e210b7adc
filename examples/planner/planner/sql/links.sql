-- The links of a tenant.

-- name: get_by_id
-- The link with this id; no row when there is none or it was deleted.
select
  tenant_id, id, task_id, needs_id, reason, created_at, updated_at, deleted_at
from planner.links
where tenant_id = :tenant_id
  and id = :id
  and deleted_at is null;

-- name: exists
-- Whether there is a link with this id that is not deleted.
-- not null: found
select exists (
  select from planner.links
  where tenant_id = :tenant_id
    and id = :id
    and deleted_at is null
) as found;

-- name: count
-- How many links there are that are not deleted.
-- not null: total
-- variants: task_id
select count(*) as total
from planner.links
where tenant_id = :tenant_id
  and deleted_at is null
  and (:task_id::bigint is null or task_id = :task_id);

-- name: get_all
-- A page of links in the order of time, from after the given place; empty past the end.
-- one plan: after_at, after_id
-- variants: task_id, after_at, newest_first
select
  tenant_id, id, task_id, needs_id, reason, created_at, updated_at, deleted_at
from planner.links
where tenant_id = :tenant_id
  and (
    :after_at::timestamptz is null
    or case when :newest_first
      then (created_at, id) < (:after_at, :after_id)
      else (created_at, id) > (:after_at, :after_id)
    end
  )
  and (:include_deleted or deleted_at is null)
  and (:task_id::bigint is null or task_id = :task_id)
order by case when :newest_first then (created_at, id) end desc, created_at, id
limit :limit;

-- name: create_many
-- The new links, in the order of the rows; an error when a task is missing.
with tasks as (
  select id
  from planner.tasks
  where tenant_id = :tenant_id
    and id in (
      select unnest(array[task_id, needs_id])
      from jsonb_to_recordset(:rows) as (task_id bigint, needs_id bigint)
    )
    and deleted_at is null
  for share
)
insert into planner.links (
  tenant_id, task_id, needs_id, reason
)
select
  :tenant_id, case when r.task_id in (select id from tasks) then r.task_id end,
  case when r.needs_id in (select id from tasks) then r.needs_id end, r.reason
from rows from (
  jsonb_to_recordset(:rows) as (
    task_id bigint, needs_id bigint, reason text
  )
) with ordinality as r (task_id, needs_id, reason, place)
order by r.place
returning
  tenant_id, id, task_id, needs_id, reason, created_at, updated_at, deleted_at;

-- name: update
-- The link with the given fields changed; no row when there is none.
update planner.links
set (reason) = (
  select n.reason
  from jsonb_populate_record(links, :changes) n
)
where tenant_id = :tenant_id
  and id = :id
  and deleted_at is null
returning
  tenant_id, id, task_id, needs_id, reason, created_at, updated_at, deleted_at;

-- name: delete
-- The id of the link, which is hidden with all that hangs on it; no row when there was none.
update planner.links
set deleted_at = now()
where tenant_id = :tenant_id
  and id = :id
  and deleted_at is null
returning id;

-- name: restore
-- The link, back; no row when it was not deleted, or when what it hangs on is.
with parents as (
  select k.id
  from planner.links k
  join planner.tasks p1 on p1.tenant_id = :tenant_id and p1.id = k.task_id and p1.deleted_at is null
  join planner.tasks p2 on p2.tenant_id = :tenant_id and p2.id = k.needs_id and p2.deleted_at is null
  where k.tenant_id = :tenant_id
    and k.id = :id
  for share of p1, p2
)
update planner.links t
set deleted_at = null, deleted_with = null
from parents
where t.tenant_id = :tenant_id
  and t.id = :id
  and t.id = parents.id
  and t.deleted_at is not null
returning
  t.tenant_id, t.id, t.task_id, t.needs_id, t.reason, t.created_at, t.updated_at, t.deleted_at;

-- name: purge
-- The id of the link, which is gone for good; no row when there was none.
delete from planner.links
where tenant_id = :tenant_id
  and id = :id
returning id;
