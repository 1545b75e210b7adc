"""Hostile tenant ids, actors and request ids, which are told to the server as text: each is itself and no other."""

from __future__ import annotations

import unicodedata
from collections.abc import AsyncIterator, Callable
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from tests.hostile.texts import MARK, NOWHERE, PLAIN, REFUSED, SOMEWHERE, closed_store, given
from tests.support.calls import CALLS, Call
from thea_store import InvalidArgumentError, InvalidTenantError, Settings, Store
from thea_store.queries.arguments import check_tenant
from thea_store.testing import TestDatabase

Superuser = psycopg.Connection[Any]

# Some of them differ in what folding, normalizing, trimming or unescaping would take away.
# fmt: off
TENANTS = [
    *("'", "''", "\\", "\\'", "'\\", "\\\\", "a\\", "a\\'", '"', '""', "o'neill", "a''b", 'a"b', "$$", "$1", "%s"),
    *("victim", "Victim", "victim'", "'victim'", "E'victim'", "victim\\", "victim\\0", "\\x76ictim", "victim\u200b"),
    *("x'; set app.tenant_id = 'victim", "x'; reset app.tenant_id", "x', 'victim", "victim, other", "x || 'victim'"),
    *("default", "null", "NULL", "on", "0", "-1", "%", "_", "?", "{}", "tenant_id", "current_user", "thea.tenant()"),
    *("é", "e\u0301", "ﬁ", "fi", "\uff41", "a", "A", "ß", "ss", "ẞ", "İ", "i", "\u0131", "Σ", "ς", "\u03c3", "\u212b"),
    *("a b", "a  b", "a\u00a0b", "a\u2028b", "a\u200bb", "ab", "\u200b", "\ufeff", "\u2060", "\u202ea", "\u00ad"),
    *("\uffff", "\ufdd0", "\U0010ffff", "\ue000", "👩\u200d👩\u200d👧", "👩", "𐐀" * 50, "x" * 50, "--", ";", "\u037e"),
]
NEARLY = ["", " ", " a", "a ", "\ta", "a\n", "a\x1bb", "a\x7fb", "a\x85b", "\u00a0a", "a\u3000", "x" * 51, "𐐀" * 51]
# fmt: on
NO_TENANTS: dict[str, Any] = {
    **REFUSED,
    **{repr(other): other for other in [*NEARLY, None, 5, b"a", ["a"], True]},
    "a text of another kind": type("Text", (str,), {})("a"),
}


@pytest_asyncio.fixture(scope="module")
async def closed() -> Store:
    return await closed_store()


# --- tenants ------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS, ids=str)
async def test_what_is_no_tenant_is_refused_by_every_call_before_there_is_a_connection(
    closed: Store, call: Call
) -> None:
    arguments = given(call, NOWHERE)
    for tenant in NO_TENANTS.values():
        with pytest.raises(InvalidTenantError) as refused:
            await call.run(closed, tenant, arguments)

        assert MARK not in str(refused.value)


@pytest.mark.parametrize("tenant", NO_TENANTS.values(), ids=NO_TENANTS)
def test_what_is_no_tenant_has_no_transaction(closed: Store, tenant: Any) -> None:
    with pytest.raises(InvalidTenantError):
        closed.transaction(tenant)


def test_what_is_taken_for_a_tenant_is_one_to_the_server_too(superuser: Superuser) -> None:
    """Every character of Unicode that may be a blank or a control to somebody, at both ends and in the middle."""
    odd = [
        chr(code) for code in range(1, 0x110000) if unicodedata.category(chr(code)) in {"Cc", "Cf", "Zs", "Zl", "Zp"}
    ]
    names = [form.format(character) for character in odd for form in ("a{}b", "{}b", "a{}", "{}")]
    taken = [name for name in names if _is_tenant(name)]
    checks = superuser.execute(
        "select distinct pg_get_expr(conbin, conrelid) from pg_constraint where conname like '%tenant_id_check'"
    ).fetchall()

    assert len(taken) > 500
    for (check,) in checks:
        refused = f"select tenant_id from unnest(%s::text[]) as t (tenant_id) where not ({check})"
        assert superuser.execute(refused, [taken]).fetchall() == []


def _is_tenant(name: str) -> bool:
    try:
        check_tenant(name)
    except InvalidTenantError:
        return False
    return True


@pytest.fixture(scope="module")
def old_database(thea_new_database: Callable[[], TestDatabase]) -> TestDatabase:
    """A database in which a backslash escapes in every string, as in the last century."""
    database = thea_new_database()
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        connection.execute(f"alter database {connection.info.dbname} set standard_conforming_strings = off")
        connection.execute(f"alter database {connection.info.dbname} set backslash_quote = off")
    return database


@pytest_asyncio.fixture(params=["session", "transaction", "session, old", "transaction, old"])
async def single(request: pytest.FixtureRequest, thea_database: TestDatabase) -> AsyncIterator[tuple[Store, Superuser]]:
    """A store of one connection, which all tenants share, and a superuser beside it."""
    scope, _, age = request.param.partition(", ")
    database: TestDatabase = request.getfixturevalue("old_database") if age else thea_database
    settings = Settings(url=database.app_url, pool_size=1, max_overflow=0, tenant_scope=scope)
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        found = connection.execute("show standard_conforming_strings").fetchone()
        assert found == ("off" if age else "on",)
        async with Store.open(settings) as store:
            yield store, connection


async def test_tenants_of_hostile_names_have_each_its_own_rows(single: tuple[Store, Superuser]) -> None:
    store, superuser = single
    number = superuser.execute("select coalesce(max(telegram_id), 0) + 1 from thea.users").fetchone()
    assert number is not None
    for tenant in TENANTS:
        async with store.transaction(tenant, actor=tenant, request_id=tenant) as tx:
            await tx.users.create(tenant, telegram_id=number[0], first_name=tenant)
    found = superuser.execute("select tenant_id, first_name from thea.users where telegram_id = %s", number).fetchall()

    assert len(set(TENANTS)) == len(TENANTS)
    assert sorted(found) == sorted((tenant, tenant) for tenant in TENANTS)
    for tenant in TENANTS:
        users = (await store.users.get_all(tenant, limit=1000)).items
        [entry, *_] = (await store.audit.get_all(tenant, actor=tenant)).items

        # Another test may have taken so simple a name as `a`.
        assert {user.tenant_id for user in users} == {tenant}
        assert [user.first_name for user in users if user.telegram_id == number[0]] == [tenant]
        assert (entry.actor, entry.request_id, entry.after and entry.after["first_name"]) == (tenant, tenant, tenant)


# --- what else a transaction is told --------------------------------------------------------------


async def test_an_actor_and_a_request_are_in_the_audit_log_as_they_were_given(
    single: tuple[Store, Superuser], tenant: str
) -> None:
    store, _ = single
    for text in PLAIN.values():
        async with store.transaction(tenant, actor=text, request_id=text) as tx:
            user = await tx.users.create(tenant, telegram_id=hash(text))
        [entry] = await store.audit.get_for(tenant, "users", user.id)

        assert (entry.actor, entry.request_id) == (text, text)


@pytest.mark.parametrize("argument", ["actor", "request_id", "isolation"])
def test_what_a_transaction_does_not_take_is_refused_before_there_is_a_connection(closed: Store, argument: str) -> None:
    texts = REFUSED if argument != "isolation" else PLAIN | REFUSED | SOMEWHERE
    for text in ["", *texts.values(), 5, b"a", object()]:
        options: dict[str, Any] = {argument: text}
        with pytest.raises(InvalidArgumentError) as refused:
            closed.transaction("acme", **options)

        assert refused.value.argument == argument
        assert MARK not in str(refused.value)
