-- The role stays: other databases of the server may use it.

select thea.withdraw_work('due_reminders');

select thea.withdraw_work('due_note_reminders');

select thea.withdraw_work('inactive_conversations');

drop function thea.offer_work(text, regclass, text);

drop function thea.withdraw_work(text);

drop function thea.note_work(regclass, jsonb);

drop function thea.tenants_with_work(text, text, integer);

drop function thea.tenants_due(regclass, text);

drop function thea.work_kinds();

drop function thea.tenant_keeps(text, text);

drop function thea.kept(text, text, text);

drop table thea.retention_policies;

revoke execute on function thea.short_name(text) from thea_maintenance;

revoke select on _yoyo_migration from thea_worker;

revoke usage on sequence thea.keystone from thea_worker;

revoke usage on schema thea from thea_worker;
