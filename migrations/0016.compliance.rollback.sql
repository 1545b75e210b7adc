-- The role stays: other databases of the server may use it.

drop function thea.entries_kept_of(text);

drop function thea.kept_of(text);

revoke all on thea.retention_policies from thea_auditor;

drop policy auditor_reads on thea.retention_policies;

revoke all on thea.tenants from thea_auditor;

drop policy auditor_reads on thea.tenants;

revoke all on thea.compliance_log from thea_auditor;

drop policy auditor_reads on thea.compliance_log;

revoke select on _yoyo_migration from thea_auditor;

revoke usage on sequence thea.keystone from thea_auditor;

revoke usage on schema thea from thea_auditor;
