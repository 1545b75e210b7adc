from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thea_store import Settings, SettingsError
from thea_store.postgres.url import DatabaseUrl

URL = "postgresql://ana:s3cret%40word@db.example.org:6543/thea"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)


def test_defaults_are_the_documented_ones() -> None:
    assert Settings(url=URL).model_dump() == {
        "url": URL,
        "replica_url": None,
        "migrator_url": None,
        "pool_size": 5,
        "max_overflow": 10,
        "pool_recycle": 3600,
        "pool_timeout": 30,
        "command_timeout": 30,
        "tenant_scope": "session",
        "echo": False,
        "ssl_mode": "prefer",
        "ssl_ca": None,
        "slow_query_ms": 500,
        "allow_unsafe_role": False,
    }


def test_arguments_win_over_the_environment_which_wins_over_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = [f"DATABASE_URL={URL}", "DATABASE_POOL_SIZE=1", "DATABASE_ECHO=true", "OTHER=ignored", "DATABASE_X=1"]
    (tmp_path / ".env").write_text("\n".join(lines))
    monkeypatch.setenv("DATABASE_POOL_SIZE", "2")
    monkeypatch.setenv("DATABASE_MAX_OVERFLOW", "3")
    settings = Settings(max_overflow=4)

    assert (settings.url, settings.echo, settings.pool_size, settings.max_overflow) == (URL, True, 2, 4)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", ""),
        ("DATABASE_URL", "mysql://ana:s3cret@h/db"),
        ("DATABASE_URL", "postgresql://ana:s3cret@h:port/db"),
        ("DATABASE_URL", "postgresql://ana:s3cret@h:99999/db"),
        ("DATABASE_URL", "postgresql://ana:s3cret@[::1/db"),
        ("DATABASE_URL", "postgresql://ana:s3cret#x@h/db"),
        ("DATABASE_URL", "postgresql://ana:12/s3cret@h/db"),
        ("DATABASE_URL", "postgresql://ana:12?s3cret=1@h/db"),
        ("DATABASE_URL", "postgresql://ana:s3cret@h/db?sslmod=require"),
        ("DATABASE_URL", "postgresql://ana:s3cret%00@h/db"),
        ("DATABASE_URL", "postgresql://ana:s3cret\udcff@h/db"),
        ("DATABASE_URL", "postgresql:///db?user=ana&password=12&s3cret=1"),
        ("DATABASE_REPLICA_URL", "s3cret"),
        ("DATABASE_MIGRATOR_URL", "http://ana:s3cret@h"),
        ("DATABASE_POOL_SIZE", "0"),
        ("DATABASE_POOL_SIZE", "s3cret"),
        ("DATABASE_MAX_OVERFLOW", "-1"),
        ("DATABASE_POOL_RECYCLE", "0"),
        ("DATABASE_POOL_TIMEOUT", "inf"),
        ("DATABASE_COMMAND_TIMEOUT", "nan"),
        ("DATABASE_TENANT_SCOPE", "request"),
        ("DATABASE_ECHO", "s3cret"),
        ("DATABASE_SSL_MODE", "yes"),
        ("DATABASE_SSL_CA", "/nowhere/s3cret.pem"),
        ("DATABASE_SLOW_QUERY_MS", "-5"),
    ],
)
def test_a_bad_value_is_one_line_that_names_the_variable_and_tells_no_secret(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", URL)
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        Settings()

    assert str(caught.value).startswith(f"{variable}: ")
    assert "\n" not in str(caught.value)
    assert "s3cret" not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"


def test_without_a_url_the_error_says_what_to_set() -> None:
    with pytest.raises(SettingsError, match=r"^DATABASE_URL: is not set: give postgresql://"):
        Settings()


def test_no_password_is_shown() -> None:
    settings = Settings(url=URL, replica_url=URL, migrator_url=URL)

    for shown in (repr(settings), str(settings), repr(settings.address()), str(settings.address()), f"{settings}"):
        assert "s3cret" not in shown


@pytest.mark.parametrize(
    ("url", "hosts", "rest"),
    [
        (URL, (("db.example.org", 6543),), ("ana", "s3cret@word", "thea")),
        ("postgres://h", (("h", None),), (None, None, None)),
        ("postgresql+asyncpg://a@h1:1,h2,h3:3/d", (("h1", 1), ("h2", None), ("h3", 3)), ("a", None, "d")),
        ("postgresql://a@/d?host=/run/pg&port=5433", (("/run/pg", 5433),), ("a", None, "d")),
        ("postgresql://a@[::1]:5/d", (("::1", 5),), ("a", None, "d")),
        ("postgresql:///d?user=u&password=p&host=h1,h2&port=1,2", (("h1", 1), ("h2", 2)), ("u", "p", "d")),
        ("postgresql:///", (), (None, None, None)),
    ],
)
def test_a_url_is_taken_apart(url: str, hosts: Any, rest: Any) -> None:
    address = DatabaseUrl.parse(url)

    assert address.hosts == hosts
    assert (address.user, address.password, address.database) == rest
    assert DatabaseUrl.parse(address.render()).hosts == tuple(
        (host, port or (5432 if host.startswith("/") else None)) for host, port in hosts
    )


_names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)


@given(user=_names, password=_names, database=_names)
def test_any_login_survives_the_url(user: str, password: str, database: str) -> None:
    address = DatabaseUrl((("h", 1),), user, password, database, {})

    assert DatabaseUrl.parse(address.render()) == address


def test_tls_settings_count_where_the_url_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("x")
    settings = Settings(url=URL, ssl_mode="verify-full", ssl_ca=tmp_path / "ca.pem")

    assert settings.address().options == {"sslmode": "verify-full", "sslrootcert": str(tmp_path / "ca.pem")}
    assert settings.address(f"{URL}?sslmode=disable").options["sslmode"] == "disable"


def test_settings_are_frozen_and_can_be_pickled() -> None:
    settings = Settings(url=URL)
    with pytest.raises(ValueError, match="frozen"):
        settings.url = "x"

    assert pickle.loads(pickle.dumps(settings)) == settings
