"""What others did to the database or the login, told as an error of the library that quotes no row."""

from __future__ import annotations

import traceback
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from thea_store import Store, StoreError, User
from thea_store.postgres.url import DatabaseUrl
from thea_store.testing import TestDatabase


async def test_a_row_that_fits_no_record_is_not_quoted(
    store: Store, tenant: str, user: User, superuser: psycopg.Connection[Any]
) -> None:
    message = await store.messages.add_message(tenant, user.id, "s", user_message="x")
    superuser.execute(
        "update thea.message_history set entities_extracted = '\"a secret\"' where tenant_id = %s", [tenant]
    )

    with pytest.raises(StoreError, match=r"messages\.get_by_id: entities_extracted .* Message") as caught:
        await store.messages.get_by_id(tenant, message.id)
    assert "a secret" not in "".join(traceback.format_exception_only(caught.value))
    assert caught.value.__cause__ is None


async def test_a_login_without_the_role_is_told_what_it_lacks(
    thea_database: TestDatabase, superuser: psycopg.Connection[Any]
) -> None:
    login = f"stranger_{thea_database.name}"[:63]
    superuser.execute(f"create role {login} login password 'stranger'".encode())
    try:
        url = replace(DatabaseUrl.parse(thea_database.app_url), user=login, password="stranger").render()
        with pytest.raises(StoreError, match="grant thea_app to"):
            await Store.open(url)
    finally:
        superuser.execute(f"drop role {login}".encode())
