from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from thea_store import Settings, SettingsError

URL = "postgresql://ana:s3cret%40word@db.example.org:6543/thea"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)


def test_defaults_are_the_documented_ones() -> None:
    assert Settings(url=URL).model_dump() == {
        "url": URL,
        "replica_url": None,
        "reads": "primary",
        "replica_max_lag": 10,
        "migrator_url": None,
        "worker_url": None,
        "pool_size": 5,
        "max_overflow": 10,
        "pool_recycle": 3600,
        "pool_timeout": 30,
        "command_timeout": 30,
        "tenant_scope": "session",
        "tenants": "any",
        "extensions": None,
        "encryption_keys": None,
        "echo": False,
        "ssl_mode": "prefer",
        "ssl_ca": None,
        "slow_query_ms": 500,
        "log_format": "text",
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
        ("DATABASE_URL", " "),
        ("DATABASE_URL", "mysql://ana:s3cret@h/db"),
        ("DATABASE_URL", "postgresql://ana:s3cret@h:port/db"),
        ("DATABASE_URL", "postgresql://ana:s3cret@h:99999/db"),
        ("DATABASE_URL", "postgresql://ana:s3cret@[::1/db"),
        ("DATABASE_URL", "postgresql://ana:s3cret#x@h/db"),
        ("DATABASE_URL", "postgresql://ana:12/s3cret@h/db"),
        ("DATABASE_URL", "postgresql://ana:12?s3cret=1@h/db"),
        ("DATABASE_URL", "postgresql://ana:s3cret@h/db?sslmod=require"),
        ("DATABASE_URL", "postgresql://ana:s3cret@h/db?sslnegotiation=direct"),
        ("DATABASE_URL", "postgresql://ana:s3cret@h/db?sslrootcert=system&sslmode=require"),
        ("DATABASE_URL", "postgresql://ana:s3cret@h/db?channel_binding=require&sslmode=disable"),
        ("DATABASE_URL", "postgresql://ana:s3cret@h/db?sslpassword=s3cret%zz"),
        ("DATABASE_URL", "postgresql://ana:s3c@ret@h/s3cret"),
        ("DATABASE_URL", "postgresql://ana:s3cret@h/db\n"),
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
        ("DATABASE_TENANTS", "some"),
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


# --- what is empty or cannot be read ------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in Settings.model_fields if name != "url"])
def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    monkeypatch.setenv(f"DATABASE_{name.upper()}", "")

    assert Settings(url=URL) == Settings.model_construct(url=URL)

    monkeypatch.delenv(f"DATABASE_{name.upper()}")
    (tmp_path / ".env").write_text(f"DATABASE_{name.upper()}=")

    assert Settings(url=URL) == Settings.model_construct(url=URL)


def test_an_empty_url_is_an_unset_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATABASE_URL", "")
    with pytest.raises(SettingsError, match="^DATABASE_URL: is not set"):
        Settings()
    (tmp_path / ".env").write_text(f"DATABASE_URL={URL}")

    assert Settings().url == URL


def _closed(directory: Path) -> None:
    directory.chmod(0o600)


def _unreadable(directory: Path) -> None:
    (directory / ".env").chmod(0o000)


@pytest.mark.parametrize("close", [_closed, _unreadable])
def test_a_file_that_cannot_be_read_does_not_count_and_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture, close: Callable[[Path], None]
) -> None:
    (tmp_path / ".env").write_text("DATABASE_POOL_SIZE=7")
    monkeypatch.setenv("DATABASE_URL", URL)
    monkeypatch.setattr(Path, "is_file", _refused)  # what a user other than root meets
    close(tmp_path)
    try:
        with caplog.at_level(logging.WARNING):
            settings = Settings(max_overflow=3)
    finally:
        tmp_path.chmod(0o700)

    assert (settings.url, settings.pool_size, settings.max_overflow) == (URL, 5, 3)
    assert "the file .env cannot be read (PermissionError) and does not count" in caplog.text


def _refused(path: Path) -> bool:
    raise PermissionError(13, "Permission denied", str(path))


def test_a_file_that_is_no_text_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATABASE_URL", URL)
    (tmp_path / ".env").write_bytes(b"DATABASE_URL=\xff\xfe")

    with pytest.raises(SettingsError, match=r"^\.env: is not UTF-8"):
        Settings()


def test_the_authority_of_the_system_is_verified_in_full_unless_the_setting_says_otherwise() -> None:
    url = "postgresql://ana@h/thea?sslrootcert=system"

    assert Settings(url=url).address().options["sslmode"] == "verify-full"
    with pytest.raises(SettingsError, match="sslrootcert=system, which needs sslmode=verify-full"):
        Settings(url=url, ssl_mode="require")
