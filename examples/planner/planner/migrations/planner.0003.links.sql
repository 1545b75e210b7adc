-- depends: planner.0002.tasks

-- Why: a task may need others to be done before it. A link says so: the task `task_id` needs the task `needs_id`.

create table planner.links (
  tenant_id text not null,
  id bigint generated always as identity,
  task_id bigint not null,
  needs_id bigint not null,
  reason text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  deleted_at timestamptz,
  constraint links_pkey primary key (tenant_id, id),
  constraint links_task_id_fkey foreign key (tenant_id, task_id)
    references planner.tasks (tenant_id, id) on delete cascade,
  constraint links_needs_id_fkey foreign key (tenant_id, needs_id)
    references planner.tasks (tenant_id, id) on delete cascade,
  constraint links_task_id_needs_id_key unique (tenant_id, task_id, needs_id),
  constraint links_needs_id_check check (needs_id <> task_id)
);

create index links_created_at_idx on planner.links (tenant_id, created_at, id) include (deleted_at);
comment on index planner.links_created_at_idx is 'links.get_all';

create index links_task_id_idx on planner.links (tenant_id, task_id, created_at, id) include (deleted_at);
comment on index planner.links_task_id_idx is 'links.get_all';

create index links_needs_id_idx on planner.links (tenant_id, needs_id);
comment on index planner.links_needs_id_idx is 'what a deleted task hides';

-- Row security, both policies, the rights, the audit log, and what happens when a parent is deleted.
select thea.protect('planner.links');
