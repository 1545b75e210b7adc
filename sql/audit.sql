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
-- A page of what one actor did, or all did, the newest first, from after the given place; empty past the end.
-- one plan: after_at, after_id
-- variants: actor, after_at
select
  id, at, actor, request_id, table_name, row_id, action, before, after
from thea.audit_log
where tenant_id = :tenant_id
  and (:after_at::timestamptz is null or (at, id) < (:after_at, :after_id))
  and (:actor::text is null or actor = :actor)
  and (:table::text is null or table_name = :table)
order by at desc, id desc
limit :limit;
