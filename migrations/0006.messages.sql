-- depends: 0005.conversations

-- Why: every exchange with its machine-learning metadata. It is the largest table: each index is
-- narrow and starts with what its query gives.
--
-- `message_id` is the channel's own number of a message. It is unique within a conversation, so that an update
-- which the channel delivers twice is one message.

create table thea.message_history (
  tenant_id text not null,
  id bigint generated always as identity,
  user_id bigint not null,
  conversation_id bigint not null,
  message_id bigint,
  user_message text,
  bot_response text,
  answer_ids bigint[],
  intent_detected text,
  entities_extracted jsonb,
  confidence_score double precision,
  processing_time_ms integer,
  sealed jsonb,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  deleted_at timestamptz,
  constraint message_history_pkey primary key (tenant_id, id),
  constraint message_history_user_id_fkey foreign key (tenant_id, user_id)
    references thea.users (tenant_id, id) on delete cascade,
  constraint message_history_conversation_id_fkey foreign key (tenant_id, conversation_id)
    references thea.conversations (tenant_id, id) on delete cascade,
  constraint message_history_user_message_check
    check ((user_message is null) = coalesce(sealed ? 'user_message', false)),
  constraint message_history_bot_response_check
    check (bot_response is null or (sealed ? 'bot_response') is not true),
  constraint message_history_entities_extracted_check
    check (entities_extracted is null or (sealed ? 'entities_extracted') is not true),
  constraint message_history_confidence_score_check check (confidence_score between 0 and 1),
  constraint message_history_processing_time_ms_check check (processing_time_ms >= 0)
);

create index message_history_conversation_id_idx on thea.message_history (tenant_id, conversation_id, created_at, id);
comment on index thea.message_history_conversation_id_idx is 'messages.get_context_window, messages.prune';

create index message_history_user_id_idx on thea.message_history (tenant_id, user_id, created_at, id);
comment on index thea.message_history_user_id_idx is 'messages.get_all+user_id+newest_first, '
  'messages.get_all+user_id, messages.count+user_id, messages.get_statistics_of_user';

create index message_history_created_at_idx on thea.message_history (tenant_id, created_at, id);
comment on index thea.message_history_created_at_idx is 'messages.get_all+newest_first, messages.get_all, '
  'messages.count_by_day, messages.get_statistics, messages.analyze_performance, messages.delete_old';

create index message_history_intent_detected_idx on thea.message_history (tenant_id, intent_detected, created_at, id)
  where intent_detected is not null;
comment on index thea.message_history_intent_detected_idx is 'messages.get_all+intent+newest_first, '
  'messages.get_all+intent, messages.count+intent, messages.count_by_day+intent';

-- What is deleted does not count: a number may come again after its message, or the whole session, was deleted.
create unique index message_history_message_id_key on thea.message_history (tenant_id, conversation_id, message_id)
  where message_id is not null and deleted_at is null;
comment on index thea.message_history_message_id_key is 'messages.add, messages.get_by_message_id, '
  'messages.import_many';

-- An import leaves deleted messages deleted.
create index message_history_deleted_message_id_idx on thea.message_history (tenant_id, conversation_id, message_id)
  where message_id is not null and deleted_at is not null;
comment on index thea.message_history_deleted_message_id_idx is 'messages.import_many';

comment on column thea.message_history.answer_ids is
  'of an imported message: the numbers of the messages that are joined in bot_response, '
  'or its own where it is an answer alone';

-- What a service seals of an encrypted tenant (see 0018.encryption) stands here instead of in its column: of each text
-- the ciphertext, and in `row` what they are sealed for.
comment on column thea.message_history.sealed is 'seals user_message, bot_response, entities_extracted';

-- Few rows: the answers alone, of which some are taken back when their message is imported.
create index message_history_answers_alone_idx on thea.message_history (tenant_id, message_id)
  where (answer_ids[1] = message_id) is true;
comment on index thea.message_history_answers_alone_idx is 'messages.take_back_answers';

select thea.protect('thea.message_history');

-- `messages.add` draws the id first, because the conversation remembers it in the same statement.
grant usage on sequence thea.message_history_id_seq to thea_app;
