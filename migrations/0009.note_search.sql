-- depends: 0008.notes

-- Why: under row security an index serves only leakproof operators, and `@@` is none: a search would read
-- all notes of its user. So two functions look for notes as a role that may read them all, and that nobody
-- can log in as. Each checks the tenant itself, names it in its statement, and answers with ids alone (a search
-- with each note's rank and snippet as well). The notes are then read by who asks, under row security.
--
-- All that they look for in the index begins with the hash of the tenant and the user, so they fetch no row of
-- anybody else: how many rows a session fetched is for all to see. Therefore the index must be used whatever the
-- session has set: `enable_…` and the costs are fixed, and `work_mem` has room for the place of each row (of a user
-- with notes on four million pages), because with less PostgreSQL keeps pages, and then fetches all rows of each.
-- `plan_cache_mode`: the plan depends on what is looked for. `jit`: compiling takes longer than any search.

-- The owner is a member, without inheriting anything, since only a member may hand a function over. So a
-- login that migrates needs no more than to be a member of the owner.
do $$
begin
  if not exists (select from pg_catalog.pg_roles where rolname = 'thea_search') then
    create role thea_search nologin noinherit;
  end if;
  if not pg_catalog.pg_has_role('thea_owner', 'thea_search', 'member') then
    grant thea_search to thea_owner;
  end if;
end
$$;

grant usage on schema thea to thea_search;

grant execute on function thea.tenant(), thea.unaccented(text), thea.separators(), thea.ordinary(),
    thea.normal(text), thea.spoken(text), thea.word_forms(text), thea.note_scope(text, bigint)
  to thea_search;

create policy search_reads on thea.notes for select to thea_search using (true);

grant select on thea.notes to thea_search;

-- Whether the texts of a tenant are sealed, by the word of the keys that its session may see. Nothing is looked up
-- until any tenant has one (0018.encryption).
create function thea.is_encrypted(p_tenant text) returns boolean
  language sql stable parallel safe
  return false;

alter function thea.is_encrypted(text) owner to thea_owner;

-- Whether its notes may be searched. It raises instead of saying no, because sealed texts have no words, and a search
-- would find nothing.
create function thea.may_search(p_tenant text) returns boolean
  language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if thea.is_encrypted(p_tenant) then
    raise exception 'sealed texts cannot be searched' using errcode = 'TH007';
  end if;
  return true;
end
$$;

alter function thea.may_search(text) owner to thea_owner;

revoke all on function thea.is_encrypted(text), thea.may_search(text) from public;

grant execute on function thea.is_encrypted(text), thea.may_search(text) to thea_app, thea_readonly;

-- One term of a query: the words, up to 16, of what people see as one. Each may have any of its forms, they stand
-- together in this order, and all of them may be one whole; a phrase must be there as written. For marks, their
-- order does not matter, since a headline takes seconds to look for it; and the Spanish stem is there with its
-- accents, too, as the server's own configuration makes it. `is_stop_word`: each of
-- the words is left out by one of the languages. `related`: up to 64 other words that one may stand for. No query
-- where there is no word.
create function thea.term_query(
  scope text, words text, is_phrase boolean, is_prefix boolean, related text[], for_marks boolean
)
  returns table (query text, is_stop_word boolean)
  language sql stable parallel safe
begin atomic
  select
    string_agg(
      '(' || concat_ws(
        ' | ',
        '''' || scope || f.plain || '''' || case when is_prefix and f.place = f.places then ':*' else '' end,
        case when not is_phrase then '''' || scope || thea.unaccented(f.es) || '''' end,
        case when not is_phrase then '''' || scope || f.en || '''' end,
        case when not is_phrase and for_marks then '''' || f.es || '''' end
      ) || ')',
      case when for_marks then ' & ' else ' <-> ' end order by f.place
    ) || case
      when is_phrase then ''
      when count(*) > 1 then
        ' | ''' || scope || "left"(string_agg(f.plain, '' order by f.place), 200) || ''''
          || case when is_prefix then ':*' else '' end
      else coalesce(
        (
          select string_agg(' | ''' || scope || r.plain || '''', '' order by r.place)
          from thea.word_forms(thea.spoken(thea.normal(array_to_string(related, ' ')))) r
          where r.place <= 64
        ),
        ''
      )
    end,
    not is_phrase and bool_and(f.es is null or f.en is null)
  from (
    select w.place, w.plain, w.es, w.en, max(w.place) over () as places
    from thea.word_forms(thea.spoken(thea.normal(words))) w
    where w.place <= 16
  ) f;
end;

alter function thea.term_query(text, text, boolean, boolean, text[], boolean) owner to thea_owner;

-- `groups` are alternatives, each a list of terms that must all match. A stop word counts only where a group has
-- nothing else. `for_marks`: the "or" of all that is asked for, whatever is excluded. Null where there is no word.
create function thea.note_query(scope text, groups jsonb, for_marks boolean) returns tsquery
  language plpgsql stable parallel safe
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
begin
  if scope is null then
    return null;
  end if;
  return (
    select string_agg('(' || alternative.terms || ')', ' | ')::tsquery
    from (
      select
        -- Where all is excluded, the scope alone stands for what there is.
        case when bool_and(term.negated) then '''' || scope || ''' & ' else '' end
          || string_agg(
            case when term.negated then '!(' else '(' end || term.query || ')',
            case when for_marks then ' | ' else ' & ' end
          ) as terms
      from (
        select
          g.place, t.negated, q.query, q.is_stop_word,
          bool_and(t.negated or q.is_stop_word) over (partition by g.place) as without_others
        from jsonb_array_elements(groups) with ordinality as g (terms, place)
        cross join jsonb_to_recordset(g.terms) as t (
          words text, phrase boolean, prefix boolean, negated boolean, related text[]
        )
        cross join thea.term_query(scope, t.words, t.phrase, t.prefix, t.related, for_marks) as q
        where q.query is not null
          and not (for_marks and t.negated)
      ) as term
      where term.negated or not term.is_stop_word or term.without_others
      group by term.place
    ) as alternative
  );
end
$$;

alter function thea.note_query(text, jsonb, boolean) owner to thea_owner;

-- The text with U+E000 and U+E001 round each word that matches, and without any that it had itself. Each
-- language marks its own forms: the one that marks most is taken. Null when none does. Meanwhile U+0001 stands on
-- both sides of whatever is no part of a word, so that the server's parser splits the text where the words end.
create function thea.marked(words text, marks tsquery, options text) returns text
  language plpgsql stable parallel safe
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
declare
  -- Once: within the query it would be done again for each configuration.
  split constant text := regexp_replace(
    normalize(translate(words, chr(1) || chr(57344) || chr(57345), '')),
    '([' || thea.separators() || '])', chr(1) || E'\\1' || chr(1), 'g'
  );
begin
  return (
    select translate(headline.text, chr(1), '')
    from unnest(array['thea.plain', 'pg_catalog.spanish', 'thea.es', 'thea.en']::regconfig[])
      with ordinality as c (config, place)
    cross join lateral ts_headline(
      c.config, split, marks, options || ', StartSel=' || chr(57344) || ', StopSel=' || chr(57345)
    ) as headline (text)
    where strpos(headline.text, chr(57344)) > 0
    order by char_length(replace(headline.text, chr(57344), '')) - char_length(headline.text), c.place
    limit 1
  );
end
$$;

alter function thea.marked(text, tsquery, text) owner to thea_owner;

-- The part of the content that matches, all of a short one; the title where only that does; else the
-- beginning of the content. A headline takes long for a long text, so the first whole words are tried first.
create function thea.note_snippet(title text, content text, marks tsquery) returns text
  language sql stable parallel safe
  return coalesce(
    case
      when char_length(content) <= 200 then thea.marked(content, marks, 'HighlightAll=true')
      else coalesce(
        thea.marked(
          regexp_replace("left"(content || ' ', 2000), '\S*$', ''), marks,
          'MaxFragments=1, MinWords=10, MaxWords=30, ShortWord=0'
        ),
        thea.marked("left"(content, 20000), marks, 'MaxFragments=1, MinWords=10, MaxWords=30, ShortWord=0')
      )
    end,
    thea.marked(title, marks, 'HighlightAll=true'),
    translate("left"(content, 200), chr(57344) || chr(57345), '')
  );

alter function thea.note_snippet(text, text, tsquery) owner to thea_owner;

revoke all on function thea.term_query(text, text, boolean, boolean, text[], boolean),
    thea.note_query(text, jsonb, boolean), thea.marked(text, tsquery, text), thea.note_snippet(text, text, tsquery)
  from public;

grant execute on function thea.term_query(text, text, boolean, boolean, text[], boolean),
    thea.note_query(text, jsonb, boolean), thea.marked(text, tsquery, text), thea.note_snippet(text, text, tsquery)
  to thea_search;

-- `offset 0` keeps the planner from reading the user's rows by another index as well. Ranked and limited first,
-- since snippets are costly. The 32 makes the rank less than 1, so that a title that answers alone is above all
-- that do not.
create function thea.search_notes(p_tenant text, p_user bigint, p_groups jsonb, p_limit integer)
  returns table (id bigint, rank real, snippet text)
  language plpgsql stable security definer rows 20
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_custom_plan
  set jit = off
  set enable_seqscan = off
  set enable_bitmapscan = on
  set seq_page_cost = 1
  set random_page_cost = 4
  set cpu_tuple_cost = 0.01
  set cpu_index_tuple_cost = 0.005
  set cpu_operator_cost = 0.0025
  set max_parallel_workers_per_gather = 0
  set work_mem = '256MB'
as $$
#variable_conflict use_column
declare
  asked tsquery;
  marks tsquery;
begin
  if (p_tenant = thea.tenant()) is not true then
    raise exception 'this is not the tenant of the transaction' using errcode = 'insufficient_privilege';
  end if;
  asked := thea.note_query(thea.note_scope(p_tenant, p_user), p_groups, false);
  marks := thea.note_query('', p_groups, true);
  return query
    select n.id, n.rank, thea.note_snippet(n.title, n.content, marks)
    from (
      select
        f.id, f.title, f.content, f.created_at,
        ts_rank(f.search_vector, asked, 32) + (ts_filter(f.search_vector, '{a}') @@ asked)::integer::real as rank
      from (select m.* from thea.notes m where m.search_vector @@ asked offset 0) f
      where f.tenant_id = p_tenant
        and f.user_id = p_user
        and f.deleted_at is null
      order by rank desc, f.created_at desc, f.id desc
      limit p_limit
    ) n
    order by n.rank desc, n.created_at desc, n.id desc;
end
$$;

-- The notes with any of the tags as they are, or with all of them. A quoted lexeme of a query has its quotes and
-- backslashes doubled; 92 is the backslash.
create function thea.tagged_notes(p_tenant text, p_user bigint, p_tags text[], p_all boolean)
  returns table (id bigint)
  language plpgsql stable security definer rows 20
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_custom_plan
  set jit = off
  set enable_seqscan = off
  set enable_bitmapscan = on
  set seq_page_cost = 1
  set random_page_cost = 4
  set cpu_tuple_cost = 0.01
  set cpu_index_tuple_cost = 0.005
  set cpu_operator_cost = 0.0025
  set max_parallel_workers_per_gather = 0
  set work_mem = '256MB'
as $$
#variable_conflict use_column
declare
  asked tsquery;
begin
  if (p_tenant = thea.tenant()) is not true then
    raise exception 'this is not the tenant of the transaction' using errcode = 'insufficient_privilege';
  end if;
  asked := (
    select string_agg(
      '''' || thea.note_scope(p_tenant, p_user) || '#'
        || replace(replace(t.tag, chr(92), chr(92) || chr(92)), '''', '''''') || '''',
      case when p_all then ' & ' else ' | ' end
    )
    from unnest(p_tags) as t (tag)
  );
  return query
    select n.id
    from (select m.* from thea.notes m where m.search_vector @@ asked offset 0) n
    where n.tenant_id = p_tenant
      and n.user_id = p_user
      and n.deleted_at is null;
end
$$;

revoke all on function thea.search_notes(text, bigint, jsonb, integer),
    thea.tagged_notes(text, bigint, text[], boolean)
  from public;

grant execute on function thea.search_notes(text, bigint, jsonb, integer),
    thea.tagged_notes(text, bigint, text[], boolean)
  to thea_app, thea_readonly;

-- Who gets a function must be allowed to create in its schema: for this moment only.
grant create on schema thea to thea_search;

alter function thea.search_notes(text, bigint, jsonb, integer) owner to thea_search;

alter function thea.tagged_notes(text, bigint, text[], boolean) owner to thea_search;

revoke create on schema thea from thea_search;
