drop function thea.audit();

drop table thea.audit_log;

drop function thea.audit_is_append_only();
