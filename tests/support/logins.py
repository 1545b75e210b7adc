"""A service's login for whose password the server really asks."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql

from thea_store.postgres.url import DatabaseUrl
from thea_store.testing import TestDatabase


@dataclass(frozen=True)
class GuardedLogin:
    """A member of `thea_app`, with the URL that its first password opens."""

    superuser: psycopg.Connection[Any]
    role: str
    url: str

    def change_password(self, password: str) -> None:
        statement = sql.SQL("alter role {} password {}")
        self.superuser.execute(statement.format(sql.Identifier(self.role), sql.Literal(password)))


@contextmanager
def guarded_login(database: TestDatabase, password: str) -> Iterator[GuardedLogin]:
    role = f"thea_test_{uuid.uuid4().hex[:12]}"
    url = replace(DatabaseUrl.parse(database.app_url), user=role, password=password).render()
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        statement = sql.SQL("create role {} login password {} in role thea_app")
        superuser.execute(statement.format(sql.Identifier(role), sql.Literal(password)))
        login = GuardedLogin(superuser, role, url)
        try:
            if DatabaseUrl.parse(url).hosts[0][0].startswith("/"):  # a socket, at which our own server trusts everybody
                with _asked(login):
                    yield login
            else:
                yield login
        finally:
            superuser.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


def lets_in(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


@contextmanager
def _asked(login: GuardedLogin) -> Iterator[None]:
    [(path, rules)] = login.superuser.execute(
        "select setting, pg_read_file(setting) from pg_settings where name = 'hba_file'"
    ).fetchall()
    _write(login.superuser, path, f"local all {login.role} scram-sha-256\n{rules}")
    try:
        while lets_in(replace(DatabaseUrl.parse(login.url), password="wrong").render()):
            pass
        yield
    finally:
        _write(login.superuser, path, rules)


def _write(superuser: psycopg.Connection[Any], path: str, rules: str) -> None:
    # Its lines hold neither a backslash nor another sign that COPY would change, but for tabs.
    lines = rules.replace("\t", " ").splitlines()
    statement = sql.SQL("copy (select unnest({}::text[])) to {}")
    superuser.execute(statement.format(sql.Literal(lines), sql.Literal(path)))
    superuser.execute("select pg_reload_conf()")
