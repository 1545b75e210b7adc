"""The functions that read as another role fetch no row of anybody else.

A session may look how many rows it has fetched of a table. With a function that fetches rows of others and drops them
afterwards, that number tells what they say, and through a search for the beginning of a word it spells them out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from psycopg import Connection

from tests.isolation.attacks import (  # noqa: F401 - fixtures
    Scene,
    attacker_fixture,
    run,
    scene_fixture,
    switch,
    untouched_fixture,
)

WORD = "ornitorrinco"
OWN, TWIN = "tenant-of-many", "tenant-with-the-same-ids"


def groups(words: str, *, prefix: bool = False, negated: bool = False) -> str:
    return json.dumps([[{"words": words, "phrase": False, "prefix": prefix, "negated": negated}]])


# Each function that is given a tenant and reads as another role, in each way in which it can look for the word.
SEARCHES = [
    ("search_notes", f"select id from thea.search_notes(%s, %s, '{groups(WORD)}', 1)"),
    ("search_notes", f"select id from thea.search_notes(%s, %s, '{groups(WORD[:5], prefix=True)}', 1)"),
    ("search_notes", f"select id from thea.search_notes(%s, %s, '{groups('pan', negated=True)}', 1)"),
    ("tagged_notes", f"select id from thea.tagged_notes(%s, %s, array['{WORD}'], false)"),
    ("tagged_notes", f"select id from thea.tagged_notes(%s, %s, array['{WORD}'], true)"),
]

# What a session may set, so that the planner would rather read the whole table, or the executor whole pages.
SETTINGS = {
    "nothing": [],
    "no index": ["enable_bitmapscan = off", "enable_indexscan = off", "enable_indexonlyscan = off"],
    "costly index": ["random_page_cost = 1e300", "cpu_index_tuple_cost = 1e300", "cpu_operator_cost = 1e300"],
    "cheap table": ["seq_page_cost = 0", "cpu_tuple_cost = 0", "parallel_setup_cost = 0", "enable_seqscan = on"],
    "little memory": ["work_mem = '64kB'"],
    "generic plans": ["plan_cache_mode = force_generic_plan"],
}

# Notes of the attacker's user, and as many of a user of another tenant who has the same id, two by two on 1,800 pages,
# which are more than `work_mem` has room for where it is small.
FILL = """
insert into thea.notes (tenant_id, user_id, content, search_vector)
select
  t.id, %(user)s, (select string_agg(md5(n::text || k::text), '') from generate_series(1, 44) k),
  thea.note_vector(t.id, %(user)s, null, array[%(word)s], %(word)s)
from generate_series(1, %(notes)s) n
cross join unnest(array[%(mine)s, %(twin)s]) t (id)
order by n, t.id
"""
NOTES = 4500


@pytest.fixture(name="users", scope="module")
def users_fixture(scene: Scene) -> Iterator[dict[str, int]]:
    """Users by what they are: one of the attacker's tenant with notes, and others whom they do not know."""
    own, foreign = 2**40, 2**40 + 1
    run(scene.superuser, "set session_replication_role = replica")
    for number, (tenant, user) in enumerate([(OWN, own), (TWIN, own), (TWIN, foreign)]):
        run(
            scene.superuser,
            "insert into thea.users (tenant_id, id, telegram_id) overriding system value values (%s, %s, %s)",
            tenant, user, number,
        )  # fmt: skip
    run(scene.superuser, FILL, user=own, word=WORD, notes=NOTES, mine=OWN, twin=TWIN)
    run(scene.superuser, FILL, user=foreign, word=WORD, notes=10, mine=TWIN, twin=TWIN)
    run(scene.superuser, "set session_replication_role = origin")
    run(scene.superuser, "analyze thea.notes")
    yield {"own": own, "of another tenant": foreign, "of a third": scene.theirs.ids["users"][0], "nobody": -1}
    run(scene.superuser, "set session_replication_role = replica")
    for table in ("notes", "users"):
        run(scene.superuser, f"delete from thea.{table} where tenant_id in (%s, %s)", OWN, TWIN)
    run(scene.superuser, "set session_replication_role = origin")


def fetched(connection: Connection[Any], table: str = "thea.notes") -> int:
    """How many rows of a table the transaction has fetched, as any login may see."""
    counted = "coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)"
    [(count,)] = run(
        connection, f"select {counted} from pg_stat_xact_user_tables where relid = '{table}'::regclass"
    ).fetchall()
    return int(count)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize(("function", "statement"), SEARCHES, ids=range(len(SEARCHES)))
def test_a_search_fetches_the_users_own_rows_and_no_others(
    attacker: Connection[Any], users: dict[str, int], function: str, statement: str, settings: str
) -> None:
    assert function in statement
    switch(attacker, OWN)
    for setting in SETTINGS[settings]:
        run(attacker, f"set local {setting}")
    found = {}
    for name, user in users.items():
        before = fetched(attacker)
        rows = run(attacker, statement, OWN, user).fetchall()
        found[name] = fetched(attacker) - before, bool(rows)

    assert found.pop("own") == (NOTES, True)
    assert found == dict.fromkeys(found, (0, False))


def test_the_rows_are_on_so_many_pages_that_little_memory_matters(
    scene: Scene, attacker: Connection[Any], users: dict[str, int]
) -> None:
    """The control: what the functions fix is what keeps them from fetching the rows beside."""
    switch(attacker, OWN)
    run(attacker, "set local work_mem = '64kB'")
    user = users["own"]
    for name, arguments in (
        ("search_notes", "text, bigint, jsonb, integer"),
        ("tagged_notes", "text, bigint, text[], boolean"),
    ):
        statement = next(statement for function, statement in SEARCHES if function == name)
        run(scene.superuser, f"alter function thea.{name}({arguments}) reset work_mem")
        try:
            before = fetched(attacker)
            run(attacker, statement, OWN, user)
            assert fetched(attacker) - before > NOTES
        finally:
            run(scene.superuser, f"alter function thea.{name}({arguments}) set work_mem = '256MB'")


def test_every_function_that_is_given_a_tenant_and_reads_as_another_role_is_tried(scene: Scene) -> None:
    functions = scene.ask(
        "select proname from pg_proc where pronamespace = 'thea'::regnamespace and prosecdef"
        " and prorettype <> 'trigger'::regtype and not (proname = any(%s))"
        # Others call what is for them alone: see test_attacks_operators.py.
        " and has_function_privilege('thea_app', oid, 'execute')",
        OF_NO_TENANT,
    )

    assert {name for (name,) in functions} == {function for function, _ in SEARCHES}


@pytest.fixture(name="chains", scope="module")
def chains_fixture(scene: Scene) -> Iterator[None]:
    """Long chains of reads of the attacker's tenant, which wants them noted, and of another one."""
    run(scene.superuser, "set session_replication_role = replica")
    run(
        scene.superuser,
        "insert into thea.activity_log (tenant, kind, place, at, login, action, details, hash)"
        " select t.id, 'reads', n, now(), 'x', 'read', '{}', ''"
        " from generate_series(1, 2000) n cross join unnest(array[%s, %s]) t (id)",
        OWN,
        TWIN,
    )
    run(scene.superuser, "insert into thea.tenants (id, settings) values (%s, '{\"log_reads\": true}')", OWN)
    run(scene.superuser, "analyze thea.activity_log")
    yield
    run(scene.superuser, "delete from thea.activity_log where tenant in (%s, %s)", OWN, TWIN)
    run(scene.superuser, "delete from thea.tenants where id = %s", OWN)
    run(scene.superuser, "set session_replication_role = origin")


@pytest.mark.usefixtures("chains")
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("call", ["call thea.log_read('x', 1)", "call thea.log_export('x')"])
def test_noting_a_read_fetches_nothing_of_any_chain(attacker: Connection[Any], settings: str, call: str) -> None:
    switch(attacker, OWN)
    for setting in SETTINGS[settings]:
        run(attacker, f"set local {setting}")
    # Planned once for all calls, it is still so.
    for _ in range(8):
        before = [fetched(attacker, table) for table in ("thea.activity_log", "thea.noted_reads")]
        run(attacker, call)

        assert [fetched(attacker, table) for table in ("thea.activity_log", "thea.noted_reads")] == before


# They read no row of a tenant for whoever calls them.
OF_NO_TENANT: list[str] = [
    "admitted_tenant",  # reads the session's own tenant in the directory
    "limits_of_calls",  # reads the session's own tenant in the directory
    "limits_of_calls_of",  # the same, of one tenant that it names after the other
    "log_read",  # looks for the session's own tenant in the directory, and adds a row: see below
    "log_export",  # the same
    "tenant_keeps",  # reads the policies of the session's own tenant
]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a:1", 2), ("a", 12)),
        (("a", 12), ("a1", 2)),
        (("2:a", 1), ("a", 12)),
        (("a", 1), ("A", 1)),
        (("a", 1), ("a ", 1)),
        (("ñ" * 50, 1), ("ñ" * 49, 1)),
        (("é", 1), ("e\u0301", 1)),
    ],
)
def test_no_two_users_have_the_same_scope(scene: Scene, one: tuple[str, int], other: tuple[str, int]) -> None:
    [scopes] = scene.ask("select thea.note_scope(%s, %s), thea.note_scope(%s, %s)", *one, *other)

    assert scopes[0] != scopes[1]
    assert {len(scope) for scope in scopes} == {22}
