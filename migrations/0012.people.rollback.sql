-- The roles stay: other databases of the server may use them.

drop function thea.erase_person(text, bigint, text, boolean);

drop function thea.person_row_ids(text, bigint, text);

drop function thea.person_rows(text, bigint, text, timestamptz, bigint, integer);

drop function thea.other_user_ids();

drop function thea.person_tables();

drop function thea.person_condition(regclass, text, regclass[]);

drop policy redaction on thea.audit_log;

revoke all on thea.audit_log from thea_redactor;

drop policy redaction on thea.users;

revoke all on thea.users from thea_redactor;

drop function thea.record_compliance(text, text, bigint, text, jsonb);

drop trigger chain on thea.compliance_log;

drop function thea.chain_compliance();

drop function thea.compliance_hash(bytea, thea.compliance_log);

drop table thea.compliance_log;

drop function thea.compliance_is_append_only();

comment on table thea.audit_log is null;

revoke execute on function thea.parents(regclass), thea.short_name(text)
  from thea_app, thea_privacy, thea_readonly, thea_redactor;

revoke usage on schema thea from thea_recorder;

revoke select on _yoyo_migration from thea_privacy;

revoke usage on sequence thea.keystone from thea_privacy;

revoke execute on function thea.tenant(), thea.admitted_tenant(), thea.unchecked_tenant()
  from thea_privacy, thea_redactor;
