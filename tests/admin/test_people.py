"""The doctor names each table of tenants that a person's export and erasure would miss."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from thea_store import Settings
from thea_store.admin.doctor import Finding, examine
from thea_store.testing import TestDatabase

pytestmark = pytest.mark.usefixtures("no_settings")

_TABLE = """
create table shops.{name} (
  tenant_id text not null,
  id bigint not null generated always as identity,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  deleted_at timestamptz,
  {columns}
  primary key (tenant_id, id)
)
"""
_HANGS_ON = "{0} bigint not null, foreign key (tenant_id, {0}) references {1} (tenant_id, id){2},"


@pytest.fixture
def shops(thea_new_database: Callable[[], TestDatabase]) -> TestDatabase:
    database = thea_new_database()
    _do(database, "create schema shops")
    return database


def _do(database: TestDatabase, *statements: str) -> None:
    with psycopg.connect(database.migrator_url, autocommit=True) as operator:
        for statement in statements:
            operator.execute(statement.encode())


def _make(database: TestDatabase, name: str, columns: str = "") -> None:
    _do(database, _TABLE.format(name=name, columns=columns), f"select thea.protect('shops.{name}')")


def _found(database: TestDatabase, url: str | None = None) -> list[Finding]:
    settings = Settings(url=url or database.app_url, migrator_url=database.migrator_url)
    return [finding for finding in examine(settings) if finding.check == "people"]


def test_every_table_of_the_library_is_covered_or_says_why_not(shops: TestDatabase) -> None:
    assert [finding.state for finding in _found(shops)] == ["ok"]


def test_a_table_that_hangs_on_nobody_is_a_problem_until_it_says_why(shops: TestDatabase) -> None:
    _make(shops, "rooms")
    _make(shops, "doors", _HANGS_ON.format("room_id", "shops.rooms", " on delete cascade"))
    before = _found(shops)
    _do(shops, "comment on table shops.rooms is 'no person: rooms belong to the tenant'")

    assert [(finding.state, finding.found.partition(" ")[0]) for finding in before] == [
        ("problem", "shops.doors"),
        ("problem", "shops.rooms"),
    ]
    assert "comment on table shops.rooms is 'no person: …'" in str(before[1].fix)
    assert [finding.state for finding in _found(shops)] == ["ok"]


def test_a_table_that_is_not_protected_is_a_problem_too(shops: TestDatabase) -> None:
    _make(shops, "orders", _HANGS_ON.format("user_id", "thea.users", " on delete cascade"))
    _do(shops, _TABLE.format(name="forgotten", columns=""))

    assert [finding.found.partition(" ")[0] for finding in _found(shops)] == ["shops.forgotten"]


def test_tables_that_hang_on_people_at_any_remove_are_covered(shops: TestDatabase) -> None:
    _make(shops, "orders", _HANGS_ON.format("buyer_id", "thea.users", " on delete cascade"))
    _make(shops, "lines", _HANGS_ON.format("order_id", "shops.orders", " on delete cascade"))
    _make(shops, "parts", _HANGS_ON.format("line_id", "shops.lines", " on delete cascade"))

    assert [finding.state for finding in _found(shops)] == ["ok"]


def test_a_key_that_keeps_a_person_from_being_erased_is_a_warning(shops: TestDatabase) -> None:
    _make(shops, "approvals", _HANGS_ON.format("approver_id", "thea.users", ""))
    _do(shops, "comment on table shops.approvals is 'no person: who approved is a matter of the accounts'")
    [finding] = _found(shops)

    assert finding.state == "warning"
    assert "of shops.approvals keeps rows of thea.users from being erased" in finding.found


@pytest.mark.parametrize("group", ["thea_privacy", "thea_admin"])
def test_other_logins_are_told_no_more_than_they_may_ask(shops: TestDatabase, group: str) -> None:
    assert {finding.state for finding in _found(shops, shops.url_of(group))} <= {"ok"}
