"""Each key of libpq: taken, passed on, or refused with its reason."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from tests.support.logins import guarded_login
from thea_store import Settings, SettingsError, Store, StoreUnavailableError
from thea_store.database.driver import connect_arguments
from thea_store.migrator.connection import connection_parameters
from thea_store.postgres import operator
from thea_store.postgres.url import DatabaseUrl
from thea_store.testing import TestDatabase

_OF_THE_URL = {"host", "port", "user", "password", "dbname"}
KEYS = sorted({option.keyword.decode() for option in Conninfo.get_defaults()} - _OF_THE_URL)

TAKEN = {
    "application_name": "acme",
    "channel_binding": "prefer",
    "client_encoding": "utf8",
    "connect_timeout": "5",
    "fallback_application_name": "acme",
    "gssdelegation": "0",
    "gssencmode": "prefer",
    "gsslib": "gssapi",
    "keepalives": "1",
    "keepalives_count": "3",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "krbsrvname": "postgres",
    "load_balance_hosts": "random",
    "max_protocol_version": "3.0",
    "min_protocol_version": "3.0",
    "options": "-c%20work_mem%3D4321kB",
    "passfile": "/nowhere/pgpass",
    "ssl_max_protocol_version": "TLSv1.3",
    "ssl_min_protocol_version": "TLSv1.2",
    "sslcert": "/nowhere/client.crt",
    "sslcertmode": "allow",
    "sslcompression": "0",
    "sslcrl": "/nowhere/root.crl",
    "sslkey": "/nowhere/client.key",
    "sslmode": "prefer",
    "sslnegotiation": "postgres",
    "sslpassword": "hush",
    "sslrootcert": "/nowhere/root.crt",
    "sslsni": "1",
    "target_session_attrs": "any",
    "tcp_user_timeout": "30000",
}


def test_every_key_of_libpq_is_decided_upon() -> None:
    refused = {key for key in KEYS if key not in TAKEN}

    assert TAKEN.keys() <= set(KEYS)
    assert {key for key in refused if _reason(key).startswith(f"has the option {key}: ")} == refused


def _reason(key: str) -> str:
    with pytest.raises(ValueError, match="^has the") as caught:
        DatabaseUrl.parse(f"postgresql://h/d?{key}=1")
    return str(caught.value)


@pytest.mark.parametrize(("key", "value"), TAKEN.items())
def test_libpq_is_given_each_key_that_is_taken_as_it_stands(key: str, value: str) -> None:
    url = f"postgresql://u@h/d?{key}={value}"

    assert conninfo_to_dict(Settings(url=url).address().render()) == {"sslmode": "prefer", **conninfo_to_dict(url)}


async def test_a_store_opens_with_all_keys_that_are_taken(thea_database: TestDatabase) -> None:
    separator = "&" if "?" in thea_database.app_url else "?"
    # A file that is not there is an error where TLS is tried, which depends on the server.
    taken = {key: value for key, value in TAKEN.items() if "/nowhere/" not in value}
    url = thea_database.app_url + separator + "&".join(f"{key}={value}" for key, value in taken.items())
    async with Store.open(Settings(url=url, pool_size=1)) as store:
        assert (await store.health()).reachable


def _parsed(url: str) -> Any:
    """What asyncpg makes of the arguments that it is given."""
    arguments = connect_arguments(Settings(url=url).address(), {})
    others = ("ssl", "passfile", "service", "servicefile", "direct_tls", "target_session_attrs", "krbsrvname", "gsslib")
    parse: Any = vars(asyncpg.connect_utils)["_parse_connect_dsn_and_args"]
    return parse(**{"host": None, "port": None, **dict.fromkeys(others), **arguments})


@pytest.mark.parametrize(("key", "value"), [item for item in TAKEN.items() if "/nowhere/" not in item[1]])
def test_asyncpg_sends_the_server_nothing_that_is_not_the_servers(key: str, value: str) -> None:
    _, parameters = _parsed(f"postgresql://u@h/d?{key}={value}")

    assert parameters.server_settings.keys() <= {"application_name", "options"}


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("postgresql://u@[fe80::1%25eth0]:7/d", [("fe80::1%eth0", 7)]),
        ("postgresql://:5555/d?host=/s&user=u", ["/s/.s.PGSQL.5555"]),
        ("postgresql://u@h1,h2,h3:5/d?port=1,2,3", [("h1", 1), ("h2", 2), ("h3", 3)]),
        ("postgresql://u@h1,h2:5/d", [("h1", 5432), ("h2", 5)]),
        ("postgresql://u@h%2Cx/d", [("h", 5432), ("x", 5432)]),
    ],
)
def test_asyncpg_goes_where_libpq_goes(url: str, addresses: Any) -> None:
    found, parameters = _parsed(url)

    assert found == addresses
    assert (parameters.user, parameters.database) == ("u", "d")


def test_asyncpg_is_given_a_password_with_any_sign_as_it_is() -> None:
    _, parameters = _parsed("postgresql://u@h/d?password=a+b%2Bc%26")

    assert parameters.password == "a+b+c&"


def _of_libpq(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}


async def test_options_reach_the_server_by_both_drivers(thea_database: TestDatabase) -> None:
    address = DatabaseUrl.parse(thea_database.app_url).with_options(
        options="-c work_mem=4321kB", fallback_application_name="acme"
    )
    settings = Settings(url=address.render(), pool_size=1)
    for as_it_comes in (False, True):
        with operator.connect(settings.address(), as_it_comes=as_it_comes) as connection:
            assert connection.execute("show work_mem").fetchone() == ("4321kB",)
    with psycopg.connect(**_of_libpq(connection_parameters(settings.address().render())[1])) as connection:
        assert connection.execute("show work_mem").fetchone() == ("4321kB",)
    async with Store.open(settings) as store:
        pooled = await store._database._pool.acquire(None)
        shown = [await pooled.raw.fetchval(f"show {name}") for name in ("work_mem", "application_name")]
        store._database._pool.release(pooled)

        assert shown == ["4321kB", "acme"]


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("sslmode=yes", "must be one of disable, allow"),
        ("connect_timeout=soon", "must be a whole number"),
        ("gssencmode=require", "can only be prefer"),
        ("client_encoding=latin1", "can only be UTF8"),
        ("sslsni=0", "can only be 1"),
        ("hostaddr=10.0.0.1", "give the address as host"),
        ("service=mine", "write what it says into the URL"),
        ("require_auth=scram-sha-256", "use sslmode=verify-full"),
        ("pgbouncer=true", "set DATABASE_TENANT_SCOPE=transaction"),
        ("uselibpqcompat=true", "it is node-postgres's: leave it out"),
        ("sslaccept=strict", "set sslmode"),
        ("statement_cache_size=0", "set DATABASE_TENANT_SCOPE=transaction"),
        ("tty=/dev/tty1", "libpq does nothing with it"),
        ("sslmod=require", r"has the unknown option 'sslmod'; known are application_name, channel_binding"),
    ],
)
def test_what_cannot_hold_for_both_drivers_is_refused_with_what_to_do(option: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        Settings(url=f"postgresql://u@h/d?{option}")


def test_a_url_as_sqlalchemy_writes_it_keeps_its_tls() -> None:
    assert DatabaseUrl.parse("postgresql+asyncpg://u@h/d?ssl=verify-full").options == {"sslmode": "verify-full"}
    assert DatabaseUrl.parse("postgres://u@h/d?ssl=true").options == {"sslmode": "require"}


def test_channel_binding_makes_tls_a_must_where_the_driver_cannot_bind() -> None:
    _, parameters = _parsed("postgresql://u@h/d?channel_binding=require")

    assert parameters.sslmode == asyncpg.connect_utils.SSLMode.require


def test_the_systems_authorities_are_no_file() -> None:
    _, parameters = _parsed("postgresql://u@h/d?sslrootcert=system")

    assert parameters.ssl.check_hostname
    assert parameters.ssl.verify_mode.name == "CERT_REQUIRED"


# --- who we are ---------------------------------------------------------------------------------


def _nameless() -> str:
    raise KeyError("getpwuid(): uid not found: 54321")


async def test_a_user_id_without_a_name_is_told_to_write_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", _nameless)
    monkeypatch.delenv("PGUSER", raising=False)

    with pytest.raises(StoreUnavailableError, match="write the user into the URL"):
        await Store.open("postgresql://127.0.0.1:1/d")


def test_a_home_that_is_closed_is_named_where_tls_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "lstat", closed)
    with pytest.raises(StoreUnavailableError, match=r"set HOME to a directory of its own user"):
        connect_arguments(Settings(url="postgresql://u@h/d").address(), {})

    assert connect_arguments(Settings(url="postgresql://u@/d?host=/s").address(), {})
    assert connect_arguments(Settings(url="postgresql://u@h/d?sslmode=disable").address(), {})


async def test_a_password_may_hold_every_sign(thea_database: TestDatabase) -> None:
    with guarded_login(thea_database, "a+b%/?#@:&= ñ'\\") as login:
        async with Store.open(Settings(url=login.url, pool_size=1)) as store:
            assert (await store.health()).reachable
