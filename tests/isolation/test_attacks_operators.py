"""Free SQL with the login of an operator's group, which serves no tenant: it learns nothing of a tenant's rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import Connection

from tests.isolation.attacks import (  # noqa: F401 - fixtures
    MINE,
    THEIRS,
    Scene,
    refused,
    run,
    scene_fixture,
    switch,
    untouched_fixture,
)
from thea_store.verification.groups import GROUPS, MOVERS, shared_tables

# A mover's login reads a whole tenant, which is what it is for: tests/isolation/test_attacks_movers.py.
OPERATORS = [group.name for group in GROUPS if not group.serves_tenants and group.name not in MOVERS]
# What a group may call, beside what everybody may, with the reason.
CALLED: dict[str, set[str]] = {
    # It counts the rows of a tenant that the directory has, and shows none.
    "thea_admin": {"usage_of"},
    # They count the rows of a tenant, and show none; name tenants; and bring noted reads into their chain.
    "thea_auditor": {
        *("kept_of", "entries_kept_of", "sums_kept_of"),
        *("encrypted_tenants", "tenants_with_noted_reads", "chain_reads"),
    },
    # They return names of tenants, or whether a batch was removed: see test_attacks_workers.py.
    "thea_worker": {
        "tenants_with_work",
        "tenants_with_expired_rows",
        "tenants_with_expired_audit",
        "expire_rows",
        "expire_audit",
        "tenants_with_uncounted_messages",
        "tenants_with_noted_reads",
        "tenants_with_expired_activity",
        "chain_reads",
        "expire_activity",
        "fold_messages",
    },
}


# The one table of tenants that a group reads, whose entries hold no row of a tenant.
READS = {"thea_auditor": "thea.compliance_log"}
READING = (
    "select from {t}",
    "select count(*) from {t}",
    "select tenant_id from {t} limit 1",
    "copy {t} to stdout",
    "lock table {t} in access share mode",
    "explain select from {t}",
)


@pytest.fixture(name="operator", params=OPERATORS)
def operator_fixture(scene: Scene, request: pytest.FixtureRequest) -> Iterator[Connection[Any]]:
    with psycopg.connect(scene.database.url_of(request.param)) as connection:
        connection.prepare_threshold = None
        yield connection
        connection.rollback()


def group_of(operator: Connection[Any]) -> str:
    [group] = [name for name in OPERATORS if operator.info.user.endswith(name.removeprefix("thea_"))]
    return group


@pytest.mark.parametrize("tenant", [None, MINE, THEIRS])
def test_no_row_of_a_tenant_is_read_written_or_locked(
    scene: Scene, operator: Connection[Any], tenant: str | None
) -> None:
    if tenant is not None:
        switch(operator, tenant)
    for table in scene.tables:
        for statement in (
            *(() if READS.get(group_of(operator)) == table else READING),
            "insert into {t} (tenant_id) values ('x')",
            "delete from {t}",
            "select from {t} for update",
            "truncate {t}",
        ):
            refused(operator, statement.format(t=table))


def test_neither_estimates_nor_statistics_tell_of_a_row(scene: Scene, operator: Connection[Any]) -> None:
    run(scene.superuser, "analyze")
    for table in scene.tables:
        if table != READS.get(group_of(operator)):
            refused(operator, f"explain select from {table} where tenant_id = '{THEIRS}'")
        statistics = "select attname from pg_stats where format('%I.%I', schemaname, tablename) = %s"
        assert run(scene.superuser, statistics.replace("%I", "%%I"), table).fetchall() != []
        assert run(operator, statistics.replace("%I", "%%I"), table).fetchall() == []


def test_no_function_is_called_that_is_not_for_it(scene: Scene, operator: Connection[Any]) -> None:
    group = group_of(operator)
    callable_ = scene.ask(
        "select proname from pg_proc where pronamespace = 'thea'::regnamespace"
        " and has_function_privilege(%s, oid, 'execute')",
        group,
    )

    assert {name for (name,) in callable_} == CALLED.get(group, set())


def test_no_function_prints_its_plans_to_who_calls_it(scene: Scene, operator: Connection[Any]) -> None:
    """With `debug_print_plan` a session sees the plans of what it runs, and rows are folded into these as constants."""
    silent = scene.ask(
        "select proname from pg_proc where pronamespace = 'thea'::regnamespace and proname = any(%s)"
        " and proconfig @> array['client_min_messages=warning']",
        [*CALLED.get(group_of(operator), set()), "keep_limits", "count_rows"],
    )

    assert {name for (name,) in silent} == CALLED.get(group_of(operator), set()) | {"keep_limits", "count_rows"}


# Whoever calls a function can set these, and its plan would read the rows of other tenants one by one: its time tells.
PLANNED_BY = {
    *("plan_cache_mode=force_custom_plan", "jit=off", "enable_seqscan=off", "enable_bitmapscan=off"),
    *("enable_indexscan=on", "enable_indexonlyscan=on", "enable_sort=off", "enable_incremental_sort=off"),
    *("seq_page_cost=1", "random_page_cost=4", "cpu_tuple_cost=0.01", "cpu_index_tuple_cost=0.005"),
    *("cpu_operator_cost=0.0025", "max_parallel_workers_per_gather=0"),
}


def test_no_plan_of_a_function_that_names_tenants_is_chosen_by_who_calls_it(scene: Scene) -> None:
    found = scene.ask(
        "select proname, proconfig from pg_proc where pronamespace = 'thea'::regnamespace and proname ~ '^tenants_with'"
    )

    assert len(found) > 3
    assert {name: PLANNED_BY - set(settings) for name, settings in found if PLANNED_BY - set(settings)} == {}


def test_no_other_role_is_taken_on(scene: Scene, operator: Connection[Any]) -> None:
    others = {role for (role,) in scene.ask("select rolname from pg_roles")} - {operator.info.user, group_of(operator)}

    assert others > {"thea_owner", "thea_app", "thea_maintenance"}
    for role in others:
        refused(operator, f'set role "{role}"')


def test_nothing_is_created_altered_or_kept(operator: Connection[Any]) -> None:
    for statement in (
        "create table thea.mine (id int)",
        "create function thea.mine() returns int language sql return 1",
        "create schema mine",
        "alter table thea.tenants no force row level security",
        "drop policy directory on thea.tenants",
        "alter function thea.tenant() immutable",
        "create or replace function thea.tenant() returns text language sql return 'x'",
    ):
        refused(operator, statement)
    refused(operator, "create temporary table mine (id int)", match="temporary")


# What a group does with the tables that belong to no tenant.
USED = {
    "thea_admin": {"tenants", "quotas", "retention_policies"},
    "thea_auditor": {"activity_log", "noted_reads", "tenants", "retention_policies"},
    "thea_worker": set[str](),
}


def test_it_reads_no_table_of_no_tenant_but_those_that_it_needs(operator: Connection[Any]) -> None:
    for table in shared_tables():
        if table in USED[group_of(operator)]:
            run(operator, f"select count(*) from thea.{table}")
        else:
            refused(operator, f"select from thea.{table}")


def test_a_services_login_reads_and_writes_no_directory(scene: Scene) -> None:
    for url in scene.urls.values():
        with psycopg.connect(url) as connection:
            switch(connection, MINE)
            for table in [table for group in GROUPS for table in group.tables]:
                for statement in (
                    "select from thea.{t}",
                    "delete from thea.{t}",
                    "select from thea.{t} for share",
                    "explain select from thea.{t}",
                ):
                    refused(connection, statement.format(t=table))
