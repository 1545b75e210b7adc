"""What a report on a tenant consists of."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

__all__ = ["Erased", "Kept", "Reader", "Report", "Stored"]


@dataclass(frozen=True, slots=True)
class Kept:
    """For how long rows of a table are kept, by one policy."""

    rule: str
    """What the time is counted from: `deleted`, `old` or `inactive`."""
    keep: timedelta | None
    """`None`: for ever."""
    of_tenant: bool
    """Whether it is this tenant's own policy, and not that of all tenants."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What a table holds of the tenant."""

    table: str
    """With its schema where that is an extension's."""
    about: str | None
    """The table's comment."""
    columns: tuple[str, ...]
    rows: int
    oldest: datetime | None
    newest: datetime | None
    kept: tuple[Kept, ...] | None
    """The policies in force, empty where rows are kept until somebody removes them; `None` where this was not read."""


@dataclass(frozen=True, slots=True)
class Reader:
    """A role that may read or change rows of tenants."""

    role: str
    logs_in: bool
    unbound: bool
    """Whether row security does not bind it: a superuser, or a role with BYPASSRLS."""
    reads: tuple[str, ...]
    changes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Erased:
    """The certificate of a person's erasure."""

    at: datetime
    user_id: int
    login: str
    actor: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a database keeps of a tenant, for how long, who may see it, and who was erased."""

    tenant: str
    made_at: datetime
    database: str
    stored: tuple[Stored, ...]
    readers: tuple[Reader, ...]
    erased: tuple[Erased, ...]
    """The newest hundred."""

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values; a time that rows are kept for is in seconds."""
        return _plain(asdict(self))  # type: ignore[no-any-return]  # a dict stays one


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {name: _plain(each) for name, each in value.items()}
        case tuple() | list():
            return [_plain(each) for each in value]
        case datetime():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case _:
            return value
