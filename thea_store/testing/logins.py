"""The logins that tests use, on any server."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Any

from thea_store.errors import StoreError
from thea_store.verification.groups import GROUPS

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["MIGRATOR", "SERVICE", "do", "login_of", "make_logins", "require_superuser"]

MIGRATOR, SERVICE, _SECRET = "thea_test_migrator", "thea_test_service", "thea_test_secret"
_GROUPS = ("thea_owner", "thea_maintenance", "thea_redactor", *(group.name for group in GROUPS))


def login_of(group: str) -> str:
    """The login that is a member of this group alone."""
    return SERVICE if group == "thea_app" else f"thea_test_{group.removeprefix('thea_')}"


def require_superuser(connection: Connection[Any]) -> None:
    """Raise `StoreError` unless this login is a superuser's."""
    if connection.execute("select from pg_roles where rolname = current_user and rolsuper").fetchone() is None:
        raise StoreError("the tests' server must be given by a superuser's URL, to make roles and databases")


def make_logins(connection: Connection[Any]) -> str:
    """Make the logins and the groups where they are missing; the logins' password is returned.

    It is the same for all runs on a server, and only superusers can work it out: only they can read
    what the server keeps of a random password.
    """
    is_new = _make(connection, _SECRET, f"nologin password '{secrets.token_hex()}'")
    verifier = connection.execute("select rolpassword from pg_authid where rolname = %s", [_SECRET]).fetchone()
    password = hashlib.sha256(str(verifier).encode()).hexdigest()
    logins = {MIGRATOR: "login createrole"} | {login_of(group.name): "login" for group in GROUPS}
    for role, powers in logins.items():
        if not _make(connection, role, f"{powers} password '{password}'") and is_new:
            do(connection, f"alter role {role} password '{password}'")
    # The groups exist before the first migration, so that the service's login can be a member.
    for group in _GROUPS:
        _make(connection, group, "nologin noinherit")
    do(connection, f"grant thea_owner to {MIGRATOR}")
    do(connection, "grant thea_maintenance, thea_redactor to thea_owner")
    for each in GROUPS:
        do(connection, f"grant {each.name} to {login_of(each.name)}")
    return password


def do(connection: Connection[Any], statement: str) -> None:
    """Run a statement whose names and options are all ours, for they cannot be parameters."""
    connection.execute(statement.encode())


def _make(connection: Connection[Any], role: str, options: str) -> bool:
    if connection.execute("select from pg_roles where rolname = %s", [role]).fetchone() is not None:
        return False
    do(connection, f"create role {role} {options}")
    return True
