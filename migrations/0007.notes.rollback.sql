-- The extension stays: it may have been there before, and others may use it.

select thea.unprotect('thea.notes');

drop table thea.notes;

drop function thea.index_note();

drop function thea.note_vector(bigint, text, text[], text);

drop function thea.words(text, text, "char");

drop function thea.quoted(text);

drop text search configuration thea.plain;

drop text search configuration thea.en;

drop text search configuration thea.es;
