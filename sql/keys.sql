-- The data keys of an encrypted tenant, as the database has them: wrapped.

-- name: get_wrapped
-- The tenant's keys, the newest last; empty where the tenant is not encrypted.
select version, wrapped
from thea.encryption_keys
where tenant_id = :tenant_id
order by version;
