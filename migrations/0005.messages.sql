-- depends: 0004.conversations

-- Why: every exchange with its machine-learning metadata. It is the largest table: each index is
-- narrow and starts with what its query gives.
--
-- `message_id` is the channel's own number of a message, unique within one chat at most, so it is
-- no key here.

create table thea.message_history (
  tenant_id text not null,
  id bigint generated always as identity,
  user_id bigint not null,
  conversation_id bigint not null,
  message_id bigint,
  user_message text not null,
  bot_response text,
  intent_detected text,
  entities_extracted jsonb,
  confidence_score double precision,
  processing_time_ms integer,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  deleted_at timestamptz,
  deleted_with text,
  constraint message_history_pkey primary key (tenant_id, id),
  constraint message_history_tenant_id_check
    check (char_length(tenant_id) between 1 and 50 and tenant_id !~ '^\s|\s$|[[:cntrl:]]'),
  constraint message_history_user_id_fkey foreign key (tenant_id, user_id)
    references thea.users (tenant_id, id) on delete cascade,
  constraint message_history_conversation_id_fkey foreign key (tenant_id, conversation_id)
    references thea.conversations (tenant_id, id) on delete cascade,
  constraint message_history_confidence_score_check check (confidence_score between 0 and 1),
  constraint message_history_processing_time_ms_check check (processing_time_ms >= 0),
  constraint message_history_deleted_with_check
    check (deleted_with is null or deleted_at is not null and deleted_with in ('user', 'conversation'))
);

alter table thea.message_history owner to thea_owner;

alter table thea.message_history alter column tenant_id set (n_distinct = 50);

create index message_history_conversation_id_idx on thea.message_history (tenant_id, conversation_id, created_at, id);
comment on index thea.message_history_conversation_id_idx is 'messages.get_context_window, messages.prune, conversations.delete, conversations.restore';

create index message_history_user_id_idx on thea.message_history (tenant_id, user_id, created_at, id);
comment on index thea.message_history_user_id_idx is 'messages.get_all_of_user_newest, '
  'messages.get_all_of_user_oldest, messages.count_of_user, messages.get_statistics_of_user, users.delete, users.restore';

create index message_history_created_at_idx on thea.message_history (tenant_id, created_at, id);
comment on index thea.message_history_created_at_idx is 'messages.get_all_newest, messages.get_all_oldest, messages.analyze_performance, messages.delete_old';

create index message_history_intent_detected_idx on thea.message_history (tenant_id, intent_detected, created_at, id)
  where intent_detected is not null;
comment on index thea.message_history_intent_detected_idx is 'messages.get_all_of_intent_newest, '
  'messages.get_all_of_intent_oldest, messages.count_of_intent';

create index message_history_message_id_idx on thea.message_history (tenant_id, conversation_id, message_id)
  where message_id is not null;
comment on index thea.message_history_message_id_idx is 'messages.import_many';

alter table thea.message_history enable row level security;
alter table thea.message_history force row level security;

create policy tenant on thea.message_history to thea_app, thea_readonly
  using (tenant_id = thea.tenant()) with check (tenant_id = thea.tenant());

create policy tenant_guard on thea.message_history as restrictive to thea_app, thea_readonly
  using (tenant_id = thea.tenant()) with check (tenant_id = thea.tenant());

create policy maintenance_reads on thea.message_history for select to thea_maintenance using (true);

create policy maintenance_deletes on thea.message_history for delete to thea_maintenance using (true);

grant select on thea.message_history to thea_readonly;
grant select, delete on thea.message_history to thea_maintenance;
grant select, insert, delete on thea.message_history to thea_app;
grant update (message_id, user_message, bot_response, intent_detected, entities_extracted,
    confidence_score, processing_time_ms, deleted_at, deleted_with)
  on thea.message_history to thea_app;

-- `messages.add` draws the id first, because the conversation remembers it in the same statement.
grant usage on sequence thea.message_history_id_seq to thea_app;

create trigger touch before update on thea.message_history
  for each row execute function thea.touch();

create trigger audit after insert or update or delete on thea.message_history
  for each row execute function thea.audit('message_history');
