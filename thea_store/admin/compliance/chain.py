"""Whether the compliance log of a tenant is the chain that the database wrote."""

from __future__ import annotations

import re
from datetime import datetime
from typing import NamedTuple

from thea_store.admin.compliance.reading import asked
from thea_store.errors import InvalidArgumentError
from thea_store.postgres.url import DatabaseUrl
from thea_store.queries.arguments import check_tenant

__all__ = ["Head", "Verified", "verify"]


class Head(NamedTuple):
    """The last entry of a chain, as `3:9f86…`; whoever keeps it elsewhere can show later what was taken away."""

    place: int
    hash: str

    def __str__(self) -> str:
        return f"{self.place}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """`InvalidArgumentError` for what is no head."""
        match = re.fullmatch(r"([1-9][0-9]{0,17}):([0-9a-f]{64})", text)
        if match is None:
            raise InvalidArgumentError("--expect", "is no PLACE:HASH as `thea-store audit verify` prints it")
        return cls(int(match[1]), match[2])


class Verified(NamedTuple):
    """What was found."""

    head: Head | None
    """`None` for a log without an entry."""
    faults: tuple[str, ...]
    """A sentence for each entry that was altered, and for each gap."""


def verify(address: DatabaseUrl, tenant: str, expected: Head | None = None) -> Verified:
    """Whether each entry has the hash of itself and the one before, and no place is missing; blocks.

    `expected` is a head that was noted earlier: by it alone one sees that entries are missing at the end, or that all
    were written anew. The login must read the tenant's rows, as a service's may, or one in `thea_privacy`.
    `TenantSuspendedError` for a tenant that the server refuses, `StoreUnavailableError` without a connection.
    """
    check_tenant(tenant)
    with asked(address) as connection:
        connection.execute("select set_config('app.tenant_id', %s, true)", [tenant])
        faults = [_fault(place, before, at) for place, before, at in connection.execute(_BROKEN, [tenant])]
        last = connection.execute(_HEAD, [tenant, None]).fetchone()
        then = connection.execute(_HEAD, [tenant, expected.place]).fetchone() if expected else None
    head = Head(*last) if last else None
    if expected and then is None:
        end = f"ends with the entry {head.place}" if head else "has no entry"
        faults.append(f"the log {end}, and there was an entry {expected.place}: its end was cut off")
    elif expected and then != expected:
        faults.append(f"the entry {expected.place} is another than the one that was noted")
    return Verified(head, tuple(faults))


_BROKEN = """
select place, before, at
from (
  select c.place, coalesce(lag(c.place) over w, 0) as before, c.at,
    c.hash = thea.compliance_hash(lag(c.hash) over w, c) as is_intact
  from thea.compliance_log c
  where c.tenant_id = %s
  window w as (order by c.place)
) e
where place <> before + 1 or not is_intact
order by place
"""

_HEAD = """
select place, encode(hash, 'hex')
from thea.compliance_log
where tenant_id = %s and place = coalesce(%s, place)
order by place desc
limit 1
"""


def _fault(place: int, before: int, at: datetime) -> str:
    if place != before + 1:
        return f"before the entry {place} of {at.isoformat()} {place - before - 1} are missing"
    return f"the entry {place} of {at.isoformat()} was altered"
