"""Whether the compliance log is the chain that the database wrote, for one tenant or for all.

What this can find: an entry that was altered, one that is missing between two others, and, by a head that was noted
earlier, entries that are missing at the end or were all written anew. What it cannot find, without such a head: that
the end was cut off, or that whoever owns the database wrote the chain anew.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from psycopg import Connection

from thea_store.admin.compliance.asking import asked, require_auditor, require_reader
from thea_store.errors import InvalidArgumentError
from thea_store.postgres.url import DatabaseUrl
from thea_store.queries.arguments import check_tenant

__all__ = ["Head", "Verified", "verify", "verify_all"]

_TOLD = 20
"""Of how many faults of one tenant each has a sentence."""


class Head(NamedTuple):
    """The last entry of a chain, as `3:9f86…`; whoever keeps it elsewhere can show later what was taken away."""

    place: int
    hash: str

    def __str__(self) -> str:
        return f"{self.place}:{self.hash}"

    @classmethod
    def parse(cls, text: str, option: str = "--expect") -> Head:
        """`InvalidArgumentError`, which names the option, for what is no head."""
        match = re.fullmatch(r"([1-9][0-9]{0,17}):([0-9a-f]{64})", text)
        if match is None:
            raise InvalidArgumentError(option, "is no PLACE:HASH as `thea-store audit verify` prints it")
        return cls(int(match[1]), match[2])


class Verified(NamedTuple):
    """What was found."""

    head: Head | None
    """`None` for a log without an entry."""
    faults: tuple[str, ...]
    """A sentence for each entry that was altered, and for each gap; after twenty, one that says how many more."""


def verify(address: DatabaseUrl, tenant: str, expected: Head | None = None) -> Verified:
    """Whether each entry has the hash of itself and the one before, and no place is missing; blocks.

    `expected` is a head that was noted earlier. The login must read the tenant's rows, as a service's may, or be in
    `thea_auditor`, which also sees tenants that are suspended or have ended. `InsufficientPrivilegeError` for another
    login, `TenantSuspendedError` for a tenant that the server refuses, `StoreUnavailableError` without a connection.
    """
    check_tenant(tenant)
    with asked(address) as connection:
        require_reader(connection, address)
        connection.execute("select set_config('app.tenant_id', %s, true)", [tenant])
        expectations = {} if expected is None else {tenant: expected}
        return _verify(connection, tenant, expectations).get(tenant, Verified(None, ()))


def verify_all(address: DatabaseUrl, expected: Mapping[str, Head] | None = None) -> dict[str, Verified]:
    """The same of every tenant that has an entry, or had one by a head in `expected`; by tenant, in their order.

    What was done for all tenants together has the tenant `''`. Only a login in `thea_auditor` sees all of them:
    `InsufficientPrivilegeError` otherwise.
    """
    with asked(address) as connection:
        require_auditor(connection, address)
        return _verify(connection, None, expected or {})


def _verify(connection: Connection[Any], tenant: str | None, expected: Mapping[str, Head]) -> dict[str, Verified]:
    values = {"tenant": tenant, "told": _TOLD}
    faults: dict[str, list[str]] = {}
    for whose, place, before, at, more in connection.execute(_BROKEN, values):
        faults.setdefault(whose or "", []).append(_fault(place, before, at) if more is None else _more(more))
    heads = {whose: Head(place, hash_) for whose, place, hash_ in connection.execute(_HEADS, values)}
    for whose, noted in expected.items():
        found = connection.execute(_ENTRY, [whose, noted.place]).fetchone()
        if fault := _against(noted, heads.get(whose), Head(*found) if found else None):
            faults.setdefault(whose, []).append(fault)
    return {
        whose: Verified(heads.get(whose), tuple(faults.get(whose, ())))
        for whose in sorted(heads.keys() | faults.keys() | expected.keys())
    }


# The hash is worked out here, by the server's own functions: whoever owns the database could have replaced
# thea.compliance_hash, which has the same expression. Whatever is null, as an owner can make it, is a fault.
_BROKEN = """
select tenant_id, place, before, at, case when nth > %(told)s then faults - %(told)s end
from (
  select *, row_number() over (partition by tenant_id order by place) as nth,
    count(*) over (partition by tenant_id) as faults
  from (
    select c.tenant_id, c.place, coalesce(lag(c.place) over w, 0) as before,
      coalesce(nullif(to_char(c.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), ''), 'an unknown time') as at,
      c.hash = sha256(
        coalesce(lag(c.hash) over w, sha256(convert_to(c.tenant_id, 'UTF8')))
        || convert_to(
          jsonb_build_array(
            c.place, c.id, extract(epoch from c.at), c.login, c.actor, c.request_id, c.action, c.subject_id, c.reason,
            c.details
          )::text,
          'UTF8'
        )
      ) as is_intact
    from thea.compliance_log c
    where %(tenant)s::text is null or c.tenant_id = %(tenant)s
    window w as (partition by c.tenant_id order by c.place)
  ) entry
  where place is distinct from before + 1 or is_intact is not true
) fault
where nth <= %(told)s + 1
order by tenant_id, nth
"""

_HEADS = """
select distinct on (tenant_id) tenant_id, place, coalesce(encode(hash, 'hex'), '')
from thea.compliance_log
where (%(tenant)s::text is null or tenant_id = %(tenant)s)
  and tenant_id is not null
  and place is not null
order by tenant_id, place desc
"""

_ENTRY = """
select place, coalesce(encode(hash, 'hex'), '')
from thea.compliance_log
where tenant_id = %s and place = %s
"""


def _fault(place: int | None, before: int, at: str) -> str:
    if place is None:
        return f"an entry of {at} has no place: it was altered"
    if place > before + 1:
        return f"before the entry {place} of {at} {place - before - 1} are missing"
    return f"the entry {place} of {at} was altered"


def _more(number: int) -> str:
    return f"{number:,} more entries were altered, or others before them are missing"


def _against(noted: Head, head: Head | None, then: Head | None) -> str | None:
    if then is None:
        end = f"ends with the entry {head.place}" if head else "has no entry"
        return f"the log {end}, and there was an entry {noted.place}: its end was cut off"
    return None if then == noted else f"the entry {noted.place} is another than the one that was noted"
