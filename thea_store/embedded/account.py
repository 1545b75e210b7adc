"""The account of the operating system that runs the server, which may not be root."""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

from thea_store.errors import EmbeddedServerError

__all__ = ["PORT", "Account", "clean_environment", "server_account"]

PORT = 5432
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class Account:
    """Who runs the server; `uid` and `gid` are None where that is whoever we are."""

    name: str
    uid: int | None = None
    gid: int | None = None

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """The finished command, run by this account, standard error with its output."""
        return subprocess.run(  # noqa: S603 - programs of PostgreSQL and the shell
            command,
            user=self.uid,
            group=self.gid,
            extra_groups=None if self.uid is None else [],
            cwd="/",
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=30,
        )

    def require_name(self) -> None:
        """`EmbeddedServerError` where the system knows no name for the account, for `initdb` asks for one."""
        uid = os.geteuid() if self.uid is None else self.uid
        try:
            pwd.getpwuid(uid)
        except KeyError:
            raise EmbeddedServerError(
                f"a new PostgreSQL cannot be made by the user id {uid}, because the system has no name for it: add an "
                f"entry to /etc/passwd (in a container's image: `useradd --uid {uid} thea`), run as another user, or "
                "give the URL of a server of your own"
            ) from None

    def may_enter(self, directory: Path) -> bool:
        """Whether this account may use what is in the directory."""
        if self.uid is None:
            return os.access(directory, os.X_OK)
        # Asked of the system itself: modes, access lists and security modules all have a say.
        return self.run("/bin/sh", "-c", 'cd -- "$1"', "sh", str(directory)).returncode == 0


def server_account(data: Path | None) -> Account:
    """The account for a server: ours; for root, the data directory's owner, or else `nobody`."""
    if os.geteuid() != 0:
        return Account("the current user")
    if data is not None and data.exists() and (owner := data.stat()).st_uid != 0:
        return Account(f"user {owner.st_uid}", owner.st_uid, owner.st_gid)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedServerError(
            "PostgreSQL refuses to run as root, and this system has no user `nobody` to run it as: "
            "create that user, or run as another user than root"
        ) from None
    return Account("user nobody", nobody.pw_uid, nobody.pw_gid)


def clean_environment() -> dict[str, str]:
    """What the server's processes see of our environment: no PG* settings, no secrets, no locale."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {"PATH": os.defpath, **inherited, "LC_ALL": "C", "TZ": "UTC"}
