-- depends: 0004.users

-- Why: one row for each session of a user, with the state machine's state and its context.

create table thea.conversations (
  tenant_id text not null,
  id bigint generated always as identity,
  user_id bigint not null,
  session_id text collate "C" not null,
  current_state text not null default 'idle',
  context_data jsonb not null default '{}',
  last_message_id bigint,
  is_active boolean not null default true,
  started_at timestamptz not null default now(),
  last_activity timestamptz not null default now(),
  last_message_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  deleted_at timestamptz,
  constraint conversations_pkey primary key (tenant_id, id),
  constraint conversations_session_id_key unique (tenant_id, session_id),
  constraint conversations_user_id_fkey foreign key (tenant_id, user_id)
    references thea.users (tenant_id, id) on delete cascade,
  constraint conversations_context_data_check check (jsonb_typeof(context_data) = 'object')
);

-- No foreign key, since it would go round in a circle. A tenant that is brought in under other ids has this one
-- changed as well: the comment of a column that begins with these words says whose ids it holds.
comment on column thea.conversations.last_message_id is 'refers to thea.message_history';

comment on column thea.conversations.last_message_at is
  'the time of the last message that arrived, which the next one must be later than; '
  'unlike last_activity, no service sets it';

comment on constraint conversations_session_id_key on thea.conversations
  is 'conversations.get_by_session_id, conversations.open, messages.get_context_window, messages.add';

-- A user may have thousands of conversations: pages of them by their time, and the few that are open.
create index conversations_user_id_idx on thea.conversations (tenant_id, user_id, created_at, id) include (deleted_at);
comment on index thea.conversations_user_id_idx is 'conversations.get_all+user_id+newest_first, '
  'conversations.get_all+user_id, users.get_with';

create index conversations_active_idx on thea.conversations (tenant_id, user_id, last_activity, id)
  where is_active and deleted_at is null;
comment on index thea.conversations_active_idx is 'conversations.get_active';

create index conversations_last_activity_idx on thea.conversations (tenant_id, last_activity, id)
  where is_active and deleted_at is null;
comment on index thea.conversations_last_activity_idx is 'conversations.get_inactive_since, '
  'conversations.close_inactive, conversations.close_inactive_by_policy, work.tenants_with_work';

-- With what a count asks for, so that it need not read the rows.
create index conversations_created_at_idx on thea.conversations (tenant_id, created_at, id) include (deleted_at);
comment on index thea.conversations_created_at_idx is 'conversations.get_all+newest_first, conversations.get_all, '
  'conversations.count';

select thea.protect('thea.conversations', quiet => array['last_activity', 'last_message_id', 'last_message_at']);
