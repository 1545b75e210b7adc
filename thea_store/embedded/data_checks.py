"""What has to be right about kept data before a server may have it."""

from __future__ import annotations

from pathlib import Path

from thea_store.errors import EmbeddedServerError

__all__ = ["check_data"]


def check_data(data: Path, major: int) -> bool:
    """Whether there is a data directory, of which we hold the lock; a crash's leavings are removed.

    Raises `EmbeddedServerError` when this version cannot read it, or a server that is not ours
    is running on it.
    """
    if not data.exists():
        return False
    try:
        version = (data / "PG_VERSION").read_text("ascii").strip()
        if version == str(major):
            _forget_stale_pid(data)
    except OSError as error:
        raise EmbeddedServerError(
            f"{data} is damaged or belongs to somebody else ({error.filename}: {error.strerror}): "
            "restore it from a backup, or give another path"
        ) from error
    if version != str(major):
        raise EmbeddedServerError(
            f"{data.parent} was made by PostgreSQL {version}, and this is PostgreSQL {major}: give the "
            f"programs of PostgreSQL {version} as `bin_dir`, or move the data to a new path with pg_dump"
        )
    return True


def _forget_stale_pid(data: Path) -> None:
    """Remove the `postmaster.pid` of a dead server: its number may be another process's by now."""
    pid_file = data / "postmaster.pid"
    if not pid_file.exists() or not Path("/proc/self").exists():
        return  # without /proc, PostgreSQL's own more timid check has to do
    pid = pid_file.read_text("utf-8", "replace").partition("\n")[0].strip()
    try:
        # All processes of our servers hold the lock, so this can only be somebody else's server.
        alive = pid.isdecimal() and Path("/proc", pid, "cwd").samefile(data)
    except OSError:
        alive = False  # gone, or of another user, who could not read the data
    if alive:
        raise EmbeddedServerError(f"a PostgreSQL started by other means is running on {data}: stop process {pid} first")
    pid_file.unlink()
