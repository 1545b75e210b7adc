"""A plan made for one tenant serves another with that one's own rows, and no planner setting opens anything."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg import Connection

from tests.isolation.attacks import (  # noqa: F401 - fixtures
    MINE,
    THEIRS,
    Scene,
    app_fixture,
    attacker_fixture,
    run,
    scene_fixture,
    switch,
    untouched_fixture,
)

STATEMENTS = {
    "all rows": "select tenant_id from {t}",
    "named by a parameter": "select tenant_id from {t} where tenant_id = any(array['tenant-mine', 'tenant-theirs'])",
    "counted": "select tenant_id from {t} group by tenant_id having count(*) > 0",
    "joined": "select b.tenant_id from {t} a join {t} b on a.id = b.id",
    "ordered by an index": "select tenant_id from {t} order by tenant_id, id limit 100",
    "in a subplan": "select (select max(b.tenant_id) from {t} b) from {t} a",
    "the tenant itself": "select thea.tenant() from {t}",
}

SETTINGS = [
    ["enable_seqscan = off", "enable_bitmapscan = off"],
    ["enable_indexscan = off", "enable_indexonlyscan = off", "enable_bitmapscan = off"],
    ["enable_indexscan = off", "enable_indexonlyscan = off", "enable_seqscan = off"],
    ["enable_hashjoin = off", "enable_mergejoin = off", "enable_memoize = off"],
    ["enable_nestloop = off", "enable_sort = off"],
    ["from_collapse_limit = 1", "join_collapse_limit = 1", "geqo_threshold = 2"],
    ["constraint_exclusion = on", "cursor_tuple_fraction = 0.0001"],
    ["work_mem = '64kB'", "hash_mem_multiplier = 1", "default_statistics_target = 1"],
    ["search_path = pg_temp, thea, public, pg_catalog", "quote_all_identifiers = on"],
    ["row_security = on", "transform_null_equals = on", "plan_cache_mode = force_generic_plan"],
]


@pytest.mark.parametrize("mode", ["auto", "force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_prepared_statement_goes_with_the_tenant(
    scene: Scene, attacker: Connection[Any], statement: str, mode: str
) -> None:
    run(attacker, f"set plan_cache_mode = {mode}")
    for table in scene.tables:
        run(attacker, f"prepare asked as {STATEMENTS[statement].format(t=table)}")
        # After five executions a generic plan may be taken.
        for tenant in (MINE, THEIRS, MINE, THEIRS, *[MINE] * 6, THEIRS, MINE):
            switch(attacker, tenant)
            assert {seen for (seen,) in run(attacker, "execute asked")} == {tenant}, table
        switch(attacker, None)
        assert run(attacker, "execute asked").fetchall() == [], table
        run(attacker, "deallocate asked")
        switch(attacker, MINE)


def test_a_prepared_change_goes_with_the_tenant(scene: Scene, app: Connection[Any]) -> None:
    run(app, "set plan_cache_mode = force_generic_plan")
    for table in scene.written:
        run(app, f"prepare changed as update {table} set deleted_at = now() where id = any($1)")
        ids = str(scene.ids(table, THEIRS)).strip("[]")
        own = str(scene.ids(table, MINE)).strip("[]")
        switch(app, THEIRS)
        assert run(app, f"execute changed(array[{ids}]::bigint[])").rowcount == len(scene.ids(table, THEIRS))
        switch(app, MINE)

        assert run(app, f"execute changed(array[{ids}]::bigint[])").rowcount == 0
        assert run(app, f"execute changed(array[{own}]::bigint[])").rowcount == scene.counts[table]
        run(app, "deallocate changed")


@pytest.mark.parametrize("login", ["app", "reader"])
def test_the_drivers_own_prepared_statements_go_with_the_tenant(scene: Scene, login: str) -> None:
    with scene.connected(login) as attacker:
        attacker.prepare_threshold = 0
        for table in scene.tables:
            for tenant in (MINE, THEIRS) * 4:
                switch(attacker, tenant)
                rows = run(attacker, f"select tenant_id from {table} where id is not null")

                assert {seen for (seen,) in rows} == {tenant}, table
        names = {name for (name,) in run(attacker, "select statement from pg_prepared_statements")}
        assert len(names) > len(scene.tables)


def test_one_block_of_code_sees_the_tenant_it_is_in(scene: Scene, attacker: Connection[Any]) -> None:
    told: list[str] = []
    attacker.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
    for table in scene.tables:
        told.clear()
        run(
            attacker,
            f"""do $$
            declare wanted text; seen text;
            begin
              for n in 1..8 loop
                foreach wanted in array array['{MINE}', '{THEIRS}', ''] loop
                  perform set_config('app.tenant_id', wanted, true);
                  select string_agg(distinct tenant_id, ' ') into seen from {table};
                  raise notice '% sees %', wanted, seen;
                end loop;
              end loop;
            end $$""",
        )

        assert set(told) == {f"{MINE} sees {MINE}", f"{THEIRS} sees {THEIRS}", " sees <NULL>"}, table


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: settings[0].split(" ")[0])
def test_no_planner_setting_opens_anything(scene: Scene, attacker: Connection[Any], settings: list[str]) -> None:
    for setting in settings:
        run(attacker, f"set {setting}")
    for statement in STATEMENTS.values():
        for table in scene.tables:
            assert {seen for (seen,) in run(attacker, statement.format(t=table))} == {MINE}, (statement, table)


def test_compiled_conditions_are_the_same(scene: Scene, attacker: Connection[Any]) -> None:
    run(attacker, "set jit = on")
    run(attacker, "set jit_above_cost = 0")
    for table in scene.tables:
        for tenant in (MINE, THEIRS):
            switch(attacker, tenant)
            assert {seen for (seen,) in run(attacker, f"select tenant_id from {table}")} == {tenant}, table


def test_parallel_workers_are_bound_too(scene: Scene, attacker: Connection[Any]) -> None:
    forced = "debug_parallel_query" if attacker.info.server_version >= 160000 else "force_parallel_mode"
    for setting in (f"{forced} = on", "min_parallel_table_scan_size = 0", "parallel_tuple_cost = 0"):
        run(attacker, f"set {setting}")
    run(attacker, "set parallel_setup_cost = 0")
    for table in scene.tables:
        plan = run(attacker, f"explain (costs off) select tenant_id from {table}").fetchall()
        assert any("Gather" in line for (line,) in plan)
        for tenant in (MINE, THEIRS):
            switch(attacker, tenant)
            assert {seen for (seen,) in run(attacker, f"select tenant_id from {table}")} == {tenant}, table
        switch(attacker, MINE)


def test_a_snapshot_of_another_tenants_session_shows_no_more(scene: Scene, attacker: Connection[Any]) -> None:
    with scene.connected("app", THEIRS) as other:
        snapshot = run(other, "select pg_export_snapshot()").fetchall()[0][0]
        attacker.rollback()
        run(attacker, "begin isolation level repeatable read")
        run(attacker, f"set transaction snapshot '{snapshot}'")
        for table in scene.tables:
            assert {seen for (seen,) in run(attacker, f"select tenant_id from {table}")} == {MINE}, table
