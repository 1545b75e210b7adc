-- The role stays: other databases of the server may use it.

drop table thea.tenants;

revoke select on _yoyo_migration from thea_admin;

revoke usage on sequence thea.keystone from thea_admin;

revoke usage on schema thea from thea_admin;
