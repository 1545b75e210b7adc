"""Who names no tenant, or none that is, sees and writes nothing; and a context ends when it should."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from psycopg import Connection, errors

from tests.isolation.attacks import (  # noqa: F401 - fixtures
    MINE,
    OF_SECURITY,
    THEIRS,
    Scene,
    alone,
    app_fixture,
    attacker_fixture,
    refused,
    run,
    scene_fixture,
    switch,
    untouched_fixture,
)

# What an attacker might take for another tenant's name, made of that name.
NEARLY: dict[str, Callable[[str], str]] = {
    "in capitals": str.upper,
    "as a title": str.title,
    "with a blank after": lambda name: f"{name} ",
    "with a blank before": lambda name: f" {name}",
    "with a newline": lambda name: f"{name}\n",
    "quoted": lambda name: f"'{name}'",
    "in a list": lambda name: f"{MINE},{name}",
    "in an array": lambda name: "{" + name + "}",
    "with a wildcard": lambda name: f"{name[:-1]}%",
    "wildcards alone": lambda _: "%",
    "with more SQL": lambda name: f"{MINE}' or tenant_id = '{name}",
    "its beginning": lambda name: name[:-1],
    "with a tail": lambda name: f"{name}-2",
    "in other hyphens": lambda name: name.replace("-", "\u2010"),
    "with a zero width": lambda name: f"{name}\u200b",
    "in full width": lambda name: "".join(chr(ord(letter) + 0xFEE0) for letter in name),
    "an empty text": lambda _: "",
    "a blank": lambda _: " ",
    "the word null": lambda _: "null",
    "the word default": lambda _: "default",
}

INSERT = "insert into thea.users (tenant_id, telegram_id) values (%s, 7)"


def seen(connection: Connection[Any], scene: Scene) -> set[str]:
    """The tenants of all rows that a connection is shown."""
    union = " union ".join(f"select tenant_id from {table}" for table in scene.tables)
    return {tenant for (tenant,) in run(connection, union)}


def is_nobody(connection: Connection[Any], scene: Scene) -> bool:
    return run(connection, "select thea.tenant()").fetchall() == [(None,)] and seen(connection, scene) == set()


def test_a_new_connection_is_nobodys(scene: Scene) -> None:
    for url in scene.urls.values():
        with Connection.connect(url) as connection:
            assert is_nobody(connection, scene)

            switch(connection, MINE)
            assert seen(connection, scene) == {MINE}
            connection.rollback()


def test_without_a_tenant_nothing_is_written(scene: Scene) -> None:
    with Connection.connect(scene.urls["app"]) as connection:
        for tenant in (MINE, THEIRS, "", None):
            refused(connection, INSERT, tenant, match=OF_SECURITY)
        for table in scene.written:
            assert run(connection, f"update {table} set deleted_at = now()").rowcount == 0
            assert run(connection, f"delete from {table}").rowcount == 0
        connection.rollback()


def test_a_name_that_is_nearly_right_is_wrong(scene: Scene, attacker: Connection[Any]) -> None:
    for way, altered in NEARLY.items():
        switch(attacker, altered(THEIRS))

        assert seen(attacker, scene) == set(), way
        switch(attacker, MINE)
        assert seen(attacker, scene) == {MINE}


@pytest.mark.parametrize("name", ["", " ", f" {THEIRS}", f"{THEIRS} ", f"{THEIRS}\n", "x" * 51])
def test_a_name_that_is_none_takes_no_rows(app: Connection[Any], name: str) -> None:
    switch(app, name)

    # To row security the empty name is no tenant at all; the others are refused by the tables.
    refused(
        app,
        INSERT,
        name,
        by=(errors.CheckViolation, errors.InsufficientPrivilege),
        match=f"tenant_id_check|{OF_SECURITY}",
    )


@pytest.mark.parametrize(
    "ending",
    [
        "reset app.tenant_id",
        "set app.tenant_id to default",
        "reset all",
        "discard all",
        "set local app.tenant_id = ''",
        "select set_config('app.tenant_id', null, false)",
        "set app.tenant_id = ''",
    ],
)
def test_an_ended_context_is_nobodys(scene: Scene, attacker: Connection[Any], ending: str) -> None:
    if ending.startswith("discard"):
        alone(attacker)
    run(attacker, ending)

    assert is_nobody(attacker, scene)


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_context_of_a_transaction_ends_with_it(scene: Scene, end: str) -> None:
    for url in scene.urls.values():
        with Connection.connect(url, autocommit=True) as connection:
            run(connection, "begin")
            run(connection, f"set local app.tenant_id = '{MINE}'")
            assert seen(connection, scene) == {MINE}

            run(connection, end)
            assert run(connection, "select current_setting('app.tenant_id')").fetchall() == [("",)]
            assert is_nobody(connection, scene)


def test_a_context_that_was_rolled_back_is_the_one_before(scene: Scene, attacker: Connection[Any]) -> None:
    for is_local in (True, False):
        run(attacker, "savepoint here")
        switch(attacker, THEIRS, local=is_local)
        assert seen(attacker, scene) == {THEIRS}
        run(attacker, "rollback to here")

        assert seen(attacker, scene) == {MINE}


def test_a_released_savepoint_hands_its_context_on_to_the_transaction_and_no_further(
    scene: Scene, attacker: Connection[Any]
) -> None:
    run(attacker, "savepoint here")
    switch(attacker, THEIRS)
    run(attacker, "release here")
    assert seen(attacker, scene) == {THEIRS}

    attacker.rollback()
    assert seen(attacker, scene) == {MINE}


def test_an_error_that_was_caught_takes_its_context_along(scene: Scene, attacker: Connection[Any]) -> None:
    run(
        attacker,
        f"do $$ begin begin perform set_config('app.tenant_id', '{THEIRS}', true); perform 1 / 0;"
        " exception when division_by_zero then null; end; end $$",
    )

    assert seen(attacker, scene) == {MINE}


def test_a_context_reaches_no_other_session(scene: Scene, attacker: Connection[Any]) -> None:
    with scene.connected("app", THEIRS) as other:
        assert seen(other, scene) == {THEIRS}
        assert seen(attacker, scene) == {MINE}


@pytest.mark.parametrize(
    "statement",
    [
        "alter role current_user set app.tenant_id = '{tenant}'",
        "alter role current_user in database {database} set app.tenant_id = '{tenant}'",
        "alter role all set app.tenant_id = '{tenant}'",
        "alter database {database} set app.tenant_id = '{tenant}'",
        "alter system set app.tenant_id = '{tenant}'",
        "alter function thea.tenant() set app.tenant_id = '{tenant}'",
    ],
)
def test_no_context_is_left_for_those_who_connect_later(
    scene: Scene, attacker: Connection[Any], statement: str
) -> None:
    if statement.startswith("alter system"):
        alone(attacker)
        with pytest.raises(errors.InsufficientPrivilege):
            run(attacker, statement.format(tenant=THEIRS, database=scene.database.name))
        return

    refused(attacker, statement.format(tenant=THEIRS, database=scene.database.name))
