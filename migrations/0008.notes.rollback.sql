-- The extension stays: it may have been there before, and others may use it.

select thea.unprotect('thea.notes');

drop table thea.notes;

drop function thea.index_note();

drop function thea.note_vector(text, bigint, text, text[], text);

drop function thea.words(text, text, "char");

drop function thea.wholes(text, text);

drop function thea.grouped_figures();

drop function thea.note_scope(text, bigint);

drop function thea.word_forms(text);

drop function thea.spoken(text);

drop function thea.normal(text);

drop function thea.ordinary();

drop function thea.joints();

drop function thea.separators();

drop function thea.unaccented(text);

drop text search configuration thea.plain;

drop text search configuration thea.en;

drop text search configuration thea.es;
