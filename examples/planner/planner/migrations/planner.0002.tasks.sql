-- depends: planner.0001.schema

-- Why: what somebody has to do. `reminded_at` is when a worker took the reminder, so that each goes out once.

create table planner.tasks (
  tenant_id text not null,
  id bigint generated always as identity,
  user_id bigint not null,
  title text not null,
  due_at timestamptz,
  remind_at timestamptz,
  reminded_at timestamptz,
  done boolean not null default false,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  deleted_at timestamptz,
  constraint tasks_pkey primary key (tenant_id, id),
  constraint tasks_user_id_fkey foreign key (tenant_id, user_id)
    references thea.users (tenant_id, id) on delete cascade
);

create index tasks_created_at_idx on planner.tasks (tenant_id, created_at, id) include (deleted_at);
comment on index planner.tasks_created_at_idx is 'tasks.get_all';

create index tasks_user_id_idx on planner.tasks (tenant_id, user_id, created_at, id) include (deleted_at);
comment on index planner.tasks_user_id_idx is 'tasks.get_all';

create index tasks_remind_at_idx on planner.tasks (tenant_id, remind_at, id)
  where reminded_at is null and not done and deleted_at is null;
comment on index planner.tasks_remind_at_idx is 'tasks.claim_reminders';

-- Row security, both policies, the rights, the audit log, and what happens when a parent is deleted.
-- A reminder that was taken is no change of the task.
select thea.protect('planner.tasks', quiet => array['reminded_at'], untouched => array['reminded_at']);
