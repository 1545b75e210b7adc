-- How long rows are kept: policies for all tenants, or for one.

-- name: get_policies
-- The policies: those of all tenants first, then those of one; empty when there are none.
-- tenant: none, a policy is no row of a tenant
select tenant, table_name, rule, keep
from thea.retention_policies
order by tenant nulls first, table_name, rule;

-- name: set_policy
-- The policy, which replaces the one that there was.
-- tenant: none, a policy is no row of a tenant
insert into thea.retention_policies as p (tenant, table_name, rule, keep)
values (:tenant, :table_name, :rule, :keep)
on conflict on constraint retention_policies_tenant_key do update
set keep = excluded.keep
returning p.tenant, p.table_name, p.rule, p.keep;

-- name: remove_policy
-- The policy that was removed; no row when there was none.
-- tenant: none, a policy is no row of a tenant
delete from thea.retention_policies p
-- Not `is not distinct from`, which no index serves; there may be policies of each of many tenants.
where (p.tenant = :tenant::text or p.tenant is null and :tenant is null)
  and p.table_name = :table_name
  and p.rule = :rule
returning p.tenant, p.table_name, p.rule, p.keep;
