-- That a person is erased, by a login in the group thea_privacy.

-- name: erase
-- The certificate that the person is gone with all that hung on them; no row when nothing is left of such a person.
-- not null: id, at, login, user_id, reason, counts, counts_of_others, redacted
-- writes: the function removes rows, takes back what audit entries said, and writes the certificate
select
  e.id, e.at, e.actor, e.request_id, e.login, e.user_id, e.reason,
  e.details -> 'counts' as counts,
  e.details -> 'counts_of_others' as counts_of_others,
  (e.details ->> 'redacted')::bigint as redacted
-- Which rows and which entries is decided by this function, in migrations/0012.people.sql.
from thea.erase_person(:tenant_id, :subject_id, :reason, :with_others) e;
