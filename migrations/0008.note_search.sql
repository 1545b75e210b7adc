-- depends: 0007.notes

-- Why: under row security an index serves only leakproof operators, and `@@` is none: a search would read
-- all notes of its user. So two functions look for notes as a role that may read them all, and that nobody
-- can log in as. Each checks the tenant itself, names it in its statement, and does nothing else.
--
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

grant execute on function thea.tenant(), thea.quoted(text) to thea_search;

create policy search_reads on thea.notes for select to thea_search using (true);

grant select on thea.notes to thea_search;

-- `groups` are alternatives, each a list of terms that must all match; a term's words are a user's text, so
-- the server itself splits and stems them. A term is the "or" of its three forms. A stop word, which one of
-- the languages drops, counts only where a group has nothing else. `for_marks`: the "or" of all that is asked
-- for, whatever is excluded. Null when there is no word at all.
create function thea.note_query(scope text, groups jsonb, for_marks boolean) returns tsquery
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
begin
  return (
    select string_agg('(' || alternative.terms || ')', ' | ')::tsquery
    from (
      select
        -- Where all is excluded, the empty word stands for what there is.
        case when bool_and(term.negated) then thea.quoted(scope) || ' & ' else '' end
          || string_agg(
            case when term.negated then '!(' else '(' end || term.forms || ')',
            case when for_marks then ' | ' else ' & ' end
          ) as terms
      from (
        select
          g.place, t.negated, form.is_stop_word,
          case when t.phrase then form.phrase else concat_ws(' | ', form.es, form.en, form.plain) end as forms,
          bool_and(t.negated or form.is_stop_word) over (partition by g.place) as without_others
        from jsonb_array_elements(groups) with ordinality as g (terms, place)
        cross join jsonb_to_recordset(g.terms) as t (words text, phrase boolean, prefix boolean, negated boolean)
        cross join lateral (
          select
            normalize(translate(t.words, '<', ' ')) as words,
            case when t.prefix then ':*' else '' end as suffix
        ) as given
        cross join lateral (
          select
            (
              select string_agg(thea.quoted(scope || l), ' & ')
              from unnest(tsvector_to_array(to_tsvector('thea.es'::regconfig, given.words))) l
            ) as es,
            (
              select string_agg(thea.quoted(scope || l), ' & ')
              from unnest(tsvector_to_array(to_tsvector('thea.en'::regconfig, given.words))) l
            ) as en,
            (
              select string_agg(thea.quoted(scope || l) || given.suffix, ' & ')
              from unnest(tsvector_to_array(to_tsvector('thea.plain'::regconfig, given.words))) l
            ) as plain,
            (
              select string_agg(thea.quoted(scope || l.lexeme) || given.suffix, ' <-> ' order by p)
              from unnest(to_tsvector('thea.plain'::regconfig, given.words)) l, unnest(l.positions) p
            ) as phrase
        ) as forms
        cross join lateral (
          select
            forms.es, forms.en, forms.plain, forms.phrase,
            not t.phrase and (forms.es is null or forms.en is null) as is_stop_word
        ) as form
        where form.plain is not null
          and not (for_marks and t.negated)
      ) as term
      where term.negated or not term.is_stop_word or term.without_others
      group by term.place
    ) as alternative
  );
end
$$;

alter function thea.note_query(text, jsonb, boolean) owner to thea_owner;

revoke all on function thea.note_query(text, jsonb, boolean) from public;

grant execute on function thea.note_query(text, jsonb, boolean) to thea_search;

-- The text with U+E000 and U+E001 round each word that matches, and without any that it had itself. Each
-- language marks its own forms: the one that marks most is taken. Null when none does. U+E002 stands for `<`
-- meanwhile, which would begin an HTML tag, and those are left out of headlines.
create function thea.marked(words text, marks tsquery, options text) returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
begin
  return (
    select replace(headline.text, chr(57346), '<')
    from (
      select normalize(
        translate(words, '<' || chr(57346) || chr(57344) || chr(57345), chr(57346))
      ) as words
    ) as plain
    cross join unnest(array['thea.plain', 'thea.es', 'thea.en']::regconfig[]) with ordinality as c (config, place)
    cross join lateral ts_headline(
      c.config, plain.words, marks, options || ', StartSel=' || chr(57344) || ', StopSel=' || chr(57345)
    ) as headline (text)
    where strpos(headline.text, chr(57344)) > 0
    order by char_length(replace(headline.text, chr(57344), '')) - char_length(headline.text), c.place
    limit 1
  );
end
$$;

alter function thea.marked(text, tsquery, text) owner to thea_owner;

revoke all on function thea.marked(text, tsquery, text) from public;

-- The part of the content that matches, all of a short one; the title where only that does; else the
-- beginning of the content. A headline takes long for a long text, so the first whole words are tried first.
create function thea.note_snippet(title text, content text, marks tsquery) returns text
  language sql immutable parallel safe
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

revoke all on function thea.note_snippet(text, text, tsquery) from public;

grant execute on function thea.marked(text, tsquery, text), thea.note_snippet(text, text, tsquery) to thea_search;

-- The index alone leads to the rows, since all that is looked for in it is the user's; `offset 0` keeps the
-- planner from reading the user's rows by another index as well.
--
-- Ranked and limited first, since snippets are dear. The 32 makes the rank less than 1, so that a title that
-- answers alone is above all that do not.
create function thea.search_notes(p_tenant text, p_user bigint, p_groups jsonb, p_limit integer)
  returns table (
    tenant_id text, id bigint, user_id bigint, title text, content text, category text, priority integer,
    tags text[], is_pinned boolean, reminder_datetime timestamptz, extra_data jsonb, created_at timestamptz,
    updated_at timestamptz, deleted_at timestamptz, rank real, snippet text
  )
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_custom_plan
  set jit = off
as $$
#variable_conflict use_column
declare
  asked constant tsquery := thea.note_query(p_user::text || ':', p_groups, false);
  marks constant tsquery := thea.note_query('', p_groups, true);
begin
  if (p_tenant = thea.tenant()) is not true then
    raise exception 'this is not the tenant of the transaction' using errcode = 'insufficient_privilege';
  end if;
  return query
    select
      n.tenant_id, n.id, n.user_id, n.title, n.content, n.category, n.priority, n.tags, n.is_pinned,
      n.reminder_datetime, n.extra_data, n.created_at, n.updated_at, n.deleted_at, n.rank,
      thea.note_snippet(n.title, n.content, marks)
    from (
      select
        f.tenant_id, f.id, f.user_id, f.title, f.content, f.category, f.priority, f.tags, f.is_pinned,
        f.reminder_datetime, f.extra_data, f.created_at, f.updated_at, f.deleted_at,
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

-- Tags as they are, any of them or all.
create function thea.tagged_notes(p_tenant text, p_user bigint, p_tags text[], p_all boolean)
  returns table (
    tenant_id text, id bigint, user_id bigint, title text, content text, category text, priority integer,
    tags text[], is_pinned boolean, reminder_datetime timestamptz, extra_data jsonb, created_at timestamptz,
    updated_at timestamptz, deleted_at timestamptz
  )
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_custom_plan
  set jit = off
as $$
#variable_conflict use_column
declare
  asked constant tsquery := (
    select string_agg(thea.quoted(p_user::text || '#' || t.tag), case when p_all then ' & ' else ' | ' end)
    from unnest(p_tags) as t (tag)
  );
begin
  if (p_tenant = thea.tenant()) is not true then
    raise exception 'this is not the tenant of the transaction' using errcode = 'insufficient_privilege';
  end if;
  return query
    select
      n.tenant_id, n.id, n.user_id, n.title, n.content, n.category, n.priority, n.tags, n.is_pinned,
      n.reminder_datetime, n.extra_data, n.created_at, n.updated_at, n.deleted_at
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
