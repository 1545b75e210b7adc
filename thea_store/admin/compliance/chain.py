"""Whether the compliance logs are the chains that the database wrote, for one tenant or for all.

A tenant has up to three: `erasures`, the certificates in thea.compliance_log; and those of thea.activity_log, which a
login in `thea_auditor` alone sees: `administration` and `reads`.

What this can find: an entry that was altered, one that is missing between two others, and, by a head that was noted
earlier, entries that are missing at the end or were all written anew. What it cannot find, without such a head: that
the end was cut off, or that whoever owns the database wrote the chain anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from psycopg import Connection

from thea_store.admin.compliance.asking import asked, is_auditor, require_auditor, require_reader
from thea_store.errors import InvalidArgumentError
from thea_store.postgres.url import DatabaseUrl
from thea_store.queries.arguments import check_tenant

__all__ = ["Head", "Verified", "verify", "verify_all"]

_TOLD = 20
"""Of how many faults of one chain each has a sentence."""

_ERASURES = "erasures"


class Head(NamedTuple):
    """The last entry of a chain, as `erasures:3:9f86…`; who keeps it elsewhere can show later what was taken away."""

    log: str
    place: int
    hash: str

    def __str__(self) -> str:
        return f"{self.log}:{self.place}:{self.hash}"

    @classmethod
    def parse(cls, text: str, option: str = "--expect") -> Head:
        """`InvalidArgumentError`, which names the option, for what is no head."""
        match = re.fullmatch(r"(erasures|administration|reads):([1-9][0-9]{0,17}):([0-9a-f]{64})", text)
        if match is None:
            raise InvalidArgumentError(option, "is no LOG:PLACE:HASH as `thea-store audit verify` prints it")
        return cls(match[1], int(match[2]), match[3])


class Verified(NamedTuple):
    """What was found of one tenant."""

    heads: tuple[Head, ...]
    """One for each chain that has an entry, by their names."""
    faults: tuple[str, ...]
    """A sentence for each entry that was altered, and for each gap; after twenty in a chain, how many more."""


def verify(address: DatabaseUrl, tenant: str, expected: Iterable[Head] = ()) -> Verified:
    """Whether each entry has the hash of itself and the one before, and no place is missing; blocks.

    `expected` are heads that were noted earlier. A login in `thea_auditor` has all chains verified, also of a tenant
    that is suspended or has ended. One that reads the tenant's rows, as a service's may, has `erasures` verified.
    `InsufficientPrivilegeError` for another login, and for an expected head of a chain that it does not see;
    `TenantSuspendedError` for a tenant that the server refuses, `StoreUnavailableError` without a connection.
    """
    check_tenant(tenant)
    heads = tuple(expected)
    with asked(address) as connection:
        require_reader(connection, address)
        sees_all = is_auditor(connection)
        if any(head.log != _ERASURES for head in heads):
            require_auditor(connection, address)
        connection.execute("select set_config('app.tenant_id', %s, true)", [tenant])
        return _verify(connection, tenant, {tenant: heads}, sees_all=sees_all)[tenant]


def verify_all(address: DatabaseUrl, expected: Mapping[str, Iterable[Head]] | None = None) -> dict[str, Verified]:
    """The same of every tenant that has an entry, or had one by a head in `expected`; by tenant, in their order.

    What was done for all tenants together has the tenant `''`. Only a login in `thea_auditor` sees all of them:
    `InsufficientPrivilegeError` otherwise.
    """
    with asked(address) as connection:
        require_auditor(connection, address)
        return _verify(connection, None, expected or {}, sees_all=True)


def _verify(
    connection: Connection[Any], tenant: str | None, expected: Mapping[str, Iterable[Head]], *, sees_all: bool
) -> dict[str, Verified]:
    entries = _CERTIFICATES + _ACTIVITIES if sees_all else _CERTIFICATES
    values = {"tenant": tenant, "told": _TOLD}
    faults: dict[str, list[str]] = {}
    for whose, log, place, before, at, more in connection.execute(_BROKEN.format(entries=entries), values):
        told = _fault(place, before, at) if more is None else _more(more)
        faults.setdefault(whose or "", []).append(f"{log}: {told}")
    heads: dict[str, dict[str, Head]] = {}
    for whose, *head in connection.execute(_HEADS.format(entries=entries), values):
        heads.setdefault(whose, {})[head[0]] = Head(*head)
    for whose, noted in expected.items():
        for then in noted:
            values = {"tenant": whose, "log": then.log, "place": then.place}
            found = connection.execute(_ENTRY.format(entries=entries), values).fetchone()
            if fault := _against(then, heads.get(whose, {}).get(then.log), Head(*found) if found else None):
                faults.setdefault(whose, []).append(f"{then.log}: {fault}")
    return {
        whose: Verified(tuple(heads.get(whose, {}).values()), tuple(faults.get(whose, ())))
        for whose in sorted(heads.keys() | faults.keys() | expected.keys())
    }


# What each hash is of: the one before, or the chain's name, and the entry itself. It is worked out here, by the
# server's own functions: whoever owns the database could have replaced thea.compliance_hash and thea.activity_hash,
# which have the same expressions.
_CERTIFICATES = """
  select tenant_id as tenant, 'erasures' as log, place, at, hash, convert_to(tenant_id, 'UTF8') as name,
    jsonb_build_array(
      place, id, extract(epoch from at), login, actor, request_id, action, subject_id, reason, details
    ) as said
  from thea.compliance_log
"""
_ACTIVITIES = """
  union all
  select tenant, kind, place, at, hash, convert_to(jsonb_build_array(tenant, kind)::text, 'UTF8'),
    jsonb_build_array(place, extract(epoch from at), login, actor, request_id, action, subject_id, reason, details)
  from thea.activity_log
"""

# Whatever is null, as an owner can make it, is a fault.
_BROKEN = """
select tenant, log, place, before, at, case when nth > %(told)s then faults - %(told)s end
from (
  select *, row_number() over (partition by tenant, log order by place) as nth,
    count(*) over (partition by tenant, log) as faults
  from (
    select e.tenant, e.log, e.place, coalesce(lag(e.place) over w, 0) as before,
      coalesce(nullif(to_char(e.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), ''), 'an unknown time') as at,
      e.hash = sha256(coalesce(lag(e.hash) over w, sha256(e.name)) || convert_to(e.said::text, 'UTF8')) as is_intact
    from ({entries}) e
    where %(tenant)s::text is null or e.tenant = %(tenant)s
    window w as (partition by e.tenant, e.log order by e.place)
  ) entry
  where place is distinct from before + 1 or is_intact is not true
) fault
where nth <= %(told)s + 1
order by tenant, log, nth
"""

_HEADS = """
select distinct on (tenant, log) tenant, log, place, coalesce(encode(hash, 'hex'), '')
from ({entries}) e
where (%(tenant)s::text is null or tenant = %(tenant)s)
  and tenant is not null
  and place is not null
order by tenant, log, place desc
"""

_ENTRY = """
select log, place, coalesce(encode(hash, 'hex'), '')
from ({entries}) e
where tenant = %(tenant)s and log = %(log)s and place = %(place)s
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
