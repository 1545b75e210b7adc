"""The functions answer for the tenant of the transaction alone, whatever they are given and whoever shadows names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from psycopg import Connection, errors

from tests.isolation.attacks import (  # noqa: F401 - fixtures
    MINE,
    THEIRS,
    Scene,
    app_fixture,
    attacker_fixture,
    group_of,
    refused,
    run,
    scene_fixture,
    switch,
    untouched_fixture,
)

# What a person's data is found by: what the catalogs tell everybody, and rows with the rights of who asks.
OF_PEOPLE = {
    "parents", "short_name", "person_condition", "person_tables", "other_user_ids", "person_rows", "person_row_ids",
}  # fmt: skip

WORD = json.dumps([[{"words": "pan", "phrase": False, "prefix": False, "negated": False}]])

# Whose the found notes are; an id that the reader does not see is somebody else's.
OWNER = "coalesce(n.tenant_id, 'hidden'), n.user_id"
JOINED = "left join thea.notes n on n.id operator(pg_catalog.=) f.id"

# The functions that read as another role; each is given a tenant, a user, and what to look for.
SEARCHES = {
    "search_notes": f"select {OWNER} from thea.search_notes(%(tenant)s, %(user)s, '{WORD}', 100) f {JOINED}",
    "tagged_notes": f"select {OWNER} from thea.tagged_notes(%(tenant)s, %(user)s, array['compra'], false) f {JOINED}",
}

# Names that resolve differently where the search path leads here first.
SHADOWS = """
create schema shadows;
grant usage on schema shadows to public;
create function shadows.yes(text, text) returns boolean language sql immutable return true;
create operator shadows.= (leftarg = text, rightarg = text, function = shadows.yes);
create function shadows.yes(bigint, bigint) returns boolean language sql immutable return true;
create operator shadows.= (leftarg = bigint, rightarg = bigint, function = shadows.yes);
create function shadows.current_setting(text, boolean) returns text language sql return 'tenant-theirs';
create function shadows.to_jsonb(anyelement) returns jsonb language sql as 'select null::pg_catalog.jsonb';
create function shadows.jsonb_strip_nulls(jsonb) returns jsonb language sql return '{"forged": true}'::jsonb;
create function shadows.clock_timestamp() returns timestamptz language sql return 'epoch'::timestamptz;
create function shadows.tenant() returns text language sql return 'tenant-theirs';
create domain shadows.text as pg_catalog.text;
"""


@pytest.fixture
def shadows(scene: Scene, attacker: Connection[Any]) -> Iterator[Connection[Any]]:
    """An attacker for whom somebody with more rights made a schema of shadows."""
    run(scene.superuser, SHADOWS)
    run(attacker, "set search_path = shadows, pg_catalog, thea")
    assert run(attacker, "select 'a' = 'b', current_setting('app.tenant_id', true)").fetchall() == [(True, THEIRS)]
    yield attacker
    attacker.rollback()
    run(scene.superuser, "drop schema shadows cascade")


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("name", [THEIRS, None, "", THEIRS.upper(), f"{THEIRS} ", f" {MINE}", MINE.upper(), "%"])
def test_a_search_for_another_tenant_is_refused(
    scene: Scene, attacker: Connection[Any], search: str, name: str | None
) -> None:
    users = (scene.mine.ids["users"][0], scene.theirs.ids["users"][0])
    for user in (*users, None):
        refused(attacker, SEARCHES[search], tenant=name, user=user, match="not the tenant of the transaction")

    assert run(attacker, SEARCHES[search], tenant=MINE, user=users[0]).fetchall() == [(MINE, users[0])]


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("context", ["%", "_" * len(THEIRS), "tenant-%", THEIRS[:1], THEIRS[:-1], THEIRS[1:], ".*"])
def test_a_search_takes_no_context_for_another(
    scene: Scene, attacker: Connection[Any], search: str, context: str
) -> None:
    switch(attacker, context)

    user = scene.theirs.ids["users"][0]
    refused(attacker, SEARCHES[search], tenant=THEIRS, user=user, match="not the tenant of the transaction")


@pytest.mark.parametrize("search", SEARCHES)
def test_a_refused_search_does_not_tell_who_is_known(scene: Scene, attacker: Connection[Any], search: str) -> None:
    told: list[str] = []
    attacker.add_notice_handler(lambda notice: told.append(str(notice.message_primary)))
    for name in (THEIRS, "nobody"):
        with pytest.raises(errors.InsufficientPrivilege) as denial, attacker.transaction():
            run(attacker, SEARCHES[search], tenant=name, user=scene.theirs.ids["users"][0])
        told.append(str(denial.value))

    assert told[0] == told[1]
    assert len(told) == 2


@pytest.mark.parametrize("search", SEARCHES)
def test_a_search_without_a_context_is_refused(scene: Scene, attacker: Connection[Any], search: str) -> None:
    for context in (None, ""):
        switch(attacker, context)
        for name in (THEIRS, MINE, None, ""):
            user = scene.theirs.ids["users"][0]
            refused(attacker, SEARCHES[search], tenant=name, user=user, match="not the tenant of the transaction")


@pytest.mark.parametrize("search", SEARCHES)
def test_a_search_for_another_tenants_user_finds_nothing(scene: Scene, attacker: Connection[Any], search: str) -> None:
    for user in (*scene.theirs.ids["users"], None, -1, 0):
        assert run(attacker, SEARCHES[search], tenant=MINE, user=user).fetchall() == []


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan", "auto"])
@pytest.mark.parametrize("search", SEARCHES)
def test_a_prepared_search_is_refused_after_a_switch(
    scene: Scene, attacker: Connection[Any], search: str, mode: str
) -> None:
    run(attacker, f"set plan_cache_mode = {mode}")
    own = scene.mine.ids["users"][0]
    for name in ("tenant", "user"):
        assert f"%({name})s" in SEARCHES[search]
    asked = SEARCHES[search].replace("%(tenant)s", "$1").replace("%(user)s", "$2")
    run(attacker, f"prepare asked (text, bigint) as {asked}")
    for _ in range(7):
        assert run(attacker, f"execute asked('{MINE}', {own})").rowcount == 1
    switch(attacker, THEIRS)

    refused(attacker, f"execute asked('{MINE}', {own})", match="not the tenant of the transaction")


@pytest.mark.parametrize(
    "words",
    [
        "pan' | 'SCOPEpan",
        "SCOPE",
        "pan | *",
        "pan:* | !x",
        "'",
        "\\",
        "''':*",
        "pan' || '",
        "x or y",
        "SCOPEpan",
        "SCOPE#compra",
        "#compra' | 'SCOPE#compra",
        "\ue000",
        "<b>",
    ],
)
def test_words_that_are_no_words_reach_no_other_users_notes(
    scene: Scene, attacker: Connection[Any], words: str
) -> None:
    """The index holds all users' words, each with a hash of its tenant and user before it."""
    own = scene.mine.ids["users"][0]
    [(scope,)] = scene.ask("select thea.note_scope(%s, %s)", THEIRS, scene.theirs.ids["users"][0])
    for negated in (True, False):
        for prefix in (True, False):
            text = words.replace("SCOPE", scope)
            term = {"words": text, "phrase": False, "prefix": prefix, "negated": negated, "related": [text]}
            groups = json.dumps([[term]])
            found = run(
                attacker, f"select {OWNER} from thea.search_notes(%s, %s, %s, 100) f {JOINED}", MINE, own, groups
            )
            assert {*found} <= {(MINE, own)}
        statement = f"select {OWNER} from thea.tagged_notes(%s, %s, %s, false) f {JOINED}"
        found = run(attacker, statement, MINE, own, [text])
        assert {*found} <= {(MINE, own)}


@pytest.mark.parametrize("groups", ["null", "1", "[]", "[[]]", '[{"words": "a"}]', '["a"]', '[[{"words": null}]]'])
def test_groups_that_are_none_tell_nothing(scene: Scene, attacker: Connection[Any], groups: str) -> None:
    statement = "select id from thea.search_notes(%s, %s, %s, 100)"
    own, theirs = scene.mine.ids["users"][0], scene.theirs.ids["users"][0]
    told = []
    for user in (own, theirs):
        try:
            with attacker.transaction():
                told.append(run(attacker, statement, MINE, user, groups).fetchall())
        except errors.DataError as error:
            told.append([(error.sqlstate, error.diag.message_primary)])

    assert told[0] == told[1]


def test_what_only_triggers_and_searches_call_is_called_by_nobody_else(scene: Scene, attacker: Connection[Any]) -> None:
    role = group_of(attacker)
    functions = scene.ask(
        "select format('select thea.%%I(%%s)', proname, array_to_string(array(select format('null::%%s', t::regtype)"
        " from unnest(proargtypes) t), ', ')), proname, prorettype = 'trigger'::regtype,"
        " exists (select from aclexplode(proacl) a where a.grantee = %s::regrole and a.privilege_type = 'EXECUTE')"
        " from pg_proc where pronamespace = 'thea'::regnamespace order by 2",
        role,
    )
    callable_by = {
        # Policies ask for the tenant; the searches check it themselves.
        "thea_readonly": {"tenant", "admitted_tenant", "unchecked_tenant", "search_notes", "tagged_notes"}
        | {"limits_of_calls", "limits_of_calls_of", "log_read", "log_export", "is_encrypted", "may_search"}
        | {"has_sealed_texts"}
        | OF_PEOPLE,
        # The triggers that make a note's words and keep the dates of events run as who writes the note or the user.
        "thea_app": {
            "tenant",
            "admitted_tenant",
            "unchecked_tenant",
            "search_notes",
            "tagged_notes",
            "unaccented",
            "separators",
            "grouped_figures",
            "joints",
            "ordinary",
            "normal",
            "spoken",
            "word_forms",
            "note_scope",
            "wholes",
            "words",
            "note_vector",
            "same_day",
            # It writes with the rights of its caller.
            "load_rows",
            "add_message",
            "upsert_event",
            "named_tenant",
            "require_own",
            "references_of",
            "id_here",
            "limits_of_calls",
            "limits_of_calls_of",
            "log_read",
            "log_export",
            "is_encrypted",
            "has_sealed_texts",
            "seals_texts",
            "may_search",
            "tenant_keeps",
            "parents_exist",
        }
        | OF_PEOPLE,
    }[role]

    assert {name for _, name, _, is_granted in functions if is_granted} == callable_by
    for call, name, _, _ in functions:
        if name not in callable_by:
            refused(attacker, call, match="permission denied for function")


def test_the_limits_of_calls_are_told_of_the_sessions_own_tenant_alone(scene: Scene, attacker: Connection[Any]) -> None:
    # Without the trigger that makes quotas of limits.
    run(scene.superuser, "set session_replication_role = replica")
    run(scene.superuser, "update thea.tenants set limits = '{\"calls_in_flight\": 7}' where id = %s", THEIRS)
    try:
        assert run(attacker, "select thea.limits_of_calls()").fetchall() == [({},)]
    finally:
        run(scene.superuser, "update thea.tenants set limits = '{}' where id = %s", THEIRS)
        run(scene.superuser, "reset session_replication_role")


def test_a_shadow_changes_neither_tenant_nor_policy(scene: Scene, shadows: Connection[Any]) -> None:
    assert run(shadows, "select thea.tenant()").fetchall() == [(MINE,)]
    for table in scene.tables:
        assert {tenant for (tenant,) in run(shadows, f"select tenant_id from {table}")} == {MINE}, table


@pytest.mark.parametrize("search", SEARCHES)
def test_a_shadow_opens_no_search(scene: Scene, shadows: Connection[Any], search: str) -> None:
    user = scene.theirs.ids["users"][0]

    refused(shadows, SEARCHES[search], tenant=THEIRS, user=user, match="not the tenant of the transaction")
    assert run(shadows, SEARCHES[search], tenant=MINE, user=user).fetchall() == []


def test_a_shadow_forges_no_entry_of_the_audit_log(scene: Scene, shadows: Connection[Any]) -> None:
    if group_of(shadows) == "thea_readonly":
        refused(shadows, "update thea.users set first_name = 'Eva'")
        return
    user = scene.mine.ids["users"][0]
    run(shadows, f"update thea.users set first_name = 'Eva' where thea.users.id operator(pg_catalog.=) {user}")
    entries = run(
        shadows,
        "select tenant_id, actor, action, before, after, at operator(pg_catalog.>) now() from thea.audit_log"
        " where row_id operator(pg_catalog.=) %s order by at desc limit 1",
        user,
    ).fetchall()

    assert entries == [(MINE, None, "update", {"first_name": "Ana"}, {"first_name": "Eva"}, True)]
