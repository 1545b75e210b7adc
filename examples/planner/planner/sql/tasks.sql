-- The tasks of a tenant.

-- name: get_by_id
-- The task with this id; no row when there is none or it was deleted.
select
  tenant_id, id, user_id, title, due_at, remind_at, reminded_at, done, created_at, updated_at, deleted_at
from planner.tasks
where tenant_id = :tenant_id
  and id = :id
  and deleted_at is null;

-- name: exists
-- Whether there is a task with this id that is not deleted.
-- not null: found
select exists (
  select from planner.tasks
  where tenant_id = :tenant_id
    and id = :id
    and deleted_at is null
) as found;

-- name: count
-- How many tasks there are that are not deleted.
-- not null: total
-- variants: user_id, done
select count(*) as total
from planner.tasks
where tenant_id = :tenant_id
  and deleted_at is null
  and (:user_id::bigint is null or user_id = :user_id)
  and (:done::boolean is null or done = :done);

-- name: get_all
-- A page of tasks in the order of time, from after the given place; empty past the end.
-- one plan: after_at, after_id
-- variants: user_id, after_at, newest_first
select
  tenant_id, id, user_id, title, due_at, remind_at, reminded_at, done, created_at, updated_at, deleted_at
from planner.tasks
where tenant_id = :tenant_id
  and (
    :after_at::timestamptz is null
    or case when :newest_first
      then (created_at, id) < (:after_at, :after_id)
      else (created_at, id) > (:after_at, :after_id)
    end
  )
  and (:include_deleted or deleted_at is null)
  and (:user_id::bigint is null or user_id = :user_id)
  and (:done::boolean is null or done = :done)
order by case when :newest_first then (created_at, id) end desc, created_at, id
limit :limit;

-- name: create_many
-- The new tasks, in the order of the rows; an error when a user is missing.
with users as (
  select id
  from thea.users
  where tenant_id = :tenant_id
    and id = any (array(select user_id from jsonb_to_recordset(:rows) as (user_id bigint)))
    and deleted_at is null
  for share
)
insert into planner.tasks (
  tenant_id, user_id, title, due_at, remind_at, done
)
select
  :tenant_id, case when r.user_id in (select id from users) then r.user_id end, r.title, r.due_at,
  r.remind_at, coalesce(r.done, false)
from rows from (
  jsonb_to_recordset(:rows) as (
    user_id bigint, title text, due_at timestamptz, remind_at timestamptz, done boolean
  )
) with ordinality as r (user_id, title, due_at, remind_at, done, place)
order by r.place
returning
  tenant_id, id, user_id, title, due_at, remind_at, reminded_at, done, created_at, updated_at, deleted_at;

-- name: update
-- The task with the given fields changed; no row when there is none.
update planner.tasks
set (title, due_at, remind_at, done) = (
  select n.title, n.due_at, n.remind_at, n.done
  from jsonb_populate_record(tasks, :changes) n
)
where tenant_id = :tenant_id
  and id = :id
  and deleted_at is null
returning
  tenant_id, id, user_id, title, due_at, remind_at, reminded_at, done, created_at, updated_at, deleted_at;

-- name: delete
-- The id of the task, which is hidden with all that hangs on it; no row when there was none.
update planner.tasks
set deleted_at = now()
where tenant_id = :tenant_id
  and id = :id
  and deleted_at is null
returning id;

-- name: restore
-- The task, back; no row when it was not deleted, or when what it hangs on is.
with parents as (
  select k.id
  from planner.tasks k
  join thea.users p1 on p1.tenant_id = :tenant_id and p1.id = k.user_id and p1.deleted_at is null
  where k.tenant_id = :tenant_id
    and k.id = :id
  for share of p1
)
update planner.tasks t
set deleted_at = null, deleted_with = null
from parents
where t.tenant_id = :tenant_id
  and t.id = :id
  and t.id = parents.id
  and t.deleted_at is not null
returning
  t.tenant_id, t.id, t.user_id, t.title, t.due_at, t.remind_at, t.reminded_at, t.done, t.created_at, t.updated_at,
  t.deleted_at;

-- name: purge
-- The id of the task, which is gone for good; no row when there was none.
delete from planner.tasks
where tenant_id = :tenant_id
  and id = :id
returning id;

-- name: get_ready
-- The tasks of a user that can be begun, because all that they need is done; the most urgent first.
select
  t.tenant_id, t.id, t.user_id, t.title, t.due_at, t.remind_at, t.reminded_at, t.done, t.created_at, t.updated_at,
  t.deleted_at
from planner.tasks t
where t.tenant_id = :tenant_id
  and t.user_id = :user_id
  and t.deleted_at is null
  and not t.done
  and not exists (
    select from planner.links l
    join planner.tasks n on n.tenant_id = :tenant_id and n.id = l.needs_id and n.deleted_at is null and not n.done
    where l.tenant_id = :tenant_id
      and l.task_id = t.id
      and l.deleted_at is null
  )
order by t.due_at nulls last, t.id
limit :limit;

-- name: complete
-- The task, done; no row when there is none, or when it needs a task that is not done.
update planner.tasks t
set done = true
where t.tenant_id = :tenant_id
  and t.id = :id
  and t.deleted_at is null
  and not exists (
    select from planner.links l
    join planner.tasks n on n.tenant_id = :tenant_id and n.id = l.needs_id and n.deleted_at is null and not n.done
    where l.tenant_id = :tenant_id
      and l.task_id = t.id
      and l.deleted_at is null
  )
returning
  t.tenant_id, t.id, t.user_id, t.title, t.due_at, t.remind_at, t.reminded_at, t.done, t.created_at, t.updated_at,
  t.deleted_at;

-- name: claim_reminders
-- The tasks whose reminder is due, each to one of many workers; the oldest reminder first.
with due as (
  select id
  from planner.tasks
  where tenant_id = :tenant_id
    and remind_at <= :now
    and reminded_at is null
    and not done
    and deleted_at is null
  order by remind_at, id
  limit :limit
  for update skip locked
)
update planner.tasks t
set reminded_at = :now
from due
where t.tenant_id = :tenant_id
  and t.id = due.id
returning
  t.tenant_id, t.id, t.user_id, t.title, t.due_at, t.remind_at, t.reminded_at, t.done, t.created_at, t.updated_at,
  t.deleted_at;
