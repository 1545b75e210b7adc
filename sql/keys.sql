-- The data keys of an encrypted tenant, as the database has them: wrapped.

-- name: get_wrapped
-- The tenant's keys, the newest last; empty where the tenant never was encrypted. Retired ones open and do not seal.
-- not null: is_retired
select version, wrapped, retired_at is not null as is_retired
from thea.encryption_keys
where tenant_id = :tenant_id
order by version;
