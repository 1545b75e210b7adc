-- The role stays: other databases of the server may use it.

drop function thea.tagged_notes(text, bigint, text[], boolean);

drop function thea.search_notes(text, bigint, jsonb, integer);

drop function thea.note_snippet(text, text, tsquery);

drop function thea.marked(text, tsquery, text);

drop function thea.note_query(text, jsonb, boolean);

drop function thea.term_query(text, text, boolean, boolean, text[], boolean);

drop function thea.may_search(text);

drop function thea.is_encrypted(text);

drop policy search_reads on thea.notes;

revoke select on thea.notes from thea_search;

revoke execute on function thea.tenant(), thea.unaccented(text), thea.separators(), thea.ordinary(),
    thea.normal(text), thea.spoken(text), thea.word_forms(text), thea.note_scope(text, bigint)
  from thea_search;

revoke usage on schema thea from thea_search;
