-- What a tenant may do in calls, which each process keeps for its own calls.

-- name: of_calls
-- What is said of the calls of those of these tenants of whom something is; null where nothing is said of any tenant.
-- tenant: none, the function names each of the tenants in turn, and reads it in the directory
select thea.limits_of_calls_of(:tenants) as limits;
