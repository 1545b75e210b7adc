-- The role stays: other databases of the server may use it.

drop table thea.tenants;

-- As 0001.tenancy made it.
create or replace function thea.tenant() returns text
  language sql stable parallel safe
  return nullif(current_setting('app.tenant_id', true), '');

drop function thea.install_directory();

drop function thea.unchecked_tenant();

drop function thea.admitted_tenant();

drop function thea.may_work(text);

revoke select on _yoyo_migration from thea_admin;

revoke usage on sequence thea.keystone from thea_admin;

revoke usage on schema thea from thea_admin;
