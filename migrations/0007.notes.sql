-- depends: 0006.events

-- Why: a user's notes, and the words by which they are found again: in any form, in Spanish or English,
-- with or without accents.
--
-- Three text search configurations (the words as written, their Spanish and their English stems), each
-- without accents, are joined into one vector: title weight A, tags B, text D.
--
-- Every word in the vector begins with its user's id (`12:casa`), and every tag stands there as it is,
-- too (`12#urgente`). So the index is sorted by user: a search, also for the first letters of a word,
-- reads of it what is one user's, however many notes of others have the same words.

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

-- A lexeme as the texts of vectors and queries have it. 92 is the backslash.
create function thea.quoted(lexeme text) returns text
  language sql immutable parallel safe
  return '''' || replace(replace(lexeme, chr(92), chr(92) || chr(92)), '''', '''''') || '''';

alter function thea.quoted(text) owner to thea_owner;

revoke all on function thea.quoted(text) from public;

-- The three forms of each word, one form after the other. The blank lexeme leaves a gap between them, so
-- that no phrase reaches from one into the next; then it is left out. A text is no HTML, so `<` is a blank;
-- and where an accent is a character of its own, some systems would end the word before it.
-- Parsed bodies, here and below, so that the configurations cannot be dropped under the functions.
create function thea.words(scope text, words text, weight "char") returns tsvector
  language sql immutable parallel safe
  return (
    select setweight(
      coalesce(
        string_agg(thea.quoted(scope || form.lexeme) || ':' || array_to_string(form.positions, ','), ' '), ''
      )::tsvector,
      weight
    )
    from (select normalize(translate(words, '<', ' ')) as words) as plain
    cross join unnest(
      to_tsvector('thea.plain'::regconfig, plain.words) || ''' '':1'::tsvector
        || to_tsvector('thea.es'::regconfig, plain.words) || ''' '':1'::tsvector
        || to_tsvector('thea.en'::regconfig, plain.words)
    ) as form
    where form.lexeme <> ' '
      and octet_length(form.lexeme) <= 1000
  );

alter function thea.words(text, text, "char") owner to thea_owner;

revoke all on function thea.words(text, text, "char") from public;

-- The text counts up to 20,000 characters: a vector has an end. The word that is empty but for the user's id
-- stands for all notes of the user.
create function thea.note_vector(user_id bigint, title text, tags text[], content text) returns tsvector
  language sql immutable parallel safe
  return ts_delete(
    thea.words(user_id::text || ':', "left"(title, 1000), 'A') || ''' '':1'::tsvector
      || thea.words(user_id::text || ':', array_to_string(tags, ' '), 'B') || ''' '':1'::tsvector
      || thea.words(user_id::text || ':', "left"(content, 20000), 'D'),
    ' '
  ) || array_to_tsvector(
    user_id::text || ':' || array(select user_id::text || '#' || t.tag from unnest(tags) as t (tag) where t.tag <> '')
  );

alter function thea.note_vector(bigint, text, text[], text) owner to thea_owner;

revoke all on function thea.note_vector(bigint, text, text[], text) from public;

grant execute on function thea.quoted(text), thea.words(text, text, "char"),
    thea.note_vector(bigint, text, text[], text)
  to thea_app;

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
  search_vector tsvector not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  deleted_at timestamptz,
  constraint notes_pkey primary key (tenant_id, id),
  constraint notes_user_id_fkey foreign key (tenant_id, user_id)
    references thea.users (tenant_id, id) on delete cascade,
  constraint notes_tags_check
    check (cardinality(tags) <= 100 and array_position(tags, null) is null and array_position(tags, '') is null),
  constraint notes_extra_data_check check (jsonb_typeof(extra_data) = 'object')
);

-- No generated column: beside another trigger those are made anew with every update, and a vector is dear.
create function thea.index_note() returns trigger
  language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  -- A user who is missing is the constraint's matter.
  new.search_vector := thea.note_vector(coalesce(new.user_id, 0), new.title, new.tags, new.content);
  return new;
end
$$;

alter function thea.index_note() owner to thea_owner;

revoke all on function thea.index_note() from public;

create trigger search_vector before insert or update of user_id, title, tags, content, search_vector on thea.notes
  for each row execute function thea.index_note();

create index notes_user_id_idx on thea.notes (tenant_id, user_id, created_at, id);
comment on index thea.notes_user_id_idx is 'notes.get_all+user_id+newest_first, notes.get_all+user_id';

create index notes_category_idx on thea.notes (tenant_id, user_id, category, created_at, id);
comment on index thea.notes_category_idx is 'notes.get_by_category, notes.get_all+user_id+category';

create index notes_created_at_idx on thea.notes (tenant_id, created_at, id);
comment on index thea.notes_created_at_idx is 'notes.get_all+newest_first, notes.get_all';

-- Written at once: a list of pending entries would have to be read by every search.
create index notes_search_vector_idx on thea.notes using gin (search_vector) with (fastupdate = off);
comment on index thea.notes_search_vector_idx is 'notes.search, notes.get_by_tags';

select thea.protect('thea.notes', computed => array['search_vector']);
