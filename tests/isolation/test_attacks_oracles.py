"""What is not shown is not told by errors, conflicts, waits, sequences or statistics either."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from psycopg import Connection, errors

from tests.isolation.attacks import (  # noqa: F401 - fixtures
    MINE,
    OF_SECURITY,
    THEIRS,
    Scene,
    app_fixture,
    attacker_fixture,
    group_of,
    refused,
    run,
    scene_fixture,
    undone,
    untouched_fixture,
)

# Each fails as soon as it is worked out for a row with the id %(id)s, wherever the condition stands.
ERRORS = {
    "dividing": "select from {t} where 1 / (case when id = %(id)s then 0 else 1 end) = 1",
    "casting": "select from {t} where (case when id = %(id)s then tenant_id else '1' end)::int = 1",
    "in an order": "select from {t} order by 1 / (case when id = %(id)s then 0 else 1 end)",
    "in a join": "select from {t} a join {t} b on b.id = a.id and 1 / (case when b.id = %(id)s then 0 else 1 end) = 1",
    "in groups": "select from {t} group by id having 1 / (case when id = %(id)s then 0 else 1 end) = 1",
    "in an aggregate": "select sum(1) filter (where 1 / (case when id = %(id)s then 0 else 1 end) = 1) from {t}",
    "in a barrier": "select from (table {t} offset 0) x where 1 / (case when id = %(id)s then 0 else 1 end) = 1",
    "in an update": "update {t} set deleted_at = now() where 1 / (case when id = %(id)s then 0 else 1 end) = 1",
    "in a deletion": "delete from {t} where 1 / (case when id = %(id)s then 0 else 1 end) = 1",
}

COPIED = (
    "insert into {t} ({columns}) overriding system value select {columns} from jsonb_populate_record(null::{t}, %s)"
)


@pytest.fixture(scope="module")
def shouting(scene: Scene) -> Iterator[str]:
    """A function that tells whatever it is given, and pretends to cost nothing."""
    run(scene.superuser, "create schema tools")
    run(scene.superuser, "grant usage on schema tools to public")
    run(
        scene.superuser,
        "create function tools.shout(text) returns boolean cost 0.0000001 language plpgsql"
        " as $$ begin raise notice '%', $1; return true; end $$",
    )
    yield "tools.shout"
    run(scene.superuser, "drop schema tools cascade")


def insertion(table: str, row: dict[str, Any]) -> tuple[str, str]:
    """The statement and the value that insert a row of which all columns are known."""
    return COPIED.format(t=table, columns=", ".join(row)), json.dumps(row)


@pytest.mark.parametrize("way", ERRORS)
def test_no_condition_is_worked_out_on_a_foreign_row(scene: Scene, app: Connection[Any], way: str) -> None:
    failures = (errors.DivisionByZero, errors.InvalidTextRepresentation)
    for table in scene.written:
        statement = ERRORS[way].replace("= %(id)s", "= any(%(ids)s)").format(t=table)
        with undone(app):
            run(app, statement, ids=scene.ids(table, THEIRS))

        refused(app, statement, ids=scene.ids(table, MINE), by=failures, match="")


@pytest.mark.parametrize(
    "statement",
    [
        "select from {t} where {f}(tenant_id)",
        "select from {t} where tenant_id = 'tenant-theirs' or {f}(tenant_id)",
        "select from {t} a join {t} b on {f}(a.tenant_id || b.tenant_id)",
        "select from {t} order by {f}(tenant_id)",
        "select from (select * from {t}) x where {f}(x::text) limit 1000",
        "select from {t} where {f}(tenant_id) and id in (select id from {t} where {f}(tenant_id))",
        "select from {t} where not {f}(tenant_id) or exists (select from {t} y where {f}(y.tenant_id))",
    ],
)
def test_a_function_that_tells_what_it_is_given_is_not_given_foreign_rows(
    scene: Scene, attacker: Connection[Any], shouting: str, statement: str
) -> None:
    heard: list[str] = []
    attacker.add_notice_handler(lambda notice: heard.append(notice.message_primary or ""))
    for table in scene.tables:
        heard.clear()
        run(attacker, statement.format(t=table, f=shouting))

        assert any(MINE in words for words in heard), table
        assert not any(THEIRS in words for words in heard), table


def test_a_reference_to_a_foreign_row_fails_like_one_to_none(scene: Scene, app: Connection[Any]) -> None:
    references = scene.ask(
        "select k.conrelid::regclass::text, k.confrelid::regclass::text, a.attname from pg_constraint k"
        " join pg_attribute a on a.attrelid = k.conrelid and a.attnum = any(k.conkey) and a.attname <> 'tenant_id'"
        " where k.contype = 'f' and k.connamespace = 'thea'::regnamespace"
    )
    assert references
    for table, parent, column in references:
        row = scene.row(table, MINE) | {"id": 900_000_001, "session_id": "free", "external_id": None}
        row = {name: value for name, value in row.items() if name in scene.row(table, MINE)}
        told = []
        for wanted in (scene.ids(parent, THEIRS)[0], 900_000_002):
            statement, value = insertion(table, row | {column: wanted})
            error = refused(app, statement, value, by=errors.ForeignKeyViolation, match="foreign key")
            told.append((error.sqlstate, error.diag.constraint_name, str(error).replace(str(wanted), "?")))
        statement, value = insertion(table, row)
        with undone(app):
            run(app, statement, value)

        assert told[0] == told[1], (table, column)


def test_what_is_taken_by_another_tenant_is_free(scene: Scene, app: Connection[Any]) -> None:
    for table in scene.written:
        row = scene.row(table, THEIRS)
        if "user_id" in row:
            row |= {"user_id": scene.mine.ids["users"][0]}
        if "conversation_id" in row:
            row |= {"conversation_id": scene.mine.ids["conversations"][0]}
        statement, value = insertion(table, row | {"tenant_id": MINE})
        for ending in ("", " on conflict do nothing", " on conflict (tenant_id, id) do update set deleted_at = null"):
            with undone(app):
                # The attacker's own rows have the same values, all but the ids.
                taken = [name for name in ("telegram_id", "session_id", "external_id") if row.get(name) is not None]
                for name in taken:
                    run(app, f"delete from {table} where {name} = %s", row[name])

                assert run(app, f"{statement}{ending} returning id", value).fetchall() == [(row["id"],)], table


@pytest.mark.parametrize(
    "ending",
    [
        "",
        " on conflict do nothing",
        " on conflict (tenant_id, id) do nothing",
        " on conflict (tenant_id, id) do update set deleted_at = null",
        " on conflict (tenant_id, id) do update set deleted_at = null where false",
        " returning id",
    ],
)
def test_whether_a_foreign_row_exists_makes_no_difference_to_an_insert(
    scene: Scene, app: Connection[Any], ending: str
) -> None:
    for table in scene.written:
        there = scene.row(table, THEIRS)
        told = set()
        for row in (there, there | {"id": 900_000_003}):
            statement, value = insertion(table, row)
            told.add(str(refused(app, statement + ending, value, match=OF_SECURITY)))

        assert len(told) == 1, table


def test_an_insert_of_ones_own_row_that_is_there_is_a_conflict(scene: Scene, app: Connection[Any]) -> None:
    for table in scene.written:
        statement, value = insertion(table, scene.row(table, MINE))

        refused(app, statement, value, by=errors.UniqueViolation, match="duplicate key")
        assert run(app, f"{statement} on conflict do nothing returning id", value).fetchall() == []


def test_sequences_tell_and_take_nothing(scene: Scene, attacker: Connection[Any]) -> None:
    sequences = [name for (name,) in scene.ask("select oid::regclass::text from pg_class where relkind = 'S'")]
    used = {"thea.keystone"} | ({"thea.message_history_id_seq"} if group_of(attacker) == "thea_app" else set())

    assert len(sequences) >= len(scene.written)
    for name in sequences:
        refused(attacker, f"select last_value from {name}")
        refused(attacker, f"select setval('{name}', 1)")
        refused(attacker, f"alter sequence {name} restart")
        if name in used:
            run(attacker, f"select nextval('{name}')")
        else:
            refused(attacker, f"select nextval('{name}')")
            refused(attacker, f"select currval('{name}')")


def test_statistics_of_values_are_closed(scene: Scene, attacker: Connection[Any]) -> None:
    run(scene.superuser, "analyze")
    known = "select from pg_stats where schemaname = 'thea' and most_common_vals::text like '%tenant-theirs%'"

    # A value that is in one row alone is none of the most common.
    assert len(scene.ask(known)) >= sum(count > 1 for count in scene.counts.values())
    for view in ("pg_stats", "pg_stats_ext", "pg_stats_ext_exprs"):
        assert run(attacker, f"select from {view} where schemaname = 'thea'").fetchall() == []
    for catalog in ("pg_statistic", "pg_statistic_ext_data"):
        refused(attacker, f"select from {catalog}")
