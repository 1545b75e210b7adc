-- What a tenant may do in calls, which each process keeps for its own calls.

-- name: of_calls
-- The limits of the calls of the tenant that the transaction names; null where no tenant at all has one.
-- tenant: none, the function reads the tenant of the transaction in the directory
select thea.limits_of_calls() as limits;
