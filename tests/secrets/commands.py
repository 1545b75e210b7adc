"""The command line with marked values in its files and URLs, on databases on which it works and fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from tests.secrets.failures import Scene, exported
from tests.support import logins
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
    with logins.guarded_login(scene.database, scene.marks.password) as login:
        yield login.url
