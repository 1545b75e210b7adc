"""A login takes on no other role, sees nothing without row security, hands on no right, and locks no log."""

from __future__ import annotations

import re
from typing import Any

import pytest
from psycopg import Connection, errors

from tests.isolation.attacks import (  # noqa: F401 - fixtures
    MINE,
    Scene,
    alone,
    app_fixture,
    attacker_fixture,
    group_of,
    reader_fixture,
    refused,
    run,
    scene_fixture,
    untouched_fixture,
)


@pytest.mark.parametrize(
    "way",
    [
        'set role "{r}"',
        'set local role "{r}"',
        "select set_config('role', '{r}', true)",
        'set session authorization "{r}"',
        "select set_config('session_authorization', '{r}', true)",
    ],
)
def test_no_other_role_can_be_taken_on(scene: Scene, attacker: Connection[Any], way: str) -> None:
    roles = {role for (role,) in scene.ask("select rolname from pg_roles")}
    others = roles - {attacker.info.user, group_of(attacker)}

    assert others > {"thea_owner", "thea_maintenance", "thea_search"}
    for role in others:
        refused(attacker, way.format(r=role))


def test_the_group_itself_is_no_more_than_its_member(attacker: Connection[Any]) -> None:
    group = group_of(attacker)
    for statement in (f"set role {group}", "set role none", "reset role", "set session authorization default"):
        run(attacker, statement)

        refused(attacker, "set role thea_owner")
        refused(attacker, "truncate thea.users")
        assert {tenant for (tenant,) in run(attacker, "select tenant_id from thea.users")} == {MINE}


@pytest.mark.parametrize(
    "way",
    [
        "set row_security = off",
        "set local row_security = off",
        "select set_config('row_security', 'off', false)",
        "update pg_settings set setting = 'off' where name = 'row_security'",
    ],
)
def test_without_row_security_there_is_an_error_instead_of_rows(
    scene: Scene, attacker: Connection[Any], way: str
) -> None:
    run(attacker, way)
    for table in scene.tables:
        for statement in (
            "select from {t}",
            "select count(*) from {t}",
            "copy {t} to stdout",
            "select from {t} where false",
        ):
            refused(attacker, statement.format(t=table), match="would be affected by row-level security")
        if group_of(attacker) == "thea_app" and table in scene.written:
            for statement in ("update {t} set deleted_at = null", "delete from {t}"):
                refused(attacker, statement.format(t=table), match="would be affected by row-level security")


def test_rights_are_neither_given_nor_taken(scene: Scene, attacker: Connection[Any]) -> None:
    rights = (
        "select oid::text, relacl::text from pg_class union all select oid::text, proacl::text from pg_proc"
        " union all select oid::text, nspacl::text from pg_namespace"
        " union all select oid::text, datacl::text from pg_database"
        " union all select oid::text, attacl::text from pg_attribute, pg_class where attrelid = oid order by 1, 2"
    )
    before = run(attacker, rights).fetchall()
    warned: list[str] = []
    attacker.add_notice_handler(lambda notice: warned.append(notice.message_primary or ""))
    for table in scene.tables:
        for statement in (
            "grant select on {t} to public",
            "grant all on {t} to current_user with grant option",
            "grant select (tenant_id) on {t} to thea_maintenance",
            "revoke select on {t} from thea_readonly",
            "revoke all on {t} from thea_app cascade",
        ):
            warned.clear()
            run(attacker, statement.format(t=table))

            assert any(re.match("no privileges (were granted|could be revoked)", words) for words in warned), statement
    for statement in (
        "grant create on schema thea to current_user",
        "grant temporary on database {d} to current_user",
        "grant execute on function thea.tenant() to public",
        "revoke execute on function thea.tenant() from thea_app, thea_readonly",
        "revoke usage on schema thea from thea_app, thea_readonly",
    ):
        run(attacker, statement.format(d=scene.database.name))
    for statement in ("grant execute on function thea.audit() to public", "grant thea_app to public"):
        refused(
            attacker,
            statement,
            by=(errors.InsufficientPrivilege, errors.InvalidGrantOperation, errors.UndefinedObject),
            match="",
        )

    assert run(attacker, rights).fetchall() == before


def test_statistics_and_storage_are_left_alone(scene: Scene, attacker: Connection[Any]) -> None:
    warned: list[str] = []
    attacker.add_notice_handler(lambda notice: warned.append(notice.message_primary or ""))
    alone(attacker)
    for table in scene.tables:
        for statement in ("analyze {t}", "vacuum {t}", "vacuum full {t}"):
            warned.clear()
            run(attacker, statement.format(t=table))

            assert any(re.search("permission denied|only table or database owner", words) for words in warned), (
                statement
            )
        with pytest.raises(errors.InsufficientPrivilege):
            run(attacker, f"cluster {table} using {table.removeprefix('thea.')}_pkey")
    for statement in (
        "alter system set row_security = off",
        "create database mine",
        f"drop database {scene.database.name}",
        "create tablespace mine location '/tmp'",
        "create subscription mine connection '' publication mine",
        "checkpoint",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            run(attacker, statement)


@pytest.mark.parametrize("mode", ["share update exclusive", "share", "exclusive", "access exclusive"])
def test_a_reader_locks_out_nobody(scene: Scene, reader: Connection[Any], mode: str) -> None:
    for table in scene.tables:
        refused(reader, f"lock table {table} in {mode} mode")
    run(reader, "lock table thea.users in access share mode")


def test_the_audit_log_is_locked_by_nobody(attacker: Connection[Any]) -> None:
    for mode in ("row share", "row exclusive", "share", "access exclusive"):
        refused(attacker, f"lock table thea.audit_log in {mode} mode")


@pytest.mark.parametrize("login", ["app", "reader"])
def test_the_policies_of_the_group_stay(scene: Scene, login: str) -> None:
    policies = "select tablename, policyname, roles from pg_policies order by 1, 2"
    before = scene.ask(policies)
    with scene.connected(login) as attacker:
        refused(attacker, f"drop owned by {group_of(attacker)} cascade")

    assert scene.ask(policies) == before
