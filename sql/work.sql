-- Which tenants have something to do, for workers. Each query names tenants and shows no row of theirs.

-- name: tenants_with_work
-- The tenants that have work of any of these kinds, by name, from after the given one; empty when none has.
-- not null: tenant_id
-- tenant: none, it names tenants and reads no row for its caller
select w.tenant_id
from unnest(:kinds::text[]) as k (kind)
cross join lateral thea.tenants_with_work(k.kind, :after, :limit) as w (tenant_id)
group by w.tenant_id
order by w.tenant_id
limit :limit;

-- name: tenants_with_expired_rows
-- The tenants that have rows or entries of logs whose time is over, or noted reads that are in no chain yet, by name,
-- from after the given one; empty when none has.
-- not null: tenant_id
-- tenant: none, it names tenants and reads no row for its caller
select tenant_id
from (
  select r.tenant_id
  from thea.tenants_with_expired_rows(:after, :limit) as r (tenant_id)
  union
  select a.tenant_id
  from thea.tenants_with_expired_audit(:after, :limit) as a (tenant_id)
  union
  select n.tenant_id
  from thea.tenants_with_noted_reads(:after, :limit) as n (tenant_id)
  union
  select l.tenant_id
  from thea.tenants_with_expired_activity(:after, :limit) as l (tenant_id)
) e
order by tenant_id
limit :limit;

-- name: tenants_with_uncounted_messages
-- The tenants that have thousands of messages which are not counted yet, by name, from after the given one; empty when
-- none has.
-- not null: tenant_id
-- tenant: none, it names tenants and reads no row for its caller
select tenant_id
from thea.tenants_with_uncounted_messages(:after, :limit) as m (tenant_id)
order by tenant_id
limit :limit;

-- name: fold_messages
-- Whether some of the tenant's messages were counted, or the next time can do so.
-- not null: folded
-- tenant: none, the function takes the tenant by name and shows no row
-- writes: it adds up sums
select thea.fold_messages(:tenant) as folded;

-- name: expire_rows
-- Whether a batch of the tenant's rows was removed, because their time was over.
-- not null: removed
-- tenant: none, the function takes the tenant by name and shows no row
-- writes: it removes rows
select thea.expire_rows(:tenant) as removed;

-- name: expire_audit
-- Whether a batch of the tenant's entries of the audit log was removed, because their time was over.
-- not null: removed
-- tenant: none, the function takes the tenant by name and shows no row
-- writes: it removes entries
select thea.expire_audit(:tenant) as removed;

-- name: chain_reads
-- Whether a batch of the tenant's noted reads was brought into the chain of its log.
-- not null: chained
-- tenant: none, the function takes the tenant by name and shows no row
-- writes: it adds entries
select thea.chain_reads(:tenant) as chained;

-- name: expire_activity
-- Whether a batch of the tenant's entries of the activity log was removed, because their time was over.
-- not null: removed
-- tenant: none, the function takes the tenant by name and shows no row
-- writes: it removes entries
select thea.expire_activity(:tenant) as removed;
