do $$
declare
  metered record;
begin
  for metered in
    select tgrelid::regclass as target, tgname
    from pg_catalog.pg_trigger
    where tgfoid = 'thea.meter()'::regprocedure
  loop
    execute format('drop trigger %I on %s', metered.tgname, metered.target);
  end loop;
end
$$;

drop trigger keep_limits on thea.tenants;

drop function thea.keep_limits();

drop function thea.limits_of_calls_of(text[]);

drop function thea.limits_of_calls();

drop function thea.limits_in(jsonb);

drop function thea.ensure_metered(regclass);

drop function thea.meter();

drop function thea.charge(text, text, bigint);

drop function thea.usage_of(text);

drop function thea.count_rows(text, regclass);

drop function thea.text_bytes_of(regclass);

drop function thea.tables_of_tenants();

drop table thea.quotas;
