"""The groups that logins are members of, in one place: what each is for, and what it asks a store for.

A service's login is a member of `thea_app`. Each other group does one thing, which a service's login must not do, and
has an attribute of the store for it. The migration of its subject makes the group and gives it its rights; here is
what opening, `doctor` and the tests must know of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["GROUPS", "MOVERS", "ROLES_OF_TENANTS", "Group", "groups_of", "serves_tenants", "shared_tables"]


@dataclass(frozen=True, slots=True)
class Group:
    """A role that logins are members of, and that cannot log in itself."""

    name: str
    does: str
    """What its members may do, as it follows `may`."""
    tables: tuple[str, ...] = ()
    """The tables of the schema `thea` that belong to no tenant and that it alone uses."""
    serves_tenants: bool = False
    """Whether a store runs the queries of the tenants' tables with its logins."""


GROUPS: Sequence[Group] = (
    Group("thea_app", "read and write the rows of the tenant that a call names", serves_tenants=True),
    Group("thea_readonly", "read the rows of the tenant that a call names", serves_tenants=True),
    Group("thea_mover", "read, bring in, move and end a tenant as a whole"),
    Group("thea_privacy", "erase a person, and read the rows of the tenant that a call names", serves_tenants=True),
    Group(
        "thea_admin",
        "keep the directory of tenants and the policies of retention, and see no tenant's rows",
        tables=("quotas", "retention_policies", "tenants"),
    ),
    Group(
        "thea_auditor",
        "verify the compliance logs, say what is kept of a tenant, and see no tenant's rows",
        tables=("activity_log", "noted_reads"),
    ),
    Group("thea_worker", "learn which tenants have something to do, and see no tenant's rows"),
)
"""The groups for logins with which a store opens; `thea_owner` and `thea_maintenance` are for operators alone."""

ROLES_OF_TENANTS = tuple(sorted(group.name for group in GROUPS if group.serves_tenants))
"""The groups that a tenant's two policies bind."""

MOVERS = ("thea_loader", "thea_mover")
"""Who works on a tenant as a whole: the group, and the role that its functions run as. Their policies do not ask the
directory, because they work on tenants that are suspended."""

_MEMBER = """
select r.rolname::text
from pg_catalog.pg_roles r
where r.rolname = any(%s::text[])
  and pg_catalog.pg_has_role(session_user, r.oid, 'usage')
order by 1
"""


def groups_of(connection: Connection[Any]) -> frozenset[str]:
    """The groups whose rights the login has; a superuser has those of all."""
    names = [group.name for group in GROUPS]
    return frozenset(name for (name,) in connection.execute(_MEMBER, [names]))


def serves_tenants(groups: frozenset[str]) -> bool:
    """Whether a login of these groups runs the queries of the tenants' tables; so it is for one of no group."""
    return not groups or any(group.serves_tenants for group in GROUPS if group.name in groups)


def shared_tables() -> frozenset[str]:
    """The tables of the schema `thea` that belong to no tenant."""
    return frozenset(table for group in GROUPS for table in group.tables)
