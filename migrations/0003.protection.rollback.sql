drop function thea.unprotect(regclass);

drop function thea.protect(regclass, text[], text[], text[]);

drop function thea.index_on(regclass, text);

drop function thea.obstacles(regclass);

drop function thea.is_protected(oid);

drop function thea.ensure_trigger(regclass, text, text, text);

drop function thea.without_pair(text[], text, text);

drop function thea.parents(regclass);

drop function thea.table_of(regclass);

drop function thea.cascade_deletion();

drop function thea.cascade_rows(text[], text, bigint[], timestamptz, timestamptz);

drop function thea.short_name(text);

drop function thea.touch();
