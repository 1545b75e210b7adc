-- The roles stay: other databases of the server may use them.

revoke select on _yoyo_migration from thea_app, thea_readonly, thea_maintenance, thea_mover;

drop sequence thea.keystone;

drop function thea.named_tenant();

drop function thea.tenant();

drop schema thea;

do $$
declare
  database_name text := current_database();
begin
  execute format('grant temporary on database %I to public', database_name);
end
$$;
