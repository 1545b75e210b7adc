-- The role stays: other databases of the server may use it.

drop trigger record_whole on thea.audit_log;

drop trigger record_policy on thea.retention_policies;

drop trigger record_directory on thea.tenants;

drop procedure thea.log_export(text);

drop procedure thea.log_read(text, bigint);

drop function thea.record_whole();

drop function thea.record_policy();

drop function thea.record_directory();

drop function thea.tenants_with_noted_reads(text, integer);

drop function thea.chain_reads(text);

drop function thea.note_read(text, text, bigint, jsonb);

drop table thea.noted_reads;

drop function thea.record_activity(text, text, text, bigint, text, jsonb);

drop function thea.append_activity(thea.activity_log);

drop function thea.activity_hash(bytea, thea.activity_log);

drop table thea.activity_log;

drop function thea.activity_is_append_only();

revoke all (id, settings) on thea.tenants from thea_recorder;

drop policy recorder_reads on thea.tenants;

revoke execute on function thea.named_tenant() from thea_recorder;

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
