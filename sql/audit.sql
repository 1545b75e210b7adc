-- Who changed what. The entries are written by triggers; here they are only read.

-- name: get_for
-- The history of one row, the oldest entry first; empty when nothing is known of it.
select
  id, at, actor, request_id, table_name, row_id, action, before, after
from thea.audit_log
where tenant_id = :tenant_id
  and table_name = :table
  and row_id = :row_id
order by at, id;

-- name: get_all
-- A page of entries, the newest first, from after the given place; empty past the end.
select
  id, at, actor, request_id, table_name, row_id, action, before, after
from thea.audit_log
where tenant_id = :tenant_id
  and (:table::text is null or table_name = :table)
  and (at, id) < (
    case when :after_at::timestamptz is null then 'infinity' else :after_at end,
    case when :after_id::uuid is null then 'ffffffff-ffff-ffff-ffff-ffffffffffff' else :after_id end
  )
order by at desc, id desc
limit :limit;

-- name: get_all_of_actor
-- A page of what one actor did, the newest first, from after the given place; empty past the end.
select
  id, at, actor, request_id, table_name, row_id, action, before, after
from thea.audit_log
where tenant_id = :tenant_id
  and actor = :actor
  and (:table::text is null or table_name = :table)
  and (at, id) < (
    case when :after_at::timestamptz is null then 'infinity' else :after_at end,
    case when :after_id::uuid is null then 'ffffffff-ffff-ffff-ffff-ffffffffffff' else :after_id end
  )
order by at desc, id desc
limit :limit;
