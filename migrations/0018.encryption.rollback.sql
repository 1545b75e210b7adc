do $$
declare
  refusing record;
begin
  for refusing in
    select tgrelid::regclass as target, tgname
    from pg_catalog.pg_trigger
    where tgfoid = 'thea.refuse_plain_text()'::regprocedure
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

drop function thea.seal_rows(text, text, jsonb);

drop table thea.encryption_keys;

drop function thea.install_encryption();

drop function thea.refuse_plain_text();

drop function thea.sealed_columns();
