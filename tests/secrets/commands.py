"""The command line with marked values in its files and URLs, on databases on which it works and fails."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
from psycopg import sql

from tests.secrets.failures import Scene, exported
from thea_store.postgres.url import DatabaseUrl


def commands(scene: Scene) -> list[list[str]]:
    """Each command, for people and for machines."""
    importing = ["import", "telegram", str(exported(scene))]
    return [
        ["migrate"],
        ["migrate", "--dry-run", "--json"],
        ["check"],
        ["check", "--json"],
        ["doctor"],
        ["doctor", "--json"],
        ["schema"],
        ["schema", "--json"],
        [*importing, "--tenant", scene.tenant],
        [*importing, "--tenant", "acme", "--json"],  # it repeats the tenant that it was given
        broken_import(scene),
        ["import", "telegram", str(scene.directory), "--tenant", scene.tenant],
    ]


def broken_import(scene: Scene) -> list[str]:
    whole = exported(scene)
    broken = whole.rename(whole.with_name("broken.json"))
    broken.write_bytes(broken.read_bytes()[:-60])
    return ["import", "telegram", str(broken), "--tenant", scene.tenant]


def situations(scene: Scene, login: str) -> list[dict[str, str]]:
    """Environments: all is well, the password is wrong, there is no server, no schema, no proper URL."""
    migrator = replace(DatabaseUrl.parse(scene.database.migrator_url), password=scene.marks.password).render()
    address = DatabaseUrl.parse(login)
    urls = (
        (login, migrator),
        (replace(address, password=f"{scene.marks.password}!").render(), login),
        (scene.url(hosts=(("/nowhere", 1),)), scene.url(hosts=(("/nowhere", 1),))),
        (replace(address, database="postgres").render(), migrator),
        (f"postgresql://ana:{scene.marks.password}@/db?host=/nowhere", f"postgresql://ana:{scene.marks.secret}"),
    )
    return [{"DATABASE_URL": service, "DATABASE_MIGRATOR_URL": own} for service, own in urls]


@contextmanager
def guarded_login(scene: Scene) -> Iterator[str]:
    """The URL of a service's login with the marked password, for which the server asks."""
    role = f"thea_test_{uuid.uuid4().hex[:12]}"
    statement = sql.SQL("create role {} login password {} in role thea_app")
    scene.superuser.execute(statement.format(sql.Identifier(role), sql.Literal(scene.marks.password)))
    url = scene.url(user=role)
    try:
        if DatabaseUrl.parse(url).hosts[0][0].startswith("/"):  # a socket, at which our own server trusts everybody
            with _asked(scene.superuser, role, url):
                yield url
        else:
            yield url
    finally:
        scene.superuser.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


@contextmanager
def _asked(superuser: psycopg.Connection[Any], role: str, url: str) -> Iterator[None]:
    [(path, rules)] = superuser.execute(
        "select setting, pg_read_file(setting) from pg_settings where name = 'hba_file'"
    ).fetchall()
    _write(superuser, path, f"local all {role} scram-sha-256\n{rules}")
    try:
        while lets_in(replace(DatabaseUrl.parse(url), password="wrong").render()):
            pass
        yield
    finally:
        _write(superuser, path, rules)


def lets_in(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def _write(superuser: psycopg.Connection[Any], path: str, rules: str) -> None:
    # Its lines hold neither a backslash nor another sign that COPY would change, but for tabs.
    lines = rules.replace("\t", " ").splitlines()
    statement = sql.SQL("copy (select unnest({}::text[])) to {}")
    superuser.execute(statement.format(sql.Literal(lines), sql.Literal(path)))
    superuser.execute("select pg_reload_conf()")
