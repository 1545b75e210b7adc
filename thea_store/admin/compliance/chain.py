"""Whether the compliance logs are the chains that the database wrote, for one tenant or for all.

A tenant has up to three: `erasures`, the certificates in thea.compliance_log; and those of thea.activity_log, which a
login in `thea_auditor` alone sees: `administration` and `reads`.

Reads that are noted come into their chain before it is verified: what is in none is held by nothing yet. A chain whose
first entries were removed by a policy of retention begins with the entry after those of which its entry `expire` tells.

What this can find: an entry that was altered, one that is missing between two others, and, by a head that was noted
earlier, entries that are missing at the end or were all written anew. What it cannot find, without such a head: that
the end was cut off, or that whoever owns the database wrote the chain anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, LiteralString, NamedTuple

from psycopg import Connection

from thea_store.admin.compliance.asking import asked, is_auditor, name_tenant, require_auditor, require_reader
from thea_store.errors import InvalidArgumentError
from thea_store.postgres.url import DatabaseUrl
from thea_store.queries.arguments import check_tenant

__all__ = ["Head", "Verified", "chain_reads", "verify", "verify_all"]

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


class _Expired(NamedTuple):
    """Up to which entry a chain's first ones were removed, what hash that one had, and when and by whom it was done."""

    place: int
    hash: str
    at: datetime
    login: str

    def __str__(self) -> str:
        return (
            f"the entries up to {self.place} were removed by a policy of retention, the last time by {self.login} at "
            f"{self.at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        )


class Verified(NamedTuple):
    """What was found of one tenant."""

    heads: tuple[Head, ...]
    """One for each chain that has an entry, by their names."""
    faults: tuple[str, ...]
    """A sentence for each entry that was altered, and for each gap; after twenty in a chain, how many more."""
    expired: tuple[str, ...] = ()
    """A sentence for each chain whose first entries were removed by a policy of retention."""


def verify(address: DatabaseUrl, tenant: str, expected: Iterable[Head] = ()) -> Verified:
    """Whether each entry has the hash of itself and the one before, and no place is missing; blocks.

    `expected` are heads that were noted earlier. A login in `thea_auditor` has all chains verified, also of a tenant
    that is suspended or has ended. One that reads the tenant's rows, as a service's may, has `erasures` verified.
    `InsufficientPrivilegeError` for another login, and for an expected head of a chain that it does not see;
    `TenantSuspendedError` for a tenant that the server refuses, `StoreUnavailableError` without a connection.
    """
    check_tenant(tenant)
    heads = tuple(expected)
    chain_reads(address, tenant)
    with asked(address) as connection:
        require_reader(connection, address)
        sees_all = is_auditor(connection)
        if any(head.log != _ERASURES for head in heads):
            require_auditor(connection, address)
        name_tenant(connection, tenant)
        return _verify(connection, tenant, {tenant: heads}, sees_all=sees_all)[tenant]


def verify_all(address: DatabaseUrl, expected: Mapping[str, Iterable[Head]] | None = None) -> dict[str, Verified]:
    """The same of every tenant that has an entry, or had one by a head in `expected`; by tenant, in their order.

    What was done for all tenants together has the tenant `''`. Only a login in `thea_auditor` sees all of them:
    `InsufficientPrivilegeError` otherwise.
    """
    chain_reads(address)
    with asked(address) as connection:
        require_auditor(connection, address)
        return _verify(connection, None, expected or {}, sees_all=True)


def chain_reads(address: DatabaseUrl, tenant: str | None = None) -> None:
    """Bring the noted reads of a tenant, or of all, into their chains, where an auditor asks the primary; blocks."""
    with asked(address) as connection:
        if not is_auditor(connection) or connection.execute(_IS_STANDBY).fetchone() == (True,):
            return
        tenants = [(tenant,)] if tenant is not None else connection.execute(_WITH_NOTED_READS).fetchall()
    with asked(address, writes=True) as connection:
        for (whose,) in tenants:
            while connection.execute(_CHAIN, [whose]).fetchone() == (True,):
                connection.commit()


def _verify(
    connection: Connection[Any], tenant: str | None, expected: Mapping[str, Iterable[Head]], *, sees_all: bool
) -> dict[str, Verified]:
    entries = _CERTIFICATES + _ACTIVITIES if sees_all else _CERTIFICATES
    parts: dict[str, LiteralString] = {"entries": entries, "expiry": _EXPIRY.format(entries=entries)}
    values = {"tenant": tenant, "told": _TOLD}
    faults: dict[str, list[str]] = {}
    for whose, log, place, before, at, more in connection.execute(_BROKEN.format(**parts), values):
        told = _fault(place, before, at) if more is None else _more(more)
        faults.setdefault(whose or "", []).append(f"{log}: {told}")
    expired: dict[str, dict[str, _Expired]] = {}
    for whose, log, *was in connection.execute(_EXPIRED.format(**parts), values):
        expired.setdefault(whose, {})[log] = _Expired(*was)
    heads: dict[str, dict[str, Head]] = {}
    for whose, *head in connection.execute(_HEADS.format(entries=entries), values):
        heads.setdefault(whose, {})[head[0]] = Head(*head)
    for whose, noted in expected.items():
        for then in noted:
            values = {"tenant": whose, "log": then.log, "place": then.place}
            found = connection.execute(_ENTRY.format(entries=entries), values).fetchone()
            gone = expired.get(whose, {}).get(then.log)
            head = heads.get(whose, {}).get(then.log)
            if fault := _against(then, head, Head(*found) if found else None, gone):
                faults.setdefault(whose, []).append(f"{then.log}: {fault}")
    return {
        whose: Verified(
            tuple(heads.get(whose, {}).values()),
            tuple(faults.get(whose, ())),
            tuple(f"{log}: {was}" for log, was in expired.get(whose, {}).items()),
        )
        for whose in sorted(heads.keys() | faults.keys() | expected.keys())
    }


# What each hash is of: the one before, or the chain's name, and the entry itself. It is worked out here, by the
# server's own functions: whoever owns the database could have replaced thea.compliance_hash and thea.activity_hash,
# which have the same expressions.
_CERTIFICATES = """
  select tenant_id as tenant, 'erasures' as log, place, at, login, hash, convert_to(tenant_id, 'UTF8') as name,
    jsonb_build_array(
      place, id, extract(epoch from at), login, actor, request_id, action, subject_id, reason, details
    ) as said, null::jsonb as expiry
  from thea.compliance_log
"""
_ACTIVITIES = """
  union all
  select tenant, kind, place, at, login, hash, convert_to(jsonb_build_array(tenant, kind)::text, 'UTF8'),
    jsonb_build_array(place, extract(epoch from at), login, actor, request_id, action, subject_id, reason, details),
    -- Whoever owns the database may have put anything there.
    case
      when action = 'expire' and details ->> 'place' ~ '^[0-9]{1,18}$' and details ->> 'hash' ~ '^([0-9a-f]{2})+$'
        then details
    end
  from thea.activity_log
"""

# Up to which entry the first ones of a chain were removed: its last entry that tells of it says so.
_EXPIRY = """
  select distinct on (e.tenant, e.log) e.tenant, e.log, (e.expiry ->> 'place')::bigint as place,
    decode(e.expiry ->> 'hash', 'hex') as hash, e.at, e.login
  from ({entries}) e
  where e.expiry is not null
    and (%(tenant)s::text is null or e.tenant = %(tenant)s)
  order by e.tenant, e.log, e.place desc
"""

# Whatever is null, as an owner can make it, is a fault.
_BROKEN = """
with expired as ({expiry})
select tenant, log, place, before, at, case when nth > %(told)s then faults - %(told)s end
from (
  select *, row_number() over (partition by tenant, log order by place) as nth,
    count(*) over (partition by tenant, log) as faults
  from (
    select e.tenant, e.log, e.place, coalesce(lag(e.place) over w, x.place, 0) as before,
      coalesce(nullif(to_char(e.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), ''), 'an unknown time') as at,
      e.hash = sha256(
        coalesce(lag(e.hash) over w, x.hash, sha256(e.name)) || convert_to(e.said::text, 'UTF8')
      ) as is_intact
    from ({entries}) e
    left join expired x on x.tenant = e.tenant and x.log = e.log
    where %(tenant)s::text is null or e.tenant = %(tenant)s
    window w as (partition by e.tenant, e.log order by e.place)
  ) entry
  where place is distinct from before + 1 or is_intact is not true
) fault
where nth <= %(told)s + 1
order by tenant, log, nth
"""

_EXPIRED = """
select tenant, log, place, encode(hash, 'hex'), at, login
from ({expiry}) x
order by tenant, log
"""

_IS_STANDBY = "select pg_is_in_recovery()"
_WITH_NOTED_READS = "select * from thea.tenants_with_noted_reads(null, 2147483647)"
_CHAIN = "select thea.chain_reads(%s)"

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


def _against(noted: Head, head: Head | None, then: Head | None, expired: _Expired | None) -> str | None:
    if then is None and expired is not None and noted.place <= expired.place:
        is_other = noted.place == expired.place and noted.hash != expired.hash
        return f"the entry {noted.place} was another than the one that was noted" if is_other else None
    if then is None:
        end = f"ends with the entry {head.place}" if head else "has no entry"
        return f"the log {end}, and there was an entry {noted.place}: its end was cut off"
    return None if then == noted else f"the entry {noted.place} is another than the one that was noted"
