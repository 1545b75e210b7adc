do $$
declare
  refusing record;
begin
  for refusing in
    select tgrelid::regclass as target, tgname
    from pg_catalog.pg_trigger
    where tgfoid in ('thea.refuse_plain_text()'::regprocedure, 'thea.keep_row_key()'::regprocedure)
  loop
    execute format('drop trigger %I on %s', refusing.tgname, refusing.target);
  end loop;
end
$$;

-- As 0009.note_search made it.
create or replace function thea.is_encrypted(p_tenant text) returns boolean
  language sql stable parallel safe
  return false;

revoke execute on function thea.is_encrypted(text) from thea_loader;

drop function thea.redact_texts(text, text, bigint, integer);

drop function thea.add_key(text, integer, bytea);

drop function thea.retire_keys(text);

drop function thea.end_encryption(text);

drop function thea.seal_rows(text, text, jsonb);

drop function thea.open_rows(text, text, jsonb);

drop function thea.emptied_columns(text);

drop function thea.require_key(text);

drop function thea.encrypted_tenants();

drop function thea.log_forgotten_key();

drop table thea.encryption_keys;

drop function thea.record_key();

drop function thea.install_encryption();

drop function thea.refuse_plain_text();

drop function thea.keep_row_key();

drop function thea.seals_texts(text);

drop function thea.has_sealed_texts(text);

drop function thea.sealed_columns();
