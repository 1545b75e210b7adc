"""What a report on a tenant consists of."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

__all__ = ["Act", "ByFunction", "Erased", "Kept", "Read", "Reader", "Report", "Stored"]


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
class ByFunction:
    """What a role may do beyond its own rights, by calling a function that runs as another role."""

    function: str
    runs_as: str
    reads: tuple[str, ...]
    """What that other role may read: the function itself mostly reads less."""
    changes: tuple[str, ...]
    """What that other role may change: the function itself mostly changes less."""


@dataclass(frozen=True, slots=True)
class Reader:
    """A role that may read or change rows of tenants, itself or as another role that it may become."""

    role: str
    logs_in: bool
    unbound: bool
    """Whether row security does not bind it: it is a superuser or has BYPASSRLS, or may become such a role."""
    owns: bool
    """Whether it owns the tables, or may become who does, and so may lift row security."""
    reads: tuple[str, ...]
    changes: tuple[str, ...]
    """What it may insert into, update, delete from or empty."""
    by_functions: tuple[ByFunction, ...]


@dataclass(frozen=True, slots=True)
class Erased:
    """The certificate of a person's erasure."""

    at: datetime
    user_id: int
    login: str
    actor: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Act:
    """What an administrator did to the tenant, or to all tenants' policies."""

    at: datetime
    action: str
    login: str
    actor: str | None
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Read:
    """What was read, where that is noted: by whom and with which query, how often, and when last."""

    login: str
    actor: str | None
    query: str
    """`export tenant` for the tenant as a whole."""
    times: int
    last: datetime


@dataclass(frozen=True, slots=True)
class Report:
    """What a database keeps of a tenant, for how long, who may see it, who did what to it, and who was erased."""

    tenant: str
    status: str | None
    """As the directory of tenants has it; `None` where it has none, or where this was not read."""
    made_at: datetime
    database: str
    stored: tuple[Stored, ...]
    readers: tuple[Reader, ...]
    erased: tuple[Erased, ...]
    """The newest hundred certificates."""
    erased_in_all: int
    """How many certificates there are."""
    acts: tuple[Act, ...] | None
    """The newest hundred, also of what was done for all tenants together; `None` where this was not read."""
    acts_in_all: int
    acts_kept: tuple[Kept, ...] | None
    """As of a table: the policies by which entries of administration are removed."""
    reads: tuple[Read, ...] | None
    """The hundred that were read last; `None` where this was not read."""
    reads_in_all: int
    """How many entries of reads there are."""
    reads_kept: tuple[Kept, ...] | None
    """The same of the entries of reads."""

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
