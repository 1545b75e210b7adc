-- depends: 0006.events

-- Why: a user's notes, found again by any form of a word, in Spanish or English, with or without
-- accents.
--
-- Three text search configurations (Spanish, English, as written), each without accents, are joined
-- into one stored vector: title weight A, tags B, text D. Its function has a parsed body, so that the
-- configurations cannot be dropped under it. The text counts up to 20,000 characters.

create extension if not exists unaccent;

create text search configuration thea.es (copy = pg_catalog.spanish);
create text search configuration thea.en (copy = pg_catalog.english);
create text search configuration thea.plain (copy = pg_catalog.simple);

-- The extension may stand in another schema already.
do $$
declare
  place text;
begin
  select n.nspname into place
  from pg_catalog.pg_extension x join pg_catalog.pg_namespace n on n.oid = x.extnamespace
  where x.extname = 'unaccent';
  execute format('alter text search configuration thea.es alter mapping for hword, hword_part, word'
    ' with %I.unaccent, pg_catalog.spanish_stem', place);
  execute format('alter text search configuration thea.en alter mapping for hword, hword_part, word'
    ' with %I.unaccent, pg_catalog.english_stem', place);
  execute format('alter text search configuration thea.plain alter mapping for hword, hword_part, word'
    ' with %I.unaccent, pg_catalog.simple', place);
end
$$;

alter text search configuration thea.es owner to thea_owner;
alter text search configuration thea.en owner to thea_owner;
alter text search configuration thea.plain owner to thea_owner;

create function thea.words(words text, weight "char") returns tsvector
  language sql immutable parallel safe
  return setweight(
    to_tsvector('thea.es'::regconfig, words) || to_tsvector('thea.en'::regconfig, words)
      || to_tsvector('thea.plain'::regconfig, words),
    weight
  );

alter function thea.words(text, "char") owner to thea_owner;

revoke all on function thea.words(text, "char") from public;

grant execute on function thea.words(text, "char") to thea_app;

create function thea.note_vector(title text, tags text[], content text) returns tsvector
  language sql immutable parallel safe
  return thea.words(coalesce(title, ''), 'A') || thea.words(array_to_string(tags, ' '), 'B')
    || thea.words("left"(content, 20000), 'D');

alter function thea.note_vector(text, text[], text) owner to thea_owner;

revoke all on function thea.note_vector(text, text[], text) from public;

grant execute on function thea.note_vector(text, text[], text) to thea_app;

create table thea.notes (
  tenant_id text not null,
  id bigint generated always as identity,
  user_id bigint not null,
  title text,
  content text not null,
  category text,
  priority integer not null default 0,
  tags text[] not null default '{}',
  is_pinned boolean not null default false,
  reminder_datetime timestamptz,
  extra_data jsonb,
  search_vector tsvector generated always as (thea.note_vector(title, tags, content)) stored,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  deleted_at timestamptz,
  deleted_with text,
  constraint notes_pkey primary key (tenant_id, id),
  constraint notes_tenant_id_check
    check (char_length(tenant_id) between 1 and 50 and tenant_id !~ '^\s|\s$|[[:cntrl:]]'),
  constraint notes_user_id_fkey foreign key (tenant_id, user_id)
    references thea.users (tenant_id, id) on delete cascade,
  constraint notes_deleted_with_check
    check (deleted_with is null or deleted_at is not null and deleted_with in ('user'))
);

alter table thea.notes owner to thea_owner;

create index notes_user_id_idx on thea.notes (tenant_id, user_id, created_at, id);
comment on index thea.notes_user_id_idx is 'notes.get_all_newest, notes.search, users.delete, users.restore';

create index notes_category_idx on thea.notes (tenant_id, user_id, category, created_at, id);
comment on index thea.notes_category_idx is 'notes.get_by_category';

create index notes_created_at_idx on thea.notes (tenant_id, created_at, id);
comment on index thea.notes_created_at_idx is 'notes.get_all_newest, notes.get_all_oldest';

create index notes_search_vector_idx on thea.notes using gin (search_vector);
comment on index thea.notes_search_vector_idx is 'notes.search';

create index notes_tags_idx on thea.notes using gin (tags);
comment on index thea.notes_tags_idx is 'notes.get_by_tags';

alter table thea.notes enable row level security;
alter table thea.notes force row level security;

create policy tenant on thea.notes to thea_app, thea_readonly
  using (tenant_id = thea.tenant()) with check (tenant_id = thea.tenant());

create policy tenant_guard on thea.notes as restrictive to thea_app, thea_readonly
  using (tenant_id = thea.tenant()) with check (tenant_id = thea.tenant());

create policy maintenance_reads on thea.notes for select to thea_maintenance using (true);

create policy maintenance_deletes on thea.notes for delete to thea_maintenance using (true);

grant select on thea.notes to thea_readonly;
grant select, delete on thea.notes to thea_maintenance;
grant select, insert, delete on thea.notes to thea_app;
grant update (title, content, category, priority, tags, is_pinned, reminder_datetime, extra_data,
    deleted_at, deleted_with)
  on thea.notes to thea_app;

create trigger touch before update on thea.notes
  for each row execute function thea.touch();

create trigger audit after insert or update or delete on thea.notes
  for each row execute function thea.audit('notes', 'search_vector');
