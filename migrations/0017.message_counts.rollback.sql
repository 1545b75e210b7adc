drop function thea.sums_kept_of(text);

drop function thea.forget_message_counts(text);

drop function thea.tenants_with_uncounted_messages(text, integer);

drop function thea.fold_messages(text);

drop function thea.fold_messages_here(text);

drop trigger count_update on thea.message_history;

drop trigger count_delete on thea.message_history;

drop trigger count_insert on thea.message_history;

drop function thea.leave_difference();

drop table thea.message_counts;

drop table thea.message_folds;

revoke execute on function thea.named_tenant() from thea_maintenance;
