-- The roles stay: other databases of the server may use them.

drop function thea.end_rows(text, text, integer);

drop function thea.end_begin(text, jsonb);

drop function thea.unpause_tenant(text, boolean);

drop function thea.pause_tenant(text);

drop function thea.remove_rows(text, uuid, text, text[]);

drop function thea.sync_rows(text, uuid, text, json);

drop function thea.import_rows(text, uuid, text, json, jsonb);

drop function thea.import_begin(text, uuid, jsonb);

drop function thea.reserve_ids(text, bigint);

drop function thea.advance_past(text, text);

drop function thea.advance_ids(text, bigint);

drop function thea.load_entries(text, json, jsonb);

drop function thea.document_here(jsonb, jsonb, jsonb);

drop function thea.load_rows(text, text, json, jsonb, boolean);

drop function thea.id_here(jsonb, text, bigint);

drop function thea.parents_exist(regclass);

drop function thea.references_of(regclass);

drop function thea.require_import(text, uuid, text);

drop function thea.require_own(text, text);

drop function thea.tenant_entry(text);

drop policy mover on thea.tenants;

revoke all on thea.tenants from thea_loader;
