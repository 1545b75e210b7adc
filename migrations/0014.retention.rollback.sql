-- The role stays: other databases of the server may use it.

drop function thea.expire_audit(text);

drop function thea.expire_rows(text);

drop function thea.tenants_with_expired_audit(text, integer);

drop function thea.tenants_with_expired_rows(text, integer);

drop function thea.expiring_tables();

revoke execute on function thea.index_on(regclass, text), thea.parents(regclass) from thea_maintenance;

revoke execute on function thea.kept(text, text, text), thea.tenants_due(regclass, text), thea.short_name(text),
    thea.index_on(regclass, text), thea.may_work(text)
  from thea_audit_expirer;

drop policy expirer_reads on thea.retention_policies;

revoke select on thea.retention_policies from thea_audit_expirer;

drop policy expirer_tells on thea.audit_log;

drop policy expirer_deletes on thea.audit_log;

drop policy expirer_reads on thea.audit_log;

revoke select, delete, insert on thea.audit_log from thea_audit_expirer;

revoke usage on schema thea from thea_audit_expirer;
