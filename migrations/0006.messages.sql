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

create index message_history_user_id_idx
  on thea.message_history (tenant_id, user_id, created_at, id) include (deleted_at);
comment on index thea.message_history_user_id_idx is 'messages.get_all+user_id+newest_first, '
  'messages.get_all+user_id, messages.count+user_id, messages.get_statistics_of_user';

-- With what a count asks for, so that it need not read the rows.
create index message_history_created_at_idx
  on thea.message_history (tenant_id, created_at, id) include (deleted_at);
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

-- Add a message at the end of its session, as the query `messages.add` says it, which has locked the user. Without a
-- user (null) the message is refused, as a column of the row is missing. It has no more rights than its caller. What
-- comes back has types of its own, so that one of a column can change under services that are at work.
create function thea.add_message(
  p_tenant text, p_user bigint, p_session text, p_message_id bigint, p_user_message text, p_bot_response text,
  p_intent text, p_entities jsonb, p_confidence double precision, p_processing_time_ms integer, p_sealed jsonb
) returns table (
  tenant_id text, id bigint, user_id bigint, conversation_id bigint, message_id bigint, user_message text,
  bot_response text, intent_detected text, entities_extracted jsonb, confidence_score double precision,
  processing_time_ms integer, created_at timestamptz, updated_at timestamptz, deleted_at timestamptz, sealed jsonb
)
  language plpgsql volatile rows 1
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  place record;
  there record;
  conversation bigint;
  next_id bigint;
  newest_at timestamptz;
  moment timestamptz;
begin
  -- While it is locked, nobody else adds a message to it. No statement here reads two tables: of one that does, a node
  -- of a cluster keeps no plan.
  select c.id, c.last_message_at into place
  from thea.conversations c
  where c.tenant_id = p_tenant
    and c.session_id = p_session
    -- Not `=`, so that the session's key leads to the row: the user may have thousands.
    and c.user_id is not distinct from p_user
    and c.deleted_at is null
  for no key update;
  if p_message_id is not null and place.id is not null then
    select
      m.tenant_id, m.id, m.user_id, m.conversation_id, m.message_id, m.user_message, m.bot_response,
      m.intent_detected, m.entities_extracted, m.confidence_score::double precision,
      m.processing_time_ms::integer, m.created_at, m.updated_at, m.deleted_at, m.sealed,
      m.bot_response is null
        and (m.sealed ? 'bot_response') is not true
        and (p_bot_response is not null or p_sealed ? 'bot_response')
        -- A sealed answer belongs to one row, and is sealed anew for this one where it is another's.
        and (m.sealed -> 'row' <> p_sealed -> 'row') is not true
        as takes_answer
      into there
    from thea.message_history m
    where m.tenant_id = p_tenant
      and m.conversation_id = place.id
      and m.message_id = p_message_id
      and m.deleted_at is null
    for no key update;
    if found and there.takes_answer then
      return query
        update thea.message_history m
        set bot_response = p_bot_response,
          -- Without a new one, what was sealed stays: an answer may come plain where the tenant's encryption was ended.
          sealed = case
            when p_sealed is null then m.sealed
            else coalesce(m.sealed, '{}') || (p_sealed - array['user_message', 'entities_extracted'])
          end
        where m.tenant_id = p_tenant
          and m.id = there.id
        returning
          m.tenant_id, m.id, m.user_id, m.conversation_id, m.message_id, m.user_message, m.bot_response,
          m.intent_detected, m.entities_extracted, m.confidence_score::double precision,
          m.processing_time_ms::integer, m.created_at, m.updated_at, m.deleted_at, m.sealed;
      return;
    elsif found then
      return query
        select
          there.tenant_id, there.id, there.user_id, there.conversation_id, there.message_id, there.user_message,
          there.bot_response, there.intent_detected, there.entities_extracted, there.confidence_score,
          there.processing_time_ms, there.created_at, there.updated_at, there.deleted_at, there.sealed;
      return;
    end if;
  end if;
  -- The conversation remembers the message, so the message's id is drawn before either is written.
  next_id := nextval('thea.message_history_id_seq');
  if place.id is not null then
    select m.created_at into newest_at
    from thea.message_history m
    where m.tenant_id = p_tenant
      and m.conversation_id = place.id
    order by m.created_at desc, m.id desc
    limit 1;
  end if;
  -- Its time is drawn while the conversation is locked, and is later than that of every other message in it: so the
  -- order of time is the order of arrival, also where the transaction began earlier, or a message was given a time to
  -- come.
  moment := greatest(
    clock_timestamp(), place.last_message_at + interval '1 microsecond', newest_at + interval '1 microsecond'
  );
  conversation := place.id;
  if conversation is null then
    insert into thea.conversations (tenant_id, user_id, session_id, last_message_id, last_activity, last_message_at)
    values (p_tenant, p_user, p_session, coalesce(p_message_id, next_id), moment, moment)
    on conflict (tenant_id, session_id) do nothing
    returning id into conversation;
    if not found then
      return;
    end if;
  end if;
  return query
    insert into thea.message_history as m (
      tenant_id, id, user_id, conversation_id, message_id, user_message, bot_response, intent_detected,
      entities_extracted, confidence_score, processing_time_ms, created_at, sealed
    )
    overriding system value
    values (
      p_tenant, next_id, p_user, conversation, p_message_id, p_user_message, p_bot_response, p_intent,
      p_entities, p_confidence, p_processing_time_ms, moment, p_sealed
    )
    on conflict (tenant_id, conversation_id, message_id) where message_id is not null and deleted_at is null do nothing
    returning
      m.tenant_id, m.id, m.user_id, m.conversation_id, m.message_id, m.user_message, m.bot_response,
      m.intent_detected, m.entities_extracted, m.confidence_score::double precision,
      m.processing_time_ms::integer, m.created_at, m.updated_at, m.deleted_at, m.sealed;
  if found and place.id is not null then
    update thea.conversations c
    set last_message_id = coalesce(p_message_id, next_id),
      last_message_at = moment,
      last_activity = greatest(c.last_activity, moment),
      is_active = true
    where c.tenant_id = p_tenant
      and c.id = place.id;
  end if;
end
$$;

alter function thea.add_message(
    text, bigint, text, bigint, text, text, text, jsonb, double precision, integer, jsonb
  )
  owner to thea_owner;

revoke all on function thea.add_message(
    text, bigint, text, bigint, text, text, text, jsonb, double precision, integer, jsonb
  )
  from public;

grant execute on function thea.add_message(
    text, bigint, text, bigint, text, text, text, jsonb, double precision, integer, jsonb
  )
  to thea_app;

-- `thea.add_message` draws the id itself.
grant usage on sequence thea.message_history_id_seq to thea_app;
