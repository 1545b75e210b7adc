drop function thea.expire_activity(text);

drop function thea.tenants_with_expired_activity(text, integer);

drop function thea.record_expiry(text, text, bigint, bytea, bigint, timestamptz);

drop policy expirer_deletes on thea.activity_log;

drop policy expirer_reads on thea.activity_log;

revoke select, delete on thea.activity_log from thea_audit_expirer;
