"""What is wrong with a database, and the fix for each thing.

It looks, and changes nothing. The service's login suffices; what only the owner may see is looked at
with the migrator's, where that is given. A part that cannot be looked at is a finding, and the others
go on. The fixes in SQL are for a member of `thea_owner`, or for a superuser where they concern logins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import psycopg
from psycopg import Connection

from thea_store.admin.doctor import (
    grants,
    history,
    login,
    neighbours,
    others,
    people,
    security,
    sequences,
    server,
    tables,
)
from thea_store.admin.doctor.findings import Check, CheckContext, Finding, State, run_checks, split_fix
from thea_store.admin.doctor.shipped import compare_with_shipped
from thea_store.errors import StoreError
from thea_store.postgres.operator import UnreachableError, connect
from thea_store.settings import EMBEDDED, Settings

__all__ = ["Finding", "State", "examine"]

_HAS_SCHEMA = "select to_regnamespace('thea') is not null"

_SCHEMA: Mapping[str, Check] = {
    **grants.CHECKS,
    **security.CHECKS,
    **tables.CHECKS,
    **sequences.CHECKS,
    **neighbours.CHECKS,
    **people.CHECKS,
}


def examine(settings: Settings) -> list[Finding]:
    """A finding or more of every check; raises nothing for a database that is down. Blocks.

    Not for `embedded:` URLs, which name no server that runs.
    """
    with ExitStack() as resources:
        return list(_findings(settings, resources))


def _findings(settings: Settings, resources: ExitStack) -> Iterator[Finding]:
    service = migrator = standby = None
    try:
        service = _opened(settings, settings.url, resources)
        yield Finding("connection", "ok", f"PostgreSQL answers at {settings.address()}")
    except UnreachableError as error:
        yield Finding("connection", "problem", error.found, error.fix)
    try:
        migrator = _opened(settings, settings.migrator_url, resources)
    except UnreachableError as error:
        yield Finding("migrator", "problem", error.found, error.fix)
    try:
        standby = _opened(settings, settings.replica_url, resources, standby=True)
    except UnreachableError as error:
        yield Finding("replica", "problem", error.found, error.fix)
    try:
        yield from _of_connected(settings, service, migrator, standby)
    except psycopg.Error:
        yield Finding("connection", "problem", "it was lost meanwhile", "look at the server's log, and run again")


def _opened(
    settings: Settings, url: str | None, resources: ExitStack, *, standby: bool = False
) -> Connection[Any] | None:
    if url is None:
        return None
    if url.startswith(EMBEDDED):
        raise UnreachableError("`embedded:` names no server that runs", "give a URL that starts with postgresql://")
    return resources.enter_context(connect(settings.address(url), standby=standby))


def _of_connected(
    settings: Settings,
    service: Connection[Any] | None,
    migrator: Connection[Any] | None,
    standby: Connection[Any] | None,
) -> Iterator[Finding]:
    if migrator is not None:
        yield from run_checks({"migrator": others.migrator}, CheckContext(migrator, settings))
    if standby is not None:
        yield from run_checks({"replica": partial(others.replica, primary=service)}, CheckContext(standby, settings))
    if service is not None:
        yield from _of_service(service, settings, has_migrator=migrator is not None)
    elif migrator is not None:
        yield from _of_database(CheckContext(migrator, settings, is_service=False, has_migrator=True))


def _of_service(connection: Connection[Any], settings: Settings, *, has_migrator: bool) -> Iterator[Finding]:
    pooled = False
    try:
        pooled = others.has_pooler(settings)
    except StoreError as error:
        yield Finding("driver", "problem", *split_fix(error))
    context = CheckContext(connection, settings, pooled=pooled, has_migrator=has_migrator)
    found = run_checks({"pooler": others.pooler, **server.CHECKS, **login.CHECKS}, context)
    yield from found
    yield from _of_database(context, found)


def _of_database(context: CheckContext, told: Sequence[Finding] = ()) -> Iterator[Finding]:
    yield from run_checks(history.CHECKS, context)
    if context.ask(_HAS_SCHEMA) == [(True,)]:
        yield from of_schema(context, told)


def of_schema(context: CheckContext, told: Sequence[Finding] = ()) -> list[Finding]:
    """The findings about the schema: what each check says, and last what else differs from the shipped one."""
    found = run_checks(_SCHEMA, context)
    compare = partial(compare_with_shipped, told=[*told, *found])
    return found + run_checks({"as shipped": compare}, context)
