-- depends: 0007.events

-- Why: a user's notes, and the words by which they are found again: in any form, in Spanish or English,
-- with or without accents.
--
-- A word is what lies between blanks, punctuation and symbols. Each word of a note stands in the note's vector in
-- three forms at one position: as it is written, its Spanish stem and its English stem, all in lower case and
-- without accents. The Spanish stem is made of the word with its accents, because only they tell `volvió` from
-- `volvio`; the stem then loses them. Words of the title have weight A, of tags B, of the text D.
--
-- Each lexeme of a vector begins with the same 22 characters, which stand for the note's tenant and user. So an
-- entry of the index belongs to one user, and no search fetches a row of anybody else, however many have the same
-- words. Tags are there as they are, too, with a `#` before them, with which no word begins.
--
-- The text is split here and not by PostgreSQL's parser: the parser makes one word each of `blanco/negro`,
-- `acta.docx` and `-19`, and what it takes for a letter depends on the database's locale.

create extension if not exists unaccent;

-- What marks the words in a snippet (see the next migration) goes by these configurations.
create text search configuration thea.es (copy = pg_catalog.spanish);
create text search configuration thea.en (copy = pg_catalog.english);
create text search configuration thea.plain (copy = pg_catalog.simple);

-- The text without accents.
create function thea.unaccented(given text) returns text
  language sql stable parallel safe
  return given;

-- The extension may stand in another schema already. It cannot be dropped under a function with a parsed body.
do $$
declare
  extension_schema text;
begin
  select n.nspname into extension_schema
  from pg_catalog.pg_extension x join pg_catalog.pg_namespace n on n.oid = x.extnamespace
  where x.extname = 'unaccent';
  execute format('alter text search configuration thea.es alter mapping for hword, hword_part, word'
    ' with %I.unaccent, pg_catalog.spanish_stem', extension_schema);
  execute format('alter text search configuration thea.en alter mapping for hword, hword_part, word'
    ' with %I.unaccent, pg_catalog.english_stem', extension_schema);
  execute format('alter text search configuration thea.plain alter mapping for hword, hword_part, word'
    ' with %I.unaccent, pg_catalog.simple', extension_schema);
  execute format('create or replace function thea.unaccented(given text) returns text language sql stable parallel safe'
    ' return %I.unaccent(%L::regdictionary, given)', extension_schema, format('%I.unaccent', extension_schema));
end
$$;

alter text search configuration thea.es owner to thea_owner;
alter text search configuration thea.en owner to thea_owner;
alter text search configuration thea.plain owner to thea_owner;

alter function thea.unaccented(text) owner to thea_owner;

-- For the brackets of a regular expression: the characters that are no part of a word, which is all but the
-- letters, digits and marks of Unicode 17; the blank is not among them. A character that Unicode 17 does not have
-- may be in either set.
create function thea.separators() returns text
  language sql immutable parallel safe
  return
    E'\\u0001-\\u001f\\u0021-\\u002f\\u003a-\\u0040\\u005b-\\u0060\\u007b-\\u00bf\\u00d7\\u00f7\\u02b9-\\u02ff'
     '\\u0375\\u03f6\\u0482\\u055a-\\u055f\\u0589-\\u058f\\u05be\\u05c0\\u05c3\\u05c6\\u05f3-\\u060f'
     '\\u061b-\\u061f\\u066a-\\u066d\\u06d4\\u06dd\\u06de\\u06e9\\u06fd\\u06fe\\u0700-\\u070f\\u07f6-\\u07f9'
     '\\u07fe\\u07ff\\u0830-\\u083e\\u085e\\u0888\\u0890\\u0891\\u08e2\\u0964\\u0965\\u0970\\u09f2\\u09f3'
     '\\u09fa\\u09fb\\u09fd\\u0a76\\u0af0\\u0af1\\u0b70\\u0bf3-\\u0bfa\\u0c77\\u0c7f\\u0c84\\u0d4f\\u0d79\\u0df4'
     '\\u0e3f\\u0e4f\\u0e5a\\u0e5b\\u0f01-\\u0f17\\u0f1a-\\u0f1f\\u0f34\\u0f36\\u0f38\\u0f3a-\\u0f3d\\u0f85'
     '\\u0fbe-\\u0fc5\\u0fc7-\\u0fda\\u104a-\\u104f\\u109e\\u109f\\u10fb\\u1360-\\u1368\\u1390-\\u1399\\u1400'
     '\\u166d\\u166e\\u1680\\u169b\\u169c\\u16eb-\\u16ed\\u1735\\u1736\\u17d4-\\u17d6\\u17d8-\\u17db'
     '\\u1800-\\u180a\\u1940-\\u1945\\u19de-\\u19ff\\u1a1e\\u1a1f\\u1aa0-\\u1aa6\\u1aa8-\\u1aad\\u1b4e\\u1b4f'
     '\\u1b5a-\\u1b6a\\u1b74-\\u1b7f\\u1bfc-\\u1bff\\u1c3b-\\u1c3f\\u1c7e\\u1c7f\\u1cc0-\\u1cc7\\u1cd3'
     '\\u2010-\\u20c4\\u2104-\\u212e\\u213a-\\u214d\\u214f\\u218a-\\u244a\\u2500-\\u2775\\u2794-\\u2bff'
     '\\u2ce5-\\u2cea\\u2cf9-\\u2cfc\\u2cfe\\u2cff\\u2d70\\u2e00-\\u2e2e\\u2e30-\\u3004\\u3008-\\u3020\\u3030'
     '\\u3037\\u303d-\\u303f\\u30a0\\u30fb\\u3190\\u3191\\u31c0-\\u31ef\\u327f\\u4dc0-\\u4dff\\ua490-\\ua4c6'
     '\\ua4fe\\ua4ff\\ua60d-\\ua60f\\ua673\\ua67e\\ua6f2-\\ua716\\ua720\\ua721\\ua789\\ua78a\\ua828-\\ua82b'
     '\\ua836-\\ua839\\ua874-\\ua877\\ua8ce\\ua8cf\\ua8f8-\\ua8fa\\ua8fc\\ua92e\\ua92f\\ua95f\\ua9c1-\\ua9cd'
     '\\ua9de\\ua9df\\uaa5c-\\uaa5f\\uaa77-\\uaa79\\uaade\\uaadf\\uaaf0\\uaaf1\\uab5b\\uab6a\\uab6b\\uabeb'
     '\\ue000-\\uf8ff\\ufbb2-\\ufdff\\ufe45\\ufe46\\ufff9-\\ufffd\\U00010100-\\U00010102\\U00010137-\\U0001013f'
     '\\U00010179-\\U00010189\\U0001018c-\\U000101fc\\U0001039f\\U000103d0\\U0001056f\\U00010857'
     '\\U00010877\\U00010878\\U0001091f\\U0001093f\\U00010a50-\\U00010a58\\U00010a7f\\U00010ac8'
     '\\U00010af0-\\U00010af6\\U00010b39-\\U00010b3f\\U00010b99-\\U00010b9c\\U00010d6e\\U00010d8e\\U00010d8f'
     '\\U00010ead\\U00010ec9\\U00010eca\\U00010ed0-\\U00010ed8\\U00010f55-\\U00010f59\\U00010f86-\\U00010f89'
     '\\U00011047-\\U0001104d\\U000110bb-\\U000110c1\\U000110cd\\U00011140-\\U00011143\\U00011174\\U00011175'
     '\\U000111c5-\\U000111c8\\U000111cd\\U000111db\\U000111dd-\\U000111df\\U00011238-\\U0001123d\\U000112a9'
     '\\U000113d4-\\U000113d8\\U0001144b-\\U0001144f\\U0001145a-\\U0001145d\\U000114c6\\U000115c1-\\U000115d7'
     '\\U00011641-\\U00011643\\U00011660-\\U0001166c\\U000116b9\\U0001173c-\\U0001173f\\U0001183b'
     '\\U00011944-\\U00011946\\U000119e2\\U00011a3f-\\U00011a46\\U00011a9a-\\U00011a9c\\U00011a9e-\\U00011aa2'
     '\\U00011b00-\\U00011b09\\U00011be1\\U00011c41-\\U00011c45\\U00011c70\\U00011c71\\U00011ef7\\U00011ef8'
     '\\U00011f43-\\U00011f4f\\U00011fd5-\\U00011fff\\U00012470-\\U00012474\\U00012ff1\\U00012ff2'
     '\\U00013430-\\U00013438\\U00016a6e\\U00016a6f\\U00016af5\\U00016b37-\\U00016b3f\\U00016b44\\U00016b45'
     '\\U00016d6d-\\U00016d6f\\U00016e97-\\U00016e9a\\U00016fe2\\U0001bc9c\\U0001bc9f-\\U0001bca3'
     '\\U0001cc00-\\U0001ccd5\\U0001ccfa-\\U0001cefd\\U0001cf50-\\U0001d15d\\U0001d16a-\\U0001d16c'
     '\\U0001d173-\\U0001d17a\\U0001d183\\U0001d184\\U0001d18c-\\U0001d1a9\\U0001d1ae-\\U0001d241\\U0001d245'
     '\\U0001d253-\\U0001d25a\\U0001d25d\\U0001d25e\\U0001d260-\\U0001d27f\\U0001d300-\\U0001d356'
     '\\U0001d800-\\U0001d9ff\\U0001da37-\\U0001da3a\\U0001da6d-\\U0001da74\\U0001da76-\\U0001da83'
     '\\U0001da85-\\U0001da8b\\U0001db00-\\U0001db1c\\U0001e14f\\U0001e2ff\\U0001e5ff\\U0001e95e\\U0001e95f'
     '\\U0001ecac\\U0001ecb0\\U0001ed2e\\U0001eef0-\\U0001f0f5\\U0001f10d-\\U0001fbef\\U0001fbfa'
     '\\U000f0000-\\U0010fffd';

alter function thea.separators() owner to thea_owner;

-- For the brackets of a regular expression: characters that normalization leaves alone, and that nobody overlooks.
-- Most texts in Spanish and English have no others and are spared its cost.
create function thea.ordinary() returns text
  language sql immutable parallel safe
  return
    E'\\u0001-\\u00a7\\u00a9\\u00ab\\u00ac\\u00ae\\u00b0\\u00b1\\u00b6\\u00b7\\u00bb\\u00bf-\\u0131\\u0134-\\u013e'
     '\\u0141-\\u0148\\u014a-\\u017e\\u0388-\\u03cf\\u0400-\\u0482\\u048a-\\u052f\\u2010-\\u2016\\u2018-\\u2027'
     '\\u20a0-\\u20a7\\u20a9-\\u20c0\\u2190-\\u244a\\u3400-\\ua48c\\uac00-\\ud7a3\\U0001f300-\\U0001fbca';

alter function thea.ordinary() owner to thea_owner;

-- The text in one form, whatever it was typed on: with composed and compatible characters (NFKC), and without
-- soft hyphens, lone accents and the like.
create function thea.normal(given text) returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  if octet_length(given) = char_length(given) or given !~ ('[^' || thea.ordinary() || ']') then
    return given;
  end if;
  return regexp_replace(
    normalize(given, nfkc),
    E'[\\u00ad\\u0300-\\u036f\\u061c\\u180e\\u200b-\\u200f\\u202a-\\u202e\\u2060-\\u206f\\u20d0-\\u20ff\\ufe00-\\ufe0f'
     '\\ufeff\\U000e0000-\\U000e01ff]',
    '', 'g'
  );
end
$$;

alter function thea.normal(text) owner to thea_owner;

-- The words of a normal text in lower case, with blanks around them; of each the first 200 characters, since the
-- length of a lexeme has a limit. In a database of the locale C, `lower` knows no letters but those of ASCII.
create function thea.spoken(normal text) returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  result text := lower(regexp_replace(normal, '[' || thea.separators() || ']', ' ', 'g'));
begin
  if lower('Á') <> 'á' and octet_length(result) <> char_length(result) then
    result := translate(
      result,
      'ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖØÙÚÛÜÝÞĀĂĄĆĈĊČĎĐĒĔĖĘĚĜĞĠĢĤĦĨĪĬĮĴĶĹĻĽŁŃŅŇŊŌŎŐŒŔŖŘŚŜŞŠŢŤŦŨŪŬŮŰŲŴŶŸŹŻŽ'
      'ΆΈΉΊΌΎΏΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩΪΫϏЀЁЂЃЄЅІЇЈЉЊЋЌЍЎЏАБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯ',
      'àáâãäåæçèéêëìíîïðñòóôõöøùúûüýþāăąćĉċčďđēĕėęěĝğġģĥħĩīĭįĵķĺļľłńņňŋōŏőœŕŗřśŝşšţťŧũūŭůűųŵŷÿźżž'
      'άέήίόύώαβγδεζηθικλμνξοπρστυφχψωϊϋϗѐёђѓєѕіїјљњћќѝўџабвгдежзийклмнопрстуфхцчшщъыьэюя'
    );
  end if;
  if char_length(result) > 200 and result ~ '[^ ]{201}' then
    result := regexp_replace(result, '([^ ]{200})[^ ]+', E'\\1', 'g');
  end if;
  return result;
end
$$;

alter function thea.spoken(text) owner to thea_owner;

-- The forms of each of these words, in their order. A stem is missing where the language leaves the word out.
create function thea.word_forms(spoken text) returns table (place bigint, plain text, es text, en text)
  language sql stable parallel safe
begin atomic
  select
    w.place, w.plain,
    (ts_lexize('pg_catalog.spanish_stem', w.spoken))[1],
    (ts_lexize('pg_catalog.english_stem', w.plain))[1]
  from unnest(
    array_remove(string_to_array(spoken, ' '), ''),
    array_remove(string_to_array(lower(thea.unaccented(spoken)), ' '), '')
  ) with ordinality as w (spoken, plain, place);
end;

alter function thea.word_forms(text) owner to thea_owner;

-- What each lexeme of a user's notes begins with. As the user's id ends at the first colon, no two users of any
-- tenants share what is hashed. A hash, because a tenant's id may have 200 bytes, and a note thousands of lexemes.
create function thea.note_scope(tenant_id text, user_id bigint) returns text
  language sql stable parallel safe
  return "left"(encode(sha256(convert_to(user_id::text || ':' || tenant_id, 'UTF8')), 'base64'), 22);

alter function thea.note_scope(text, bigint) owner to thea_owner;

-- What joins the parts of a whole, for a regular expression: any punctuation of ASCII, and its like.
create function thea.joints() returns text
  language sql immutable parallel safe
  return E'[!-/:-@\\[-`{-~’‘·‐‑–]+';

alter function thea.joints() owner to thea_owner;

-- For a regular expression: figures with what people write between the groups of a telephone number.
create function thea.grouped_figures() returns text
  language sql immutable parallel safe
  return '[0-9]+(?:[ ()./-]{1,3}[0-9]+)+';

alter function thea.grouped_figures() owner to thea_owner;

-- The first 1,000 wholes of a normal text, without what joins their parts; and telephone numbers, of which people
-- write the groups with blanks: they have 7 to 15 figures (ITU-T E.164).
create function thea.wholes(scope text, normal text) returns tsvector
  language sql stable parallel safe
begin atomic
  select coalesce(string_agg(scope || w.plain || ':' || 2 * w.place, ' '), '')::tsvector
  from (
    select
      "left"(lower(thea.unaccented(regexp_replace(lower(m.found[1]), '[' || thea.separators() || ']', '', 'g'))), 200),
      m.place
    from regexp_matches(
      normal,
      '[^ ' || thea.separators() || ']+(?:' || thea.joints() || '[^ ' || thea.separators() || ']+)+',
      'g'
    ) with ordinality as m (found, place)
    where m.place <= 1000
    union all
    select regexp_replace(m.found[1], '[^0-9]', '', 'g'), m.place
    from regexp_matches(normal, thea.grouped_figures(), 'g') with ordinality as m (found, place)
    where m.place <= 1000
      and char_length(regexp_replace(m.found[1], '[^0-9]', '', 'g')) between 7 and 15
    union all
    -- At home nobody dials the country's prefix.
    select regexp_replace(m.found[1], '[^0-9]', '', 'g'), m.place
    from regexp_matches(
      normal, '[+][0-9]{1,3}[ ()./-]{1,3}(' || thea.grouped_figures() || ')', 'g'
    ) with ordinality as m (found, place)
    where m.place <= 1000
      and char_length(regexp_replace(m.found[1], '[^0-9]', '', 'g')) between 7 and 15
  ) as w (plain, place);
end;

alter function thea.wholes(text, text) owner to thea_owner;

-- The words of a text, and after them, each by itself, what people write in one as a whole: `AB-2031-7` is found
-- as `ab2031`, too. Positions begin with 2, so that no phrase reaches from what stands before into these words.
create function thea.words(scope text, given text, weight "char") returns tsvector
  language plpgsql stable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  normal constant text := thea.normal(given);
  spoken constant text := thea.spoken(normal);
  forms constant text := (
    select
      string_agg(
        ' ' || f.plain || ':' || f.place + 1
          || coalesce(' ' || nullif(f.es, f.plain) || ':' || f.place + 1, '')
          || coalesce(' ' || nullif(f.en, f.plain) || ':' || f.place + 1, ''),
        ''
      )
    from thea.word_forms(spoken) f
  );
  -- The scope is put before each lexeme at once: that costs a third of putting it there one by one.
  result tsvector := coalesce(replace(thea.unaccented(forms), ' ', ' ' || scope)::tsvector, '');
begin
  if normal ~ ('[^ ' || thea.separators() || ']' || thea.joints() || '[^ ' || thea.separators() || ']')
    or normal ~ thea.grouped_figures()
  then
    result := result || thea.wholes(scope, normal);
  end if;
  return setweight(result, weight);
end
$$;

alter function thea.words(text, text, "char") owner to thea_owner;

-- All that a note is found by: its words, its tags as they are, and the scope alone, which stands for any note of
-- the user. A text counts up to 20,000 characters: a vector has an end.
create function thea.note_vector(tenant_id text, user_id bigint, title text, tags text[], content text) returns tsvector
  language plpgsql stable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  -- What is missing or empty here is refused by the table's constraints afterwards.
  scope constant text := thea.note_scope(coalesce(tenant_id, ''), coalesce(user_id, 0));
  result tsvector := array_to_tsvector(
    scope || array(select scope || '#' || t.tag from unnest(tags) as t (tag) where t.tag <> '')
  );
begin
  if title <> '' then
    result := result || thea.words(scope, "left"(title, 1000), 'A');
  end if;
  if tags <> '{}' then
    result := result || thea.words(scope, "left"(array_to_string(tags, ' '), 5000), 'B');
  end if;
  if content <> '' then
    result := result || thea.words(scope, "left"(content, 20000), 'D');
  end if;
  return result;
end
$$;

alter function thea.note_vector(text, bigint, text, text[], text) owner to thea_owner;

revoke all on function thea.unaccented(text), thea.separators(), thea.joints(), thea.grouped_figures(),
    thea.ordinary(), thea.normal(text), thea.spoken(text), thea.word_forms(text), thea.note_scope(text, bigint),
    thea.wholes(text, text), thea.words(text, text, "char"), thea.note_vector(text, bigint, text, text[], text)
  from public;

grant execute on function thea.unaccented(text), thea.separators(), thea.joints(), thea.grouped_figures(),
    thea.ordinary(), thea.normal(text), thea.spoken(text), thea.word_forms(text), thea.note_scope(text, bigint),
    thea.wholes(text, text), thea.words(text, text, "char"), thea.note_vector(text, bigint, text, text[], text)
  to thea_app, thea_loader;

create table thea.notes (
  tenant_id text not null,
  id bigint generated always as identity,
  user_id bigint not null,
  title text,
  content text,
  category text,
  priority integer not null default 0,
  tags text[] not null default '{}',
  is_pinned boolean not null default false,
  reminder_datetime timestamptz,
  next_reminder_at timestamptz,
  extra_data jsonb,
  sealed jsonb,
  search_vector tsvector not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  deleted_at timestamptz,
  constraint notes_pkey primary key (tenant_id, id),
  constraint notes_user_id_fkey foreign key (tenant_id, user_id)
    references thea.users (tenant_id, id) on delete cascade,
  constraint notes_content_check check ((content is null) = coalesce(sealed ? 'content', false)),
  constraint notes_title_check check (title is null or (sealed ? 'title') is not true),
  constraint notes_tags_check
    check (cardinality(tags) <= 100 and array_position(tags, null) is null and array_position(tags, '') is null),
  constraint notes_extra_data_check
    check (extra_data is null or jsonb_typeof(extra_data) = 'object' and (sealed ? 'extra_data') is not true)
);

comment on column thea.notes.next_reminder_at is
  'when its reminder is due: reminder_datetime, until a worker claims it; null afterwards';

-- As in `thea.message_history`. A sealed text has no words to be found by.
comment on column thea.notes.sealed is 'seals title, content, extra_data';

-- No generated column: beside a trigger of the table, PostgreSQL computes those again with every update, and a
-- vector is costly.
create function thea.index_note() returns trigger
  language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  -- A note that keeps its tenant and ids keeps its words: they are most of what bringing it in costs.
  if current_user = 'thea_loader' and new.search_vector is not null then
    return new;
  end if;
  new.search_vector := thea.note_vector(new.tenant_id, new.user_id, new.title, new.tags, new.content);
  return new;
end
$$;

alter function thea.index_note() owner to thea_owner;

revoke all on function thea.index_note() from public;

create trigger search_vector before insert or update of tenant_id, user_id, title, tags, content, search_vector
  on thea.notes for each row execute function thea.index_note();

create index notes_user_id_idx on thea.notes (tenant_id, user_id, created_at, id) include (deleted_at);
comment on index thea.notes_user_id_idx is 'notes.get_all+user_id+newest_first, notes.get_all+user_id';

create index notes_category_idx on thea.notes (tenant_id, user_id, category, created_at, id);
comment on index thea.notes_category_idx is 'notes.get_by_category, notes.get_all+user_id+category';

-- With what a count asks for, so that it need not read the rows.
create index notes_created_at_idx on thea.notes (tenant_id, created_at, id) include (deleted_at);
comment on index thea.notes_created_at_idx is 'notes.get_all+newest_first, notes.get_all, notes.count';

create index notes_next_reminder_at_idx on thea.notes (tenant_id, next_reminder_at, id)
  where next_reminder_at is not null and deleted_at is null;
comment on index thea.notes_next_reminder_at_idx is 'notes.claim_due_reminders, work.tenants_with_work';

-- Written at once: a list of pending entries would have to be read by every search.
create index notes_search_vector_idx on thea.notes using gin (search_vector) with (fastupdate = off);
comment on index thea.notes_search_vector_idx is 'notes.search, notes.get_by_tags';

-- A claim of a reminder is no change of the note.
select thea.protect('thea.notes',
  quiet => array['next_reminder_at'], computed => array['search_vector'], untouched => array['next_reminder_at']
);
