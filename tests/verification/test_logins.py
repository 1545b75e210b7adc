"""Whether a login is safe, whatever it may become: opening, health and `doctor` give one answer, in the same words."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from thea_store import Settings, Store, UnsafeRoleError
from thea_store.admin.doctor import Finding, login
from thea_store.admin.doctor.findings import CheckContext, run_checks
from thea_store.postgres.operator import connect
from thea_store.postgres.url import DatabaseUrl
from thea_store.testing import TestDatabase

NEW = 160000
"""The server's version from which on a membership has options."""


class Roles:
    """Roles of one test: a login in thea_app and groups, named anew for each test."""

    def __init__(self, database: TestDatabase, superuser: psycopg.Connection[tuple[object, ...]]) -> None:
        self.superuser, self.made = superuser, list[str]()
        self.suffix = uuid.uuid4().hex[:12]
        self.secret = uuid.uuid4().hex
        self.login = self.make("login", f"login password '{self.secret}' in role thea_app")
        self.group, self.other = self.make("group", "nologin"), self.make("other", "nologin")
        address = DatabaseUrl.parse(database.app_url)
        self.url = replace(address, user=self.login, password=self.secret).render()

    def make(self, name: str, attributes: str) -> str:
        role = f"test_{name}_{self.suffix}"
        self.do(f"create role {role} {attributes}")
        self.made.append(role)
        return role

    def do(self, statements: str) -> None:
        for statement in statements.split("; "):
            words = {"login": "", "group": "", "other": ""} | {
                role.split("_")[1]: role for role in self.made if role.split("_")[1] in {"login", "group", "other"}
            }
            self.superuser.execute(statement.format(**words).encode())

    @property
    def is_new(self) -> bool:
        return self.superuser.info.server_version >= NEW


@pytest.fixture
def roles(thea_database: TestDatabase) -> Iterator[Roles]:
    with psycopg.connect(thea_database.superuser_url, autocommit=True) as superuser:
        made = Roles(thea_database, superuser)
        try:
            yield made
        finally:
            for role in reversed(made.made):
                made.do(f"drop owned by {role}")
            for role in made.made:
                made.do(f"drop role {role}")


UNSAFE = [
    ("alter role {group} bypassrls; grant {group} to {login}", "may become {group}, which has BYPASSRLS"),
    (
        "alter role {other} bypassrls; grant {other} to {group}; grant {group} to {login}",
        "may become {other}, which has BYPASSRLS (as a member of {group})",
    ),
    ("alter role {group} superuser; grant {group} to {login}", "may become {group}, a superuser"),
    ("grant thea_owner to {group}; grant {group} to {login}", "thea_owner, which owns the tables"),
    ("grant thea_search to {login}", "may read every tenant, as thea_search may"),
    ("grant thea_loader to {login}", "may change rows without an entry in the audit log, as thea_loader may"),
    ("grant thea_maintenance to {group}; grant {group} to {login}", "may read every tenant, as thea_maintenance may"),
    ("grant set on parameter session_replication_role to {login}", "may set session_replication_role"),
    (
        "grant set on parameter session_replication_role to {group}; grant {group} to {login}",
        "has the right of {group} to set session_replication_role",
    ),
    ("grant pg_execute_server_program to {login}", "the server's files or run its programs"),
    ("grant pg_read_server_files to {group}; grant {group} to {login}", "the server's files or run its programs"),
    ("alter role {login} bypassrls", "has BYPASSRLS"),
    # The current role may be a weak one, and the session's own mighty.
    ("alter role {login} bypassrls; alter role {login} set role = thea_app", "has BYPASSRLS"),
]
SINCE_16 = [
    ("alter role {login} noinherit; alter role {group} bypassrls; grant {group} to {login}", "which has BYPASSRLS"),
    (
        "alter role {group} bypassrls; grant {group} to {login} with admin true, inherit false, set false",
        "may become {group}, which has BYPASSRLS",
    ),
    (
        (
            "alter role {other} bypassrls; grant {other} to {group} with admin true, inherit false, set false; "
            "grant {group} to {login} with inherit true, set false"
        ),
        "may become {other}, which has BYPASSRLS (as a member of {group})",
    ),
    ("grant thea_owner to {login} with inherit true, set false", "thea_owner, which owns the tables"),
]
SAFE = ["grant {group} to {login}", "alter role {group} bypassrls", "alter role {login} createdb"]
SAFE_SINCE_16 = [
    "alter role {group} bypassrls; grant {group} to {login} with inherit true, set false",
    "alter role {group} superuser; grant {group} to {login} with inherit false, set false",
    "grant thea_owner to {login} with inherit false, set false",
    "alter role {login} createrole",
]


@pytest.mark.parametrize(("grants", "told"), [*UNSAFE, *SINCE_16])
async def test_an_unsafe_login_is_refused_and_told_alike_everywhere(roles: Roles, grants: str, told: str) -> None:
    if (grants, told) in SINCE_16 and not roles.is_new:
        pytest.skip("memberships have options since PostgreSQL 16")
    roles.do(grants)
    told = told.format(group=roles.group, other=roles.other)

    with pytest.raises(UnsafeRoleError) as refused:
        await Store.open(roles.url)
    assert told in str(refused.value)
    # The role that leads there is named where it is another one.
    assert f"{roles.group}, which" not in told or f"member of {roles.group})" not in str(refused.value)
    async with Store.open(Settings(url=roles.url, allow_unsafe_role=True)) as store:
        health = await store.health()
    assert health.role_is_safe is False
    powers = await found(roles)
    assert any(told in power.found and power.state == "problem" for power in powers), powers


@pytest.mark.parametrize("grants", [*SAFE, *SAFE_SINCE_16])
async def test_a_login_that_can_become_nothing_mighty_is_safe_everywhere(roles: Roles, grants: str) -> None:
    if grants in SAFE_SINCE_16 and not roles.is_new:
        pytest.skip("memberships have options since PostgreSQL 16, and CREATEROLE has bounds")
    roles.do(grants)

    async with Store.open(roles.url) as store:
        health = await store.health()
    assert health.role_is_safe is True
    assert not any(power.state == "problem" for power in await found(roles))


async def test_createrole_is_a_way_to_any_role_before_16(roles: Roles) -> None:
    if roles.is_new:
        pytest.skip("since PostgreSQL 16 it gives the roles that its holder made alone")
    roles.do("alter role {login} createrole")

    with pytest.raises(UnsafeRoleError, match="has CREATEROLE"):
        await Store.open(roles.url)
    assert [power.state for power in await found(roles)] == ["problem"]


@pytest.mark.parametrize(("grants", "told"), [case for case in UNSAFE if "set role" not in case[0]])
async def test_the_fix_of_each_power_ends_it(roles: Roles, grants: str, told: str) -> None:
    roles.do(grants)
    for power in await found(roles):
        assert power.fix is not None
        for fix in power.fix.split("`")[1::2]:
            roles.superuser.execute(fix.encode())

    assert [power.state for power in await found(roles)] == ["ok"], told
    async with Store.open(roles.url) as store:
        assert (await store.health()).role_is_safe


async def found(roles: Roles) -> list[Finding]:
    """What `doctor` says of the login's powers, by that check alone: all of the others would take ten times as long."""

    def ask() -> list[Finding]:
        settings = Settings(url=roles.url)
        with connect(settings.address()) as connection:
            return run_checks({"powers": login.CHECKS["powers"]}, CheckContext(connection, settings))

    return await asyncio.to_thread(ask)
